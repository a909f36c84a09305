# The manual of this project: `make help` lists everything a contributor does; CI runs these targets and nothing else.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WARD_ARGS ?=
SITE ?= site
SITE_ARGS ?= --demo
# One room's tests alone (ROOM=vitals), further options of pytest (PYTEST_ARGS=-x), and a marker expression that narrows
# what the targets below run (ONLY=essential).
ROOM ?=
PYTEST_ARGS ?=
ONLY ?=
SERVERS ?=

INSTALL := ./deploy/native/install.sh
UV := $(shell command -v uv 2>/dev/null)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# uv where it is installed; pip knows more ways of being configured, and has the last word.
PACKAGES := $(if $(UV),{ $(UV) pip install --quiet --python $(BIN)/python --editable "$$packages" || $(PIP) --editable "$$packages"; },$(PIP) --editable "$$packages")
PYTEST := $(BIN)/python -m pytest $(PYTEST_ARGS)
# Unit tests write to memory where there is enough: fsync costs nothing there.
MEMORY := $(shell df --output=avail -m /dev/shm 2>/dev/null | awk 'NR == 2 && $$1 > 2000 { print "TMPDIR=/dev/shm" }')
UNIT := not services and not slow and not training and not bare_machine
# Minutes of arithmetic without a server: these run beside each other. Those with servers run alone, one at a time.
LONG := (slow or training) and not services
and_only = $(if $(ONLY),($(1)) and ($(ONLY)),$(1))
# pytest ends with 5 where a narrowing leaves it no test.
none_is_fine = $(if $(ONLY), || test $$? = 5)

.PHONY: help ward site up down unit test test-services test-training test-first-hour extras services services-down \
  check cases house wheels bench format clean

help: ## what can be done here
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

ward: $(VENV)/.ward ## watch a simulated ward on this terminal (WARD_ARGS="--help" for its options)
	@$(BIN)/vitalloom ward $(WARD_ARGS)

site: $(VENV)/.site ## a whole site on this machine: Kafka, InfluxDB and all, with simulated patients; Ctrl-C ends it
	@$(INSTALL) mosquitto kafka influxdb
	@test -e $(SITE)/site.toml || $(BIN)/vitalloom site init $(SITE)
	@$(BIN)/vitalloom site run $(SITE) $(SITE_ARGS)

up: $(VENV)/.site ## the same site in containers; needs an engine and compose
	@docker compose version >/dev/null 2>&1 && docker info >/dev/null 2>&1 \
	  || { echo "no container engine answers here, or compose is missing; without containers: make site"; exit 1; }
	@test -e $(SITE)/site.toml || $(BIN)/vitalloom site init $(SITE)
	docker compose --env-file $(SITE)/.env up --detach --build --wait

down: ## stop what `make up` has started; the data stays in the site's folder
	docker compose --env-file $(SITE)/.env --profile demo down

unit: $(VENV)/.test ## the unit tests, a minute on two cores: no servers, no processes (ROOM=vitals: of one room)
	$(MEMORY) $(PYTEST) --numprocesses auto --dist worksteal -o tmp_path_retention_policy=none -m '$(call and_only,$(UNIT))' \
	  $(if $(ROOM),tests/$(ROOM))$(none_is_fine)

test: unit test-services ## everything but training: unit tests, real brokers, whole processes; says what was skipped and why

test-services: $(VENV)/.test ## the tests against real servers and whole processes
	@$(INSTALL) --best-effort $(SERVERS)
	@status=0; set -x; \
	  { $(PYTEST) --numprocesses auto --dist loadfile -m '$(call and_only,$(LONG))'$(none_is_fine); } || status=$$?; \
	  { $(PYTEST) -m '$(call and_only,services)'$(none_is_fine); } || status=$$?; \
	  exit $$status

test-training: extras ## install PyTorch and the engines that benchmarks compare with (5 GB), and run their tests
	$(PYTEST) -m training

test-first-hour: $(VENV)/.test ## as root: the README's two commands on a bare Debian in a folder (needs debootstrap)
	@$(INSTALL) --best-effort debootstrap
	$(PYTEST) -m bare_machine

services: $(VENV)/.dev ## start a Kafka and an InfluxDB without Docker, on loopback; make services-down stops them
	@$(INSTALL) kafka influxdb
	@$(BIN)/python -m tests.services up

services-down: ## stop what `make services` has started
	@$(BIN)/python -m tests.services down

check: $(VENV)/.dev ## ruff, mypy --strict and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

cases: $(VENV)/.test ## the clinical cases beside this checkout: input, right value, what came
	@$(BIN)/python -m tests.cases

house: $(VENV)/.dev ## figures of the structure: files, imports, circles, longest file, function and class of each folder
	@$(BIN)/python -m tests.structure

wheels: $(VENV)/.dev ## ask the package index whether a Pi finds a wheel of everything, for every CPython
	@$(BIN)/python -m tests.services.wheels

bench: extras ## run every benchmark; the last line of each is one JSON object
	@set -e; for b in benchmarks/[a-z]*.py; do n=$$(basename $$b .py); echo "== $$n"; $(BIN)/python -m benchmarks.$$n; done

format: $(VENV)/.dev ## lay out the code as `make check` wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist

# A stamp for each set of packages, so that `make ward` need not wait for the development tools.
extras: $(VENV)/.extras

$(BIN)/python:
	@$(INSTALL) venv
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.ward: pyproject.toml | $(BIN)/python
	@echo "installing (about half a minute the first time) ..."
	@packages='.[simulators]'; $(PACKAGES)
	@touch $@

$(VENV)/.site: pyproject.toml | $(BIN)/python
	@echo "installing (a minute the first time) ..."
	@packages='.[site]'; $(PACKAGES)
	@touch $@ $(VENV)/.ward

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "installing (a minute the first time) ..."
	@packages='.[test]'; $(PACKAGES)
	@touch $@ $(VENV)/.ward $(VENV)/.site

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@echo "installing the development tools ..."
	@packages='.[dev]'; $(PACKAGES)
	@touch $@ $(VENV)/.ward $(VENV)/.site $(VENV)/.test

$(VENV)/.extras: pyproject.toml | $(BIN)/python
	@echo "installing PyTorch and other engines (5 GB, minutes the first time) ..."
	@packages='.[dev,train,bench]'; $(PACKAGES)
	@touch $@ $(VENV)/.ward $(VENV)/.site $(VENV)/.test $(VENV)/.dev
