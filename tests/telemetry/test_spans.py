"""Spans of calls and statements: their names, parents, attributes, and what is never in them."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool

from eventlog.telemetry import names
from langgraph.checkpoint.eventlog import EventLog, EventLogSaver, InvalidInputError, ThreadNotFoundError
from projections.usage import Usage
from tests.support.adapters import POOLS
from tests.support.checkpoints import checkpoint_of, config_of, put
from tests.telemetry.report import Report

METADATA = {"source": "loop", "step": 3, "run_id": "run-1", "user_id": "SECRET-metadata"}


async def use(saver: Any) -> None:
    """A checkpoint, its writes, and reads of both."""
    config = await put(saver, config_of("thread-1"), "a", {"x": "SECRET-value"}, metadata=METADATA)
    await saver.aput_writes(config, [("x", "SECRET-write")], "task")
    await saver.aget_tuple(config_of("thread-1"))
    assert len([each async for each in saver.alist(config_of("thread-1"))]) == 1
    await saver.aget_delta_channel_history(config=config, channels=["x"])


async def test_each_call_is_a_span_within_the_callers(saver: Any, report: Report) -> None:
    with report.callers_span() as caller:
        await use(saver)
    assert [span.name for span in report.calls] == [
        f"eventlog.{name}" for name in ("put", "put_writes", "get_tuple", "list", "get_delta_channel_history")
    ]
    for call in report.calls:
        assert call.parent is not None
        assert call.parent.span_id == caller.get_span_context().span_id
        assert call.status.status_code is StatusCode.UNSET
        assert call.attributes is not None
        assert call.attributes[names.THREAD_ID] == "thread-1"
    saved = {
        names.CHECKPOINT_NS: "",
        names.CHECKPOINT_ID: "a",
        names.STEP: 3,
        names.SOURCE: "loop",
        names.RUN_ID: "run-1",
    }
    for name in ("put", "get_tuple"):
        assert dict(report.call(name).attributes or {}) == {names.THREAD_ID: "thread-1", **saved}
    assert (report.call("put_writes").attributes or {})[names.CHECKPOINT_ID] == "a"


async def test_each_statement_is_a_span_within_its_call(saver: Any, report: Report, database_uri: str) -> None:
    await use(saver)
    assert report.statements
    for name, query in (
        ("put", "append_checkpoint"),
        ("put_writes", "append_writes"),
        ("get_tuple", "read_checkpoint"),
    ):
        # A new connection is asked first whether a pooler stands before it.
        statements = [each for each in report.statements_of(report.call(name)) if each.name == query]
        assert len(statements) == 1
        attributes = dict(statements[0].attributes or {})
        info = conninfo_to_dict(database_uri)
        assert attributes == {
            names.DB_SYSTEM: "postgresql",
            names.DB_NAMESPACE: f"{info['dbname']}|eventlog",
            names.DB_SUMMARY: query,
            names.DB_OPERATION: "SELECT",
            names.DB_PROCEDURE: f"{query}_v1",
            names.SERVER_ADDRESS: info["host"],
            names.SERVER_PORT: int(info.get("port") or 5432),
        }
    parents = {call.context.span_id for call in report.calls}
    assert all(each.parent and each.parent.span_id in parents for each in report.statements)


async def test_spans_and_metrics_hold_no_values_and_no_metadata(saver: Any, report: Report) -> None:
    await use(saver)
    spans = json.dumps([span.to_json() for span in report.spans])
    metrics = repr(report.metrics())
    assert "thread-1" in spans
    assert "SECRET" not in spans + metrics
    assert "thread-1" not in metrics
    allowed = set(names.SPAN_ATTRIBUTES)
    for span in report.spans:
        assert set(span.attributes or {}) <= allowed, span.name
        assert all(set(event.attributes or {}) <= allowed for event in span.events)


async def test_a_refused_call_is_an_error_without_its_message(saver: Any, report: Report) -> None:
    with pytest.raises(InvalidInputError):
        await saver.aget_tuple({"configurable": {"thread_id": "SECRET\0id"}})
    with pytest.raises(InvalidInputError):
        _ = [each async for each in saver.alist({"configurable": {"thread_id": ""}})]
    for name in ("get_tuple", "list"):
        call = report.call(name)
        assert call.status.status_code is StatusCode.ERROR
        assert call.status.description is None
        assert (call.attributes or {})[names.ERROR_TYPE] == "InvalidInputError"
        assert not call.events


@POOLS
async def test_a_refused_statement_has_the_servers_code(report: Report, saver: Any, kind: str) -> None:
    driver = saver.sync._driver if kind.startswith("sync") else saver._driver
    from eventlog.db.query import Op, Query

    def fails() -> Op[None]:
        yield Query(b'select 1 / 0 as "SECRET"')

    with pytest.raises(Exception, match="division"):
        await (asyncio.to_thread(driver.run, fails) if kind.startswith("sync") else driver.run(fails))
    (statement,) = [each for each in report.statements if each.status.status_code is StatusCode.ERROR]
    assert statement.name == "SELECT"
    attributes = statement.attributes or {}
    assert attributes[names.DB_STATUS] == attributes[names.ERROR_TYPE] == "22012"
    assert "SECRET" not in statement.to_json()
    ((found, _),) = [each for each in report.points(names.DURATION) if names.ERROR_TYPE in each[0]]
    assert found[names.ERROR_TYPE] == found[names.DB_STATUS] == "22012"


@POOLS
async def test_methods_of_the_log_are_spans(report: Report, saver: Any) -> None:
    await use(saver)
    report.clear()
    log = saver.log
    assert [each async for each in log.history("thread-1", limit=1)]
    assert (await log.stats()).threads
    assert (await log.verify()).problems == []
    with pytest.raises(ThreadNotFoundError):
        _ = [each async for each in log.history("never")]
    await saver.adelete_thread("thread-1")
    assert [span.name for span in report.calls] == [
        f"eventlog.{name}" for name in ("history", "stats", "verify", "history", "delete_thread")
    ]
    # Its streams are verified side by side, in threads or tasks of their own.
    for call in report.calls:
        assert report.statements_of(call), call.name
    parents = {call.context.span_id for call in report.calls}
    assert all(each.parent and each.parent.span_id in parents for each in report.statements)
    assert (report.call("delete_thread").attributes or {})[names.THREAD_ID] == "thread-1"


@POOLS
async def test_what_a_reader_does_between_items_is_no_part_of_the_call(report: Report, saver: Any) -> None:
    await use(saver)
    report.clear()
    with report.callers_span() as caller:
        async for _ in saver.alist(config_of("thread-1")):
            with report.callers_span("between"):
                pass
            break
    (between,) = [span for span in report.spans if span.name == "between"]
    assert between.parent is not None
    assert between.parent.span_id == caller.get_span_context().span_id


def test_an_iterator_that_is_left_ends_its_span(report: Report, database_uri: str) -> None:
    with ConnectionPool(database_uri, min_size=1) as pool:
        saver = EventLogSaver(pool, telemetry=report.telemetry)
        for id_ in "ab":
            saver.put(config_of(), checkpoint_of(id_, {}, {}), {}, {})
        report.clear()
        listed = saver.list(config_of())
        next(listed)
        assert report.calls == []
        listed.close()  # type: ignore[attr-defined]
    assert report.call("list").status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("name", ["history", "changes", "tail", "tail_changes"])
def test_a_log_that_is_iterated_has_its_statements_in_the_calls_span(
    report: Report, database_uri: str, name: str
) -> None:
    with ConnectionPool(database_uri, min_size=1) as pool:
        saver = EventLogSaver(pool, telemetry=report.telemetry)
        saver.put(config_of(), checkpoint_of("a", {}, {}), {}, {})
        report.clear()
        items = getattr(saver.log, name)(*(["1"] if name in ("history", "changes") else []))
        assert report.calls == []
        assert len(list(items)) == 1
    call = report.call(name)
    assert report.statements
    assert report.statements_of(call) == report.statements


def test_a_call_without_an_end_has_a_span_for_each_operation(report: Report, database_uri: str) -> None:
    with EventLog.from_conn_string(database_uri, telemetry=report.telemetry) as log:
        looks = iter([False, False, False, True])
        assert list(log.tail(follow=True, poll_interval=0.001, stop=lambda: next(looks, True))) == []
        tails = [span for span in report.calls if span.name == "eventlog.tail"]
        assert tails
        assert all(report.statements_of(each) for each in tails)
        report.clear()
        runs: list[Any] = []
        log.maintain(every=timedelta(seconds=1), on_run=runs.append, stop=lambda: bool(runs))
        assert len([span for span in report.calls if span.name == "eventlog.maintain"]) > 1
        assert all(each.parent is not None for each in report.statements)


def test_a_call_in_a_callback_of_one_without_an_end_has_one_span(report: Report, database_uri: str) -> None:
    with ConnectionPool(database_uri, min_size=1, max_size=2) as pool:
        saver = EventLogSaver(pool, telemetry=report.telemetry)
        runs: list[Any] = []

        def on_run(run: Any) -> None:
            saver.put(config_of(), checkpoint_of("a", {}, {}), {}, {})
            runs.append(run)

        def on_batch(name: str, applied: Any) -> None:
            saver.put(config_of(), checkpoint_of("b", {}, {}), {}, {})
            runs.append(applied)

        saver.log.maintain(every=timedelta(seconds=1), on_run=on_run, stop=lambda: bool(runs))
        saver.log.project(Usage(), follow=True, on_batch=on_batch, stop=lambda: len(runs) > 1)
    puts = [span for span in report.calls if span.name == "eventlog.put"]
    assert len(puts) == 2
    for put_span in puts:
        assert put_span.parent is None
        children = [each for each in report.spans if each.parent and each.parent.span_id == put_span.context.span_id]
        assert children
        assert children == report.statements_of(put_span)


def test_other_threads_calls_of_an_async_saver_are_in_their_traces(report: Report, database_uri: str) -> None:
    from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver

    def in_a_thread(saver: AsyncEventLogSaver) -> int:
        with report.callers_span() as caller:
            saver.put(config_of(), checkpoint_of("a", {}, {}), {}, {})
            assert saver.get_tuple(config_of()) is not None
            assert len(list(saver.list(config_of()))) == 1
        return caller.get_span_context().trace_id

    async def main() -> int:
        async with AsyncEventLogSaver.from_conn_string(database_uri, telemetry=report.telemetry) as saver:
            return await asyncio.to_thread(in_a_thread, saver)

    trace_id = asyncio.run(main())
    assert [span.name for span in report.calls] == ["eventlog.put", "eventlog.get_tuple", "eventlog.list"]
    assert {span.context.trace_id for span in report.spans} == {trace_id}


def test_copies_and_subclasses_are_traced_with_their_own_serializer(report: Report, database_uri: str) -> None:
    class Mine(EventLogSaver):
        def put(self, *args: Any, **kwargs: Any) -> Any:
            return super().put(*args, **kwargs)

    with ConnectionPool(database_uri, min_size=1) as pool:
        saver = Mine(pool, telemetry=report.telemetry)
        assert isinstance(saver, Mine)
        assert type(saver).__name__ == "Mine"
        copied = saver.with_allowlist([("tests.telemetry", "Nothing")])
        copied.put(config_of(), checkpoint_of("a", {}, {}), {}, {})
        plain = type(saver)(pool)  # made without telemetry
        assert plain.get_tuple(config_of()) is not None
    assert [span.name for span in report.calls] == ["eventlog.put"]
