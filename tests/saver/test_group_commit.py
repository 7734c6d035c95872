"""Writes of parallel tasks are appended together: each once, and none with another's error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver

from eventlog.db import group_commit
from eventlog.db.group_commit import AsyncGroupCommit, GroupCommit
from eventlog.db.query import BatchableQuery, Query, Rows
from eventlog.errors import ThreadDeletedError
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import Tables, config_of, put
from tests.support.soundness import assert_sound

pytestmark = pytest.mark.portable

TASKS = 100


@pytest.fixture
def tables(database_uri: str) -> Any:
    with Tables(database_uri) as opened:
        yield opened


def task(number: int) -> str:
    return f"task {number:03}"


@POOLS
async def test_parallel_writes_share_few_transactions(saver: BaseCheckpointSaver[Any], tables: Tables) -> None:
    """A fan-out's writes: every one is there, in a few transactions."""
    config = await put(saver, config_of(), "1", {"messages": ["x" * 4000]})
    await asyncio.gather(
        *(saver.aput_writes(config, [("messages", ["x" * 4000, n]), ("n", n)], task(n)) for n in range(TASKS))
    )
    found = await saver.aget_tuple(config)
    assert found is not None
    assert found.pending_writes is not None
    expected = [(task(n), *write) for n in range(TASKS) for write in (("messages", ["x" * 4000, n]), ("n", n))]
    assert sorted(found.pending_writes, key=lambda write: write[:2]) == expected
    ((transactions, events),) = tables.rows("select count(distinct xid), count(*) from eventlog.events where kind = 2")
    assert events == TASKS
    assert transactions < TASKS // 2
    assert_sound(tables)
    await saver.log.verify()  # type: ignore[attr-defined] -- recomputes every digest, raises at the first that differs


@POOLS
async def test_parallel_writes_create_a_new_stream(saver: BaseCheckpointSaver[Any], tables: Tables) -> None:
    """LangGraph may put writes before their checkpoint: the stream is new, and nobody can gather yet."""
    await asyncio.gather(*(saver.aput_writes(config_of("1", "1"), [("n", n)], task(n)) for n in range(20)))
    found = await saver.aget_tuple(await put(saver, config_of(), "1", {}))
    assert found is not None
    assert [write[2] for write in sorted(found.pending_writes or [])] == list(range(20))
    assert_sound(tables)


@POOLS
async def test_a_refused_write_does_not_fail_its_batch(saver: BaseCheckpointSaver[Any], tables: Tables) -> None:
    """Of an erased checkpoint's and a fresh one's writes, gathered, only the former fail."""
    await put(saver, config_of(), "1", {})
    await saver.adelete_thread("1")
    fresh = await put(saver, config_of(), "2", {})
    done = await asyncio.gather(
        *(saver.aput_writes(config_of("1", "1") if n % 3 == 0 else fresh, [("n", n)], task(n)) for n in range(30)),
        return_exceptions=True,
    )
    assert [type(each) for each in done] == [ThreadDeletedError if n % 3 == 0 else type(None) for n in range(30)]
    found = await saver.aget_tuple(fresh)
    assert found is not None
    assert sorted(write[2] for write in found.pending_writes or []) == [n for n in range(30) if n % 3]
    assert_sound(tables)


@POOLS
async def test_batched_writes_with_a_stale_base_are_read_back(
    saver: BaseCheckpointSaver[Any], kind: str, database_uri: str, tables: Tables
) -> None:
    """Writes that are differences from a checkpoint that another saver has replaced since."""
    state = ["x" * 4000]
    config = await put(saver, config_of(), "1", {"messages": state})
    async with open_saver(kind, database_uri) as other:
        await put(other, config_of(), "1", {"messages": ["y" * 4000]})
    await asyncio.gather(*(saver.aput_writes(config, [("messages", [*state, n])], task(n)) for n in range(20)))
    found = await saver.aget_tuple(config)
    assert found is not None
    assert sorted(write[2][1] for write in found.pending_writes or []) == list(range(20))
    assert_sound(tables)


async def test_a_subgraph_does_not_wait_for_its_roots_writes(database_uri: str, tables: Tables) -> None:
    """Its first append looks at the root's row, which the root's parallel tasks change at the same time."""
    async with open_saver("sync-pool", database_uri) as saver:
        await put(saver, config_of(), "1", {})
    with psycopg.connect(database_uri, autocommit=True) as conn, conn.transaction():
        (answer,) = conn.execute(
            "select o_status, o_seq from eventlog.append_writes_together_v1("
            "'1', '', '{1}', '{null}', '{null}', '{null}', array[sha256('')], array[sha256('')], '{x}')"
        )
        assert answer == ("ok", 2)
        assert tables.rows("select true from {schema}.streams where checkpoint_ns = '' for key share nowait") == [
            (True,)
        ]


# --- group commit alone


def query(number: int, key: str = "stream") -> BatchableQuery:
    def join(each: Any) -> Query:
        return Query(b"joint", [n for (n,) in each])

    return BatchableQuery(b"alone", (number,), key=key, join=join)


class Database:
    """Runs queries when it is told to, and remembers them."""

    def __init__(self, joint: Callable[[], Rows] = lambda: [("together",)]) -> None:
        self.ran: list[tuple[bytes, list[int]]] = []
        self.go = threading.Event()
        self.joint = joint

    def __call__(self, query: Query) -> Rows:
        assert self.go.wait(240)
        self.ran.append((query.statement, list(query.params or ())))
        if query.statement == b"joint":
            return self.joint()
        if query.params == (13,):
            raise psycopg.DataError("unlucky")
        return [("alone",)]

    async def soon(self, query: Query) -> Rows:
        while not self.go.is_set():
            await asyncio.sleep(0)
        return self(query)


def fails() -> Rows:
    raise psycopg.DataError("one of them")


@pytest.mark.parametrize("joint", [fails, list], ids=["fails", "refuses"])
async def test_a_failed_batch_is_retried_one_by_one(joint: Callable[[], Rows]) -> None:
    """What cannot be done together, each does alone, and only one has the error."""
    database = Database(joint)
    commits = AsyncGroupCommit(database.soon)
    running = [asyncio.create_task(commits.run(query(n))) for n in range(10, 16)]
    await asyncio.sleep(0)
    database.go.set()
    done = await asyncio.gather(*running, return_exceptions=True)
    assert [each for each in done if each != [("alone",)]] == [done[3]]
    assert isinstance(done[3], psycopg.DataError)
    assert database.ran[:2] == [(b"alone", [10]), (b"joint", [11, 12, 13, 14, 15])]
    assert sorted(database.ran[2:]) == [(b"alone", [n]) for n in range(11, 16)]


async def test_streams_do_not_wait_for_each_other() -> None:
    database = Database()
    commits = AsyncGroupCommit(database.soon)
    running = [asyncio.create_task(commits.run(query(n, key=str(n % 2)))) for n in range(4)]
    await asyncio.sleep(0)
    database.go.set()
    await asyncio.gather(*running)
    assert sorted(database.ran) == [(b"alone", [0]), (b"alone", [1]), (b"joint", [2]), (b"joint", [3])]


async def test_cancelled_tasks_do_not_cancel_their_batch() -> None:
    """The one whose query runs, and one that waits, are cancelled."""
    database = Database()
    commits = AsyncGroupCommit(database.soon)
    running = [asyncio.create_task(commits.run(query(n))) for n in range(4)]
    await asyncio.sleep(0)
    running[0].cancel()
    running[2].cancel()
    database.go.set()
    done = await asyncio.gather(*running, return_exceptions=True)
    assert [type(done[0]), type(done[2])] == [asyncio.CancelledError] * 2
    assert done[1] == done[3] == [("together",)]
    assert database.ran == [(b"joint", [1, 3])]
    assert await commits.run(query(5)) == [("alone",)]


class Interrupt(BaseException):
    """As KeyboardInterrupt is, which would end the test run."""


def test_an_interrupted_thread_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by Ctrl-C: whoever would have led leaves, and the others go on."""
    database = Database()
    commits = GroupCommit(database)
    arrived = threading.Semaphore(0)
    interrupts = [Interrupt()]

    class Interrupted(threading.Event):
        """The first wait is interrupted as soon as it begins."""

        def wait(self, timeout: float | None = None) -> bool:
            arrived.release()
            if interrupts:
                raise interrupts.pop()
            return super().wait(timeout)

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(commits.run, query(0))]
        while not commits._queues:
            pass
        waiting = group_commit._Waiting
        monkeypatch.setattr(group_commit, "_Waiting", lambda query: waiting(query, called=Interrupted()))
        for n in range(1, 4):
            running.append(threads.submit(commits.run, query(n)))
            assert arrived.acquire(timeout=240)
        database.go.set()
        assert running[0].result(240) == [("alone",)]
        with pytest.raises(Interrupt):
            running[1].result(240)
        assert [each.result(240) for each in running[2:]] == [[("together",)]] * 2
    assert database.ran == [(b"alone", [0]), (b"joint", [2, 3])]
    assert commits.run(query(5)) == [("alone",)]


def test_a_lead_lost_to_an_interrupt_is_taken_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt may come before the turn is in safe hands, or while it is passed on: nobody waits for ever."""
    monkeypatch.setattr(group_commit, "PATIENCE", 0.05)
    database = Database()
    database.go.set()
    commits = GroupCommit(database)
    commits._queues["stream"] = []
    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(commits.run, query(n)) for n in range(3)]
        assert {each.result(240)[0] for each in running} <= {("alone",), ("together",)}
    assert commits._queues == {}


def test_a_slow_leader_does_not_hold_up_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has lost patience goes alone; the turn that comes to an end then is nobody's."""
    monkeypatch.setattr(group_commit, "PATIENCE", 0.05)
    slow = threading.Event()
    database = Database()
    database.go.set()

    def execute(asked: Query) -> Rows:
        assert asked.params != (0,) or slow.wait(240)
        return database(asked)

    commits = GroupCommit(execute)
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(commits.run, query(0))
        while not commits._queues:
            pass
        for n in range(1, 4):
            assert threads.submit(commits.run, query(n)).result(240) == [("alone",)]
        slow.set()
        assert first.result(240) == [("alone",)]
    assert commits._queues == {}


def test_a_follower_waits_for_a_running_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is in a joint statement does not lose patience with it: it would be appended twice."""
    first, begun, asked, joint = (threading.Event() for _ in range(4))

    class Impatient(threading.Event):
        """Loses patience when the joint statement has begun."""

        def wait(self, timeout: float | None = None) -> bool:
            if timeout is not None:
                assert begun.wait(240)
                return False
            asked.set()
            return super().wait(240)

    database = Database()
    database.go.set()

    def execute(query: Query) -> Rows:
        if query.params == (0,):
            assert first.wait(240)
        else:
            begun.set()
            assert joint.wait(240)
        return database(query)

    commits = GroupCommit(execute)
    waiting = group_commit._Waiting
    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(commits.run, query(0))]
        while not commits._queues:
            pass
        running.append(threads.submit(commits.run, query(1)))
        while len(commits._queues["stream"]) < 1:
            pass
        monkeypatch.setattr(group_commit, "_Waiting", lambda query: waiting(query, called=Impatient()))
        running.append(threads.submit(commits.run, query(2)))
        while len(commits._queues["stream"]) < 2:
            pass
        first.set()
        assert asked.wait(240)
        joint.set()
        assert [each.result(240) for each in running] == [[("alone",)], [("together",)], [("together",)]]
    assert database.ran == [(b"alone", [0]), (b"joint", [1, 2])]
    assert commits._queues == {}


def test_a_batch_is_bounded_by_bytes() -> None:
    """By bytes; what is left goes with the next."""
    database = Database()
    commits = GroupCommit(database)
    large = BatchableQuery(b"alone", (b"x" * 3_000_000,), key="stream", join=query(0).join)
    with ThreadPoolExecutor(5) as threads:
        running = [threads.submit(commits.run, large) for _ in range(5)]
        while sum(map(len, commits._queues.values())) < 4:
            pass
        database.go.set()
        for each in running:
            each.result(240)
    assert [len(params) for _, params in database.ran] == [1, 1, 1, 1, 1]
