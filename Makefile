# Everything a developer does here. On a machine with only Python, make and a network each target sets up what it needs.
#
#   make demo                     try the project out          make demo ARGS=--once
#   make demo BROKER=redis        ... on a Redis that it finds or starts
#   make test                     the suite on every database  make test-sqlite PYTEST_ARGS="-k retry"
#   make test PYTHON=python3.12   with another interpreter (in a new VENV)

PYTHON ?= python3
VENV ?= .venv
# Which Django to install, such as "Django~=5.2.0"; the newest by default.
DJANGO ?= Django
# Which extra to install for lint and test: `test` is enough for the suite alone.
EXTRA ?= dev
# Where the demo's messages and results are: database or redis.
BROKER ?= database
ARGS ?=
# Most tests wait for processes that they start, so that several at a time take no longer than one, even on two cores.
PYTEST_ARGS ?= -n 4

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet

# The suites start hundreds of Python processes: each would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-sqlite test-postgresql test-mariadb lint chaos bench docs clean

help:  ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

# Stamps: made once, and again whenever setup.cfg changes.

$(VENV)/.package: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e . "$(DJANGO)"
	@touch $@

$(VENV)/.$(EXTRA): $(VENV)/.package
	$(PIP) -e ".[$(EXTRA)]" "$(DJANGO)"
	@touch $@

# mysqlclient is built from source, which not every machine can; then all but the suite on MariaDB still runs.
$(VENV)/.mariadb: $(VENV)/.$(EXTRA)
	$(PIP) -e ".[mariadb]" "$(DJANGO)" >$(VENV)/mariadb.log 2>&1 && touch $@ || \
	    echo "mysqlclient could not be built (see $(VENV)/mariadb.log): it needs a C compiler and MariaDB's client headers."

$(VENV)/.redis: $(VENV)/.package
	$(PIP) -e ".[redis]" "$(DJANGO)"
	@touch $@

demo: $(VENV)/.package $(if $(filter redis,$(BROKER)),$(VENV)/.redis)  ## run the example project: web site, worker and sample jobs
	$(BIN)/python -m example_project.demo --broker $(BROKER) $(ARGS)

test: test-sqlite test-postgresql test-mariadb  ## run the suite on SQLite, PostgreSQL and MariaDB

test-sqlite: $(VENV)/.$(EXTRA)  ## run the suite on SQLite
	TEST_DATABASE=sqlite $(BIN)/python -m pytest $(PYTEST_ARGS)

# A missing server is said and passed over, but not in CI.
define test-on-server
	@if $(BIN)/python -m tests.servers $(1); then \
	    echo "TEST_DATABASE=$(1) $(BIN)/python -m pytest $(PYTEST_ARGS)"; \
	    TEST_DATABASE=$(1) $(BIN)/python -m pytest $(PYTEST_ARGS); \
	else \
	    echo "The suite was NOT run on $(1)."; test "$$CI" != true; \
	fi
endef

test-postgresql: $(VENV)/.$(EXTRA)  ## run the suite on a PostgreSQL of its own
	$(call test-on-server,postgresql)

test-mariadb: $(VENV)/.mariadb  ## run the suite on a MariaDB of its own
	$(call test-on-server,mariadb)

lint: $(VENV)/.$(EXTRA)  ## check style, types, sizes and imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/budgets.py

chaos: $(VENV)/.mariadb  ## break everything for an hour, on databases and on Redis, and audit (ARGS for the faults)
	for place in sqlite postgresql mariadb redis; do \
	    $(BIN)/python -m chaos faults --database $$place $(ARGS) && \
	    $(BIN)/python -m chaos faults --database $$place --only kill_worker freeze_worker kill_supervisor --pause 4 && \
	    $(BIN)/python -m chaos delayed --database $$place && \
	    $(BIN)/python -m chaos long --database $$place && \
	    $(BIN)/python -m chaos beat --database $$place && \
	    $(BIN)/python -m chaos idle --database $$place || exit 1; \
	done
	for place in postgresql mariadb redis; do $(BIN)/python -m chaos outage --database $$place || exit 1; done
	$(BIN)/python -m chaos faults --database redis --only reset_connections silence_connections --lease 30 --seconds 30
	$(BIN)/python -m chaos locked
	$(BIN)/python -m chaos snapshot
	$(BIN)/python -m chaos mixed
	$(BIN)/python -m chaos mixed --kill ours
	$(BIN)/python -m chaos beside
	$(BIN)/python -m chaos failover
	$(BIN)/python -m chaos failover --lags 0.02 0.3 --wait 0 1 2

bench: $(VENV)/.$(EXTRA)  ## measure throughput and latency
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.$(EXTRA)  ## build the documentation
	$(BIN)/sphinx-build -W -b html docs docs/_build

clean:  ## remove all that these targets made
	rm -rf $(VENV) .venv-* docs/_build build dist .mypy_cache .pytest_cache .ruff_cache .tox *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
