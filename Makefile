# One command for every habit: people, hooks and CI call the same targets. `make help` prints them.

PYTHON ?= python3
THREADS ?= 2

VENV := .venv
BIN := $(VENV)/bin
UV := VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv
LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.10 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" --quiet
LOCKED := $(if $(CI),--locked)
PIN := OMP_NUM_THREADS=$(THREADS) MKL_NUM_THREADS=$(THREADS) OPENBLAS_NUM_THREADS=$(THREADS) RAYON_NUM_THREADS=$(THREADS)
RUST := Cargo.toml $(wildcard Cargo.lock) $(shell find rust -name '*.rs')
SOURCES := python tests $(wildcard benches)

# cargo is found in its usual place even where the shell's profile was not read.
export PATH := $(PATH):$(HOME)/.cargo/bin
# Containers often forbid bytecode; every process would then compile torch anew, ten seconds of each.
unexport PYTHONDONTWRITEBYTECODE
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup demo test test-rust test-python lint format bench bench-gpu wheel lock clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The stamps below make set-up a thing that is done once, and again only when what it depends on changes.
$(VENV)/.tools: requirements/tools.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "gapsel needs Python 3.10 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/tools.txt
	@touch $@

$(VENV)/.packages: requirements/dev.txt $(VENV)/.tools
	$(UV) pip install --quiet --require-hashes -r requirements/dev.txt
	@touch $@

$(VENV)/.extension: $(RUST) pyproject.toml $(VENV)/.packages
	@command -v cargo >/dev/null || { echo "gapsel needs a Rust toolchain (cargo) to build its core" >&2; exit 1; }
	VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/maturin develop --release --uv --quiet $(LOCKED)
	@touch $@

$(VENV)/.bench: requirements/bench.txt $(VENV)/.packages
	$(UV) pip install --quiet --require-hashes -r requirements/bench.txt
	@touch $@

setup: $(VENV)/.extension ## make .venv, install what the lock names, build the Rust core

demo: setup ## choose 200 of 6,000 documents for a target of three topics, and write demo-run/
	@$(BIN)/gapsel run --pool examples/demo/pool.jsonl.gz --target examples/demo/target_mix.jsonl.gz -k 200 \
		--label-field domain -o demo-run

test: test-rust test-python ## run all tests

test-rust: setup
	$(PIN) cargo test $(LOCKED)

test-python: setup
	$(PIN) $(BIN)/python -m pytest

lint: setup ## check style, types and stubs; changes nothing
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/stubtest gapsel._native
	cargo fmt --check
	cargo clippy $(LOCKED) --all-targets -- -D warnings
	cargo clippy $(LOCKED) --all-targets --features python -- -D warnings

format: setup ## fix what can be fixed by machine
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	cargo fmt

bench: setup $(VENV)/.bench ## gapsel beside other solvers: a record in benches/record, and the figures on speed
	$(BIN)/gapsel bench --threads $(THREADS) --record benches/record
	$(BIN)/python benches/readme.py

bench-gpu: setup $(VENV)/.bench ## gapsel on a GPU, in under ten minutes: a record in benches/record/gpu
	$(UV) pip install --quiet 'cupy-cuda13x[ctk]>=14'
	-$(UV) pip install --quiet 'flash-sinkhorn>=0.4'
	$(BIN)/python benches/gpu.py

wheel: setup ## build the wheel (one for all Pythons from 3.10) into dist/
	$(BIN)/maturin build --release $(LOCKED) --out dist

lock: $(VENV)/.tools ## renew the lock files
	$(BIN)/uv pip compile requirements/tools.in --universal --python-version 3.10 --generate-hashes \
		--no-emit-index-url --custom-compile-command "make lock" --quiet --upgrade -o requirements/tools.txt
	$(LOCK) --extra embed --extra ray --extra clusters --extra dev --upgrade -o requirements/dev.txt
	$(LOCK) --extra embed --extra ray --extra clusters --extra dev --extra bench --constraint requirements/dev.txt --upgrade -o requirements/bench.txt
	cargo update

clean: ## remove everything that these targets made
	rm -rf $(VENV) target dist demo-run .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f python/gapsel/_native*.so
	find python tests -name __pycache__ -prune -exec rm -rf {} +
