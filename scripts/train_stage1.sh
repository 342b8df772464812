#!/bin/sh
# Stage 1 of the paper's language model on 4 GPUs (GPUS=n for another number; a step then has 16 n samples).
#
#   MODEL=llana-gmn-7b DATA=ShapeNeRF-Text OUT=runs/stage1 scripts/train_stage1.sh [key=value ...]
#
# MODEL: llana-gmn convert LLaNA-7B_init --encoder best.pt --out llana-gmn-7b
set -eu
here=$(dirname "$0")
exec torchrun --standalone --nproc-per-node "${GPUS:-4}" -m llana_gmn train --stage 1 --config "$here/recipes/stage1.yaml" \
    "model=${MODEL:?directory of the model}" "data=${DATA:?directory of the data}" "output=${OUT:-runs/stage1}" "$@"
