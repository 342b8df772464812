#!/usr/bin/env bash
# The tests as other machines run them, one setting after another (tests/README.md). Arguments go to pytest:
#     scripts/test_settings.sh -x tests/encoder
set -uo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
settings=(
    "OMP_NUM_THREADS=2"
    "OMP_NUM_THREADS=4"
    "ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2"
    "ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=SSE4_2 ONEDNN_MAX_CPU_ISA=SSE41"
)
if [ "$(uname)" = Linux ] && cc -O2 -shared -fPIC -o "$folder/other_machine.so" tests/other_machine.c -ldl; then
    settings+=(
        "LD_PRELOAD=$folder/other_machine.so OMP_NUM_THREADS=1"
        "LD_PRELOAD=$folder/other_machine.so OMP_NUM_THREADS=2"
        "LD_PRELOAD=$folder/other_machine.so MISALIGNED=1"
    )
else
    echo "left out: another maker's processor and tensors elsewhere in memory, which need Linux and a C compiler" >&2
fi
failed=()
for setting in "${settings[@]}"; do
    echo "== $setting"
    read -ra variables <<<"$setting"
    env "${variables[@]}" "$python" -m pytest "$@" || failed+=("$setting")
done
[ ${#failed[@]} -eq 0 ] || { printf 'failed with %s\n' "${failed[@]}" >&2; exit 1; }
