# The only door to every task. `make` alone lists them.
# Needs Python 3.11 or newer, git and make; everything else goes into .venv on first use.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet
ARGS   ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# One environment, installed into step by step: never two installations at once.
.NOTPARALLEL:
.PHONY: help run test check bench completeness chaos services examples plugins docs format clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# --- what to do -------------------------------------------------------------------------------------------------------

run: $(VENV)/.run ## collect from a simulated market on this machine, without the network (about a minute)
	$(BIN)/tradeflood run --replay $(ARGS)

# Four at a time also on two cores: many tests wait for a server of their own.
test: $(VENV)/.test ## run the quick part of the tests
	$(BIN)/python -m pytest -n 4 --dist worksteal -m "not chaos and not services" $(ARGS)

check: $(VENV)/.check ## run ruff, mypy and the check of the generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

bench: $(VENV)/.bench ## measure planning, reading, durable rows, memory and latency on this machine (three minutes)
	$(BIN)/python bench $(ARGS)

completeness: $(VENV)/.bench ## play the same misbehaving venue to cryptofeed, ccxt.pro and TradeFlood (two and a half minutes)
	$(BIN)/python bench/completeness.py $(ARGS)

chaos: $(VENV)/.test ## hold runs against misbehaving venues to the truth: ten seeds unless TRADEFLOOD_CHAOS_SEEDS says so
	TRADEFLOOD_CHAOS_SEEDS=$${TRADEFLOOD_CHAOS_SEEDS:-10} $(BIN)/python -m pytest -s -m chaos $(ARGS)

# Exit code 5 of pytest: it found nothing to run.
services: $(VENV)/.test
	@$(BIN)/python -m pytest -m services $(ARGS); code=$$?; \
	if [ $$code -eq 5 ]; then echo "No test is marked services yet: nothing was run."; else exit $$code; fi

examples: $(VENV)/.test ## run every script in examples/
	@set -e; for script in examples/*.py; do \
		[ -e "$$script" ] || { echo "There is no example yet."; break; }; \
		echo "--- $$script"; $(BIN)/python -W error::DeprecationWarning:__main__ "$$script"; \
	done

# A plug-in is installed into a folder of its own, used, and thrown away: .venv never learns of it.
plugins: $(VENV)/.test ## run the tests of every package in plugins/
	@set -e; for folder in plugins/*/; do \
		[ -e "$$folder/pyproject.toml" ] || { echo "There is no plug-in yet."; break; }; \
		echo "--- $$folder"; room=$$(mktemp -d); trap 'rm -rf "$$room"' EXIT; \
		$(PIP) --no-deps --target "$$room" "./$$folder"; \
		PYTHONPATH="$$room" $(BIN)/python -m pytest --rootdir "$$folder" "$$folder/tests"; \
		rm -rf "$$room"; \
	done

docs: $(VENV)/.run ## write the generated parts of the pages anew
	$(BIN)/python docs/generate.py

format: $(VENV)/.check ## let ruff format the code and mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and what the tools keep (no data)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist

# --- the environment: one stamp per set, redone when pyproject.toml changes -------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "TradeFlood needs Python 3.11 or newer; name one with: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(BIN)/python
	@echo "Installing into $(VENV): once, about a minute, with the network."
	$(PIP) --editable '.[embedded]'
	@touch $@

# Dependency groups need pip 25.1.
$(VENV)/.pip: | $(BIN)/python
	$(PIP) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/.pip
	$(PIP) --editable '.[all]' --group test
	@touch $@ $(VENV)/.run

$(VENV)/.check: pyproject.toml $(VENV)/.test | $(VENV)/.pip
	$(PIP) --group lint --group docs
	@touch $@

$(VENV)/.bench: pyproject.toml | $(VENV)/.pip
	$(PIP) --editable '.[all]' --group bench
	@touch $@ $(VENV)/.run
