"""Events that a projection cannot apply are set aside with its cursor, and applied again when they are asked for."""

from __future__ import annotations

import asyncio
import logging
import re
from hashlib import sha256
from typing import Any

import psycopg
import pytest

from eventlog.errors import InvalidInputError, LogBusyError, ProjectionError
from langgraph.checkpoint.eventlog import Retried
from langgraph.checkpoint.eventlog.following import project
from projections.projector import Projector
from projections.usage import Usage
from tests.cli.command import clean_environment, documents, eventlog
from tests.database.test_rights import as_role, role
from tests.feed.test_custom_projections import grow, seen, view
from tests.feed.views import AsyncSeen, Seen
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import Tables, config_of, put
from tests.support.pooler import direct

__all__ = ["clean_environment", "role"]  # fixtures

pytestmark = pytest.mark.portable


def damage(uri: str, thread_id: str, seq: int) -> None:
    with psycopg.connect(direct(uri), autocommit=True) as conn:
        conn.execute("set session_replication_role = replica")
        where = "where thread_id = %s and seq = %s"
        conn.execute(f"update eventlog.events set body = '\\x01c1' {where}", (thread_id, seq))


async def test_a_failing_event_is_set_aside_and_applied_again(
    saver: Any, kind: str, database_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """On every kind of connection: what it had changed is undone, the others are applied, each once."""
    await grow(saver, "1", "a", "b", "c")
    applied: list[Any] = []
    with caplog.at_level(logging.WARNING, "eventlog"):
        counts = await saver.log.project(
            view(kind, fail_at=5), on_error="set_aside", on_batch=lambda _, done: applied.append(done)
        )
    assert counts == {"seen": 5}
    assert sum(each.set_aside for each in applied) == 1
    others = [f"1//{seq}" for seq in (1, 2, 3, 4, 6)]
    assert seen(database_uri) == others
    (aside,) = await saver.log.set_aside_events("seen")
    assert aside[:4] == ("seen", "1", "", 5)
    assert not aside.is_replay
    assert "ValueError: not this one" in aside.error
    events = [event async for event in saver.log.tail()]
    assert aside.cursor == events[4].cursor
    (record,) = [each for each in caplog.records if each.message.startswith("eventlog.projection_set_aside")]
    assert "thread_id='1'" in record.message
    assert "not this one" in record.message
    (state,) = await saver.log.projections()
    assert (state.events, state.set_aside) == (5, 1)
    assert (await saver.log.lag(state.cursor)).waiting == 0

    # It fails again, and stays; then it is applied, once.
    assert await saver.log.retry_set_aside(view(kind, fail_at=5)) == {"seen": Retried(0, 1, 0)}
    assert seen(database_uri) == others
    (again,) = await saver.log.set_aside_events()
    assert again.set_aside_at > aside.set_aside_at
    assert again.cursor == aside.cursor
    assert await saver.log.retry_set_aside(view(kind)) == {"seen": Retried(1, 0, 0)}
    assert seen(database_uri) == [*others, "1//5"]
    assert await saver.log.set_aside_events() == []
    assert await saver.log.retry_set_aside(view(kind)) == {"seen": Retried()}
    assert (await saver.log.projections())[0].events == 6
    assert await saver.log.project(view(kind)) == {"seen": 0}


@POOLS
async def test_an_event_that_does_not_decode_is_set_aside_where_it_is_asked_for(
    saver: Any, kind: str, database_uri: str
) -> None:
    """Of a projection of the package too; repaired, it is applied."""
    await grow(saver, "1", "a", "b")
    tables = Tables(database_uri)
    body = tables.one("select body from {schema}.events where seq = 2")
    damage(database_uri, "1", 2)
    assert await saver.log.project([view(kind), Usage()], on_error="set_aside") == {"seen": 4, "usage": 3}
    (aside,) = await saver.log.set_aside_events()
    assert (aside.projection, aside.seq) == ("usage", 2)
    assert "does not decode" in aside.error
    assert await saver.log.retry_set_aside([view(kind), Usage()]) == {"seen": Retried(), "usage": Retried(0, 1, 0)}
    tables.replace_body("events", "1", 2, body)
    assert await saver.log.retry_set_aside(Usage()) == {"usage": Retried(1, 0, 0)}
    with psycopg.connect(database_uri) as conn:
        assert conn.execute("select sum(events) from eventlog_views.usage").fetchone() == (4,)


@POOLS
async def test_an_error_of_the_database_stops_usage_and_names_it(saver: Any, kind: str) -> None:
    """A run's id that no index can hold."""
    await grow(saver, "1", "a")
    run_id = "".join(sha256(bytes([number])).hexdigest() for number in range(200))
    await put(saver, config_of("2"), "b", {}, metadata={"run_id": run_id})
    events = [event async for event in saver.log.tail()]
    said = f"projection 'usage' failed between {events[0].cursor} and {events[-1].cursor} of the feed: ProgramLimit"
    with pytest.raises(ProjectionError, match=re.escape(said)):
        await saver.log.project(Usage(), on_error="set_aside")
    assert await saver.log.set_aside_events() == []


class Strict(Seen):
    """Fails in the database: the transaction is aborted, unless it goes back behind that."""

    name = "strict"

    def apply(self, conn: Any, events: Any) -> None:
        super().apply(conn, events)
        for event in events:
            if event.seq % 2 == 0:
                conn.execute("insert into seen (event) values (null)")


class AsyncStrict(AsyncSeen):
    name = "strict"

    async def apply(self, conn: Any, events: Any) -> None:
        await super().apply(conn, events)
        for event in events:
            if event.seq % 2 == 0:
                await conn.execute("insert into seen (event) values (null)")


async def test_errors_of_the_database_are_undone_to_before_the_event(saver: Any, kind: str, database_uri: str) -> None:
    await grow(saver, "1", "a", "b", "c")
    strict = Strict() if kind.startswith("sync") else AsyncStrict()
    assert await saver.log.project(strict, on_error="set_aside", batch_events=4) == {"strict": 3}
    assert seen(database_uri) == ["1//1", "1//3", "1//5"]
    asides = await saver.log.set_aside_events("strict")
    assert [each.seq for each in asides] == [2, 4, 6]
    assert all("NotNullViolation" in each.error for each in asides)


class Gone(Seen):
    """Its table is not there: no event is to blame."""

    name = "gone"

    def apply(self, conn: Any, events: Any) -> None:
        conn.execute("insert into no_such_table values (1)")


@pytest.mark.parametrize("kind", ["sync-pool"])
async def test_what_is_not_the_events_fault_stops_the_worker(
    saver: Any, kind: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing table; and more events aside than can be the events' fault."""
    await grow(saver, "1", "a", "b")
    with pytest.raises(ProjectionError, match=r"(?s)no_such_table.*restored without its view, rebuild"):
        await saver.log.project(Gone(), on_error="set_aside")
    assert await saver.log.set_aside_events() == []
    monkeypatch.setattr("projections.projector.MOST_SET_ASIDE", 1)
    with pytest.raises(ProjectionError, match="has set aside 1 events, and would set aside more"):
        await saver.log.project(Strict(), on_error="set_aside")
    assert await saver.log.set_aside_events() == []
    with pytest.raises(InvalidInputError, match="on_error must be 'stop' or 'set_aside'"):
        await saver.log.project(view(kind), on_error="skip")
    with pytest.raises(InvalidInputError, match='leave out on_undecodable="skip"'):
        await saver.log.project(view(kind), on_error="set_aside", on_undecodable="skip")
    with pytest.raises(InvalidInputError, match="limit"):
        await saver.log.set_aside_events(limit=0)


class Away(Seen):
    """Its own service does not answer."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def apply(self, conn: Any, events: Any) -> None:
        raise self.error


@pytest.mark.parametrize("kind", ["sync-pool"])
@pytest.mark.parametrize(
    "error", [ConnectionRefusedError("refused"), TimeoutError("late"), asyncio.TimeoutError("late")]
)
async def test_a_service_that_does_not_answer_stops_the_worker(saver: Any, kind: str, error: Exception) -> None:
    await grow(saver, "1", "a")
    with pytest.raises(ProjectionError, match=str(error)):
        await saver.log.project(Away(error), on_error="set_aside")
    assert await saver.log.set_aside_events() == []


@pytest.mark.parametrize("kind", ["sync-pool"])
@pytest.mark.parametrize("times", [2, 10])
async def test_retrying_gives_way_to_an_erasure_and_keeps_its_tally(
    saver: Any, kind: str, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """An event that goes between the page and a look at it: read again, and an error after ten times in a row."""
    monkeypatch.setattr(project, "RETRIED", 1)
    monkeypatch.setattr(project, "STANDBY_SECONDS", 0.01)
    await grow(saver, "1", "a")
    await grow(saver, "2", "a")
    await saver.log.project(view(kind, fail_at=2), on_error="set_aside")
    events, calls = Projector.events, []

    def busy(self: Projector, stored: Any, *args: Any) -> Any:
        calls.append(stored)
        if 2 <= len(calls) < 2 + times:
            raise LogBusyError("events of thread '2' were erased during the read: run it again")
        return events(self, stored, *args)

    monkeypatch.setattr(Projector, "events", busy)
    if times == 2:
        assert await saver.log.retry_set_aside(view(kind)) == {"seen": Retried(2, 0, 0)}
    else:
        with pytest.raises(LogBusyError):
            await saver.log.retry_set_aside(view(kind))
        assert [each.thread_id for each in await saver.log.set_aside_events()] == ["2"]


class Once(Seen):
    """Leaves out what it has seen before it was relocated."""

    def apply(self, conn: Any, events: Any) -> None:
        super().apply(conn, [event for event in events if not event.is_replay])


class AsyncOnce(AsyncSeen):
    async def apply(self, conn: Any, events: Any) -> None:
        await super().apply(conn, [event for event in events if not event.is_replay])


@POOLS
async def test_what_is_erased_is_not_aside_any_more(saver: Any, kind: str, database_uri: str) -> None:
    """When the projection comes to the erasure, or when the event is to be applied again; a relocated one is found."""

    def view(kind: str, **options: Any) -> Seen:
        return Once(**options) if kind.startswith("sync") else AsyncOnce(**options)

    for thread_id in ("1", "2"):
        await grow(saver, thread_id, "a", "b", "c")
    assert await saver.log.project(view(kind, fail_at=5), on_error="set_aside") == {"seen": 10}
    await saver.log.delete_thread("1")
    assert await saver.log.retry_set_aside(view(kind, fail_at=5)) == {"seen": Retried(0, 1, 1)}
    assert [each.thread_id for each in await saver.log.set_aside_events()] == ["2"]

    # The fifth event of '2' is relocated, as the state that it is a difference from goes.
    await saver.log.prune(["2"])
    assert await saver.log.project(view(kind), on_error="set_aside") != {"seen": 0}
    (aside,) = await saver.log.set_aside_events()
    assert not aside.is_replay
    (event,) = [each async for each in saver.log.tail() if (each.thread_id, each.seq) == ("2", 5)]
    assert event.is_replay
    assert "2//5" not in seen(database_uri)
    assert await saver.log.retry_set_aside(view(kind)) == {"seen": Retried(1, 0, 0)}
    assert seen(database_uri).count("2//5") == 1

    await grow(saver, "3", "a", "b", "c")
    await saver.log.project(view(kind, fail_at=5), on_error="set_aside")
    assert [each.thread_id for each in await saver.log.set_aside_events()] == ["3"]
    await saver.log.delete_thread("3")
    await saver.log.project(view(kind), on_error="set_aside")
    assert await saver.log.set_aside_events() == []
    assert Tables(database_uri).rows("select * from {schema}.set_aside") == []


@POOLS
async def test_a_rebuilt_or_forgotten_projection_has_nothing_aside(saver: Any, kind: str) -> None:
    await grow(saver, "1", "a", "b", "c")
    for end in (saver.log.rebuild_projection, lambda each: saver.log.forget_projection(each.name)):
        await saver.log.project(view(kind, fail_at=5), on_error="set_aside")
        assert len(await saver.log.set_aside_events("seen")) == 1
        await end(view(kind))
        assert await saver.log.set_aside_events("seen") == []


@pytest.mark.parametrize("kind", ["sync-pool"])
async def test_a_projector_may_set_aside_and_take_back(saver: Any, kind: str, database_uri: str, role: str) -> None:
    await grow(saver, "1", "a", "b", "c")
    await saver.log.grant("projector", role)
    with psycopg.connect(database_uri, autocommit=True) as admin:
        admin.execute(f'grant create on schema public to "{role}"')  # type: ignore[arg-type]
    async with open_saver(kind, as_role(database_uri, role)) as worker:
        assert await worker.log.project(view(kind, fail_at=5), on_error="set_aside") == {"seen": 5}
        assert len(await worker.log.set_aside_events()) == 1
        assert await worker.log.retry_set_aside(view(kind)) == {"seen": Retried(1, 0, 0)}
    with psycopg.connect(database_uri, autocommit=True) as admin:
        admin.execute(f'drop owned by "{role}"')  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["sync-pool"])
async def test_a_view_that_is_not_there_is_named(saver: Any, kind: str, database_uri: str) -> None:
    """As after a restore of the log's schema alone: also where no event waits, and nothing would fail."""
    await grow(saver, "1", "a")
    assert await saver.log.project(Usage()) == {"usage": 2}
    with psycopg.connect(database_uri) as conn:
        conn.execute("drop table eventlog_views.usage")
    for method in (saver.log.project, saver.log.retry_set_aside):
        with pytest.raises(ProjectionError, match=r"applied 2 events.*no table eventlog_views\.usage\..*rebuild"):
            await method(Usage())
    done = eventlog(database_uri, "project", "run", "usage", "--once")
    assert done.exit_code == 1
    assert "eventlog project rebuild" in done.stderr
    assert eventlog(database_uri, "project", "rebuild", "usage").exit_code == 0
    with psycopg.connect(database_uri) as conn:
        assert conn.execute("select sum(events) from eventlog_views.usage").fetchone() == (2,)


@pytest.mark.parametrize("kind", ["sync-pool"])
async def test_an_empty_view_of_a_restored_log_is_warned_of(
    saver: Any, kind: str, database_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    await grow(saver, "1", "a")
    await saver.log.project(Usage())
    with psycopg.connect(direct(database_uri)) as conn:
        conn.execute("truncate eventlog_views.usage, eventlog_views.usage_messages")
        # A restored row has another xmin.
        conn.execute("update eventlog.generations set after_xid = after_xid")
    with caplog.at_level(logging.WARNING, "eventlog"):
        await saver.log.project(Usage())
        await saver.log.project(Usage())
    assert [each.event for each in caplog.records].count("eventlog.projection_view_empty") == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["sync-pool"])
async def test_the_command_sets_aside_lists_and_retries(saver: Any, kind: str, database_uri: str) -> None:
    await saver.aput_writes(config_of("1\n=x", "a"), [("y", 1)], "task")
    await grow(saver, "2", "a")
    tables = Tables(database_uri)
    body = tables.one("select body from {schema}.events where thread_id = '2' and seq = 2")
    damage(database_uri, "2", 2)
    assert eventlog(database_uri, "project", "run", "usage", "--once").exit_code == 1
    both = eventlog(database_uri, "project", "run", "usage", "--once", "--set-aside", "--skip-undecodable")
    assert (both.exit_code, "leave out --skip-undecodable" in both.stderr) == (2, True)
    done = eventlog(database_uri, "project", "run", "usage", "--once", "--set-aside")
    assert done.exit_code == 0, done.stderr
    assert "Set aside 1 event of usage: 'eventlog project set-aside usage' lists them." in done.stderr
    (listed,) = documents(eventlog(database_uri, "project", "list", "--json"))
    assert (listed["events"], listed["set_aside"]) == (2, 1)
    (aside,) = documents(eventlog(database_uri, "project", "set-aside", "--json"))
    assert (aside["projection"], aside["thread_id"], aside["seq"]) == ("usage", "2", 2)
    assert "does not decode" in eventlog(database_uri, "project", "set-aside", "usage").stdout
    assert "No events were set aside" in eventlog(database_uri, "project", "set-aside", "other").stderr

    assert eventlog(database_uri, "project", "rebuild", "usage").exit_code == 1
    assert documents(eventlog(database_uri, "project", "set-aside", "--json")) == []
    done = eventlog(database_uri, "project", "rebuild", "usage", "--set-aside")
    assert done.exit_code == 0, done.stderr
    assert "Set aside 1 event of usage" in done.stderr

    done = eventlog(database_uri, "project", "retry", "usage")
    assert done.exit_code == 1
    assert "1 failed again" in done.stdout
    tables.replace_body("events", "2", 2, body)
    assert documents(eventlog(database_uri, "project", "retry", "usage", "--json")) == [
        {"projection": "usage", "applied": 1, "failed": 0, "gone": 0}
    ]
