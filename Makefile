# The manual of this project: `make help` lists everything a contributor does; CI runs these targets and nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WARD_ARGS ?=

.PHONY: help ward test services services-down check wheels bench format clean

help: ## what can be done here
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

ward: $(VENV)/.ward ## watch a simulated ward on this terminal (WARD_ARGS="--help" for its options)
	@$(BIN)/vitalloom ward $(WARD_ARGS)

test: $(VENV)/.dev ## everything: checks, unit tests, tests against real brokers and processes
	@./tests/services/install.sh
	VITALLOOM_REQUIRE_SERVICES=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

services: $(VENV)/.dev ## start a Kafka and an InfluxDB without Docker, on loopback; make services-down stops them
	@./tests/services/install.sh
	@$(BIN)/python -m tests.services up

services-down: ## stop what `make services` has started
	@$(BIN)/python -m tests.services down

check: $(VENV)/.dev ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheels: $(VENV)/.dev ## ask the package index whether a Pi finds a wheel of everything, for every CPython
	@$(BIN)/python -m tests.services.wheels

bench: $(VENV)/.dev ## run every benchmark; the last line of each is one JSON object
	@set -e; for b in benchmarks/[a-z]*.py; do n=$$(basename $$b .py); echo "== $$n"; $(BIN)/python -m benchmarks.$$n; done

format: $(VENV)/.dev ## lay out the code as `make check` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist

# Two stamps, so that `make ward` need not wait for the development tools.
$(VENV)/.ward: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (about half a minute the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[simulators]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.ward
