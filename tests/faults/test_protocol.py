"""Every call of a saver, with a fault at every message of it: it happened once, or not at all; others did not notice.

A call is made once undisturbed, to count its messages, then with each fault at each of them, on a thread of its own.
Where it returned, its effect is there once. Where it raised, the error is one of the family, the effect is there or is
not, and after the same call once more it is there once.

By default a sample of each call's steps is taken, evenly; with FAULT_SECONDS set, all of them.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count, product
from typing import Any

import psycopg
import pytest

import tests.support.adapters
from eventlog.errors import ConnectionLostError, EventLogError, ThreadExistsError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.faults.proxy import FAULTS, Fault, Proxy, Step
from tests.support.adapters import CONNECT, open_saver
from tests.support.checkpoints import TEXTS, Tables, config_of, converse, listed, put
from tests.support.server import Server
from tests.support.soundness import assert_sound

#: With all steps, a call with many messages takes minutes.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600 if os.environ.get("FAULT_SECONDS") else 900)]

#: Those of the savers, and a pool with psycopg's defaults, where BEGIN and COMMIT are messages of their own.
KINDS = (*tests.support.adapters.KINDS, "sync-pool, no autocommit", "async-pool, no autocommit")

#: So many faults of each call and kind of saver are tried; None: all.
MOST = None if os.environ.get("FAULT_SECONDS") else 12


@dataclass(frozen=True)
class Subject:
    """A call, and what there is to see of it.

    `look` answers the same for the same effect, whatever the thread is called.
    """

    call: Callable[[Any, str], Awaitable[Any]]
    look: Callable[[Any, Tables, str], Awaitable[Any]]
    may_raise: tuple[type[EventLogError], ...] = ()
    """What it may answer when it has happened already, and is called again by a caller that does not know."""
    events: int | None = None
    """How many events of writes it makes, on a pool. (On a connection it is repeated without a look.)"""


async def _state(saver: Any, tables: Tables, thread_id: str) -> Any:
    """What the thread is for a reader, and how many events of each kind it has, but for those of writes.

    A `put_writes` that was done and is repeated may leave a second event, of which readers see nothing.
    """
    found = await listed(saver, config_of(thread_id))
    kinds = tables.rows(
        "select kind, count(*) from {schema}.events where thread_id = %s and kind <> 2 group by kind order by kind",
        thread_id,
    )
    return [(each.checkpoint, each.metadata, each.pending_writes, each.parent_config is None) for each in found], kinds


async def _copy(saver: Any, tables: Tables, thread_id: str) -> Any:
    return [await _state(saver, tables, id_) for id_ in (thread_id, f"{thread_id} copied")]


async def _deleted(saver: Any, tables: Tables, thread_id: str) -> Any:
    """A deletion that was done and is repeated may leave a second tombstone."""
    (rows, _) = await _state(saver, tables, thread_id)
    left = tables.one("select count(*) from {schema}.events where thread_id = %s and kind in (1, 2)", thread_id)
    return rows, left


async def _list(saver: Any, thread_id: str) -> Any:
    return [(each.checkpoint, each.pending_writes) for each in await listed(saver, config_of(thread_id), limit=4)]


async def _get(saver: Any, thread_id: str) -> Any:
    found = await saver.aget_tuple(config_of(thread_id))
    assert found is not None
    return found.checkpoint, found.pending_writes


async def _write_together(saver: Any, thread_id: str) -> None:
    """As parallel tasks do: on a pool the first goes alone, and the others in one statement."""
    await asyncio.gather(
        *(saver.aput_writes(config_of(thread_id, "h"), [("z", number)], f"task {number}") for number in range(3, 8))
    )


SUBJECTS: dict[str, Subject] = {
    "put": Subject(lambda saver, id_: put(saver, config_of(id_, "h"), "i", {"x": [*TEXTS, "new"]}), _state),
    "put_writes": Subject(
        lambda saver, id_: saver.aput_writes(config_of(id_, "h"), [("x", TEXTS), ("z", 1)], "task 3"),
        _state,
        events=1,
    ),
    "put_writes together": Subject(_write_together, _state, events=5),
    "get_tuple": Subject(_get, _state),
    "list": Subject(_list, _state),
    "delete_thread": Subject(lambda saver, id_: saver.adelete_thread(id_), _deleted),
    "copy_thread": Subject(lambda saver, id_: saver.acopy_thread(id_, f"{id_} copied"), _copy, (ThreadExistsError,)),
    "prune": Subject(lambda saver, id_: saver.log.prune([id_], keep_last=2), _state),
    "setup": Subject(lambda saver, id_: saver.setup(), _state),
}


def _sample(cases: list[tuple[Step, Fault]], offset: int) -> list[tuple[Step, Fault]]:
    """As many of them as are tried, spread evenly; which ones depends on the offset."""
    if MOST is None or len(cases) <= MOST:
        return cases
    stride = len(cases) / MOST
    return [cases[int(n * stride + offset) % len(cases)] for n in range(MOST)]


class Bench:
    """A proxied saver of one kind, another one that no fault touches, and the tables."""

    def __init__(self, kind: str, proxy: Proxy, direct: Any, tables: Tables) -> None:
        self.kind = kind
        self.proxy = proxy
        self.direct = direct
        self.tables = tables
        self._ids = count(1)

    async def thread(self) -> str:
        id_ = f"thread {next(self._ids)}"
        await converse(self.direct, id_)
        return id_

    def writes(self, id_: str) -> int:
        """How many events of writes a thread has."""
        return int(self.tables.one("select count(*) from {schema}.events where thread_id = %s and kind = 2", id_))

    def saver(self) -> Any:
        """A connection is a new one each time and prepares what it runs; on a pool's, nothing may be prepared yet."""
        kind, *plain = self.kind.split(", ")
        connect = dict(CONNECT) if "connection" in kind else {"prepare_threshold": None, "autocommit": not plain}
        return open_saver(kind, self.proxy.uri, connect=connect, state_cache_bytes=0)

    def strict(self) -> Any:
        """As `saver`, one that refuses what comes between others."""
        return open_saver(self.kind.split(", ")[0], self.proxy.uri, concurrency="strict")

    async def attempt(
        self, saver: Any, subject: Subject, id_: str, fault: Fault | None = None, at: Step | None = None
    ) -> tuple[Any, list[Step]]:
        """Call with a fault. Returns the result, or the error if it is one of the family, and the steps."""
        await saver.log.threads(limit=1)
        plan = self.proxy.follow(fault, at)
        try:
            return await subject.call(saver, id_), plan.steps
        except EventLogError as exc:
            return exc, plan.steps
        finally:
            # How many go together depends on who comes first.
            assert plan.is_done or at is None or subject.call is _write_together, f"{at} was not reached: {plan.steps}"
            self.proxy.follow()


@asynccontextmanager
async def bench(kind: str, uri: str) -> AsyncIterator[Bench]:
    with Proxy(uri) as proxy, Tables(uri) as tables:
        async with open_saver("sync-pool", uri, state_cache_bytes=0) as direct:
            yield Bench(kind, proxy, direct, tables)


@pytest.mark.parametrize(
    ("name", "kind"),
    # Of several calls on one connection, some may have happened.
    [(name, kind) for name, kind in product(SUBJECTS, KINDS) if "together" not in name or "connection" not in kind],
)
async def test_calls_survive_a_fault_at_every_step(name: str, kind: str, database_uri: str) -> None:
    """On a pool the call succeeds all the same; on a connection it says that a pool would have helped."""
    subject = SUBJECTS[name]
    async with bench(kind, database_uri) as here, here.saver() as saver:
        witness = await here.thread()
        untouched = await _state(here.direct, here.tables, witness)

        id_ = await here.thread()
        before = await subject.look(here.direct, here.tables, id_)
        writes = here.writes(id_)
        answer, steps = await here.attempt(saver, subject, id_)
        after = await subject.look(here.direct, here.tables, id_)
        assert {step.sender for step in steps} == {"client", "server"}

        cases = _sample(list(product(steps, FAULTS)), KINDS.index(kind))
        for at, fault in cases:
            id_ = await here.thread()
            async with _fresh(here, saver) as victim:
                outcome, _ = await here.attempt(victim, subject, id_, fault, at)
            where = f"{name} on {kind}, {fault} at {at}: {outcome!r}"
            found = await subject.look(here.direct, here.tables, id_)
            if isinstance(outcome, EventLogError):
                assert "connection" in kind, where
                assert fault != "delay", where
                assert isinstance(outcome, ConnectionLostError), where
                assert "pool" in str(outcome), where
                assert found in (before, after), where
                with suppress(*subject.may_raise):
                    async with here.saver() as again:
                        outcome = await subject.call(again, id_)
                found = await subject.look(here.direct, here.tables, id_)
            assert found == after, where
            if subject.events is not None and "connection" not in kind:
                assert here.writes(id_) == writes + subject.events, where
            if name in ("get_tuple", "list"):
                assert outcome == answer, where

        assert await _state(here.direct, here.tables, witness) == untouched
        assert_sound(here.tables)
        assert (await here.direct.log.verify()).problems == []
        assert (await here.direct.log.rebuild(check=True)).differences == []


@asynccontextmanager
async def _fresh(here: Bench, saver: Any) -> AsyncIterator[Any]:
    """A saver of its own where connections do not survive, or prepare what they run; else the same one goes on."""
    if "-pool" in here.kind:
        yield saver
    else:
        async with here.saver() as own:
            yield own


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool", "sync-string", "async-string"])
async def test_calls_survive_faults_while_connecting(kind: str, database_uri: str) -> None:
    """All connections are gone, and the next attempt to connect fails at one of its steps: the call succeeds."""
    async with bench(kind, database_uri) as here, here.saver() as saver:
        await saver.log.threads(limit=1)
        plan = here.proxy.follow()
        here.proxy.cut_all()
        await SUBJECTS["put"].call(saver, await here.thread())
        last = next(number for number, step in enumerate(plan.steps) if step.type == "Z")
        # The server tells its settings one by one; the first stands for all.
        steps = list({(step.sender, step.type): step for step in reversed(plan.steps[: last + 1])}.values())
        assert {step.type for step in steps} >= {"startup", "R", "S", "K", "Z"}
        for at, fault in _sample(list(product(steps, FAULTS)), 0)[: None if MOST is None else 8]:
            id_ = await here.thread()
            plan = here.proxy.follow(fault, at)
            here.proxy.cut_all()
            await SUBJECTS["put"].call(saver, id_)
            assert plan.is_done
            assert here.tables.one(
                "select count(*) from {schema}.events where thread_id = %s and checkpoint_id = 'i'", id_
            ) == 1  # fmt: skip


@pytest.mark.parametrize("kind", ["sync-string", "async-string", "async-connection"])
async def test_setup_resumes_after_a_fault_at_any_step(kind: str, server: Server, database_uri: str) -> None:
    """Interrupted anywhere, the next `setup()` goes on where it stopped, and ends where an undisturbed one does."""
    wanted = Tables(database_uri).rows("select name, checksum from {schema}.migrations order by name")
    steps: list[Step] = []
    for number in range(8 if MOST else 100):
        uri = server.uri(name := server.create_database(prefix="empty"))
        with Proxy(uri) as proxy:
            at = steps[len(steps) * number // (8 if MOST else 100)] if steps else None
            async with open_saver(kind, proxy.uri) as saver:
                plan = proxy.follow(FAULTS[number % 4], at)
                if "connection" in kind and at is not None:
                    with pytest.raises(ConnectionLostError, match="pool"):
                        await saver.setup()
                else:
                    await saver.setup()
                assert plan.is_done == (at is not None)
                steps = steps or list(plan.steps)
        async with open_saver(kind, uri) as saver:
            await saver.setup()
            await put(saver, config_of(), "1", {"x": 1})
            assert (await saver.log.verify()).problems == []
        assert Tables(uri).rows("select name, checksum from {schema}.migrations order by name") == wanted
        server.drop_database(name)


@pytest.mark.parametrize("kind", ["async-pool", "async-connection"])
@pytest.mark.parametrize("name", ["put", "put_writes", "get_tuple", "prune"])
async def test_calls_cancelled_at_any_step_happen_whole_or_not_at_all(name: str, kind: str, database_uri: str) -> None:
    """A call is cancelled while a message of it is on its way: it happened or not, and the saver goes on."""
    subject = SUBJECTS[name]
    async with bench(kind, database_uri) as here, here.saver() as counted:
        id_ = await here.thread()
        before = await subject.look(here.direct, here.tables, id_)
        _, steps = await here.attempt(counted, subject, id_)
        after = await subject.look(here.direct, here.tables, id_)
        async with here.saver() as saver:
            for at in steps if MOST is None else steps[:: len(steps) // 12 + 1]:
                id_ = await here.thread()
                call = asyncio.ensure_future(subject.call(saver, id_))
                loop = asyncio.get_running_loop()
                here.proxy.follow("delay", at, lambda: loop.call_soon_threadsafe(call.cancel))  # noqa: B023
                with suppress(asyncio.CancelledError):
                    await call
                here.proxy.follow()
                assert await subject.look(here.direct, here.tables, id_) in (before, after), at
                await subject.call(saver, id_)
                assert await subject.look(here.direct, here.tables, id_) == after, at
        assert_sound(here.tables)
        assert (await here.direct.log.verify()).problems == []


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool", "sync-connection", "async-connection"])
async def test_a_strict_saver_recognizes_its_own_append_after_a_fault(kind: str, database_uri: str) -> None:
    """A saver that refuses what comes between others does not take its own append, which it never heard of, for one."""
    subject = SUBJECTS["put"]
    async with bench(kind, database_uri) as here, here.strict() as counted:
        id_ = await here.thread()
        await counted.aget_tuple(config_of(id_))
        _, steps = await here.attempt(counted, subject, id_)
        after = await subject.look(here.direct, here.tables, id_)
        cases = [(at, fault) for at, fault in product(steps, FAULTS) if fault != "delay"]
        for at, fault in _sample(cases, 0):
            id_ = await here.thread()
            async with here.strict() as saver:
                await saver.aget_tuple(config_of(id_))
                outcome, _ = await here.attempt(saver, subject, id_, fault, at)
            if "connection" in kind:
                assert isinstance(outcome, ConnectionLostError), at
                async with here.strict() as saver:
                    # Whether this run has read what is latest since, or not.
                    if fault == "reset":
                        await saver.aget_tuple(config_of(id_, "h"))
                    outcome = await subject.call(saver, id_)
            assert not isinstance(outcome, EventLogError), f"{fault} at {at}: {outcome!r}"
            assert await subject.look(here.direct, here.tables, id_) == after, f"{fault} at {at}"


class ImpatientConnection(psycopg.Connection[Any]):
    """Raises as soon as its socket has an error, before libpq reads it, as psycopg does where a reset is that fast."""

    is_impatient = False

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        if self.is_impatient:
            next(gen)  # The command is sent.
            poll = select.poll()
            poll.register(self.pgconn.socket, 0)
            assert poll.poll(60_000)
            raise psycopg.OperationalError("connection socket closed")
        return super().wait(gen, *args, **options)


def test_a_users_connection_is_closed_after_its_socket_had_an_error(database_uri: str) -> None:
    """psycopg may raise before it has noticed: without a look, the user's next command is "already in progress"."""
    with Proxy(database_uri) as proxy, ImpatientConnection.connect(proxy.uri, **CONNECT) as conn:
        saver = EventLogSaver(conn)
        assert saver.get_tuple(config_of()) is None
        proxy.follow("reset", Step("server", 0, "2"))
        conn.is_impatient = True
        with pytest.raises(ConnectionLostError, match="pool"):
            saver.get_tuple(config_of())
        assert conn.closed
