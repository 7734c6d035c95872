"""Beside psycopg's own instrumentation: each statement has one span, and it is in the call's trace."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor

from eventlog.telemetry import names
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.adapters import KINDS, POOLS, open_saver
from tests.support.checkpoints import checkpoint_of, config_of, put
from tests.telemetry.report import Report

THEIRS = "opentelemetry.instrumentation.psycopg"


@pytest.fixture
def instrumentor(report: Report) -> Iterator[PsycopgInstrumentor]:
    made = PsycopgInstrumentor()
    # The check looks for a distribution called psycopg alone.
    made.instrument(tracer_provider=report.tracer_provider, skip_dep_check=True)
    yield made
    made.uninstrument()


def scopes(report: Report) -> set[str]:
    return {each.instrumentation_scope.name for each in report.statements if each.instrumentation_scope}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "pipeline" not in kind])
async def test_psycopgs_instrumentation_makes_the_spans_of_statements(
    kind: str, database_uri: str, report: Report, instrumentor: PsycopgInstrumentor
) -> None:
    # A second connection of the pool would be asked for its process first, by a statement of its own.
    async with open_saver(kind, database_uri, telemetry=report.telemetry, pool_max_size=1) as saver:
        config = await put(saver, config_of(), "a", {"x": 1})
        await saver.aput_writes(config, [("x", 1)], "task")
        report.clear()
        await saver.aput_writes(config, [("x", 1)], "other task")
        assert (await saver.aget_tuple(config_of())).checkpoint["channel_values"] == {"x": 1}
    assert scopes(report) == {THEIRS}
    assert [span.name for span in report.calls] == ["eventlog.put_writes", "eventlog.get_tuple"]
    for call in report.calls:
        (statement,) = report.statements_of(call)
        assert "_v1" in str(
            (statement.attributes or {}).get("db.statement", (statement.attributes or {}).get("db.query.text"))
        )
    # It is measured all the same.
    assert {dict(found)[names.DB_SUMMARY] for found, _ in report.points(names.DURATION)} >= {
        "append_checkpoint",
        "append_writes",
        "read_checkpoint",
    }


@POOLS
async def test_joint_statements_are_in_a_members_trace(
    kind: str, database_uri: str, report: Report, instrumentor: PsycopgInstrumentor
) -> None:
    async with open_saver(kind, database_uri, telemetry=report.telemetry) as saver:
        config = await put(saver, config_of(), "a", {})
        for number in range(20):
            tasks = (f"{number} {each}" for each in range(24))
            await asyncio.gather(*(saver.aput_writes(config, [("x", 1)], task) for task in tasks))
            if report.points(names.GROUP_SIZE)[0][1].max > 1:
                break
        else:
            pytest.fail("no appends met")
    calls = {call.context.span_id for call in report.calls}
    assert scopes(report) == {THEIRS}
    assert all(each.parent and each.parent.span_id in calls for each in report.statements)


def test_a_cursor_class_of_the_users_is_left_alone(
    database_uri: str, report: Report, instrumentor: PsycopgInstrumentor
) -> None:
    """It may bind on the client: the log's statements are made for the server's binding."""
    with psycopg.connect(database_uri, autocommit=True, cursor_factory=psycopg.ClientCursor) as conn:
        saver = EventLogSaver(conn, telemetry=report.telemetry)
        saver.put(config_of(), checkpoint_of("a", {}, {}), {}, {})
    assert scopes(report) == {names.SCOPE}


def test_with_comments_in_statements_the_spans_are_ours(database_uri: str, report: Report) -> None:
    """A comment that is another one each time would have each statement prepared again."""
    instrumentor = PsycopgInstrumentor()
    instrumentor.instrument(tracer_provider=report.tracer_provider, enable_commenter=True, skip_dep_check=True)
    try:
        with EventLogSaver.from_conn_string(database_uri, telemetry=report.telemetry) as saver:
            saver.put(config_of(), checkpoint_of("a", {}, {}), {}, {})
    finally:
        instrumentor.uninstrument()
    assert scopes(report) == {names.SCOPE}


def test_one_connection_that_is_instrumented(database_uri: str, report: Report) -> None:
    with psycopg.connect(database_uri, autocommit=True) as conn:
        PsycopgInstrumentor.instrument_connection(conn, tracer_provider=report.tracer_provider)
        saver = EventLogSaver(conn, telemetry=report.telemetry)
        saver.put(config_of(), checkpoint_of("a", {}, {}), {}, {})
        assert scopes(report) == {THEIRS}


def test_without_telemetry_psycopgs_instrumentation_changes_nothing(
    database_uri: str, report: Report, instrumentor: PsycopgInstrumentor
) -> None:
    with EventLogSaver.from_conn_string(database_uri) as saver:
        saver.put(config_of(), checkpoint_of("a", {}, {}), {}, {})
    found: list[Any] = report.spans
    assert found == []
