# The manual of this project: `make help` lists everything a contributor does; CI runs these targets and nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WARD_ARGS ?=
SITE ?= site
SITE_ARGS ?= --demo

.PHONY: help ward site up down test services services-down check house wheels bench format clean

help: ## what can be done here
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

ward: $(VENV)/.ward ## watch a simulated ward on this terminal (WARD_ARGS="--help" for its options)
	@$(BIN)/vitalloom ward $(WARD_ARGS)

site: $(VENV)/.site ## a whole site on this machine: Kafka, InfluxDB and all, with simulated patients; Ctrl-C ends it
	@bash ./deploy/native/install.sh mosquitto kafka influxdb
	@test -e $(SITE)/site.toml || $(BIN)/vitalloom site init $(SITE)
	@$(BIN)/vitalloom site run $(SITE) $(SITE_ARGS)

up: $(VENV)/.site ## the same site in containers; needs an engine and compose
	@docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1 \
	  || { echo "no container engine answers here, or compose is missing; without containers: make site"; exit 1; }
	@test -e $(SITE)/site.toml || $(BIN)/vitalloom site init $(SITE)
	docker compose --env-file $(SITE)/.env up --detach --build --wait

down: ## stop what `make up` has started; the data stays in the site's folder
	docker compose --env-file $(SITE)/.env --profile demo down

test: $(VENV)/.dev ## everything: checks, unit tests, tests against real brokers and processes
	@./deploy/native/install.sh
	VITALLOOM_REQUIRE_SERVICES=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

services: $(VENV)/.dev ## start a Kafka and an InfluxDB without Docker, on loopback; make services-down stops them
	@./deploy/native/install.sh kafka influxdb
	@$(BIN)/python -m tests.services up

services-down: ## stop what `make services` has started
	@$(BIN)/python -m tests.services down

check: $(VENV)/.dev ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

house: $(VENV)/.dev ## figures of the structure: files, imports, circles, longest file, function and class of each folder
	@$(BIN)/python -m tests.structure

wheels: $(VENV)/.dev ## ask the package index whether a Pi finds a wheel of everything, for every CPython
	@$(BIN)/python -m tests.services.wheels

bench: $(VENV)/.dev ## run every benchmark; the last line of each is one JSON object
	@set -e; for b in benchmarks/[a-z]*.py; do n=$$(basename $$b .py); echo "== $$n"; $(BIN)/python -m benchmarks.$$n; done

format: $(VENV)/.dev ## lay out the code as `make check` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist

# Three stamps, so that `make ward` and `make site` need not wait for the development tools. `bench` is `dev` and the
# engines that we are measured against: the tests run every benchmark.
$(VENV)/.ward: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (about half a minute the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[simulators]'
	@touch $@

$(VENV)/.site: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (a minute the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[site]'
	@touch $@ $(VENV)/.ward

$(VENV)/.dev: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@ $(VENV)/.ward $(VENV)/.site
