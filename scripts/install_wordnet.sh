#!/usr/bin/env bash
# WordNet for METEOR, from Debian's package (installed first where we are root) or from nltk's server.
# Usage: scripts/install_wordnet.sh [NLTK_DATA_DIRECTORY]; by default that of the Python environment.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python
[ -x "$python" ] || python=python3
PYTHONPATH="encoder:eval:.${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-$python}" -m llana_eval.captioning.wordnet "$@"
