#!/usr/bin/env bash
# What a GPU does here: the tests of devices on it, then sweeps, attacks, training and the default
# run beside the machine's own CPU, as a table with the card's name, versions and commit.
#
#   benchmarks/gpu.sh                   # at most eight minutes, what it says goes to gpu.md, too
#   benchmarks/gpu.sh sweeps            # one part of it: tests, sweeps or run
#   TINY=1 DEVICE=cpu benchmarks/gpu.sh # without a GPU, to see that it works
#
# It takes torch, and what pip install -e '.[workflow]' pytest pytest-xdist brings; a part for which
# anything is missing says so, and the others run. PYTHON: which one (default: python3). OUT: where
# gpu.md goes (default: here).
set -u
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} device=${DEVICE:-cuda} tiny=${TINY:+--tiny} out=$(realpath "${OUT:-.}")
parts=${*:-tests sweeps run}
export PYTHONPATH=workflow PYTHONUNBUFFERED=1

about() {
    "$python" - "$device" <<'PY'
import importlib.metadata as packages, os, platform, re, subprocess, sys
import torch

def said(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""

if sys.argv[1] == "cuda" and not torch.cuda.is_available():
    sys.exit("error: torch sees no GPU; TINY=1 DEVICE=cpu tries this script without one")
cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
told = [f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores"]
if sys.argv[1] == "cuda":
    card = torch.cuda.get_device_properties(0)
    driver = said("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    told += [f"{card.name}, {card.total_memory / 2**30:.0f} GiB, driver {driver or 'unknown'}"]
    told += [f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"]
told += [f"Python {platform.python_version()}, torch {torch.__version__}"]
for name in ("torchvision", "numpy", "snakemake"):
    try:
        told += [f"{name} {packages.version(name)}"]
    except packages.PackageNotFoundError:
        told += [f"no {name}"]
dirty = " with changes" if said("git", "status", "--porcelain", "--untracked-files=no") else ""
told += [f"commit {said('git', 'rev-parse', '--short', 'HEAD') or 'unknown'}{dirty}"]
print("; ".join(told))
PY
}

part() { # name, seconds, command: told where it fails or takes longer; the rest goes on
    printf '\n## %s\n\n' "$1"
    timeout "$2" "${@:3}" 2>&1
    local code=$?
    [ $code -eq 124 ] && echo "stopped after $2 s"
    [ $code -ne 0 ] && failed=1
}

all() {
    failed=0
    for name in $parts; do
        [[ " tests sweeps run " == *" $name "* ]] && continue
        echo "error: $name: the parts are tests, sweeps and run" && return 1
    done
    about || return 1
    for name in $parts; do
        case $name in
        tests)
            chosen=(tests/test_devices.py tests/ablation/test_sweep.py)
            chosen+=(tests/ablation/test_every_kind.py tests/ablation/test_waiting.py)
            some="not torchvision and not resnet50 and not alexnet and not vgg"
            [ "$tiny" ] && chosen=(tests/test_devices.py) some="one_line"
            part tests 170 "$python" -m pytest -q -n0 --durations=3 --tb=short -p no:cacheprovider \
                "${chosen[@]}" -k "$some"
            ;;
        sweeps)
            devices=(cpu) && [ "$device" = cuda ] && devices=(cpu cuda)
            part sweeps 150 "$python" benchmarks/device.py $tiny "${devices[@]}"
            ;;
        run)
            for where in cpu $([ "$device" = cuda ] && echo cuda); do
                part "run, $where" 80 "$python" benchmarks/default.py --device "$where" \
                    --cores "$(nproc)" ${CONFIG:+--config "$CONFIG"}
            done
            ;;
        esac
    done
    return $failed
}

all | tee "$out/gpu.md"
exit "${PIPESTATUS[0]}"
