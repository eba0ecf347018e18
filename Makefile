# Everything sets itself up: the only needs are Python 3.11+ with venv, make and a C compiler.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo $$p; break; }; done)
BIN := .venv/bin
READY := .venv/.ready
# One more than there are cores, as tests wait for disks and servers, too.
WORKERS := $(shell cores=$$(nproc 2>/dev/null || echo 2); echo $$((cores < 4 ? cores + 1 : 5)))
PEERS := .venv/peers/.ready
PURE := ringback/model.py,ringback/lifecycle.py,ringback/retry.py,ringback/ledger/fold.py,ringback/ledger/task_row.py,ringback/ledger/expectations.py,ringback/ledger/turns.py,ringback/ledger/patterns.py,ringback/ledger/gathering.py,ringback/results/naming.py,ringback/outbound/guard.py,receiver/web/admission.py,ringback/cli/renewal.py,ringback/providers/*
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PYTHONDONTWRITEBYTECODE =  # without its bytecode, each of a thousand processes compiles everything again

.PHONY: demo test check fast slow wheel torture oracles run bench peers fmt lock clean

demo: $(READY)  ## see it happen: sandbox, receiver, worker, poller, every fault
	@$(BIN)/ringback demo

test: check fast slow wheel  ## the whole check, as CI runs it
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --fail-under=90
	@echo "== coverage of the pure modules (must be 100 %)"
	@$(BIN)/coverage report --include='$(PURE)' --fail-under=100
	@echo "== all checks passed"

check: $(READY)  ## format, lint, types, import contracts
	@echo "== format and lint"
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@echo "== types"
	@$(BIN)/mypy
	@echo "== import contracts"
	@$(BIN)/lint-imports

fast: $(READY)
	@echo "== tests"
	@$(BIN)/coverage erase
	@COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml $(BIN)/python -m pytest -q -m "not slow" \
		-n $(WORKERS) --dist worksteal

slow: $(READY)
	@echo "== tests with real processes and kill -9"
	@COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml $(BIN)/python -m pytest -q -m slow \
		-n 2 --dist loadfile --no-loadscope-reorder

wheel: $(READY)
	@echo "== the wheel, installed elsewhere"
	@$(BIN)/python tests/wheel.py

torture: $(READY)  ## the full figures: many kills, many tasks
	@RINGBACK_TEST_KILLS=200 RINGBACK_TEST_TASKS=2000 $(BIN)/python -m pytest -q -m slow -s
	@RINGBACK_TEST_EXAMPLES=1000 $(BIN)/python -m pytest -q tests/ledger/test_state_machine.py

oracles: $(READY)  ## the official libraries asked at length: other requests each time, and GitHub's own by Node and npm
	@RINGBACK_TEST_ORACLE_EXAMPLES=$${RINGBACK_TEST_ORACLE_EXAMPLES:-10000} $(BIN)/python -m pytest -q tests/oracles
	@$(BIN)/python -m tests.oracles.octokit

run: $(READY)  ## receiver, worker and poller in one process
	@$(BIN)/ringback up

bench: $(READY) $(PEERS)  ## all benchmarks in one run, beside others; writes docs/benchmarks and the README's table
	@$(BIN)/python -m bench

peers: $(PEERS)  ## the tools that `make bench` compares with, in an environment of their own

fmt: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: $(READY)  ## pin the development dependencies anew
	@$(BIN)/pip install -q uv
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links pyproject.toml --group dev -o requirements-dev.txt
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --no-emit-find-links --group bench -o requirements-bench.txt

clean:
	@rm -rf .venv .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build

$(READY): requirements-dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is missing; on Debian and Ubuntu: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "== setting up .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --require-hashes -r requirements-dev.txt \
		|| { command -v cc >/dev/null || echo "A C compiler is missing; on Debian and Ubuntu: apt-get install gcc python3-dev"; exit 1; }
	@$(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .
	@touch $(READY)

$(PEERS): requirements-bench.txt | $(READY)
	@echo "== setting up .venv/peers"
	@$(BIN)/python -m venv .venv/peers
	@.venv/peers/bin/python -m pip install -q --require-hashes -r requirements-bench.txt
	@touch $(PEERS)
