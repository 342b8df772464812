#!/usr/bin/env bash
# Make what ships in llana_gmn/default again: NeRFs, encoder, language model. Continues after a kill.
#
#   scripts/train_default_model.sh WORK MESHES...       MESHES: directories of meshes by class, each with a manifest.json
#
# The set has language and truth for all objects, and recoloured twins of those that are trained on (docs/language_data.md).
set -euo pipefail
work=${1:?where to keep everything}
shift
test $# -gt 0 || { echo "name at least one directory of meshes" >&2; exit 2; }
architectures=MLP-nano,TRI-nano,HASH-nano
manifests=("${@/%//manifest.json}")
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

llana-gmn fit "procedural:${OBJECTS:-650}" --architecture "$architectures" --quality nano --batch 13 --out "$work/procedural"
llana-gmn fit "${manifests[@]/#/manifest:}" --architecture "$architectures" --quality nano --batch 13 --out "$work/real" || echo "some meshes were left out" >&2
python scripts/make_training_set.py --procedural "$work/procedural" --real "$work/real" --manifests "${manifests[@]}" --out "$work/set"
llana-gmn train-encoder --data "$work/set" --out "$work/probes" --config probes
llana-gmn train-encoder --data "$work/set" --out "$work/encoder" --config probes_graph --init "$work/probes/last"
llana-gmn train --config scripts/recipes/smollm2_stage1.yaml encoder="$work/encoder/last" data="$work/set" output="$work/model1"
llana-gmn train --config scripts/recipes/smollm2.yaml model="$work/model1" data="$work/set" output="$work/model2"
python scripts/pack_default_nerfs.py --procedural "$work/set" --real "$work/real" --held-out "$work/set/real_test.txt" \
    --manifests "${manifests[@]}" --out llana_gmn/default/nerfs
python scripts/pack_default_model.py --model "$work/model2" --out llana_gmn/default/model
python scripts/calibrate_model.py --model llana_gmn/default/model --data "$work/set"
