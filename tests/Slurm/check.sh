#!/usr/bin/env bash
# A sweep through a real Slurm equals the same sweep on this machine, also when its node is lost in the middle.
#   tests/Slurm/check.sh [iptnative]     the program's start; ./iptnative of this repository without it
# Starts a Slurm of its own (munged, slurmctld, slurmd with one node of four slots), as any user, in a temporary folder, on loopback, and ends it.
# Needs Debian's slurm-wlm and munge (apt install slurm-wlm munge). Exit codes: 0 equal, 1 not, 77 no Slurm here (with the reason).
set -euo pipefail
self=$(readlink -f -- "${BASH_SOURCE[0]}")
root=$(cd -- "${self%/*}/../.." && pwd)
program=("${@:-$root/iptnative}")
PATH=$PATH:/usr/sbin:/sbin

skip() { echo "skipped: $1"; exit 77; }
[ "$(uname)" = Linux ] || skip "Slurm runs on Linux"
for tool in munged slurmctld slurmd sbatch squeue scontrol; do
  command -v "$tool" >/dev/null || skip "$tool is not installed (Debian: apt install slurm-wlm munge)"
done

work=$(mktemp -d "${TMPDIR:-/tmp}/iptnative-slurm-XXXXXX")
pids=()
finish() {
  code=$?
  trap - EXIT
  if [ $code -ne 0 ]; then tail -n 15 "$work"/log/*.log "$work"/*/slurm/*.log 2>/dev/null || true; fi
  scancel --me 2>/dev/null || true
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
  exit $code
}
trap finish EXIT
mkdir -p "$work"/{log,state,spool,run}
chmod 755 "$work"

# --- a Slurm of our own -----------------------------------------------------------------------------------------------------------------------------
free_port() { local p; for p in $(shuf -i 20000-59999 -n 50); do (exec 3<>"/dev/tcp/127.0.0.1/$p") 2>/dev/null || { echo "$p"; return; }; done; return 1; }
user=$(id -un) host=$(hostname -s)
head -c 1024 /dev/urandom >"$work/munge.key"; chmod 400 "$work/munge.key"
munged --foreground --force --socket="$work/run/munge.socket" --key-file="$work/munge.key" --pid-file="$work/run/munged.pid" \
  --seed-file="$work/run/munged.seed" --log-file="$work/log/munged.log" >"$work/log/munged-out.log" 2>&1 &
pids+=($!)
cat >"$work/slurm.conf" <<CONF
ClusterName=iptnative-check
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
AuthType=auth/munge
AuthInfo=socket=$work/run/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/run/slurmctld.pid
SlurmdPidFile=$work/run/slurmd.pid
SlurmctldLogFile=$work/log/slurmctld.log
SlurmdLogFile=$work/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=20
MinJobAge=3600
SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$work/slurm.conf
slurmctld -D -i >"$work/log/slurmctld-out.log" 2>&1 & pids+=($!)
slurmd -D >"$work/log/slurmd-out.log" 2>&1 & pids+=($!)
until_true() { local what=$1 n=0; shift; until "$@" >/dev/null 2>&1; do n=$((n + 1)); [ $n -lt 3000 ] || { echo "waited five minutes for: $what"; return 1; }; sleep 0.1; done; }
node_is() { sinfo --noheader --format=%T | grep -qx "$1"; }
until_true "the node to be idle" node_is idle
echo "Slurm $(slurmctld -V | cut -d' ' -f2), node $host with 4 slots"

# --- one sweep, twice -----------------------------------------------------------------------------------------------------------------------------
cat >"$work/run.json" <<JSON
{ "model": "$root/models/t5-gym-tiny", "tasks": [{ "name": "words-second", "data": "$root/examples/gym", "test_limit": 60 }],
  "prompt": { "length": 10 }, "optimizer": { "learning_rate": 1.0 }, "threads": 1,
  "training": { "steps": 60, "batch_size": 8, "eval_every": 20, "checkpoint_every": 5, "runs": 2 }, "evaluation": { "baselines": false } }
JSON
echo '{ "run": "run.json", "grid": { "prompt.length": [1, 5, 20], "prompt.init": ["uniform", "vocab"] } }' >"$work/sweep.json"
ipt() { "${program[@]}" "$@"; }
echo "here:"
ipt sweep "$work/sweep.json" --output "$work/local" 2>"$work/log/local.log" | sed '$d' | tee "$work/local.txt"

echo "through Slurm, the node lost after some steps:"
ipt sweep "$work/sweep.json" --output "$work/slurm-run" --slurm | sed 's/ Submitted/Submitted/'
job=$(sed -n 's/.*"job": "\([0-9]*\)".*/\1/p' "$work/slurm-run/slurm/job.json")
if ipt sweep "$work/sweep.json" --output "$work/slurm-run" --slurm >"$work/twice.txt" 2>&1; then echo "a second submission was taken"; exit 1; fi
sed "s|$work|...|g" "$work/twice.txt"
grep -q "its job $job is still in the queue" "$work/twice.txt"

has_checkpoint() { ls "$work"/slurm-run/points/*/checkpoint/state.safetensors; }
until_true "a first checkpoint" has_checkpoint
# The node dies with everything on it: processes by SIGKILL, so that nothing can be saved at the last moment.
kill -9 "${pids[2]}"; wait "${pids[2]}" 2>/dev/null || true
# The steps' keepers first: one that outlives its processes would report them as failed, where a dead node reports nothing.
for pid in $(pgrep -f 'slurmstepd: \[' || true); do
  if tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -q "$work"; then kill -9 "$pid" 2>/dev/null || true; fi
done
for pid in $(pgrep -f -- "--output $work/slurm-run" || true); do kill -9 "$pid" 2>/dev/null || true; done
scontrol update "nodename=$host" state=down reason=check
until_true "every task to be back in the queue" bash -c "! squeue --noheader --array --format=%T | grep -qv PENDING"
echo "node lost: $(squeue --noheader --array --format=%T | sort | uniq -c | tr -s ' ' | paste -sd,)"
slurmd -D >>"$work/log/slurmd-out.log" 2>&1 & pids[2]=$!
scontrol update "nodename=$host" state=resume 2>/dev/null || true
ended() { [ -z "$(squeue --noheader --jobs="$job" 2>/dev/null)" ]; }
waited=0; until ended; do sleep 0.5; waited=$((waited + 1)); [ $waited -lt 1200 ] || { echo "the array did not end within ten minutes"; exit 1; }; done
ipt sweep "$work/sweep.json" --output "$work/slurm-run" --table 2>/dev/null | sed '$d' | tee "$work/slurm.txt"

# --- the same table ---------------------------------------------------------------------------------------------------------------------------------
cmp "$work/local.txt" "$work/slurm.txt"
cmp "$work/local/sweep.csv" "$work/slurm-run/sweep.csv"
for prompt in "$work"/local/points/*/best/*/prompt.npy; do cmp "$prompt" "${prompt/local/slurm-run}"; done
# ... for the right reason: tasks were lost and requeued, and went on from their checkpoints.
requeued=$(scontrol show job "$job" 2>/dev/null | grep -c 'Restarts=[1-9]' || true)
resumed=$(grep -l '^going on after step' "$work"/slurm-run/slurm/*.log | wc -l)
[ "$requeued" -gt 0 ] && [ "$resumed" -gt 0 ] || { echo "$requeued tasks were requeued and $resumed went on from a checkpoint, expected some: the node was lost too late, or not at all"; exit 1; }
ipt sweep "$work/sweep.json" --output "$work/slurm-run" --slurm 2>&1 | grep -q "every point is done, nothing was submitted"
echo "equal: the table, and every prompt to the last bit; $requeued tasks were requeued, $resumed went on from a checkpoint"
