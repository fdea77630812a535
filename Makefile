# make demo, make test, make check: each installs what it needs into .venv, once.
# A stamp file in .venv remembers an install; it is redone when pyproject.toml or constraints.txt changes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check format clean

help:
	@echo "make demo    install the base package (no torch) and analyse the example portrait"
	@echo "make test    install everything and run the tests (PYTEST_ARGS='-k crop' to choose)"
	@echo "make check   ruff, mypy and the layers of imports"
	@echo "make format  let ruff format and fix what it can"
	@echo "make clean   remove caches, results and the environment"

demo: $(VENV)/base.stamp
	$(BIN)/faceum analyze examples/astronaut.png --out results/demo
	@echo "Look at results/demo/astronaut.png; the numbers are in results/demo/astronaut.json."

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/base.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the base package into $(VENV) (first time only) ..."
	@$(PIP_INSTALL) -e .
	@touch $@

# torch goes first and alone, so that nothing else gets to choose its version.
$(VENV)/dev.stamp: $(VENV)/base.stamp
	@echo "Installing torch and the development tools into $(VENV) (first time only) ..."
	@$(PIP_INSTALL) torch
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist results .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
