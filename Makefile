# Everything a developer runs. Needs python3 (3.11 or newer) and make; the rest is installed
# into .venv from the hashed locks in requirements/.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv/bin
PYTEST := $(VENV)/python -m pytest
UV ?= uv

# The first interpreter that starts and is new enough: a name on the path may be an empty shim.
# 3.12 and 3.11 come first because every package has a wheel for them; newer ones compile Redis.
FIND_PYTHON = for python in $(PYTHON) python3.12 python3.11 python3.13 python3 python; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; python=; \
	done; [ -n "$$python" ] || { echo "Python 3.11 or newer is needed" >&2; exit 1; }

.PHONY: help setup setup-dev run test check gen docs dist bench chaos lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Create .venv with what running needs (instant when nothing changed)
	@$(FIND_PYTHON); "$$python" tools/environment.py runtime

setup-dev: ## Add what tests, checks and generation need
	@$(FIND_PYTHON); "$$python" tools/environment.py dev

run: setup ## Start the whole stack in the foreground; Ctrl-C stops it
	@exec $(VENV)/parley up

gen: setup-dev ## Generate gen/ from protos/
	@$(VENV)/python -m tools.gen

docs: setup-dev ## Write docs/reference/ from the contracts and the settings
	@$(VENV)/python -m tools.reference

dist: setup-dev ## Build the wheels of the clients and of Parley into dist/
	@$(VENV)/python -m tools.dist

# Each test of these starts the whole stack, so they run one after another.
SERIAL := tests/e2e tests/chaos

test: setup-dev ## Run all tests
	@$(PYTEST) -n 2 --dist loadfile $(SERIAL:%=--ignore=%)
	@for part in $(wildcard $(SERIAL)); do $(PYTEST) $$part; done

check: setup-dev ## Check style, types, layers, protos and that gen/ is up to date
	@$(VENV)/ruff check
	@$(VENV)/ruff format --check
	@$(VENV)/mypy $(wildcard services clients deploy tests tools)
	@$(VENV)/lint-imports --no-cache
	@$(VENV)/python -m tools.schema lint
	@$(VENV)/python -m tools.schema breaking
	@$(VENV)/python -m tools.gen --check
	@$(VENV)/python -m tools.reference --check

bench: setup-dev ## Measure throughput and latency of the whole stack
	@$(VENV)/python -m tests.benchmarks

chaos: setup-dev ## Run the tests that kill parts of the stack
	@$(PYTEST) tests/chaos

lock: ## Resolve requirements/*.in again (needs uv)
	@for set in runtime dev; do \
	  $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-emit-index-url requirements/$$set.in --output-file requirements/$$set.lock; \
	done

clean: ## Remove .venv, the local stack's state and caches
	rm -rf .venv .parley dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
