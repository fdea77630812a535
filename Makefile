# Every target installs what it needs into .venv, once.
# A stamp file in .venv remembers an install; it is redone when pyproject.toml or constraints.txt changes.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt
WORKERS ?= auto
PAGE := tools/page
PYTEST_ARGS ?=
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

OLDEST_PYTHON ?= python3.10
NEWEST_PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-minimums test-newest check check-page browser format docs clean

help:
	@echo "make demo           install the base package (no torch) and analyze the example portrait"
	@echo "make test           run all tests in parallel (PYTEST_ARGS='-k crop' to choose, WORKERS=2)"
	@echo "make test-fast      run the tests that are not marked slow"
	@echo "make test-minimums  run the base tests with the oldest declared versions on $(OLDEST_PYTHON)"
	@echo "make test-newest    run the base tests with the newest versions on $(NEWEST_PYTHON)"
	@echo "make check          run ruff, mypy and the import contracts, and check the server's page"
	@echo "make browser        install Chromium and what the page's tests need"
	@echo "make docs           build the documentation site into site/"
	@echo "make format         let ruff format and fix what it can"
	@echo "make clean          remove caches, results and the environments"

demo: $(VENV)/base.stamp
	$(BIN)/faceum analyze examples/astronaut.png --out results/demo --overwrite
	@echo "Look at results/demo/astronaut.png; the numbers are in results/demo/astronaut.json."

test: $(VENV)/dev.stamp
	$(PYTEST) $(PYTEST_ARGS)

test-fast: $(VENV)/dev.stamp
	$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-minimums:
	$(OLDEST_PYTHON) tools/try_versions.py minimums

test-newest:
	$(NEWEST_PYTHON) tools/try_versions.py newest

check: $(VENV)/dev.stamp check-page
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# Lints the page and checks its types, where npm is there and can install the tools.
check-page:
	@if ! command -v npm >/dev/null; then \
	  echo "The page is not checked: npm is not installed."; \
	elif ! npm ci --prefix $(PAGE) --no-audit --no-fund --silent; then \
	  echo "The page is not checked: npm cannot install the tools in $(PAGE)."; \
	else npm run --prefix $(PAGE) --silent check; fi

# Without a browser the page's tests are skipped; apt-get needs root.
browser: $(VENV)/dev.stamp
	@$(PIP_INSTALL) -e '.[browser]'
	@command -v chromium >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; }

docs: $(VENV)/dev.stamp
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/base.stamp: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing the base package into $(VENV) (first time only) ..."
	@$(PIP_INSTALL) -e '.[cpu]'
	@touch $@

# torch goes first and alone, so that nothing else chooses its version.
$(VENV)/dev.stamp: $(VENV)/base.stamp
	@echo "Installing torch and the development tools into $(VENV) (first time only) ..."
	@$(PIP_INSTALL) torch
	@$(PIP_INSTALL) -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(PAGE)/node_modules build dist results site .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
