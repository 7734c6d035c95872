"""Many writers at once: everything that was acknowledged is there once, whole, and in one order."""

from __future__ import annotations

import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.errors import CheckpointExistsError, ThreadDeletedError
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.support.checkpoints import Tables, checkpoint_of, config_of
from tests.support.soundness import assert_all_same, assert_same, assert_sound, place, projected

THREADS = 16
TASKS = 64
STEPS = 12

#: Of a size that makes a difference worth taking: text that does not compress.
TEXTS = [random.Random(number).randbytes(60).hex() for number in range(100)]

#: What makes a snapshot due by itself.
NOISE = [random.Random(number).randbytes(8000) for number in range(2)]


class Script:
    """What one worker puts: a line of checkpoints with writes, from a root or from a common parent.

    Each step is (config, checkpoint, metadata, new versions, writes). Ids tell the worker, so that
    workers who share a thread do not share checkpoints.
    """

    def __init__(self, thread_id: str, worker: int, parent_id: str | None, steps: int = STEPS) -> None:
        self.steps: list[Any] = []
        # Version numbers must not meet in one thread: the model keeps one value for each.
        versions = (f"{number:032}.{worker}5" for number in count(1))
        messages = [TEXTS[worker], *TEXTS[:50]]
        for step in range(steps):
            messages = [*messages[step % 3 == 2 :], f"{worker} said {step}: {TEXTS[(worker + step) % 100]}"]
            version = next(versions)
            checkpoint = checkpoint_of(
                f"{step:03}-{worker:03}",
                {"messages": messages, "step": step},
                {"messages": version, "step": version},
                versions_seen={f"node {worker}": {"messages": version}},
            )
            metadata = {"source": "loop", "step": step, "worker": worker}
            writes = [("messages", f"{worker} {step} {place}") for place in range(step % 3)]
            config = config_of(thread_id, parent_id)
            self.steps.append((config, checkpoint, metadata, checkpoint["channel_versions"], writes))
            parent_id = checkpoint["id"]

    def run(self, saver: Any) -> None:
        for config, checkpoint, metadata, versions, writes in self.steps:
            stored = saver.put(config, checkpoint, metadata, versions)
            saver.put_writes(stored, writes, f"task {metadata['worker']}")

    async def arun(self, saver: Any) -> None:
        for config, checkpoint, metadata, versions, writes in self.steps:
            stored = await saver.aput(config, checkpoint, metadata, versions)
            await saver.aput_writes(stored, writes, f"task {metadata['worker']}")


ROOT = (
    checkpoint_of("000", {"messages": TEXTS[:51], "step": -1}, {"messages": "0", "step": "0"}),
    {"source": "input", "step": -1},
    {"messages": "0", "step": "0"},
)


def scripts(workers: int, sharing: str, steps: int = STEPS) -> list[Script]:
    """Workers on threads of their own; on one thread, each with a root; or all with one parent."""
    if sharing == "separate threads":
        return [Script(f"{worker}", worker, None, steps) for worker in range(workers)]
    return [Script("1", worker, "000" if sharing == "one parent" else None, steps) for worker in range(workers)]


def model_of(workers: list[Script]) -> InMemorySaver:
    model = InMemorySaver()
    model.put(config_of("1"), *ROOT)
    for script in workers:
        script.run(model)
    return model


SHARING = ["separate threads", "one thread", "one parent"]


def check_log(tables: Tables, workers: list[Script]) -> None:
    """Each acknowledged call is one event; chains, numbers and projections are sound."""
    assert_sound(tables)
    calls = sum(1 + bool(writes) for script in workers for *_, writes in script.steps)
    assert tables.events() == calls + 1


@pytest.mark.parametrize("sharing", SHARING)
def test_sixteen_threads_share_a_saver_and_a_small_pool(sharing: str, database_uri: str) -> None:
    """16 threads on one saver and one pool that is too small for them."""
    workers = scripts(THREADS, sharing)
    expected = sorted(model_of(workers).list(None), key=place, reverse=True)
    tables = Tables(database_uri)
    with ConnectionPool(database_uri, min_size=1, max_size=8) as pool:
        saver = EventLogSaver(pool, snapshot_floor_bytes=4096)
        saver.put(config_of("1"), *ROOT)
        barrier = threading.Barrier(THREADS)

        def work(script: Script) -> None:
            barrier.wait()
            script.run(saver)

        with ThreadPoolExecutor(THREADS) as threads:
            assert len(list(threads.map(work, workers))) == THREADS

        check_log(tables, workers)
        for found in expected:
            assert_same(saver.get_tuple(found.config), found)
        assert_all_same(saver.list(None), expected)
        before = projected(tables)
        saver.log.rebuild()
        assert projected(tables) == before
        assert_all_same(saver.list(None), expected)


@pytest.mark.parametrize("sharing", SHARING)
async def test_sixty_four_tasks_share_a_saver_and_a_pool_of_eight(sharing: str, database_uri: str) -> None:
    workers = scripts(TASKS, sharing, steps=4)
    expected = sorted(model_of(workers).list(None), key=place, reverse=True)
    async with AsyncConnectionPool(database_uri, min_size=1, max_size=8, open=False) as pool:
        # Some of the encoding goes to worker threads, and some does not.
        saver = AsyncEventLogSaver(pool, snapshot_floor_bytes=4096, offload_bytes=4000)
        await saver.aput(config_of("1"), *ROOT)
        await asyncio.gather(*(script.arun(saver) for script in workers))

        check_log(Tables(database_uri), workers)
        for found in expected:
            assert_same(await saver.aget_tuple(found.config), found)
        assert_all_same([each async for each in saver.alist(None)], expected)


def test_concurrent_identical_puts_append_one_event(database_uri: str) -> None:
    """16 threads put the same: one event each for the checkpoint and, as they are not compared, for the writes."""
    (script,) = scripts(1, "one parent")
    with ConnectionPool(database_uri, min_size=8, max_size=16) as pool:
        savers = [EventLogSaver(pool) for _ in range(4)]
        savers[0].put(config_of("1"), *ROOT)
        barrier = threading.Barrier(THREADS)

        def work(worker: int) -> None:
            barrier.wait()
            for config, checkpoint, metadata, versions, _ in script.steps:
                savers[worker % 4].put(config, checkpoint, metadata, versions)

        with ThreadPoolExecutor(THREADS) as threads:
            assert len(list(threads.map(work, range(THREADS)))) == THREADS
        tables = Tables(database_uri)
        assert_sound(tables)
        assert tables.events() == STEPS + 1


# --- savers that do not know of each other


@pytest.fixture
def savers(database_uri: str) -> Any:
    """Three savers with caches of their own, as in three processes; the last one has none."""
    with psycopg.connect(database_uri, autocommit=True) as conn:
        yield [EventLogSaver(conn, state_cache_bytes=cache) for cache in (2**20, 2**20, 0)]


def test_children_of_another_savers_checkpoints_are_stored_as_differences(
    savers: list[EventLogSaver], database_uri: str
) -> None:
    """A conversation that moves from process to process with every turn is stored as differences all the same."""
    (script,) = scripts(1, "one parent", steps=40)
    for saver in (savers[0], model := InMemorySaver()):
        saver.put(config_of("1"), *ROOT)
    for number, step in enumerate(script.steps):
        model.put(*step[:4])
        savers[number % 3].put(*step[:4])
    for saver in savers:
        assert_all_same(saver.list(None), list(model.list(None)))
    tables = Tables(database_uri)
    assert_sound(tables)
    assert tables.one("select count(*) from {schema}.events where base_seq is null") == 1


def test_a_child_of_a_replaced_parent_inherits_its_current_state(
    savers: list[EventLogSaver], database_uri: str
) -> None:
    """A child of a checkpoint that another process has replaced since: made of what is there now."""
    one, other, reader = savers
    root = config_of("1")
    first = checkpoint_of("1", {"messages": TEXTS[:40], "kept": "old"}, {"messages": "1", "kept": "1"})
    second = checkpoint_of("1", {"messages": TEXTS[50:90], "kept": "new"}, {"messages": "2", "kept": "2"})
    parent = one.put(root, first, {}, first["channel_versions"])
    other.put(root, second, {}, second["channel_versions"])

    # The first saver's cache has the old one; the child inherits "kept" without saying its value.
    child = checkpoint_of("2", {"messages": [*TEXTS[50:90], "more"]}, {"messages": "3", "kept": "2"})
    stored = one.put(parent, child, {}, {"messages": "3"})

    expected = {"messages": [*TEXTS[50:90], "more"], "kept": "new"}
    for saver in (one, other, reader):
        found = saver.get_tuple(stored)
        assert found is not None
        assert found.checkpoint["channel_values"] == expected
    # The child of the replaced one is not lost by the replacement either.
    third = checkpoint_of("1", {"messages": ["short"]}, {"messages": "4"})
    other.put(root, third, {}, {"messages": "4"})
    assert reader.get_tuple(stored).checkpoint["channel_values"] == expected
    tables = Tables(database_uri)
    assert_sound(tables)
    before = projected(tables)
    reader.log.rebuild()
    assert projected(tables) == before
    assert one.get_tuple(stored).checkpoint["channel_values"] == expected


def test_a_self_contained_child_of_a_replaced_parent_inherits_its_current_state(
    savers: list[EventLogSaver], database_uri: str
) -> None:
    """As above, where most of the state is new, so that the event is no difference: what is inherited is as current."""
    one, other, reader = savers
    root = config_of("1")
    first = checkpoint_of("1", {"kept": "old", "large": NOISE[0]}, {"kept": "1", "large": "1"})
    second = checkpoint_of("1", {"kept": "new", "large": NOISE[0]}, {"kept": "1", "large": "1"})
    parent = one.put(root, first, {}, first["channel_versions"])
    other.put(root, second, {}, second["channel_versions"])

    child = checkpoint_of("2", {"large": NOISE[1]}, {"kept": "1", "large": "2"})
    stored = one.put(parent, child, {}, {"large": "2"})

    tables = Tables(database_uri)
    assert tables.one("select base_seq from {schema}.events order by seq desc limit 1") is None
    for saver in (one, other, reader):
        found = saver.get_tuple(stored)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"kept": "new", "large": NOISE[1]}
    assert_sound(tables)
    before = projected(tables)
    reader.log.rebuild()
    assert projected(tables) == before


def test_a_put_again_with_a_stale_cache_inherits_from_the_last_replacement(savers: list[EventLogSaver]) -> None:
    """Put again under its own config by who missed the last replacement: it inherits from that, not from the cache."""
    one, other, reader = savers
    first = checkpoint_of("1", {"messages": TEXTS[:40], "kept": "old"}, {"messages": "1", "kept": "1"})
    second = checkpoint_of("1", {"messages": TEXTS[50:90], "kept": "new"}, {"messages": "2", "kept": "2"})
    third = checkpoint_of("1", {"messages": ["third"]}, {"messages": "3", "kept": "2"})
    own = one.put(config_of("1"), first, {}, first["channel_versions"])
    other.put(own, second, {}, second["channel_versions"])

    one.put(own, third, {}, {"messages": "3"})

    for saver in (one, other, reader):
        found = saver.get_tuple(own)
        assert found is not None
        assert found.checkpoint["channel_values"] == {"messages": ["third"], "kept": "new"}


def test_writes_to_a_replaced_checkpoint_are_read_back(savers: list[EventLogSaver], database_uri: str) -> None:
    """Writes that repeat the state are differences from it, as it was then; in full for who missed the replacement."""
    one, other, reader = savers
    first = checkpoint_of("1", {"messages": TEXTS[:40]}, {"messages": "1"})
    second = checkpoint_of("1", {"messages": TEXTS[50:90]}, {"messages": "2"})
    stored = one.put(config_of("1"), first, {}, {"messages": "1"})
    one.put_writes(stored, [("messages", [*TEXTS[:40], "before"])], "a")
    other.put(config_of("1"), second, {}, {"messages": "2"})
    one.put_writes(stored, [("messages", [*TEXTS[:40], "unaware"])], "b")
    other.put_writes(stored, [("messages", [*TEXTS[50:90], "after"])], "c")

    tables = Tables(database_uri)
    bases = tables.rows("select base_seq from {schema}.events where kind = 2 order by seq")
    assert bases == [(1,), (None,), (3,)]
    expected = [
        ("a", "messages", [*TEXTS[:40], "before"]),
        ("b", "messages", [*TEXTS[:40], "unaware"]),
        ("c", "messages", [*TEXTS[50:90], "after"]),
    ]
    for _ in ("as written", "rebuilt"):
        for saver in savers:
            assert saver.get_tuple(stored).pending_writes == expected
            assert next(saver.list(None)).pending_writes == expected
        before = projected(tables)
        reader.log.rebuild()
        assert projected(tables) == before
    assert_sound(tables)


def test_a_cached_state_from_before_a_deletion_is_no_base(savers: list[EventLogSaver], database_uri: str) -> None:
    """The thread was deleted and begun again under the same ids: the cached state is from before."""
    one, other, _ = savers
    old = checkpoint_of("1", {"messages": TEXTS[:40]}, {"messages": "1"})
    new = checkpoint_of("1", {"messages": TEXTS[40:80]}, {"messages": "1"})
    parent = one.put(config_of("1"), old, {}, {"messages": "1"})
    other.delete_thread("1")
    other.put(config_of("1"), new, {}, {"messages": "1"})

    child = checkpoint_of("2", {}, {"messages": "1", "more": "2"})
    stored = one.put(parent, child, {}, {})
    for saver in savers:
        assert saver.get_tuple(stored).checkpoint["channel_values"] == {"messages": TEXTS[40:80]}
    assert_sound(Tables(database_uri))


def test_a_cached_state_from_before_a_restore_is_no_base(savers: list[EventLogSaver], database_uri: str) -> None:
    """Restored to an earlier time the log hands out the same numbers again, for other events."""
    one, other, _ = savers
    root = config_of("1", None)
    first = checkpoint_of("1", {"messages": TEXTS[:40]}, {"messages": "1"})
    second = checkpoint_of("1", {"messages": TEXTS[40:80]}, {"messages": "1"})
    one.put(root, checkpoint_of("0", {}, {}), {}, {})
    tables = Tables(database_uri)
    (restored,) = tables.rows("select to_jsonb(s)::text from {schema}.streams as s")
    parent = one.put(root, first, {}, {"messages": "1"})
    with psycopg.connect(database_uri) as conn:
        conn.execute("set local session_replication_role = replica")  # the guard would refuse
        conn.execute("delete from eventlog.events where seq = 2")
        conn.execute("delete from eventlog.checkpoints where seq = 2")
        conn.execute("delete from eventlog.streams")
        conn.execute(
            "insert into eventlog.streams select (jsonb_populate_record(null::eventlog.streams, %s::jsonb)).*", restored
        )
    other.put(root, second, {}, {"messages": "1"})
    assert tables.one("select max(seq) from {schema}.events") == 2

    child = checkpoint_of("2", {"more": TEXTS[:40]}, {"messages": "1", "more": "2"})
    stored = one.put(parent, child, {}, {"more": "2"})
    one.put_writes(parent, [("messages", [TEXTS[:40]])], "task")
    for saver in reversed(savers):
        assert saver.get_tuple(stored).checkpoint["channel_values"] == {"messages": TEXTS[40:80], "more": TEXTS[:40]}
        found = saver.get_tuple(parent)
        assert found.checkpoint["channel_values"] == {"messages": TEXTS[40:80]}
        assert found.pending_writes == [("task", "messages", [TEXTS[:40]])]
    assert_sound(tables)


def test_concurrent_puts_of_one_id_leave_one_of_them_whole(database_uri: str) -> None:
    """With different content, at once, over and over: one of them, whole; a child is the child of one of them."""
    rounds = 25
    with ConnectionPool(database_uri, min_size=4, max_size=4) as pool:
        savers = [EventLogSaver(pool, state_cache_bytes=cache) for cache in (2**20, 2**20, 2**20, 0)]
        barrier = threading.Barrier(len(savers))
        acknowledged: list[int] = []

        def content(worker: int, number: int) -> Any:
            version = f"{number:032}.{worker}"
            return checkpoint_of(
                f"{number:03}",
                {"messages": [*TEXTS[: 30 + worker], f"{worker}"], "by": worker},
                {"messages": version, "by": version},
            )

        def work(worker: int) -> None:
            for number in range(rounds):
                checkpoint = content(worker, number)
                config = config_of("1", f"{number - 1:03}" if number else None)
                barrier.wait()
                try:
                    savers[worker].put(config, checkpoint, {"by": worker}, checkpoint["channel_versions"])
                    acknowledged.append(worker)
                except CheckpointExistsError:
                    pass  # The only way to refuse: nothing was written, and the caller is told to repeat.

        with ThreadPoolExecutor(len(savers)) as threads:
            assert len(list(threads.map(work, range(len(savers))))) == len(savers)
        tables = Tables(database_uri)
        assert_sound(tables)
        assert tables.events() == len(acknowledged)
        listed = list(savers[3].list(None))
        assert [each.checkpoint["id"] for each in listed] == [f"{number:03}" for number in reversed(range(rounds))]
        for found in listed:
            worker = found.metadata["by"]
            assert found.checkpoint == content(worker, int(found.checkpoint["id"]))
            for saver in savers:
                assert_same(saver.get_tuple(found.config), found)
        before = projected(tables)
        savers[0].log.rebuild()
        assert projected(tables) == before


def test_puts_during_a_deletion_are_refused_erased_or_afresh(database_uri: str) -> None:
    """A run that goes on while its thread is deleted: refused, or erased, or afresh; never half of it."""
    with ConnectionPool(database_uri, min_size=8, max_size=8) as pool:
        saver = EventLogSaver(pool)
        stop = threading.Event()
        ids = count()

        def write() -> None:
            while not stop.is_set():
                parent = None
                with suppress(ThreadDeletedError):
                    for _ in range(5):
                        version = f"{next(ids):032}"
                        checkpoint = checkpoint_of(version, {"messages": TEXTS[:40]}, {"messages": version})
                        stored = saver.put(config_of("1", parent), checkpoint, {}, {"messages": version})
                        parent = stored["configurable"]["checkpoint_id"]
                        saver.put_writes(stored, [("messages", "x")], "task")

        with ThreadPoolExecutor(6) as threads:
            writers = [threads.submit(write) for _ in range(6)]
            try:
                for _ in range(30):
                    saver.delete_thread("1")
                    for found in saver.list(config_of("1")):
                        assert found.checkpoint["channel_values"] == {"messages": TEXTS[:40]}
            finally:
                stop.set()
            for writer in writers:
                writer.result()
        tables = Tables(database_uri)
        assert_sound(tables)
        before = projected(tables)
        saver.log.rebuild()
        assert projected(tables) == before
        saver.delete_thread("1")
        assert list(saver.list(None)) == []
        assert tables.one("select count(*) from {schema}.events where kind <> 3") == 0
