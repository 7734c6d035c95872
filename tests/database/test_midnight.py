"""The end of a month, or of a day, while many append and there is no partition for what comes then."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any

import psycopg
import pytest

from tests.database.replicas import replicas
from tests.database.test_partitions import bounds, expected
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, listed_ids, put
from tests.support.clock import Clock
from tests.support.soundness import assert_keyframes, assert_sound

#: Of each saver, one sync (in threads) and one async; and processes.
TASKS = 8
PROCESSES = 3
WRITERS = 2 * TASKS + PROCESSES

PATIENCE = 240

MIDNIGHTS = {
    "month": [datetime(2030, 3, 1, tzinfo=timezone.utc)],
    "day": [datetime(2030, 3, day, tzinfo=timezone.utc) for day in (1, 2, 3, 4)],
}
SETTINGS: dict[str, Any] = {"partitions_ahead": 0, "snapshot_floor_bytes": 2000}


async def write(saver: Any, number: int, is_over: Callable[[], bool]) -> int:
    """Checkpoints on a thread of its own until it is over, each with writes before it, beside it and after it."""
    config = config_of(f"{number}")
    for step in count():
        if is_over():
            return step
        id_ = f"{step:06}"
        await saver.aput_writes(config_of(f"{number}", id_), [("x", "before")], "before")
        put_one = put(saver, config, id_, {"x": ["the same every time " * 20] * (step % 10), "n": step})
        config, _ = await asyncio.gather(
            put_one, saver.aput_writes(config_of(f"{number}", id_), [("x", "beside")], "beside")
        )
        await saver.aput_writes(config, [("x", "after")], "after")
    raise AssertionError


async def read(saver: Any, is_over: Callable[[], bool]) -> None:
    """What is there is whole at any time, and nothing that was there goes."""
    last = dict.fromkeys(range(WRITERS), -1)
    chance = random.Random(1)
    while not is_over():
        number = chance.randrange(WRITERS)
        found = await saver.aget_tuple(config_of(f"{number}"))
        if found is not None:
            step = found.checkpoint["channel_values"]["n"]
            assert step >= last[number]
            last[number] = step
            assert "before" in {task for task, _, _ in found.pending_writes}
        assert len(await listed_ids(saver, config_of(f"{number}"), limit=3)) >= min(3, last[number])
        await asyncio.sleep(0.005)


async def write_in_a_process(saver: Any, number: int, *, uri: str) -> None:
    """`write`, until a table says that it is over; into another goes how much was acknowledged."""
    # Asked again and again, through a pooler perhaps.
    with psycopg.connect(uri, autocommit=True, prepare_threshold=None) as conn:
        over = functools.partial(conn.execute, "select 1 from over")
        steps = await write(saver, 2 * TASKS + number, lambda: over().fetchone() is not None)
        conn.execute("insert into steps values (%s, %s)", (2 * TASKS + number, steps))


@pytest.mark.parametrize("interval", ["month", "day"])
async def test_appends_and_reads_continue_across_midnight(
    interval: str, timed_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One partition is made, everybody's append is in it, and readers notice nothing."""
    uri, midnights = timed_uri, MIDNIGHTS[interval]
    tables, clock = Tables(uri), Clock(uri)
    tables.run("create table over (yes boolean)", "create table steps (number integer, steps integer)")
    clock.set(midnights[0] - timedelta(seconds=30))
    settings = {**SETTINGS, "partition_interval": interval}
    is_over = asyncio.Event()
    arrived = "select count(*) from {schema}.streams where updated_at >= %s"
    async with (
        open_saver("sync-pool", uri, **settings) as sync,
        open_saver("async-pool", uri, **settings) as mixed,
        open_saver("async-string", uri, state_cache_bytes=0) as reader,
    ):
        await sync.setup()
        work = functools.partial(write_in_a_process, uri=uri)
        with replicas(uri, PROCESSES, work, **settings) as processes, Tables(uri) as watched:
            await asyncio.to_thread(processes.go)
            writers = [
                asyncio.create_task(write((sync, mixed)[number % 2], number, is_over.is_set))
                for number in range(2 * TASKS)
            ]
            readers = [asyncio.create_task(read(each, is_over.is_set)) for each in (reader, sync)]

            async def wait_for_all(since: datetime) -> None:
                while watched.one(arrived, since) < WRITERS:
                    assert not any(each.done() for each in (*writers, *readers)), "one of them failed"
                    await asyncio.sleep(0.01)

            try:
                await asyncio.wait_for(wait_for_all(midnights[0] - timedelta(seconds=30)), PATIENCE)
                for midnight in midnights:
                    for hours in (16, 8) if midnight != midnights[0] else ():
                        # Not at a bound: writes are looked for in the day before their checkpoint.
                        clock.set(midnight - timedelta(hours=hours))
                        await asyncio.wait_for(wait_for_all(midnight - timedelta(hours=hours)), PATIENCE)
                    clock.set(midnight - timedelta(seconds=0.3))
                    await asyncio.wait_for(wait_for_all(midnight), PATIENCE)
            finally:
                is_over.set()
                tables.run("insert into over values (true)")
                steps = await asyncio.gather(*writers)
                await asyncio.gather(*readers)
            assert await asyncio.to_thread(processes.finish) == [0] * PROCESSES

        found = bounds(tables)
        assert [each[1:] for each in found] == expected(interval, midnights[0] - timedelta(seconds=1), len(midnights))
        # The saver that made one logs it; those that came too late log nothing.
        told = [each for each in caplog.records if each.event != "eventlog.pooler_found"]
        assert {each.event for each in told} <= {"eventlog.partition_made_on_demand"}
        named = [name for each in told for name in each.__dict__["partitions"]]
        assert len(named) == len(set(named))
        assert set(named) <= {name for name, *_ in found[1:]}

        acknowledged = dict(enumerate(steps)) | dict(tables.rows("select number, steps from steps"))
        assert tables.events() == 4 * sum(acknowledged.values())
        for number, total in acknowledged.items():
            assert total > 0
            listed = [each async for each in reader.alist(config_of(f"{number}"))]
            assert [each.checkpoint["channel_values"]["n"] for each in listed] == list(reversed(range(total)))
            writes = [{task for task, _, _ in each.pending_writes} for each in listed]
            assert writes == [{"before", "beside", "after"}] * total
        assert (await reader.log.verify()).problems == []
        assert not any((await reader.log.rebuild(check=True)).differing.values())
    assert_sound(tables)
    assert_keyframes(tables)
    split = tables.one(
        """
        select count(*) from (
            select from {schema}.events
            group by thread_id, checkpoint_id having count(distinct tableoid) > 1
        ) as s
        """
    )
    assert split > 0, "no checkpoint has events on both sides of midnight"
