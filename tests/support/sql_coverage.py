"""A pytest plugin that fails a session which left out a query or a database function.

`make test-portable` loads it (`-p tests.support.sql_coverage`): the selection that runs on other versions of
PostgreSQL must execute every query of `sql/queries` and every function of `sql/functions` there. Which functions were
called the server counts, in each database; queries are noted where they are looked up.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typing_extensions import LiteralString

from eventlog.db.statements import Statements, named_queries
from tests.support.server import SETTINGS, Server

SQL = Path(__file__).parents[2] / "sql"
#: What only a Citus cluster can run: `make test-citus` does.
CITUS = {
    "distribute_functions_v1",
    *re.findall(r"^-- name: (\w+)", (SQL / "queries" / "distribution.sql").read_text(), re.M),
}
CITUS -= {"citus_version", "is_distributed"}
QUERIES = {name: text for name, text in named_queries().items() if name not in CITUS}
FUNCTIONS = {path.stem: path.read_text() for path in (SQL / "functions").glob("*.sql") if path.stem not in CITUS}

_executed: set[str] = set()
_template = Statements.template


def _noting_template(self: Statements, name: str) -> LiteralString:
    _executed.add(name)
    return _template(self, name)


def _note_functions(server: Server, database: str) -> None:
    with psycopg.connect(server.uri(database)) as conn:
        _executed.update(name for (name,) in conn.execute("select funcname from pg_stat_user_functions"))


def missing() -> list[str]:
    """The queries and functions that were not executed.

    A function in SQL, which the planner puts in the place of its call, is not counted: it was executed if its caller
    was.
    """
    texts = {**QUERIES, **FUNCTIONS}
    done = texts.keys() & _executed
    for name in [name for name in FUNCTIONS if re.search(r"language sql\b", FUNCTIONS[name])]:
        if any(name in texts[caller] for caller in done - {name}):
            done.add(name)
    return sorted(texts.keys() - done)


def pytest_configure() -> None:
    SETTINGS["track_functions"] = "all"
    Statements.template = _noting_template  # type: ignore[method-assign]
    Server.before_drop = _note_functions  # type: ignore[method-assign]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of pytest-xdist tells what it executed."""
    _executed.update(getattr(node, "workeroutput", {}).get("executed_sql", ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["executed_sql"] = sorted(_executed)
    elif missing() and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left_out = missing()
    if left_out:
        terminalreporter.section("SQL that was not executed", red=True)
        terminalreporter.line(f"{', '.join(left_out)}: mark a test that does with pytest.mark.portable")
    else:
        terminalreporter.line(f"executed: all {len(QUERIES)} queries and all {len(FUNCTIONS)} database functions")
