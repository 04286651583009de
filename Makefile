# `make` alone lists the targets. Every target that needs the environment makes .venv first, once.

PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
VENV_PYTHON := .venv/bin/python
INSTALLED := .venv/installed

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo study test bench lint clean

help:  ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1@\2/p' $(MAKEFILE_LIST) | tr '@' '\t' | expand -t 16

install: $(INSTALLED)  ## set up .venv with the pinned versions; the other targets do this themselves
	@echo ".venv is ready"

demo: $(INSTALLED)  ## all three tasks with both methods on toy data, two to four minutes after set-up, then the comparison table
	@$(VENV_PYTHON) scripts/train.py -m experiment=demo

# SMOLLM2=FOLDER names a copy of the model on disk, BABI=FOLDER the data; without SMOLLM2 it comes from the hub.
study: $(INSTALLED)  ## docs/study.md in small: the sums, then bAbI 15 with SmolLM2 (20 steps each), seed 1
	@test -e outputs/sums/model/tokenizer.json || OMP_NUM_THREADS=2 $(VENV_PYTHON) scripts/sums.py outputs/sums
	@OMP_NUM_THREADS=2 $(VENV_PYTHON) scripts/train.py -m experiment=study_sums seed=1
	@OMP_NUM_THREADS=2 $(VENV_PYTHON) scripts/train.py -m experiment=study_babi seed=1 trainer.max_steps=20 trainer.evaluate_every=20 \
	    data.max_validation_examples=50 data.max_test_examples=100 evaluation.substituted_examples=50

# A process per core, with one thread each: torch's own threads gain nothing on models as tiny as these.
test: $(INSTALLED)  ## run the tests
	@OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(VENV_PYTHON) -m pytest -n logical --maxprocesses 4 --dist worksteal tests

bench: $(INSTALLED)  ## what a training step costs next to SFT: operations of products, seconds, memory; 25 minutes
	@$(VENV_PYTHON) scripts/benchmark.py

lint: $(INSTALLED)  ## ruff (check and format) and mypy
	$(VENV_PYTHON) -m ruff check warmup scripts tests
	$(VENV_PYTHON) -m ruff format --check warmup scripts tests
	$(VENV_PYTHON) -m mypy warmup scripts

clean:  ## remove .venv and the caches; outputs/ stays
	rm -rf .venv *.egg-info build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find warmup scripts tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The file is written last, so that an interrupted set-up is taken up again. torch goes first, by its exact pin.
# Debian's Python makes no virtual environment with pip in it (ensurepip is a package of its own): lend it ours.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	    echo "error: Python 3.11 is needed; say where it is: make install PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up .venv (once; a few minutes) ..."
	@$(VENV_PYTHON) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv >/dev/null 2>&1 || { \
	    $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(VENV_PYTHON) install --quiet pip; }
	@$(VENV_PYTHON) -m pip install --quiet torch==2.13.0
	@$(VENV_PYTHON) -m pip install --quiet -r requirements.lock
	@$(VENV_PYTHON) -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@
