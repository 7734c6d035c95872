"""Metrics: what is counted is what happened, and no metric names a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.telemetry import names
from langgraph.checkpoint.eventlog import (
    ConcurrentUpdateError,
    Event,
    EventLog,
    EventLogSaver,
    PoolTimeoutError,
    Retention,
)
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import TEXTS, Tables, checkpoint_of, config_of, put
from tests.telemetry.report import Report


async def grow(saver: Any, thread_id: str = "thread-1", turns: int = 20) -> None:
    """A conversation: a text more in each checkpoint, with a write to each."""
    config = config_of(thread_id)
    for turn in range(1, turns + 1):
        config = await put(saver, config, f"{turn:04}", {"messages": TEXTS[:turn]})
        await saver.aput_writes(config, [("messages", TEXTS[turn])], "task")


async def test_appended_bytes_are_those_in_the_log(saver: Any, report: Report, database_uri: str) -> None:
    await grow(saver)
    tables = Tables(database_uri)
    for kind, number in (("checkpoint", 1), ("writes", 2)):
        ((events, size),) = tables.rows(
            "select count(*), sum(octet_length(body)) from {schema}.events where kind = %s", number
        )
        assert report.value(names.APPENDED_EVENTS, kind=kind) == events == 20
        assert report.value(names.APPENDED_SIZE, kind=kind) == size
    ((snapshots, size),) = tables.rows("select count(*), sum(octet_length(body)) from {schema}.snapshots")
    assert report.value(names.SNAPSHOTS, action="written") == snapshots > 0
    assert report.value(names.APPENDED_SIZE, kind="snapshot") == size
    ((states,),) = tables.rows("select sum(state_bytes) from {schema}.checkpoints")
    assert report.value(names.STATE_SIZE) == states
    assert states > 3 * report.value(names.APPENDED_SIZE)


async def test_reads_count_what_they_replay(kind: str, saver: Any, report: Report, database_uri: str) -> None:
    await grow(saver)
    assert report.points(names.REPLAYED) == []
    # From the cache: nothing older is sent.
    await saver.aget_tuple(config_of("thread-1"))
    ((_, point),) = report.points(names.REPLAYED)
    assert (point.count, point.max) == (1, 0)
    assert report.value(names.CACHE_HITS) > 0
    async with open_saver(kind, database_uri, telemetry=report.telemetry, state_cache_bytes=0) as cold:
        await cold.aget_tuple(config_of("thread-1"))
        assert report.value(names.CACHE_MISSES) > 0
    ((attributes, point),) = report.points(names.REPLAYED)
    assert attributes == {names.SCHEMA: "eventlog"}
    assert point.count == 2
    assert 0 < point.max < 20
    assert report.value(names.SNAPSHOTS, action="read") == 1


@POOLS
async def test_conflicts_are_counted_by_reason(kind: str, report: Report, database_uri: str) -> None:
    async with (
        open_saver(kind, database_uri, telemetry=report.telemetry, concurrency="strict") as one,
        open_saver(kind, database_uri, telemetry=report.telemetry, concurrency="strict") as two,
    ):
        root = await put(one, config_of(), "a", {"x": TEXTS})
        await one.aget_tuple(config_of())
        await two.aget_tuple(config_of())
        await put(one, root, "b", {"x": TEXTS})
        with pytest.raises(ConcurrentUpdateError):
            await put(two, root, "c", {"x": TEXTS})
        # One of the same id is put again.
        await put(one, config_of(), "a", {"x": TEXTS[1:]})
    assert report.value(names.CONFLICTS, reason="concurrent") == 1
    assert report.value(names.CONFLICTS, reason="exists") == 1


def test_the_pool_is_observed(report: Report, database_uri: str) -> None:
    options: dict[str, Any] = {"min_size": 2, "max_size": 3, "timeout": 0.2, "name": "chats"}
    with ConnectionPool(database_uri, **options) as pool:
        pool.wait()
        saver = EventLogSaver(pool, telemetry=report.telemetry)
        saver.get_tuple(config_of())
        label = {names.DB_SYSTEM: "postgresql", names.POOL_NAME: "chats"}
        assert report.points(names.POOL_MAX) == [(label, 3)]
        with pool.connection(), pool.connection(), pool.connection():
            assert report.value(names.POOL_COUNT, state="used") == 3
            with pytest.raises(PoolTimeoutError):
                saver.get_tuple(config_of())
        assert report.points(names.POOL_TIMEOUTS) == [(label, 1)]
        assert report.points(names.POOL_PENDING) == [(label, 0)]
        assert report.value(names.POOL_COUNT, state="idle") == report.value(names.POOL_COUNT)
        for name in (names.POOL_WAIT, names.POOL_USE):
            ((attributes, point),) = report.points(name)
            assert attributes == label
            assert point.count == 1
            assert point.explicit_bounds == names.METRICS[name].buckets
    assert report.points(names.POOL_COUNT) == []
    assert report.points(names.POOL_TIMEOUTS) == [(label, 1)]


async def test_an_async_pool_is_observed(report: Report, database_uri: str) -> None:
    async with AsyncConnectionPool(database_uri, min_size=1, max_size=2, open=False, name="chats") as pool:
        saver = AsyncEventLogSaver(pool, telemetry=report.telemetry)
        await asyncio.gather(*(saver.aget_tuple(config_of()) for _ in range(10)))
        assert report.value(names.POOL_MAX) == 2
        ((_, point),) = report.points(names.POOL_WAIT)
        assert point.count == 10


@POOLS
async def test_erasures_are_counted_when_they_are_committed(saver: Any, report: Report) -> None:
    log = saver.log
    for thread_id in ("1", "2", "3"):
        await grow(saver, thread_id, 5)
    await log.prune(["1"], dry_run=True)
    await log.prune(["1"])
    await saver.adelete_thread("2")
    await saver.adelete_thread("never")
    assert len(await log.expire(timedelta(0))) == 2
    assert report.value(names.ERASURES, operation="prune") == 1
    assert report.value(names.ERASURES, operation="delete_thread") == 1
    assert report.value(names.ERASURES, operation="expire") == 2
    assert report.value(names.ERASED_EVENTS, operation="delete_thread") == 10
    assert report.value(names.ERASED_EVENTS) == 30


class Counting:
    """A projection that counts nothing."""

    name, version = "counting", 1

    def setup(self, conn: psycopg.Connection[Any]) -> None:
        pass

    def apply(self, conn: psycopg.Connection[Any], events: Sequence[Event]) -> None:
        pass


def test_maintenance_looks_at_partitions_and_projections(report: Report, database_uri: str) -> None:
    with EventLogSaver.from_conn_string(database_uri, telemetry=report.telemetry) as saver:
        log = saver.log
        saver.put(config_of(), checkpoint_of("a", {}, {}), {}, {})
        log.project(Counting())
        for id_ in "bcd":
            saver.put(config_of(), checkpoint_of(id_, {}, {}), {}, {})
        assert report.points(names.LAG) == []
        log.set_retention(Retention(idle=timedelta(days=1)))
        log.maintain(dry_run=True)
        assert report.points(names.LAG) == []
        log.maintain()
        label = {names.SCHEMA: "eventlog", names.PROJECTION: "counting"}
        assert report.points(names.LAG) == [(label, 3)]
        ((_, seconds),) = report.points(names.LAG_TIME)
        assert 0 < seconds < 600
        assert report.points(names.PARTITIONS_AHEAD) == [({names.SCHEMA: "eventlog"}, 3)]
        runway = log.partitions().runway.total_seconds()
        assert report.value(names.RUNWAY) == pytest.approx(runway, abs=60)
        # A gauge is there at each reading, not only after a look.
        assert report.points(names.LAG) == [(label, 3)]
        log.project(Counting())
        log.maintain()
        assert report.points(names.LAG) == [(label, 0)]
        log.forget_projection("counting")
        log.maintain()
        assert report.points(names.LAG) == []


def test_a_look_that_fails_ends_no_maintenance(report: Report, database_uri: str) -> None:
    """The worker may lack the right to read projections."""
    with EventLog.from_conn_string(database_uri, telemetry=report.telemetry) as log:
        with psycopg.connect(database_uri, autocommit=True) as conn:
            conn.execute("alter table eventlog.projections rename to away")
        assert log.maintain().failed == {}
    assert report.value(names.PARTITIONS_AHEAD) == 3


def test_two_savers_of_a_process_share_the_instruments(
    report: Report, database_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with EventLogSaver.from_conn_string(database_uri, telemetry=report.telemetry) as saver:
            saver.put(config_of(), checkpoint_of("a", {"x": _}, {"x": str(_)}), {}, {"x": str(_)})
    assert report.value(names.APPENDED_EVENTS) == 2
    # Both had a cache, and a sum does not go back when one of them is gone.
    before = report.value(names.CACHE_MISSES)
    del saver
    assert report.value(names.CACHE_MISSES) == before
    assert caplog.records == []


async def test_each_metric_is_as_its_table_says(saver: Any, kind: str, report: Report, database_uri: str) -> None:
    """Names, units, kinds and attributes: all that are reported, and no other."""
    await grow(saver, turns=2)
    await saver.aget_tuple(config_of("thread-1"))
    for name, metric in report.metrics().items():
        known = names.METRICS[name]
        assert metric.unit == known.unit
        assert metric.description == known.description
        for point in metric.data.data_points:
            assert set(point.attributes) <= set(known.attributes), name
    if kind.endswith("pool"):
        assert {each for each in names.METRICS if each.startswith("db.")} <= report.metrics().keys()
