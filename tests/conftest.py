"""Fixtures: one private server per session, one database per test, one saver per kind.

A test that asks for `saver` runs once for each kind (`-k async-pool` picks one). A test that needs
several savers, or unusual ones, asks for `database_uri` and calls `tests.support.adapters.open_saver`.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from langgraph.checkpoint.eventlog import EventLogSaver, Problem
from langgraph.checkpoint.eventlog.integrity import verify_code as code
from tests.citus.excluded import Exclusion
from tests.support.adapters import KINDS, open_saver
from tests.support.checkpoints import CHECKS_ARE_DROPPED
from tests.support.clock import make_clock
from tests.support.cluster import run_cluster
from tests.support.full_log import Reading, read, write_full_log
from tests.support.server import Server, run_server

#: The directory of PostgreSQL's programs with Citus, to test on a cluster (`make test-citus`).
CITUS = os.environ.get("EVENTLOG_TEST_CITUS")
PGBOUNCER = os.environ.get("EVENTLOG_TEST_PGBOUNCER")

#: What only a real PgBouncer or Citus can show is part of the suite where the suite runs through one, and so is what
#: takes LangGraph's server.
collect_ignore = [
    *([] if CITUS else ["citus"]),
    *([] if PGBOUNCER else ["database/test_pgbouncer.py"]),
    *([] if "EVENTLOG_TEST_AGENT_SERVER" in os.environ else ["examples/test_agent_server.py"]),
    # What is deployed with: a group of .venv alone.
    *([] if find_spec("gunicorn") and find_spec("celery") else ["examples/test_deploy.py"]),
    # In async graphs LangGraph's `interrupt` and stream writer need Python 3.11.
    *([] if sys.version_info >= (3, 11) else ["examples/test_fastapi.py"]),
    # The SDK asks for newer versions of other packages than our lowest: `make test-floors` is without it.
    *([] if find_spec("mcp") else ["viewing/test_mcp.py"]),
]


def pytest_configure(config: pytest.Config) -> None:
    if CITUS:
        config.pluginmanager.register(Exclusion())


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Attacks run on each PostgreSQL that the gate tests."""
    for item in items:
        if item.get_closest_marker("attack"):
            item.add_marker("portable")


@pytest.fixture(autouse=True, scope="session")
def code_with_a_clock() -> Iterator[None]:
    """`verify` names what `tests.support` alters: not in tests of other things.

    That is the function that `clock` replaces, and the constraints where `Tables.drop_checks` dropped them.
    """

    def verify_code(statements: Statements) -> Op[list[Problem]]:
        problems = yield from code.verify_code(statements)
        problems = [each for each in problems if "function clock_v1 was altered" not in each.what]
        missing = [each for each in problems if re.search(r"constraint \w+_check on \w+ is missing\b", each.what)]
        if missing and (yield Query(CHECKS_ARE_DROPPED)) == [(True,)]:
            problems = [each for each in problems if each not in missing]
        return problems

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("langgraph.checkpoint.eventlog.integrity.verify.verify_code", verify_code)
        yield


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The session's private server."""
    if CITUS:
        with run_cluster(Path(CITUS)) as cluster:
            yield cluster
        return
    with run_server(pooler=Path(PGBOUNCER) if PGBOUNCER else None) as running:
        yield running


@pytest.fixture(scope="session")
def other_server() -> Iterator[Server]:
    """Another cluster, which can send what is written there to others."""
    with run_server(wal_level="logical") as running:
        yield running


@pytest.fixture(scope="session")
def newest_server(other_server: Server) -> Iterator[Server]:
    """A cluster of the newest PostgreSQL, which is another version than the session's if that is an older one."""
    if "EVENTLOG_TEST_PG_BIN" not in os.environ:
        yield other_server
        return
    with run_server(newest=True) as running:
        yield running


@pytest.fixture(scope="session")
def full_log(server: Server) -> tuple[str, Reading]:
    """The name of a database with a log that has everything in it, and what that says. Dump or clone it."""
    name = server.create_database(prefix="full")
    asyncio.run(write_full_log(server.uri(name)))
    return name, asyncio.run(read(server.uri(name)))


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """The name of a database on which `setup()` has run. Clone it; do not connect to it."""
    name = server.create_database(prefix="template")
    with psycopg.connect(server.uri(name), autocommit=True) as conn:
        EventLogSaver(conn).setup(citus=bool(CITUS), shards=4 if CITUS else None)
    return name


@pytest.fixture
def new_database(server: Server, template: str) -> Iterator[Callable[..., str]]:
    """Call it for the connection string of one more database, set up, or a copy of one that is named."""
    names: list[str] = []

    def create(of: str = template) -> str:
        names.append(server.create_database(of))
        return server.saver_uri(names[-1])

    yield create
    for name in names:
        server.drop_database(name)


@pytest.fixture
def database_uri(new_database: Callable[[], str]) -> str:
    """The connection string of a database of this test's own, set up."""
    return new_database()


@pytest.fixture
def timed_uri(server: Server, new_database: Callable[..., str]) -> str:
    """The connection string of a database of this test's own, without partitions: `Clock` sets its time."""
    return new_database(server.filled(make_clock))


@pytest.fixture
def empty_database_uri(server: Server) -> Iterator[str]:
    """The connection string of a database of this test's own, on which `setup()` has not run."""
    name = server.create_database(prefix="empty")
    yield server.saver_uri(name)
    server.drop_database(name)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of saver: sync and async, on a pool, a connection, a string and a pipeline."""
    name: str = request.param
    return name


@pytest.fixture
async def saver(kind: str, database_uri: str) -> AsyncIterator[Any]:
    """A saver of each kind, on a database of this test's own, with the async saver's methods."""
    async with open_saver(kind, database_uri) as opened:
        yield opened
