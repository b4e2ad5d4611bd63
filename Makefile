# Everything a person or CI does with a checkout. `make setup` is run by the others when it is needed.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PY := .venv/bin/python
SCENE ?=
CHASSIS ?=
MACHINE ?=
UEFI ?=
KEEP ?=
NODES ?=
SEED ?=
# Bash has a SECONDS of its own, which make would pass on.
SECONDS_ := $(if $(filter command line,$(origin SECONDS)),$(SECONDS),60)
TESTS ?= tests
PYTEST_ARGS ?=
# Processes that share the tests; 0 runs all in one.
WORKERS ?= 2
# Built images and downloaded packages of the tests; safe to delete.
export LEVIER_TEST_CACHE ?= $(HOME)/.cache/levier
# Hundreds of short processes would compile all of Levier each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup setup-stub demo test test-long lock-releases test-faults test-simulation lint bench lock clean root

help:
	@echo "make demo [CHASSIS=qemu|nspawn] [UEFI=1] [KEEP=1]   a virtual rack from power-off to SSH, and back"
	@echo "make demo CHASSIS=stub [NODES=10]                   the same without root"
	@echo "make demo SCENE=cloud [KEEP=1]                      from power-off to a running OpenStack, and back"
	@echo "make test [TESTS=tests/unit]                        all tests, those that need root included"
	@echo "make test-faults                                    every step × every fault, as a table"
	@echo "make test-simulation [SECONDS=60] [SEED=n]          random histories of faults, kills and people, simulated"
	@echo "make lint                                           ruff, mypy --strict, layering"
	@echo "make bench                                          measurements, printed as ratios"
	@echo "make setup                                          Debian packages and .venv, what is missing of them"
	@echo "make test-long                                      what takes minutes: a whole release built and run"
	@echo "make lock                                           requirements/lock.txt anew (needs uv)"
	@echo "make lock-releases                                  the locks of the shipped releases anew"

root:
	@[ "$$(id -u)" = 0 ] || { echo "this needs root (network namespaces, QEMU, nspawn): run it as root or with sudo" >&2; exit 2; }

setup:
	@deployments/setup.sh all

setup-stub:
	@deployments/setup.sh stub

demo: $(if $(filter stub,$(CHASSIS)),setup-stub,root setup)
	$(PY) -m levier demo $(if $(SCENE),--scene $(SCENE)) $(if $(CHASSIS),--chassis $(CHASSIS)) \
	    $(if $(MACHINE),--machine $(MACHINE)) $(if $(UEFI),--uefi) $(if $(KEEP),--keep) $(if $(NODES),--nodes $(NODES))

# A walk up and down a cloud takes a quarter of an hour, a hundred machines with lost replies some minutes: `make
# test-faults` goes there, and to every fault of the matrix.
test: root setup
	$(PY) -m pytest $(TESTS) --ignore=tests/faults/installed/test_small_cloud.py --ignore=tests/faults/test_lossy_rack.py -n $(WORKERS) --no-loadscope-reorder --durations=15 --durations-min=1 $(PYTEST_ARGS)

test-simulation: setup-stub
	$(PY) -m tests.simulation --seconds $(SECONDS_) $(if $(SEED),--seed $(SEED))

test-faults: root setup
	$(PY) -m pytest tests/faults --every-fault -q --no-header -p no:cacheprovider $(PYTEST_ARGS)

lint: setup
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy levier drivers tasks flows
	PYTHONPATH=. .venv/bin/lint-imports --no-logo

bench: root setup
	$(PY) -m pytest tests/bench -s -o python_files='bench_*.py' $(PYTEST_ARGS)
	$(PY) -m pytest tests/faults/test_matrix.py --every-fault -q --no-header --fault-table docs/fault-matrix.md

test-long: root setup
	$(PY) -m pytest tests/long -s -o python_files='long_*.py' $(PYTEST_ARGS)

lock-releases: setup
	$(PY) -m levier.services.release_locking

lock:
	uv pip compile pyproject.toml --extra dev --python-version 3.11 --override requirements/overrides.txt \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --quiet -o requirements/lock.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
