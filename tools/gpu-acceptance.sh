#!/usr/bin/env bash
# Everything about this program that needs an NVIDIA GPU, in one run: what the machine is, whether ONNX Runtime and our kernels share its memory, the kernel
# suites on the device, and the commands with --device cuda. Writes OUT/report.json, OUT/report.md and a log of each step.
# A step that fails says why in its log's last line; nothing is skipped in silence and nothing falls back.
#
#   tools/gpu-acceptance.sh [OUT]                              from a clone, with the .NET SDK and a NuGet source that has ILGPU 1.5.3
#   IPTNATIVE=publish/iptnative tools/gpu-acceptance.sh [OUT]  from a clone and a self-contained publish: no SDK; the suites are then reported as not run
#
# IPTNATIVE_DEVICE=cuda:n        another GPU than the first
# IPTNATIVE_CUDA_PROVIDER=FILE   ONNX Runtime's CUDA provider, where it is not beside the program
# Exit code: 0 where every step that was run passed, 1 where one did not, 2 where there is no GPU that can be used.
set -uo pipefail
case ${1:-} in
-h | --help)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
    exit 0
    ;;
-*)
    echo "gpu-acceptance: found the option '$1', expected a folder for the report, or nothing." >&2
    exit 2
    ;;
esac
# A relative path of the program is meant from where the caller stands.
program=${IPTNATIVE:-}
if [ -n "$program" ]; then
    if [ ! -x "$program" ]; then
        echo "gpu-acceptance: IPTNATIVE is '$program', found no program there, expected a self-contained publish: dotnet publish src/Cli -c Release -r linux-x64 --self-contained -o publish" >&2
        exit 2
    fi
    program=$(cd "$(dirname "$program")" && pwd)/$(basename "$program")
fi
case ${1:-} in
/*) out=$1 ;;
*) out=$PWD/${1:-gpu-acceptance} ;;
esac
cd "$(dirname "$0")/.." || exit 2
root=$PWD
device=${IPTNATIVE_DEVICE:-cuda:0}
[ "$device" != cuda ] || device=cuda:0

if [ -z "$program" ]; then
    program=./iptnative
    if ! command -v dotnet >/dev/null; then
        echo "gpu-acceptance: found neither the .NET SDK nor a program in IPTNATIVE, expected one of them. Install the .NET SDK 10, or make a publish elsewhere (dotnet publish src/Cli -c Release -r linux-x64 --self-contained -o publish) and name it: IPTNATIVE=publish/iptnative tools/gpu-acceptance.sh" >&2
        exit 2
    fi
fi
# Which GPUs there are, the program says itself: nvidia-smi need not be there.
if ! found=$("$program" doctor); then
    echo "gpu-acceptance: '$program doctor' failed, expected a program that runs; see above." >&2
    exit 2
fi
if ! grep -q "^$device " <<<"$found"; then
    echo "gpu-acceptance: found no $device on this machine, expected an NVIDIA GPU. Nothing was run. What the program sees:" >&2
    grep -A 1 -E '^(CUDA driver|cuda:)' <<<"$found" >&2
    exit 2
fi
if grep -q '^ILGPU *not in this build' <<<"$found"; then
    echo "gpu-acceptance: $device is there, but this build has no CUDA kernels: ILGPU 1.5.3 was not on the package sources. Nothing was run." >&2
    grep -A 1 '^ILGPU' <<<"$found" >&2
    exit 2
fi

mkdir -p "$out" || exit 2
rm -f "$out"/*.log "$out"/report.json "$out"/report.md "$out"/steps.tsv
: >"$out/steps.tsv"

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

# number STEP KEY: the last such number of the JSON that a step printed.
number() { sed -n "s/.*\"$2\": *\\([0-9.eE+-]*\\).*/\\1/p" "$out/$1.log" 2>/dev/null | tail -n 1; }

# near A B RELATIVE: whether both are numbers and as near as that.
near() {
    echo "$1 and $2, $3 apart at the most"
    awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; if (d < 0) d = -d; if (b < 0) b = -b; exit !(a != "" && b != "" && b > 0 && d <= t * b) }'
}

# refused TEXT COMMAND...: whether the command ends with exit code 1 and says the text.
refused() {
    local text=$1 said code
    shift
    said=$("$@" 2>&1)
    code=$?
    printf '%s\n' "$said"
    [ "$code" -eq 1 ] && grep -qF -- "$text" <<<"$said"
}

# What the machine is.
if command -v nvidia-smi >/dev/null; then
    step driver nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv
else
    not_run driver "nvidia-smi is not installed; see doctor"
fi
step doctor "$program" doctor

# One context with ONNX Runtime: each computes on what the other wrote, bit for bit. Without a provider the second step says what to install.
IPTNATIVE_CUDA_CONTEXT=own step sharing-refused refused 'in a CUDA context of its own' "$program" doctor --sharing --device "$device"
step sharing "$program" doctor --sharing --device "$device" --json

# The suites.
if [ -z "${IPTNATIVE:-}" ]; then
    ran='Total: [1-9][0-9]*, Errors: 0, Failed: 0, Skipped: 0'
    step suite-build dotnet build tests/Kernels.Tests -c Release -v q -nologo
    # Without ILGPU's package there are no CUDA suites: the log then says that 0 tests ran, which the check below calls a failure.
    step suite-device dotnet artifacts/bin/Kernels.Tests/release/IptNative.Kernels.Tests.dll -noColor -noLogo -class "*Cuda*"
    step suite-device-ran grep -E "$ran" "$out/suite-device.log"
    step ptx dotnet artifacts/bin/Kernels.Tests/release/IptNative.Kernels.Tests.dll -noColor -noLogo -class "*PtxTests"
    # Whole steps: PyTorch's loss and gradient of the fixture, every weight format, ONNX Runtime's forward pass in the device's memory.
    step suite-step-build dotnet build tests/Device.Tests -c Release -v q -nologo
    step suite-step dotnet artifacts/bin/Device.Tests/release/IptNative.Device.Tests.dll -noColor -noLogo -class "*Cuda*"
    step suite-step-ran grep -E "$ran" "$out/suite-step.log"
else
    not_run suite-device "needs the .NET SDK"
    not_run suite-step "needs the .NET SDK"
fi
# PyTorch's numbers through the user's command, and every weight format's kernels against ONNX Runtime's on the CPU.
step parity-cpu "$program" parity tests/Goldens/t5v11
step parity "$program" parity tests/Goldens/t5v11 --device "$device"
step parity-formats "$program" parity --checkpoint models/t5-gym-tiny --dtype all --device "$device"

# Training: the second run is held against the first, the loss of its first step included; the third has ONNX Runtime's forward pass on the GPU.
first_loss() { grep -m 1 -o '"loss": *[0-9.eE+-]*' "$1/log.jsonl" 2>/dev/null | sed 's/.*: *//'; }
rm -rf "$out/run" "$out/run-cpu" "$out/run-ort"
step train "$program" train examples/quickstart.json --device "$device" --output "$out/run"
step train-cpu "$program" train examples/quickstart.json --device cpu --output "$out/run-cpu"
step train-first-loss near "$(first_loss "$out/run")" "$(first_loss "$out/run-cpu")" 1e-4
step train-ort "$program" train examples/quickstart.json --device "$device" --forward ort --set training.steps=20 --output "$out/run-ort"
step train-ort-first-loss near "$(first_loss "$out/run-ort")" "$(first_loss "$out/run-cpu")" 1e-4

# Serving: the answer over HTTP is the one that generate gives on the CPU.
served() {
    local input='[clinc150-domain] what is my balance' expected address='' answer server
    expected=$("$program" generate --model models/t5-gym-tiny --input "$input") || return 1
    "$program" serve --model models/t5-gym-tiny --port 0 --device "$device" >"$out/served.out" &
    server=$!
    while [ -z "$address" ] && kill -0 "$server" 2>/dev/null; do
        sleep 0.2
        address=$(sed -n 's/^listening on //p' "$out/served.out")
    done
    answer=$(curl -sS "${address}v1/completions" -H 'Content-Type: application/json' -d "{\"model\": \"t5-gym-tiny\", \"prompt\": \"$input\"}")
    kill -TERM "$server" 2>/dev/null
    wait "$server" || return 1
    echo "expected the text '$expected', found $answer"
    grep -qF "\"text\":\"$expected\"" <<<"$answer"
}
if command -v curl >/dev/null; then
    step served served
else
    not_run served "curl is not installed"
fi

# Steps of published sizes by both forward passes: times and memory. Their losses are not compared: on random weights a step's rounding decides where the next one lands.
step step-base "$program" bench step --shape base --device "$device" --json
step step-base-ort "$program" bench step --shape base --forward ort --device "$device" --json
step step-base-bf16-ort "$program" bench step --shape base --dtype bf16 --compute bf16 --forward ort --device "$device" --json
IPTNATIVE_GPU_PRODUCTS=own step step-own "$program" bench step --shape base --dtype bf16 --compute bf16 --device "$device" --json
xl=(--shape xl --dtype bf16 --compute bf16 --batch 32 --source 256 --device "$device")
step plan-xl "$program" plan "${xl[@]}" --json
step step-xl "$program" bench step "${xl[@]}" --json
step step-xl-planned near "$(number step-xl device_peak_bytes)" "$(number step-xl planned_bytes)" 0.15
step profile-base "$program" profile --shape base --device "$device" --products "$out/products-f32.txt" --json
step profile-xl "$program" profile "${xl[@]}" --products "$out/products-bf16.txt" --json

# Hugging Face's Transformers and PEFT on the same GPU, in turn with ours.
if python3 -c 'import torch, transformers, peft; assert torch.cuda.is_available()' 2>/dev/null; then
    for round in 1 2 3; do
        step "peer-base-$round" python3 tools/peft_step.py --shape base --device "$device"
        step "ours-base-$round" "$program" bench step --shape base --device "$device" --json
        step "peer-xl-$round" python3 tools/peft_step.py --shape xl --dtype bf16 --batch 32 --source 256 --device "$device"
        step "ours-xl-$round" "$program" bench step "${xl[@]}" --json
    done
    step peer-xl-lean python3 tools/peft_step.py --shape xl --dtype bf16 --batch 32 --source 256 --device "$device" --checkpointing
else
    not_run peer "no Python with torch, transformers, peft and a GPU that they can use"
fi

# The reports. The last line of a failed step's log is the message that a user would see.
last_line() { tail -n 1 "$out/$1.log" | tr -d '\000-\037'; }
{
    printf '{\n  "device": "%s",\n  "commit": "%s",\n  "steps": [' "$device" "$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)"
    separator=''
    while IFS=$'\t' read -r name code seconds; do
        message=$(last_line "$name" | sed 's/\\/\\\\/g; s/"/\\"/g')
        printf '%s\n    {"name": "%s", "exit_code": %s, "seconds": %s, "last_line": "%s"}' "$separator" "$name" "$([ "$code" = - ] && echo null || echo "$code")" "$seconds" "$message"
        separator=,
    done <"$out/steps.tsv"
    printf '\n  ]\n}\n'
} >"$out/report.json"
{
    printf '# GPU acceptance on %s\n\n```\n%s\n```\n\n| step | result | seconds | last line |\n| --- | --- | --- | --- |\n' "$device" "$found"
    while IFS=$'\t' read -r name code seconds; do
        case $code in 0) result=passed ;; -) result='not run' ;; *) result="failed ($code)" ;; esac
        printf '| %s | %s | %s | %s |\n' "$name" "$result" "$seconds" "$(last_line "$name" | tr '|' '/')"
    done <"$out/steps.tsv"
    printf '\n| step | s | device peak, MB |\n| --- | --- | --- |\n'
    for name in step-base step-base-ort step-base-bf16-ort step-own step-xl peer-base-1 ours-base-1 peer-base-2 ours-base-2 peer-base-3 ours-base-3 peer-xl-1 ours-xl-1 peer-xl-2 ours-xl-2 peer-xl-3 ours-xl-3 peer-xl-lean; do
        [ -z "$(number "$name" step_s)" ] || printf '| %s | %s | %s |\n' "$name" "$(number "$name" step_s)" "$(awk -v b="$(number "$name" device_peak_bytes)" 'BEGIN { printf "%.0f", b / 1e6 }')"
    done
} >"$out/report.md"
failed=0 left=0
while IFS=$'\t' read -r _ code _; do
    case $code in 0) ;; -) left=$((left + 1)) ;; *) failed=$((failed + 1)) ;; esac
done <"$out/steps.tsv"
printf '%s steps failed, %s were not run; see %s\n' "$failed" "$left" "$out/report.md"
[ "$failed" -eq 0 ]
