#!/usr/bin/env bash
# Everything about this program that needs an NVIDIA GPU, in one run: what the machine is, the kernel suites on the device, and the commands with
# --device cuda. Writes OUT/report.json and OUT/report.md. A step that cannot run says why in its log; nothing is skipped in silence and nothing falls back.
#
#   tools/gpu-acceptance.sh [OUT]                  from a clone with the .NET SDK and a NuGet source that has ILGPU 1.5.3
#   IPTNATIVE=publish/iptnative tools/gpu-acceptance.sh [OUT]   from a self-contained publish; the suites need the clone and are then reported as not run
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
out=$(mkdir -p "${1:-gpu-acceptance}" && cd "${1:-gpu-acceptance}" && pwd)
device=${IPTNATIVE_DEVICE:-cuda:0}
program=${IPTNATIVE:-./iptnative}
rm -f "$out"/*.log "$out"/steps.tsv

# step NAME COMMAND...: its log, exit code and seconds.
step() {
    local name=$1 begin code
    shift
    begin=$(date +%s)
    "$@" >"$out/$name.log" 2>&1
    code=$?
    printf '%s\t%d\t%d\n' "$name" "$code" "$(($(date +%s) - begin))" >>"$out/steps.tsv"
    printf '%-22s exit code %d\n' "$name" "$code"
}

not_run() {
    printf '%s\n' "$2" >"$out/$1.log"
    printf '%s\t%s\t0\n' "$1" "-" >>"$out/steps.tsv"
    printf '%-22s not run: %s\n' "$1" "$2"
}

step driver nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv
step doctor "$program" doctor
if [ -z "${IPTNATIVE:-}" ] && command -v dotnet >/dev/null; then
    step suite-build dotnet build tests/Kernels.Tests -c Release -v q -nologo
    # Without ILGPU's package there are no CUDA suites: the log then says that 0 tests ran, which the check below calls a failure.
    step suite-device dotnet artifacts/bin/Kernels.Tests/release/IptNative.Kernels.Tests.dll -noColor -noLogo -class "*Cuda*"
    step suite-step-build dotnet build tests/Device.Tests -c Release -v q -nologo
    step suite-step dotnet artifacts/bin/Device.Tests/release/IptNative.Device.Tests.dll -noColor -noLogo -class "*Cuda*"
    step suite-step-ran grep -Eq 'Total: [1-9][0-9]*, Errors: 0, Failed: 0, Skipped: 0' "$out/suite-step.log"
    step suite-ran grep -Eq 'Total: [1-9][0-9]*, Errors: 0, Failed: 0, Skipped: 0' "$out/suite-device.log"
    step ptx dotnet artifacts/bin/Kernels.Tests/release/IptNative.Kernels.Tests.dll -noColor -noLogo -class "*PtxTests"
else
    not_run suite-device "needs a clone and the .NET SDK"
fi
step parity-cpu "$program" parity tests/Goldens/t5v11
# Steps on the GPU, answers on the CPU; the second run is held against the first, the loss of its first step included.
step train "$program" train examples/quickstart.json --device "$device" --output "$out/run"
step train-cpu "$program" train examples/quickstart.json --device cpu --output "$out/run-cpu"
first_loss() { grep -m 1 -o '"loss":[0-9.e+-]*' "$1/log.jsonl" | cut -d: -f2; }
step first-loss awk -v a="$(first_loss "$out/run")" -v b="$(first_loss "$out/run-cpu")" 'BEGIN { print a, b; exit !(a > 0 && (a - b) / b < 1e-4 && (b - a) / b < 1e-4) }'
step step-base "$program" bench step --shape base --device "$device" --json
step step-xl "$program" bench step --shape xl --dtype bf16 --compute bf16 --batch 32 --source 256 --device "$device" --json
step profile-base "$program" profile --shape base --device "$device" --products "$out/products-f32.txt" --json
step profile-xl "$program" profile --shape xl --dtype bf16 --compute bf16 --batch 32 --source 256 --device "$device" --products "$out/products-bf16.txt" --json
IPTNATIVE_GPU_PRODUCTS=own step step-own "$program" bench step --shape base --dtype bf16 --compute bf16 --device "$device" --json
if python3 -c 'import torch, peft; assert torch.cuda.is_available()' 2>/dev/null && [ -f bench/peer.sh ]; then
    step peer bash bench/peer.sh
else
    not_run peer "no Python with torch, peft and a GPU"
fi

# The last line of a failed step's log is the message that a user would see.
failed=0
{
    printf '{\n  "device": "%s",\n  "commit": "%s",\n  "steps": [' "$device" "$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)"
    separator=''
    while IFS=$'\t' read -r name code seconds; do
        message=$(tail -n 1 "$out/$name.log" | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g')
        printf '%s\n    {"name": "%s", "exit_code": %s, "seconds": %s, "last_line": "%s"}' "$separator" "$name" "$([ "$code" = - ] && echo null || echo "$code")" "$seconds" "$message"
        separator=,
    done <"$out/steps.tsv"
    printf '\n  ]\n}\n'
} >"$out/report.json"
{
    printf '# GPU acceptance on %s\n\n| step | result | seconds | last line |\n| --- | --- | --- | --- |\n' "$device"
    while IFS=$'\t' read -r name code seconds; do
        case $code in 0) result=passed ;; -) result='not run' ;; *) result="failed ($code)" ;; esac
        printf '| %s | %s | %s | %s |\n' "$name" "$result" "$seconds" "$(tail -n 1 "$out/$name.log" | tr -d '\000-\037' | tr '|' '/')"
    done <"$out/steps.tsv"
} >"$out/report.md"
while IFS=$'\t' read -r _ code _; do [ "$code" = 0 ] || failed=$((failed + 1)); done <"$out/steps.tsv"
printf '%s steps did not pass; see %s\n' "$failed" "$out/report.md"
[ "$failed" -eq 0 ]
