#!/usr/bin/env bash
# Our training step and a peer's in turn, in one run: on a shared machine only neighbours can be compared.
# usage: bench/peer.sh [--shape base] [--rounds 3] [--steps 3] [--ours "ARGUMENTS"] [--ledger] -- PEER COMMAND ...
# The peer gets --shape, --dtype f32|bf16 and --steps and must print one JSON object with step_s (seconds) and peak_bytes, as `iptnative bench step --json` does.
# Prints medians over the rounds and the peer's time over ours; with --ledger appends them to bench/results.csv.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
shape=base rounds=3 steps=3 ledger=no ours=""
while [ $# -gt 0 ]; do
  case $1 in
    --shape) shape=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --steps) steps=$2; shift 2 ;;
    --ours) ours=$2; shift 2 ;;
    --ledger) ledger=yes; shift ;;
    --) shift; break ;;
    *) echo "bench/peer.sh: '$1' is no option; see its head." >&2; exit 2 ;;
  esac
done
if [ $# -eq 0 ]; then
  echo "bench/peer.sh: no peer was given, expected its command behind --." >&2
  exit 2
fi
program=$root/artifacts/bin/Cli/release/iptnative.dll
if [ ! -f "$program" ]; then
  echo "bench/peer.sh: found no $program, expected a release build. Run: dotnet build src/Cli -c Release" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# one NAME COMMAND...: appends seconds and bytes of a run.
one() {
  local name=$1 out
  shift
  out=$("$@")
  local step bytes
  step=$(sed -n 's/.*"step_s": *\([0-9.eE+-]*\).*/\1/p' <<<"$out")
  bytes=$(sed -n 's/.*"peak_bytes": *\([0-9.eE+-]*\).*/\1/p' <<<"$out")
  if [ -z "$step" ] || [ -z "$bytes" ]; then
    echo "bench/peer.sh: $name printed no step_s and peak_bytes, expected one JSON object with both. It printed: $out" >&2
    exit 1
  fi
  echo "$step" >>"$work/$name.s"
  echo "$bytes" >>"$work/$name.b"
  echo "  $name: $step s, $(awk "BEGIN{printf \"%.0f\", $bytes/1e6}") MB (load $(cut -d' ' -f1 /proc/loadavg 2>/dev/null || echo unknown))"
}

median() { sort -g "$1" | awk '{v[NR]=$1} END{print (NR%2 ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2)}'; }

for ((round = 1; round <= rounds; round++)); do
  echo "round $round of $rounds, $shape"
  for dtype in f32 bf16; do
    # shellcheck disable=SC2086 # --ours holds several arguments.
    one "ours-$dtype" dotnet "$program" bench step --json --shape "$shape" --dtype "$dtype" --compute "$dtype" --steps "$steps" $ours
    one "peer-$dtype" "$@" --shape "$shape" --dtype "$dtype" --steps "$steps"
  done
done

commit=$(git -C "$root" rev-parse --short HEAD)
git -C "$root" diff --quiet HEAD -- src eng || commit=$commit-dirty
date=$(date -u +%Y-%m-%d)
cores=$(nproc)
device="$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1) $cores threads"
row() { [ $ledger = no ] || echo "$commit,$date,$device,peer,$shape,\"$1\",$2,$3,$4" >>"$root/bench/results.csv"; }
for dtype in f32 bf16; do
  mine=$(median "$work/ours-$dtype.s") theirs=$(median "$work/peer-$dtype.s")
  ratio=$(awk "BEGIN{printf \"%.3f\", $theirs/$mine}")
  mb=$(awk "BEGIN{printf \"%.0f\", $(median "$work/ours-$dtype.b")/1e6}") peer_mb=$(awk "BEGIN{printf \"%.0f\", $(median "$work/peer-$dtype.b")/1e6}")
  echo "$shape $dtype: ours $mine s, $mb MB; peer $theirs s, $peer_mb MB; peer over ours $ratio"
  settings="$dtype; median of $rounds rounds in turn${ours:+; ours with $ours}"
  row "$settings" ours_step "$mine" s
  row "$settings" peer_step "$theirs" s
  row "$settings" peer_over_ours "$ratio" 1
  row "$settings" ours_peak "$mb" MB
  row "$settings" peer_peak "$peer_mb" MB
done
