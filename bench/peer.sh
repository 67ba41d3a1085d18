#!/usr/bin/env bash
# Our training step and a peer's in turn, in one run: on a shared machine only neighbours can be compared.
# usage: bench/peer.sh [--shape base] [--rounds 3] [--steps 3] [--dtypes "f32 bf16"] [--ours "ARGUMENTS"]... [--ledger] -- PEER COMMAND ...
# Each --ours is one more variant of ours, for example --ours "--activations blocks"; --tape is left out where the weights are f32. None: the defaults.
# The peer gets --shape, --dtype f32|bf16 and --steps and must print one JSON object with step_s (seconds) and peak_bytes, as `iptnative bench step --json` does.
# Prints medians over the rounds and the peer's time over ours; with --ledger appends them to bench/results.csv.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
shape=base rounds=3 steps=3 ledger=no dtypes="f32 bf16" variants=()
while [ $# -gt 0 ]; do
  case $1 in
    --shape) shape=$2; shift 2 ;;
    --rounds) rounds=$2; shift 2 ;;
    --steps) steps=$2; shift 2 ;;
    --dtypes) dtypes=$2; shift 2 ;;
    --ours) variants+=("$2"); shift 2 ;;
    --ledger) ledger=yes; shift ;;
    --) shift; break ;;
    *) echo "bench/peer.sh: '$1' is no option; see its head." >&2; exit 2 ;;
  esac
done
if [ $# -eq 0 ]; then
  echo "bench/peer.sh: no peer was given, expected its command behind --." >&2
  exit 2
fi
[ ${#variants[@]} -gt 0 ] || variants=("")
program=$root/artifacts/bin/Cli/release/iptnative.dll
if [ ! -f "$program" ]; then
  echo "bench/peer.sh: found no $program, expected a release build. Run: dotnet build src/Cli -c Release" >&2
  exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# one FILE NAME COMMAND...: appends seconds and bytes of a run.
one() {
  local file=$work/$1 name=$2 out step bytes
  shift 2
  out=$("$@")
  step=$(sed -n 's/.*"step_s": *\([0-9.eE+-]*\).*/\1/p' <<<"$out")
  bytes=$(sed -n 's/.*"peak_bytes": *\([0-9.eE+-]*\).*/\1/p' <<<"$out")
  if [ -z "$step" ] || [ -z "$bytes" ]; then
    echo "bench/peer.sh: $name printed no step_s and peak_bytes, expected one JSON object with both. It printed: $out" >&2
    exit 1
  fi
  echo "$step" >>"$file.s"
  echo "$bytes" >>"$file.b"
  echo "  $name: $step s, $(awk "BEGIN{printf \"%.0f\", $bytes/1e6}") MB (load $(cut -d' ' -f1 /proc/loadavg 2>/dev/null || echo unknown))"
}

median() { sort -g "$1" | awk '{v[NR]=$1} END{print (NR%2 ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2)}'; }
megabytes() { awk "BEGIN{printf \"%.0f\", $(median "$work/$1.b")/1e6}"; }
# A variant's arguments as this dtype takes them.
arguments() { if [ "$1" = f32 ]; then sed -E 's/--tape +bf16 *//' <<<"$2"; else echo "$2"; fi; }

for ((round = 1; round <= rounds; round++)); do
  echo "round $round of $rounds, $shape"
  for dtype in $dtypes; do
    for i in "${!variants[@]}"; do
      ours=$(arguments "$dtype" "${variants[i]}")
      # shellcheck disable=SC2086 # a variant holds several arguments.
      one "ours$i-$dtype" "ours $dtype $ours" dotnet "$program" bench step --json --shape "$shape" --dtype "$dtype" --compute "$dtype" --steps "$steps" $ours
    done
    one "peer-$dtype" "peer $dtype" "$@" --shape "$shape" --dtype "$dtype" --steps "$steps"
  done
done

commit=$(git -C "$root" rev-parse --short HEAD)
git -C "$root" diff --quiet HEAD -- src eng || commit=$commit-dirty
date=$(date -u +%Y-%m-%d)
device="$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1) $(nproc) threads"
row() { [ $ledger = no ] || echo "$commit,$date,$device,peer,$shape,\"$1\",$2,$3,$4" >>"$root/bench/results.csv"; }
for dtype in $dtypes; do
  theirs=$(median "$work/peer-$dtype.s")
  row "$dtype; median of $rounds rounds in turn" peer_step "$theirs" s
  row "$dtype; median of $rounds rounds in turn" peer_peak "$(megabytes "peer-$dtype")" MB
  for i in "${!variants[@]}"; do
    ours=$(arguments "$dtype" "${variants[i]}")
    mine=$(median "$work/ours$i-$dtype.s")
    ratio=$(awk "BEGIN{printf \"%.3f\", $theirs/$mine}")
    echo "$shape $dtype ${ours:-defaults}: ours $mine s, $(megabytes "ours$i-$dtype") MB; peer $theirs s, $(megabytes "peer-$dtype") MB; peer over ours $ratio"
    settings="$dtype ${ours:-defaults}; median of $rounds rounds in turn"
    row "$settings" ours_step "$mine" s
    row "$settings" peer_over_ours "$ratio" x
    row "$settings" ours_peak "$(megabytes "ours$i-$dtype")" MB
  done
done
