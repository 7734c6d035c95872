"""Writes of parallel tasks are appended together: each once, and none with another's error."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from math import inf
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from psycopg_pool import AsyncConnectionPool

from eventlog.db import group_commit
from eventlog.db.group_commit import AsyncGroupCommit, GroupCommit
from eventlog.db.outage import CALL_BEGAN, Outage, ServerAwayTimeout
from eventlog.db.query import BatchableQuery, Group, Query, Rows
from eventlog.db.retry import RetryPolicy
from eventlog.errors import InvalidInputError, ThreadDeletedError
from eventlog.logger import CALL_FIELDS, lines_about
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import Tables, checkpoint_of, config_of, put
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
async def test_parallel_writes_of_a_distributed_log_go_by_thread(
    saver: BaseCheckpointSaver[Any], tables: Tables
) -> None:
    """As on Citus: a batch has calls on one thread."""
    saver._driver._group_commit._is_distributed = True  # type: ignore[attr-defined]
    configs = [await put(saver, config_of(f"{n}"), "1", {"n": 0}) for n in range(2)]
    await asyncio.gather(*(saver.aput_writes(configs[n % 2], [("n", n)], task(n)) for n in range(TASKS)))
    for n, config in enumerate(configs):
        found = await saver.aget_tuple(config)
        assert found is not None
        assert sorted(write[2] for write in found.pending_writes or []) == list(range(n, TASKS, 2))
    ((transactions, threads),) = tables.rows(
        "select count(*), max(threads) from (select count(distinct thread_id) as threads from eventlog.events"
        " where kind = 2 group by xid) as x"
    )
    assert threads == 1
    assert transactions < TASKS
    assert_sound(tables)
    await saver.log.verify()  # type: ignore[attr-defined]


@POOLS
async def test_parallel_writes_create_a_new_stream(saver: BaseCheckpointSaver[Any], tables: Tables) -> None:
    """LangGraph may put writes before their checkpoint: the stream is new, and no batch can form yet."""
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
            "select o_status, o_seq from eventlog.append_thread_v1('1',"
            ' \'[{"number": 1, "kind": 2, "thread_id": "1", "checkpoint_ns": "", "checkpoint_id": "1"}]\','
            " array[sha256('')], array[sha256('')], '{x}', '{\"\"}')"
        )
        assert answer == ("ok", 2)
        assert tables.rows(
            "select true from {schema}.streams where thread_id = '1' and checkpoint_ns = '' for key share nowait"
        ) == [(True,)]


@POOLS
async def test_relaxed_writes_of_parallel_tasks_are_all_there(kind: str, database_uri: str, tables: Tables) -> None:
    async with open_saver(kind, database_uri, relaxed_writes=True) as saver:
        config = await put(saver, config_of(), "1", {})
        await asyncio.gather(*(saver.aput_writes(config, [("n", n)], task(n)) for n in range(20)))
        found = await saver.aget_tuple(config)
    assert found is not None
    assert sorted(write[2] for write in found.pending_writes or []) == list(range(20))
    assert_sound(tables)


def test_relaxed_writes_are_refused_on_a_connection(database_uri: str) -> None:
    """It may be in a transaction of the user's, with a commit that would not wait either."""
    with (
        psycopg.connect(database_uri) as conn,
        pytest.raises(InvalidInputError, match="relaxed_writes needs a pool"),
    ):
        EventLogSaver(conn, relaxed_writes=True)


@pytest.mark.attack("stolen writer")
@pytest.mark.parametrize("kind", [0, 3, 4, 5])
def test_a_batch_appends_no_records(kind: int, database_uri: str, tables: Tables) -> None:
    """A writer may append checkpoints and writes; who erased what is for the database to say."""
    with EventLogSaver.from_conn_string(database_uri) as saver:
        saver.put(config_of(), checkpoint_of("1", {"x": 1}, {"x": "1"}), {}, {"x": "1"})
    before = tables.contents()
    with psycopg.connect(database_uri, autocommit=True) as conn:
        calls = json.dumps([{"number": 1, "kind": kind, "thread_id": "1", "checkpoint_ns": "", "checkpoint_id": "9"}])
        rows = conn.execute(
            "select * from eventlog.append_together_v1(%s, %b, %b, %b, %b)",
            (calls, [bytes(32)], [bytes(32)], [b"x"], [b""]),
        ).fetchall()
    assert rows == []
    assert tables.contents() == before


@POOLS
async def test_a_child_of_a_checkpoint_that_was_rolled_back_keeps_its_own_state(kind: str, database_uri: str) -> None:
    """Writes tell the stream's head to a saver after its parent was undone and put again by another one."""
    with psycopg.connect(database_uri) as conn:
        mine = EventLogSaver(conn)
        conn.execute("select 1")  # A transaction of the user's.
        config = mine.put(config_of(), checkpoint_of("1", {"x": ["mine" * 500]}, {"x": "1"}), {}, {"x": "1"})
        conn.rollback()
        async with open_saver(kind, database_uri) as other:
            await put(other, config_of(), "1", {"x": ["other" * 500]})
        mine.put_writes(config, [("y", 1)], "task")
        mine.put(config, checkpoint_of("2", {"x": ["mine" * 500, "more"]}, {"x": "2"}), {}, {"x": "2"})
        conn.commit()
    async with open_saver(kind, database_uri) as reader:
        found = await reader.aget_tuple(config_of())
        assert found is not None
        assert found.checkpoint["channel_values"] == {"x": ["mine" * 500, "more"]}
        assert (await reader.log.verify(states=True)).problems == []


# --- group commit alone


def query(number: int) -> BatchableQuery:
    def join(queries: Any, _: str | None) -> Query:
        return Query(b"joint", [n for each in queries for n in each.params])

    return BatchableQuery(b"alone", (number,), join=join)


class Database:
    """Runs queries when it is told to, and remembers them."""

    def __init__(
        self, joint: Callable[[int], Rows] = lambda calls: [(n, "together") for n in range(1, calls + 1)]
    ) -> None:
        self.ran: list[tuple[bytes, list[int]]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.joint = joint

    def __call__(self, query: Query) -> Rows:
        params = list(query.params or ())
        self.begun.release()
        assert self.go.wait(240)
        self.ran.append((query.statement, params))
        if query.statement == b"joint":
            return self.joint(len(params))
        if params == [13]:
            raise psycopg.DataError("unlucky")
        return [("alone",)]

    async def soon(self, query: Query) -> Rows:
        while not self.go.is_set():
            await asyncio.sleep(0)
        return self(query)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting calls wait, unless a test says otherwise."""
    monkeypatch.setattr(group_commit, "PATIENCE", 240)


def queue(commits: GroupCommit, threads: ThreadPoolExecutor, numbers: Iterable[int]) -> list[Future[Rows]]:
    """Calls that wait, in this order."""
    running = []
    for n in numbers:
        running.append(threads.submit(commits.run, query(n)))
        while len(commits._waiting) < len(running):
            pass
    return running


def fails(_: int) -> Rows:
    raise psycopg.DataError("one of them")


def declines(_: int) -> Rows:
    return []


@pytest.mark.parametrize("joint", [fails, declines])
async def test_a_failed_batch_is_retried_one_by_one(joint: Callable[[int], Rows]) -> None:
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


async def test_a_call_that_a_batch_declines_runs_alone() -> None:
    database = Database(lambda calls: [(n, f"together {n}") for n in range(1, calls + 1) if n != 2])
    commits = AsyncGroupCommit(database.soon)
    running = [asyncio.create_task(commits.run(query(n))) for n in range(4)]
    await asyncio.sleep(0)
    database.go.set()
    assert await asyncio.gather(*running) == [[("alone",)], [("together 1",)], [("alone",)], [("together 3",)]]
    assert database.ran == [(b"alone", [0]), (b"joint", [1, 2, 3]), (b"alone", [2])]


async def test_cancelled_tasks_do_not_cancel_their_batch() -> None:
    """The call with the running query, and one that waits, are cancelled."""
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


async def test_a_batch_has_no_callers_log_fields_and_no_callers_deadline() -> None:
    database = Database(lambda calls: [(n, CALL_FIELDS.get(), CALL_BEGAN.get()) for n in range(1, calls + 1)])
    commits = AsyncGroupCommit(database.soon)

    async def call(number: int) -> Rows:
        CALL_FIELDS.set(lambda: {"thread_id": str(number)})
        CALL_BEGAN.set(number)
        return await commits.run(query(number))

    running = [asyncio.create_task(call(n)) for n in range(4)]
    await asyncio.sleep(0)
    database.go.set()
    assert await asyncio.gather(*running) == [[("alone",)], *[[(None, inf)]] * 3]


async def test_the_look_for_the_server_has_no_callers_log_fields(
    database_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncConnectionPool(database_uri, min_size=1, open=False) as pool:
        await pool.wait()
        outage = Outage(pool, RetryPolicy())
        pool.kwargs = lambda: 1 / 0  # type: ignore[assignment]
        with lines_about(lambda: {"thread_id": "1"}):
            outage.suspect()
        while "eventlog.outage_not_watched" not in caplog.text:
            await asyncio.sleep(0.05)
    assert "ZeroDivisionError" in caplog.text
    assert "thread_id" not in caplog.text


class Interrupt(BaseException):
    """As KeyboardInterrupt is, which would end the test run."""


def test_an_interrupted_thread_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by Ctrl-C, while it waits: what it asked for is not done, and the others go on."""
    database = Database()
    commits = GroupCommit(database)
    interrupts = [Interrupt()]

    class Interrupted(Future[Any]):
        """The first wait is interrupted as soon as it begins."""

        def result(self, timeout: float | None = None) -> Any:
            if interrupts:
                raise interrupts.pop()
            return super().result(timeout)

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(commits.run, query(0))]
        assert database.begun.acquire(timeout=240)
        monkeypatch.setattr(group_commit, "Future", Interrupted)
        running += queue(commits, threads, [1, 2, 3])
        with pytest.raises(Interrupt):
            running[1].result(240)
        database.go.set()
        assert running[0].result(240) == [("alone",)]
        assert [each.result(240) for each in running[2:]] == [[("together",)]] * 2
    assert database.ran == [(b"alone", [0]), (b"joint", [2, 3])]
    assert commits.run(query(5)) == [("alone",)]


class OfAPool(psycopg.OperationalError):
    """An error of a user's own pool class, which cannot be made from its arguments."""

    def __init__(self, pool: str, *, tries: int) -> None:
        super().__init__(f"{pool} was tried {tries} times")


@pytest.mark.parametrize(
    "error",
    [Interrupt("now"), psycopg.OperationalError("gone"), ServerAwayTimeout("away", 5.0), OfAPool("p", tries=3)],
    ids=["interrupted", "lost", "away", "a pool's own"],
)
def test_calls_of_a_batch_that_may_have_been_appended_all_hear_of_it(error: BaseException) -> None:
    """They must not be made again without a look."""

    def ends(_: int) -> Rows:
        raise error

    database = Database(ends)
    commits = GroupCommit(database)
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(commits.run, query(0))
        assert database.begun.acquire(timeout=240)
        running = queue(commits, threads, [1, 2])
        database.go.set()
        assert first.result(240) == [("alone",)]
        raised = [each.exception(240) for each in running]
    assert [(type(each), str(each)) for each in raised] == [(type(error), str(error))] * 2
    assert database.ran == [(b"alone", [0]), (b"joint", [1, 2])]
    assert commits.run(query(5)) == [("alone",)]


def test_a_turn_lost_to_an_interrupt_is_taken_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt may come before the turn is in safe hands: the others do not wait for it for ever."""
    monkeypatch.setattr(group_commit, "PATIENCE", 0.05)
    database = Database()
    database.go.set()
    commits = GroupCommit(database)
    commits._under_way = group_commit.LEADERS
    with ThreadPoolExecutor(3) as threads:
        running = [threads.submit(commits.run, query(n)) for n in range(3)]
        assert {each.result(240)[0] for each in running} <= {("alone",), ("together",)}
    assert (len(commits._waiting), commits._under_way) == (0, 0)


@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "loop"])
async def test_a_slow_statement_does_not_hold_up_others(is_async: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for a lock on a stream that is nothing to the others."""
    monkeypatch.setattr(group_commit, "PATIENCE", 0.05)
    slow = threading.Event()
    database = Database()
    database.go.set()

    def execute(asked: Query) -> Rows:
        assert asked.params != (0,) or slow.wait(240)
        return database(asked)

    async def execute_soon(asked: Query) -> Rows:
        return await asyncio.to_thread(execute, asked)

    threads, loop = GroupCommit(execute), AsyncGroupCommit(execute_soon)

    def call(n: int) -> asyncio.Task[Rows]:
        return asyncio.create_task(loop.run(query(n)) if is_async else asyncio.to_thread(threads.run, query(n)))

    first = call(0)
    while not (loop if is_async else threads)._under_way:
        await asyncio.sleep(0)
    try:
        # The first one loses patience; then the slow one does not count any more.
        assert [await asyncio.wait_for(call(n), 60) for n in range(1, 4)] == [
            [("together",)],
            [("alone",)],
            [("alone",)],
        ]
    finally:
        slow.set()
    assert await first == [("alone",)]


def test_a_batch_is_bounded_by_bytes() -> None:
    """By bytes; what is left goes with the next."""
    database = Database()
    commits = GroupCommit(database)
    large = BatchableQuery(b"alone", (b"x" * 3_000_000,), join=query(0).join)
    with ThreadPoolExecutor(5) as threads:
        running = [threads.submit(commits.run, large) for _ in range(5)]
        while len(commits._waiting) < 4:
            pass
        database.go.set()
        for each in running:
            each.result(240)
    assert [len(params) for _, params in database.ran] == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "loop"])
async def test_a_distributed_log_gets_batches_of_one_thread(is_async: bool) -> None:
    """It declines the first batch; then calls on one thread wait for each other alone."""
    go, ran = threading.Event(), list[tuple[str | None, list[int]]]()

    def execute(asked: Query) -> Rows:
        assert go.wait(240)
        if asked.statement == b"distributed?":
            return [(True,)]
        if asked.statement == b"alone":
            return [("alone",)]
        group, *numbers = asked.params or ()
        ran.append((group, numbers))
        return [] if group is None else [(n, group) for n in range(1, len(numbers) + 1)]

    async def execute_soon(asked: Query) -> Rows:
        return await asyncio.to_thread(execute, asked)

    def on(thread_id: str, number: int) -> BatchableQuery:
        return BatchableQuery(
            b"alone",
            (number,),
            join=lambda queries, group: Query(b"joint", [group, *(n for each in queries for n in each.params or ())]),
            group=Group(thread_id, b"distributed?"),
        )

    commits, loop = GroupCommit(execute), AsyncGroupCommit(execute_soon)
    calls = [on("ab"[n % 2], n) for n in range(9)]
    with ThreadPoolExecutor(9) as pool:
        running = [
            asyncio.create_task(loop.run(call)) if is_async else asyncio.wrap_future(pool.submit(commits.run, call))
            for call in calls
        ]
        while len((loop if is_async else commits)._waiting) < 8:
            await asyncio.sleep(0)
        go.set()
        done = await asyncio.gather(*running)
        assert {rows[0][0] for rows in done} <= {"alone", "a", "b"}
        (declined, numbers), *later = ran
        assert (declined, len(numbers)) == (None, 8)
        assert all(n % 2 == "ab".index(group or "") for group, numbers in later for n in numbers)
        assert (loop if is_async else commits)._groups == {}
