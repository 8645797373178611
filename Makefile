# make help lists what there is. PYTHON=… chooses the interpreter, VENV=… the environment's folder.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
WORKERS ?= 2
ARGS ?=

PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
# What each needs is installed once, and again when pyproject.toml changes.
RUN_READY := $(VENV)/.ready-run
DEV_READY := $(VENV)/.ready-dev

.PHONY: help run test check format bench profile docs sample clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do \
		printf 'make %-8s %s\n' "$$name" "$$text"; done

run: $(RUN_READY)  ## start the origin and the edge under ./var with a sample clip; Ctrl-C stops both
	@exec $(PY) samples/run.py $(ARGS)

test: $(DEV_READY)  ## run the whole test suite (ARGS="tests/docs -x" for a part)
	$(PY) -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

check: $(DEV_READY)  ## format, lint, types, layers, and that the documents are true
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m mypy docs/generate.py samples/run.py
	$(PY) -m pytest -q tests/architecture tests/docs

format: $(DEV_READY)  ## bring the code into form
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bench: $(DEV_READY)  ## the benchmarks, against whichever peers this machine has
	$(PY) -m benchmarks $(ARGS)

profile: $(DEV_READY)  ## where the edge spends its time under load
	$(PY) -m benchmarks.profiling $(ARGS)

docs: $(RUN_READY)  ## write docs/configuration.md and config/*.yaml anew from the settings' declarations
	$(PY) docs/generate.py

sample:  ## render the sample clip anew (needs ffmpeg)
	samples/render.sh

clean:  ## remove what was made here: the environment, caches, and the data under ./var
	rm -rf $(VENV) var build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	@python='$(PYTHON)'; \
	for found in $${python:-python3 python3.14 python3.13 python3.12 python3.11 python}; do \
		if "$$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$found; break; fi; \
		python=; \
	done; \
	if [ -z "$$python" ]; then \
		echo "Python 3.11 or newer is needed; $${found:-python3} is $$("$$found" --version 2>&1 | head -n1). Name one: make PYTHON=/path/to/python3.11" >&2; \
		exit 1; \
	fi; \
	echo "making $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv --clear $(VENV) || { \
		echo "The venv module does not work; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
		rm -rf $(VENV); exit 1; }

$(RUN_READY): pyproject.toml | $(PY)
	@echo "installing into $(VENV)"
	@$(PIP) --editable .
	@touch $@

$(DEV_READY): pyproject.toml | $(PY)
	@echo "installing into $(VENV), with what tests and checks need"
	@$(PIP) --editable '.[test,check]'
	@touch $@ $(RUN_READY)
