"""A clock that jumps: back by seconds or by a day, ahead by a year by mistake, and back again."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from tests.support.adapters import POOLS, LogUnderTest, open_log_under_test, open_saver
from tests.support.checkpoints import Tables, config_of, converse, keys, listed_ids, put, values_of
from tests.support.clock import Clock
from tests.support.pooler import direct
from tests.support.soundness import assert_keyframes, assert_sound

pytestmark = POOLS

DAY = timedelta(days=1)
YEAR = timedelta(days=365)
NOW = datetime(2030, 6, 15, 12, tzinfo=timezone.utc)

ORDER = "select recorded_at from {schema}.events where thread_id = %s order by seq"


class Timed(LogUnderTest):
    """With a clock, at noon in the middle of a month."""

    clock: Clock


@pytest.fixture
async def world(kind: str, timed_uri: str) -> AsyncIterator[Timed]:
    clock = Clock(timed_uri)
    clock.set(NOW)
    async with open_log_under_test(kind, timed_uri, partitions_ahead=1, snapshot_floor_bytes=0) as opened:
        await opened.saver.setup()
        timed = Timed(**vars(opened))
        timed.clock = clock
        yield timed


async def go_on(saver: Any, thread_id: str, parent: str, id_: str) -> None:
    """A checkpoint with writes that came before it, beside those that come after."""
    await saver.aput_writes(config_of(thread_id, id_), [("z", "before")], "before")
    found = await values_of(saver, config_of(thread_id, parent))
    await put(saver, config_of(thread_id, parent), id_, {**found, "x": [*found["x"], id_]})
    await saver.aput_writes(config_of(thread_id, id_), [("z", "after")], "after")


async def check(world: Timed) -> None:
    """Everything reads the same with a cache and without, the log is sound, and a rebuild comes to the same."""
    assert_sound(world.tables)
    assert_keyframes(world.tables)
    before = await world.everything()
    for key, found in before.items():
        assert await world.saver.aget_tuple(config_of(key[0], key[2], key[1])) == found
        if key[2] > "h":
            assert {task for task, _, _ in found.pending_writes or ()} == {"before", "after"}
    assert (await world.saver.log.verify()).problems == []
    await world.saver.log.rebuild()
    assert await world.everything() == before


@pytest.mark.parametrize("by", [timedelta(seconds=5), DAY, 40 * DAY], ids=["seconds", "a day", "over a month"])
async def test_appends_continue_when_the_clock_jumps_back(world: Timed, by: timedelta) -> None:
    """The server's clock was corrected, or a replica with a slow one took over.

    A stream stays where it was until the clock is there again: its events have one and the same time until then.
    """
    saver, tables = world.saver, world.tables
    await converse(saver)
    await saver.log.seal()
    at = tables.rows(ORDER, "1")[-1]
    world.clock.advance(-by)
    await go_on(saver, "1", "h", "i")
    await go_on(saver, "1", "i", "j")
    await converse(saver, "2")
    await go_on(saver, "2", "h", "i")

    assert tables.rows(ORDER, "1")[-6:] == [at] * 6
    assert tables.rows(ORDER, "2")[-1][0] < at[0]
    events = [each async for each in saver.log.history("1")]
    assert [each.checkpoint_id for each in events][-3:] == ["j", "j", "j"]
    assert (await saver.log.state_at("1", at[0])).checkpoint["id"] == "j"
    await saver.log.seal()
    await check(world)

    # What erases goes by the same times.
    before = await world.everything()
    await saver.log.prune(["1"], keep_last=1)
    assert await saver.log.expire(timedelta(minutes=1)) == []
    await world.check(before, keys("j") | keys("a b c d e f g h i", "2"))
    world.clock.advance(by + timedelta(minutes=2))
    await go_on(saver, "1", "j", "k")
    assert tables.rows(ORDER, "1")[-1] > at
    assert [each.thread_id for each in await saver.log.expire(timedelta(minutes=1))] == ["2"]
    assert await listed_ids(saver, None) == ["k", "j"]
    await check(world)


async def test_appends_continue_after_a_clock_ahead_was_corrected(
    world: Timed, caplog: pytest.LogCaptureFixture
) -> None:
    """What was appended to meanwhile stays in the future, in partitions of then; all else goes on as if nothing was."""
    saver, tables = world.saver, world.tables
    await converse(saver, "old")
    await converse(saver, "touched")
    caplog.clear()
    world.clock.advance(YEAR)
    await go_on(saver, "touched", "h", "i")
    await converse(saver, "new")
    assert [each.event for each in caplog.records] == ["eventlog.partition_made_on_demand"]
    world.clock.advance(-YEAR)
    caplog.clear()

    # Each of the two has one time from now on, and the others have that of the clock.
    await go_on(saver, "touched", "i", "j")
    await go_on(saver, "new", "h", "i")
    await go_on(saver, "old", "h", "i")
    await converse(saver, "later")
    ((touched, *_), (new, *_)) = (tables.rows(ORDER, each)[::-1][0] for each in ("touched", "new"))
    assert NOW + YEAR < touched < NOW + YEAR + DAY
    assert NOW + YEAR < new < NOW + YEAR + DAY
    for thread_id in ("old", "later"):
        assert NOW < tables.rows(ORDER, thread_id)[-1][0] < NOW + DAY
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    await check(world)

    # It is visible: partitions of then, and threads that were active in the future.
    partitions = await saver.log.partitions()
    names = [each.name for each in partitions.partitions]
    assert names == ["events_20300601", "events_20300701", "events_20310601", "events_20310701"]
    assert 47 * DAY > partitions.runway > 46 * DAY
    ahead = tables.rows("select thread_id from {schema}.streams where updated_at > {schema}.clock_v1() order by 1")
    assert ahead == [("new",), ("touched",)]

    # A copy of such a thread is of now, and the thread may go.
    await saver.acopy_thread("touched", "copy")
    assert all(NOW < at < NOW + DAY for (at,) in tables.rows(ORDER, "copy"))
    await go_on(saver, "copy", "j", "k")
    await saver.adelete_thread("touched")
    with pytest.raises(Exception, match="was erased"):
        await put(saver, config_of("touched", "j"), "k")
    await check(world)

    # It does not expire, nor does its partition go, before its own time is over.
    world.clock.advance(300 * DAY)
    await saver.setup()
    assert [each.thread_id for each in await saver.log.expire(200 * DAY)] == ["copy", "later", "old"]
    retained = await saver.log.retain(DAY)
    assert [each.name for each in retained.partitions] == ["events_20300601", "events_20300701"]
    assert await listed_ids(saver, config_of("new"), limit=1) == ["i"]
    world.clock.advance(100 * DAY)
    await go_on(saver, "new", "i", "j")
    assert tables.rows(ORDER, "new")[-1][0] > NOW + YEAR + DAY
    await check(world)


async def test_far_partitions_do_not_count_as_made_ahead(world: Timed) -> None:
    """Partitions that a mistake has made in a year's time are no reserve."""
    world.clock.advance(YEAR)
    await put(world.saver, config_of(), "1", {"x": 1})
    world.clock.advance(30 * DAY - YEAR)
    partitions = await world.saver.log.partitions()
    assert len(partitions.partitions) == 4
    assert partitions.is_short
    await world.saver.log.make_partitions()
    assert not (await world.saver.log.partitions()).is_short


@pytest.mark.parametrize("operation", ["put", "writes", "delete"])
async def test_a_dropped_far_partition_is_made_again(world: Timed, operation: str) -> None:
    """An operator has tidied up after the mistake: the partition is made again that the stream's times take."""
    saver = world.saver
    await converse(saver)
    world.clock.advance(YEAR)
    await put(saver, config_of("1", "h"), "i", {"x": 1})
    world.clock.advance(-YEAR)
    with psycopg.connect(world.uri, autocommit=True) as conn:
        conn.execute("drop table eventlog.events_20310601")
        conn.execute("delete from eventlog.partitions where name = 'events_20310601'")
        conn.execute("delete from eventlog.checkpoints where checkpoint_id = 'i'")
        conn.execute("update eventlog.streams set latest_checkpoint_id = 'h'")
    if operation == "put":
        await put(saver, config_of("1", "h"), "i", {"x": 2})
        assert await values_of(saver, config_of()) == {"x": 2}
    elif operation == "writes":
        await saver.aput_writes(config_of("1", "h"), [("x", 1)], "late")
        found = await saver.aget_tuple(config_of())
        assert "late" in {task for task, _, _ in found.pending_writes}
    else:
        await saver.adelete_thread("1")
        assert await listed_ids(saver, None) == []
    assert "events_20310601" in [each.name for each in (await saver.log.partitions()).partitions]


@pytest.mark.parametrize("days", [0.9, 2])
async def test_writes_are_found_when_the_clock_jumps_by_up_to_a_day(world: Timed, days: float) -> None:
    """They are looked for in the day before it. Beyond that they are in the log, and no longer the checkpoint's."""
    await world.saver.aput_writes(config_of("1", "a"), [("x", "early")], "task")
    world.clock.advance(days * DAY)
    config = await put(world.saver, config_of(), "a", {"x": 1})
    found = await world.reader.aget_tuple(config)
    assert bool(found.pending_writes) == (days < 1)
    events = [each async for each in world.saver.log.history("1")]
    assert [(each.checkpoint_id, each.kind) for each in events] == [("a", "writes"), ("a", "checkpoint")]
    assert (await world.saver.log.verify()).problems == []
    assert not any((await world.saver.log.rebuild(check=True)).differing.values())


@pytest.mark.attack("stolen writer")
async def test_a_user_cannot_set_the_logs_clock(kind: str, database_uri: str) -> None:
    """Neither with a function of the same name in front of the system's, nor with a setting."""
    tables = Tables(database_uri)
    tables.run(
        "create schema mine",
        "create function mine.clock_timestamp() returns timestamptz language sql as "
        "'select ''2000-01-01''::timestamptz'",
    )
    options = "-c search_path=mine,pg_catalog -c eventlog.clock=2000-01-01"
    # PgBouncer passes on no options.
    async with open_saver(kind, direct(database_uri), connect={"autocommit": True, "options": options}) as saver:
        await put(saver, config_of(), "1", {"x": 1})
        await saver.setup()
    assert tables.one("select min(recorded_at) > now() - interval '1 day' from {schema}.events")
    assert tables.one("select min(starts_at) > now() - interval '32 days' from {schema}.partitions")


async def test_the_clock_function_is_inlined_by_the_planner(kind: str, database_uri: str) -> None:
    """The planner puts the system's function in its place: no call is left."""
    plan = Tables(database_uri).one("explain (verbose, costs off, format json) select {schema}.clock_v1()")
    assert plan[0]["Plan"]["Output"] == ["clock_timestamp()"]
