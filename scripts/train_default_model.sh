#!/usr/bin/env bash
# Make what ships in llana_gmn/default again: NeRFs, encoder, language model. Continues after a kill.
#
#   scripts/train_default_model.sh WORK MESHES       MESHES: directories of meshes by class, with manifest.json
set -euo pipefail
work=${1:?where to keep everything}
meshes=${2:?directory of meshes}
architectures=MLP-nano,TRI-nano,HASH-nano
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

llana-gmn fit procedural:650 --architecture "$architectures" --quality nano --batch 13 --out "$work/procedural"
llana-gmn fit "$meshes"/[!o]*/ --architecture "$architectures" --quality nano --batch 13 --out "$work/real"
llana-gmn train-encoder --data "$work/procedural" --out "$work/encoder" --loss rc --config nano
llana-gmn train --config scripts/recipes/small.yaml encoder="$work/encoder/last" data="$work/procedural" output="$work/model"
python scripts/pack_default_nerfs.py --procedural "$work/procedural" --real "$work/real" \
    --manifest "$meshes/manifest.json" --out llana_gmn/default/nerfs
mkdir -p llana_gmn/default/model
for name in chat_template.jinja {config,generation_config,processor_config,tokenizer,tokenizer_config}.json model.safetensors; do
    cp "$work/model/$name" llana_gmn/default/model/
done
