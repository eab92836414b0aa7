# `make` explains itself; every target sets up what it needs.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

-include .env
# A folder with real input for tests (handbook/…); what needs it is skipped where there is none.
FRAUD_TEST_DATA ?= $(wildcard ../shared/data)
export

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
UV = $(shell command -v uv || echo $(CURDIR)/.uv/bin/uv)
# Two test files at once: server tests often wait for a JVM or a broker.
TWO := -n 2 --dist loadfile --no-loadscope-reorder
STAMP := $(VENV)/.installed

COMPOSE = docker compose
# A cluster for the jobs, where SPARK_MASTER names it.
PROFILES = --profile flower $(if $(filter spark://%,$(SPARK_MASTER)),--profile cluster)

LOCKED_PYTHON := --python-version 3.11
LOCK = $(UV) pip compile -q --universal --generate-hashes
IMAGE_LOCK = $(LOCK) --no-annotate $(LOCKED_PYTHON) --override requirements/overrides.txt -c requirements/all.txt
RETRAIN := model training lake registry
JOBS := $(RETRAIN) spark producer postgres

.PHONY: help
help: ## Show this list
	@echo "Real-time payment fraud detection. A first look: make demo"
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile
	@echo "Everything else: $(BIN)/fraud-detect --help. Settings: FRAUD_… in the environment or in .env (.env.example)"

.PHONY: setup
setup: $(STAMP) ## Install the locked environment into .venv (the others do it by themselves)
	@echo "$(VENV) holds the locked environment, $$($(BIN)/python --version)"

$(STAMP): requirements/all.txt requirements/build.txt pyproject.toml
	@command -v uv >/dev/null || [ -x .uv/bin/uv ] || { echo "fetching uv"; $(PYTHON) -m venv .uv && .uv/bin/pip install -q uv; }
	@[ -x $(BIN)/python ] || $(UV) venv -q --python $(PYTHON) $(VENV)
	@echo "installing $$(grep -cE '^[a-z]' requirements/all.txt) locked packages into $(VENV)"
	@VIRTUAL_ENV=$(VENV) $(UV) pip sync -q --compile-bytecode --require-hashes --build-constraints requirements/build.txt requirements/all.txt
	@VIRTUAL_ENV=$(VENV) $(UV) pip install -q --no-deps -e .
	@touch $@

.PHONY: check
check: $(STAMP) ## Lint, types and every test that needs no server (3 minutes)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check -q .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not server and not compose" $(TWO)

.PHONY: test
test: check ## check, then the tests against real servers on loopback (half an hour)
	$(BIN)/python -m pytest -m server $(TWO)

.PHONY: demo
demo: $(STAMP) ## The whole platform, once, in a few minutes; leaves .run/demo/report.json
	@$(BIN)/fraud-detect demo

.PHONY: up
up: $(STAMP) ## Start Kafka, S3, MLflow, Airflow, the archive and score jobs, and stay out of the way
	@$(BIN)/fraud-detect up

.PHONY: down
down: $(STAMP) ## Stop what `make up` started; the data stay (fraud-detect down --wipe removes them)
	@$(BIN)/fraud-detect down

.PHONY: doctor
doctor: $(STAMP) ## Say what is wrong with what runs, and what to do
	@$(BIN)/fraud-detect doctor

.PHONY: bench
bench: $(STAMP) ## Measure what README's table shows, on this machine, and print the table (25 minutes)
	@$(BIN)/fraud-detect bench all

.PHONY: peers
peers: $(STAMP) ## Add to .venv what `fraud-detect bench peers` compares with; what is there stays as it is
	@VIRTUAL_ENV=$(VENV) $(UV) pip install -q --compile-bytecode --no-deps --require-hashes -r requirements/peers.txt

.PHONY: env
env: ## Docker Compose: write .env with random secrets; what one that exists says stays
	@$(PYTHON) -m fraud.stack.env_file

.PHONY: compose-up
compose-up: ## Docker Compose: build the images, start everything, return when all is healthy
	$(COMPOSE) $(PROFILES) up --detach --build --wait --wait-timeout 900

.PHONY: compose-down
compose-down: ## Docker Compose: stop everything; the volumes stay (docker compose down -v removes them)
	$(COMPOSE) --profile '*' down

.PHONY: compose-logs
compose-logs: ## Docker Compose: follow the logs (SERVICE=stream: of one)
	$(COMPOSE) --profile '*' logs --follow --tail 100 $(SERVICE)

CLI = $(COMPOSE) run --rm --no-deps -T cli
PAST = /var/lib/fraud/data/past

.PHONY: compose-model
compose-model: ## Docker Compose: load a simulated past, train a first model on it and promote it
	$(CLI) simulate --days 60 --users 1500 --out $(PAST) --start $$($(PYTHON) -c \
	  'from datetime import *; print((datetime.now(timezone.utc) - timedelta(60)).date())')
	$(COMPOSE) stop producer stream archive
	$(CLI) backfill $(PAST) --wipe --yes
	$(COMPOSE) start stream archive producer
	$(CLI) train --from $(PAST)
	$(CLI) promote --why "the first model"

.PHONY: compose-doctor
compose-doctor: ## Docker Compose: say what is wrong inside the stack, and what to do
	@$(COMPOSE) run --rm --no-deps doctor

.PHONY: test-compose
test-compose: $(STAMP) ## Docker Compose: bring the shipped file up, drive it from outside, kill parts of it (half an hour)
	$(BIN)/python -m pytest tests/compose -m compose -v -n 0

.PHONY: lock
lock: $(STAMP) ## Resolve the dependencies again: of development, then of each image, which takes over all.txt's versions
	$(LOCK) --all-extras --group dev $(LOCKED_PYTHON) --override requirements/overrides.txt pyproject.toml -o requirements/all.txt
	$(IMAGE_LOCK) $(addprefix --extra ,$(JOBS)) pyproject.toml -o requirements/jobs.txt
	$(IMAGE_LOCK) $(addprefix --extra ,$(RETRAIN)) pyproject.toml -o requirements/retrain.txt
	$(IMAGE_LOCK) requirements/mlflow.in -o requirements/mlflow.txt
	$(LOCK) --no-annotate $(LOCKED_PYTHON) requirements/tools.in -o requirements/tools.txt
	$(IMAGE_LOCK) --override requirements/peers-overrides.txt --group pyproject.toml:peers -o requirements/peers.txt

.PHONY: docs
docs: $(STAMP) ## Write schemas/ and the generated pages of docs/ again
	$(BIN)/python -m fraud.schema_files
	$(BIN)/python -m fraud.features > docs/features.md

.PHONY: clean
clean: ## Remove the environment and the tools' caches; never .run, where the data are
	rm -rf $(VENV) .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -path ./.run -prune -o -name __pycache__ -prune -exec rm -rf {} +
