# Every target does its own set-up. Answers go to stdout; set-up speaks on stderr.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help chat test test-long check bench docs clean

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install -qq --disable-pip-version-check
TORCH := $(shell grep -o 'torch==[0-9.]*' pyproject.toml)

# Taken raw, before make expands dollar signs, and handed on through the environment: no quoting can break.
export CHAT_PROMPT := $(value PROMPT)
export CHAT_MODEL := $(value MODEL)
unexport PROMPT MODEL
MAKEOVERRIDES :=

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 12

chat: $(VENV)/.core ## talk to the bundled model; PROMPT="..." for one answer, MODEL=... for another model
	@$(VENV)/bin/gemmary chat $${CHAT_MODEL:+"$$CHAT_MODEL"} $${CHAT_PROMPT:+-p "$$CHAT_PROMPT"}

test: $(VENV)/.dev ## the short tests: under five minutes on two cores
	@$(VENV)/bin/python -m pytest -q -n 2 --dist loadscope

test-long: $(VENV)/.dev ## fuzz, soak and real training runs
	@$(VENV)/bin/python -m pytest -q -m long

check: $(VENV)/.dev ## lint, format, types, direction of imports
	@$(VENV)/bin/ruff check
	@$(VENV)/bin/ruff format --check
	@$(VENV)/bin/mypy
	@$(VENV)/bin/python -m pytest -q tests/house/test_storeys.py
	@$(VENV)/bin/python -m pytest -q -m long tests/house/test_public_face.py

bench: $(VENV)/.dev ## every table of docs/BENCH.md: bench/*.py, one after the other
	@set -e; for script in bench/*.py; do echo "== $$script" >&2; $(VENV)/bin/python "$$script"; done

docs: $(VENV)/.core ## write docs/cli.md anew from --help
	@page=$$($(VENV)/bin/python docs/write_cli.py) && printf '%s\n' "$$page" > docs/cli.md

clean: ## remove the environment, caches and builds; trained models in runs/ stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'Gemmary needs Python 3.11 or newer. Name one: make PYTHON=python3.12' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	  echo 'This Python cannot make environments. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@echo 'Making $(VENV), once.' >&2
	@$(PYTHON) -m venv $(VENV) >&2
	@touch $@

$(VENV)/.core: pyproject.toml | $(VENV)/.venv
	@echo 'Installing Gemmary: about 410 MB, half a minute.' >&2
	@$(PIP) -e . >&2
	@touch $@

# torch first and exactly: the version that is pinned, and nothing that could choose another.
$(VENV)/.dev: pyproject.toml | $(VENV)/.venv
	@echo 'Installing what tests need: $(TORCH) and tools, a minute or two.' >&2
	@$(PIP) $(TORCH) >&2
	@$(PIP) -e '.[dev]' >&2
	@touch $@
