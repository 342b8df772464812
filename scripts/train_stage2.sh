#!/bin/sh
# Stage 2 of the paper's language model on 4 GPUs, from what stage 1 made (RECIPE=stage2_lora for LoRA).
#
#   MODEL=runs/stage1 DATA=ShapeNeRF-Text OUT=runs/stage2 scripts/train_stage2.sh [key=value ...]
set -eu
here=$(dirname "$0")
recipe=${RECIPE:-stage2}
set -- "model=${MODEL:-runs/stage1}" "data=${DATA:?directory of the data}" "output=${OUT:-runs/stage2}" "$@"
[ "$recipe" = stage2 ] && set -- "deepspeed=$here/deepspeed/zero3.json" "$@"
exec torchrun --standalone --nproc-per-node "${GPUS:-4}" -m llana_gmn train --stage 2 --config "$here/recipes/$recipe.yaml" "$@"
