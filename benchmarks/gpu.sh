#!/bin/sh
# What needs a GPU, in under 8 minutes on an H100: steps captured and not captured, pre-training and the published way,
# prediction, and a small study. Prints one table and writes JSON.
#
#     sh benchmarks/gpu.sh [FOLDER] [SRC]
#
# FOLDER is where gpu.json is written (by default the working folder); SRC is the src folder of another checkout, whose
# commands are then timed in turns with these.
set -eu
out=${1:-.}
here=$(dirname "$0")
python=${PYTHON:-python}
[ $# -gt 1 ] && against="--against $2" || against=
nvidia-smi --query-gpu=name,driver_version,utilization.gpu --format=csv || true
# shellcheck disable=SC2086 # no argument where there is nothing to compare with
exec timeout -s INT 470 "$python" "$here/bench.py" --device cuda --rounds 2 --out "$out/gpu.json" $against --only \
    GPU "pre-training step, polycl-m, 128²" "pre-training step, simclr" "fine-tuning step, resnet50-unet" \
    "predict, 1 class" "predict, 13 classes"
