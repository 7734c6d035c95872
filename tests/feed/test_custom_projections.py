"""Custom projections: each event once, in the view and in the cursor alike, whatever happens to the worker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from typing import Any

import psycopg
import pytest

from eventlog.errors import (
    InvalidInputError,
    LogBusyError,
    LogCorruptedError,
    MissingGrantError,
    ProjectionChangedError,
    ProjectionError,
)
from eventlog.events import Kind
from projections.usage import Usage
from tests.cli.command import MODULE, documents, eventlog
from tests.database.test_rights import as_role, role
from tests.feed.views import AsyncSeen, Point, Seen
from tests.support.adapters import KINDS, POOLS, open_saver
from tests.support.checkpoints import TEXTS, Tables, config_of, put

__all__ = ["role"]  # a fixture


def view(kind: str, **options: Any) -> Seen:
    return Seen(**options) if kind.startswith("sync") else AsyncSeen(**options)


def seen(uri: str) -> list[str]:
    with psycopg.connect(uri) as conn:
        return [event.rsplit("/", 1)[0] for (event,) in conn.execute("select event from seen order by number")]


async def grow(saver: Any, thread_id: str, *ids: str, ns: str = "") -> None:
    config = config_of(thread_id, ns=ns)
    for id_ in ids:
        config = await put(saver, config, id_, {"x": [*TEXTS, id_]}, metadata={"run_id": "r", "source": "loop"})
        await saver.aput_writes(config, [("x", [id_])], f"task of {id_}")


# --- what it promises


async def test_each_event_is_applied_once(saver: Any, kind: str, database_uri: str) -> None:
    """On every kind of connection, in batches of any size, from where it stopped."""
    await grow(saver, "1", "a", "b", "c")
    assert await saver.log.project(view(kind), batch_events=4) == {"seen": 6}
    assert seen(database_uri) == [f"1//{seq}" for seq in range(1, 7)]
    assert await saver.log.project([view(kind)]) == {"seen": 0}
    await grow(saver, "2", "a", ns="sub")
    assert await saver.log.project(view(kind)) == {"seen": 2}
    assert seen(database_uri)[6:] == ["2/sub/1", "2/sub/2"]
    (state,) = await saver.log.projections()
    assert (state.name, state.version, state.events) == ("seen", 1, 8)
    assert state.source.endswith("Seen")
    assert state.caught_up_at is not None
    assert (await saver.log.lag(state.cursor)).waiting == 0


@POOLS
async def test_a_projection_of_an_empty_log_is_set_up_and_complete(saver: Any, kind: str, database_uri: str) -> None:
    """There is a view, and it is complete."""
    assert await saver.log.project(view(kind)) == {"seen": 0}
    assert seen(database_uri) == []
    (state,) = await saver.log.projections()
    assert state.caught_up_at is not None


@POOLS
async def test_a_failed_batch_keeps_view_and_cursor_together(saver: Any, kind: str, database_uri: str) -> None:
    """Says which projection and where; view and cursor stay together, and the next worker goes on from there."""
    await grow(saver, "1", "a", "b", "c")
    with pytest.raises(ProjectionError, match=r"'seen' failed between \S+ and \S+ of the feed: ValueError: not this"):
        await saver.log.project(view(kind, fail_at=5), batch_events=2)
    assert seen(database_uri) == [f"1//{seq}" for seq in range(1, 5)]
    (state,) = await saver.log.projections()
    assert (state.events, state.caught_up_at) == (4, None)
    assert await saver.log.project(view(kind), batch_events=2) == {"seen": 2}
    assert seen(database_uri) == [f"1//{seq}" for seq in range(1, 7)]


@POOLS
async def test_a_failed_setup_registers_no_projection(saver: Any, kind: str, database_uri: str) -> None:
    broken = view(kind)
    broken.setup = view(kind, version=1).apply  # type: ignore[method-assign] -- wants two arguments
    with pytest.raises(ProjectionError, match="'seen' failed to set up its view: TypeError"):
        await saver.log.project(broken)
    assert await saver.log.projections() == []


@POOLS
async def test_the_worker_stops_at_an_event_that_does_not_decode(saver: Any, kind: str, database_uri: str) -> None:
    """Is not skipped: the worker stops there, and says where it is."""
    await grow(saver, "1", "a", "b")
    with psycopg.connect(database_uri) as conn:
        conn.execute("set session_replication_role = replica")
        conn.execute("update eventlog.events set body = '\\x01ff' where seq = 3")
    usage = Usage()
    with pytest.raises(LogCorruptedError, match="event 3 of thread '1'"):
        await saver.log.project(usage, batch_events=1)
    (state,) = await saver.log.projections()
    assert state.events == 2


@POOLS
async def test_another_version_is_refused_until_a_rebuild(saver: Any, kind: str, database_uri: str) -> None:
    """Refuses to go on, in both directions, until it is rebuilt."""
    await grow(saver, "1", "a")
    await saver.log.project(view(kind))
    await grow(saver, "2", "a")
    with pytest.raises(ProjectionChangedError, match="version 1 in the database and 2 in the code"):
        await saver.log.project(view(kind, version=2))
    assert len(seen(database_uri)) == 2
    await saver.log.rebuild_projection(view(kind, version=2))
    assert seen(database_uri) == []
    assert (await saver.log.projections())[0].caught_up_at is None
    assert await saver.log.project(view(kind, version=2)) == {"seen": 4}
    with pytest.raises(ProjectionChangedError):
        await saver.log.project(view(kind, version=1))


@POOLS
async def test_a_name_taken_by_another_class_is_refused_until_a_rebuild(saver: Any, kind: str) -> None:
    class Other(type(view(kind))):  # type: ignore[misc]
        pass

    await saver.log.project(view(kind))
    with pytest.raises(ProjectionChangedError, match=r"set up by tests\.feed\.views:"):
        await saver.log.project(Other())
    await saver.log.rebuild_projection(Other())
    await saver.log.project(Other())


@pytest.mark.portable
@POOLS
async def test_a_forgotten_projection_leaves_its_view(saver: Any, kind: str, database_uri: str) -> None:
    await grow(saver, "1", "a")
    await saver.log.project(view(kind))
    await saver.log.forget_projection("seen")
    assert await saver.log.projections() == []
    assert len(seen(database_uri)) == 2
    with pytest.raises(InvalidInputError, match="no projection 'seen'"):
        await saver.log.forget_projection("seen")


# --- several workers


@POOLS
async def test_several_workers_apply_each_event_once(saver: Any, kind: str, database_uri: str) -> None:
    """One applies, the others stand by: nothing is applied twice, in any order."""
    standbys: list[str] = []
    await grow(saver, "1", *(f"c{number:02}" for number in range(30)))

    def tell(name: str, applied: Any) -> None:
        if applied.is_standby:
            standbys.append(name)

    async def work() -> int:
        async with open_saver(kind, database_uri) as own:
            return (await own.log.project(view(kind), batch_events=3, on_batch=tell))["seen"]

    counts = await asyncio.gather(*(work() for _ in range(4)))
    assert sum(counts) == 60
    assert seen(database_uri) == [f"1//{seq}" for seq in range(1, 61)]


@POOLS
async def test_a_standby_worker_waits_without_a_lock_and_takes_over(saver: Any, kind: str, database_uri: str) -> None:
    """While another's batch is under way nothing is waited for in the database, and then it goes on."""
    await saver.log.project(view(kind))
    await grow(saver, "1", "a")
    told: list[bool] = []
    with psycopg.connect(database_uri) as other:
        other.execute("select 1 from eventlog.projections where name = 'seen' for update")
        worker = asyncio.ensure_future(
            saver.log.project(view(kind), on_batch=lambda _, done: told.append(done.is_standby))
        )
        while told.count(True) < 2:
            await asyncio.sleep(0.01)
        assert seen(database_uri) == []
    assert await worker == {"seen": 2}


@POOLS
async def test_following_applies_events_as_they_come_until_stopped(saver: Any, kind: str, database_uri: str) -> None:
    """Goes on as events come, and ends when it is told to."""

    class Enough(Exception):
        pass

    applied = 0

    def tell(_: str, done: Any) -> None:
        nonlocal applied
        applied += done.events
        if applied >= 4:
            raise Enough

    async with open_saver(kind, database_uri) as own:
        worker = asyncio.ensure_future(own.log.project(view(kind), follow=True, poll_interval=0.01, on_batch=tell))
        await grow(saver, "1", "a")
        await grow(saver, "2", "a")
        with pytest.raises(Enough):
            await worker
    assert len(seen(database_uri)) == 4


async def test_a_killed_worker_leaves_each_event_applied_once(database_uri: str) -> None:
    """kill -9 at any time: the view has each event once, in order, and another worker goes on."""
    await _fill(database_uri, 60)
    run = [*MODULE, "project", "run", "tests.feed.views:Slow", "--batch", "2"]
    environment = {**os.environ, "EVENTLOG_DSN": database_uri}
    killed_at = []
    for _ in range(3):
        worker = subprocess.Popen([*run, "--once"], env=environment, stderr=subprocess.PIPE)
        before = killed_at[-1] if killed_at else 0
        deadline = time.monotonic() + 240
        while _count(database_uri) < before + 10 and time.monotonic() < deadline:
            assert worker.poll() is None, worker.stderr and worker.stderr.read()
            time.sleep(0.005)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert worker.stderr is not None
        worker.stderr.close()
        killed_at.append(_count(database_uri))
        state = documents(eventlog(database_uri, "project", "list", "--json"))[0]
        assert state["events"] == killed_at[-1]
    assert 0 < killed_at[0] < killed_at[1] < killed_at[2] < 120, killed_at
    done = subprocess.run([*run, "--once"], env=environment, check=True, capture_output=True, text=True)
    assert f"Applied {120 - killed_at[-1]} events to seen" in done.stdout
    assert seen(database_uri) == [f"1//{seq}" for seq in range(1, 121)]


async def _fill(uri: str, checkpoints: int) -> None:
    async with open_saver("sync-pool", uri) as saver:
        await grow(saver, "1", *(f"c{number:03}" for number in range(checkpoints)))


def _count(uri: str) -> int:
    with psycopg.connect(uri) as conn:
        if conn.execute("select to_regclass('seen')").fetchone() == (None,):
            return 0
        (count,) = conn.execute("select count(*) from seen").fetchone() or (0,)
        return int(count)


# --- bad input


@POOLS
@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": "Usage"}, "must be a lower case letter"),
        ({"name": "a" * 64}, "at most 63"),
        ({"name": 1}, "must be a lower case letter"),
        ({"version": 0}, "an int from 1, not 0"),
        ({"version": "1"}, "an int from 1, not '1'"),
        ({"version": True}, "an int from 1, not True"),
    ],
)
async def test_projections_with_bad_attributes_are_refused(
    saver: Any, kind: str, change: dict[str, Any], match: str
) -> None:
    bad = view(kind)
    for name, value in change.items():
        setattr(bad, name, value)
    with pytest.raises(InvalidInputError, match=match):
        await saver.log.project(bad)
    assert await saver.log.projections() == []


@POOLS
async def test_bad_arguments_are_refused(saver: Any, kind: str) -> None:
    good = view(kind)
    other = view("async" if kind.startswith("sync") else "sync")
    for projections, match in (
        (type(good), r"not the class: \w+\(\)"),
        (object(), "object is not a projection: it has no 'name'"),
        (other, "must be 'async def' for AsyncEventLogSaver"),
        ([good, view(kind)], "two projections have the name 'seen'"),
        ([], "give at least one"),
    ):
        with pytest.raises(InvalidInputError, match=match):
            await saver.log.project(projections)
    for options in ({"batch_events": 0}, {"batch_events": "1"}, {"poll_interval": 0}, {"poll_interval": "1"}):
        with pytest.raises(InvalidInputError, match=r"batch_events|poll_interval"):
            await saver.log.project(good, **options)
    with pytest.raises(InvalidInputError, match="name must be a str"):
        await saver.log.forget_projection(1)
    assert await saver.log.projections() == []


@pytest.mark.parametrize("kind", KINDS[:1])
async def test_the_command_runs_lists_rebuilds_and_forgets_projections(database_uri: str, kind: str) -> None:
    """Runs, lists, rebuilds and forgets; what cannot be imported is a usage error."""
    await _fill(database_uri, 3)
    assert "No projections" in eventlog(database_uri, "project", "list").stderr
    done = eventlog(database_uri, "project", "run", "usage", "tests.feed.views:Seen", "--once")
    assert done.exit_code == 0, done.stderr
    assert "Applied 6 events to usage" in done.stdout
    listed = documents(eventlog(database_uri, "project", "list", "--json"))
    assert [(each["name"], each["events"], each["waiting"]) for each in listed] == [("seen", 6, 0), ("usage", 6, 0)]
    assert "usage" in eventlog(database_uri, "project", "list").stdout
    rebuilt = documents(eventlog(database_uri, "project", "rebuild", "usage", "--json"))
    assert sum(each["events"] for each in rebuilt) == 6
    assert eventlog(database_uri, "project", "forget", "seen").stdout == "Forgot seen.\n"
    for target in (
        "nothing",
        "tests.feed.views",
        "tests.feed.views:Nothing",
        "no.such.module:Class",
        "tests.feed.views:SCHEMA",
    ):
        done = eventlog(database_uri, "project", "run", target, "--once")
        assert (done.exit_code, done.stdout) == (2, ""), done.stderr
        assert done.stderr.startswith("Error: ")
    done = eventlog(database_uri, "project", "run", "usage", "usage", "--once")
    assert done.exit_code == 2
    assert "two projections have the name 'usage'" in done.stderr


# --- rights


@POOLS
async def test_a_worker_needs_the_projectors_set_alone(saver: Any, kind: str, database_uri: str, role: str) -> None:
    """Also for writes that are differences from a snapshot. Its tables are its own, and not in the log's schema."""
    config = await put(saver, config_of("1"), "a", {"x": TEXTS})
    for number in range(20):
        config = await put(saver, config, f"b{number:02}", {"x": [*TEXTS, "y" * 9000, number]})
    await saver.aput_writes(config, [("x", [*TEXTS, "y" * 9000, 1])], "task")
    assert Tables(database_uri).one("select count(*) from {schema}.snapshots") > 0
    usage = Usage()
    async with open_saver(kind, as_role(database_uri, role)) as worker:
        with pytest.raises(MissingGrantError, match="eventlog grant projector"):
            await worker.log.project(usage)
        await saver.log.grant("projector", role)
        assert await worker.log.project(usage) == {"usage": 22}
        with pytest.raises(MissingGrantError):
            await put(worker, config_of("2"), "a")
    owner = Tables(database_uri).one(
        "select relowner::regrole::text from pg_class where oid = 'eventlog_views.usage'::regclass"
    )
    assert owner.strip('"') == role


# --- what an event says


async def test_events_of_a_tail_decode_to_metadata_writes_and_records(saver: Any, database_uri: str) -> None:
    """Opened one by one: metadata, writes (also those that are stored as differences), what an operation recorded."""
    config = await put(saver, config_of("1"), "a", {"x": TEXTS}, metadata={"run_id": "r", "source": "loop", "step": 3})
    config = await put(saver, config, "b", {"x": [*TEXTS, 1], "y": 2}, metadata={"run_id": "r"})
    await saver.aput_writes(config, [("x", [*TEXTS, 2]), ("y", {"n": 1}), ("__pregel_tasks", [*TEXTS, 3])], "t", "~p")
    await saver.adelete_thread("2")
    await saver.log.copy_thread("1", "3", actor="ada")
    first, second, writes, *_, record = [await saver.log.decode(event) async for event in saver.log.tail()]
    assert (first.kind, first.parent_id, first.run_id) == (Kind.CHECKPOINT_SAVED, None, "r")
    assert first.metadata == {"run_id": "r", "source": "loop", "step": 3}
    assert (second.parent_id, set(second.changed), second.writes, second.task_id) == ("a", {"x", "y"}, [], None)
    assert (writes.task_id, writes.task_path, writes.metadata, writes.parent_id) == ("t", "~p", {}, None)
    assert [tuple(each) for each in writes.writes] == [(0, "x", [*TEXTS, 2]), (1, "y", {"n": 1})]
    assert record.kind == Kind.COPIED
    assert record.operation is not None
    assert (record.operation["actor"], record.operation["source"], record.operation["events"]) == ("ada", "1", 3)
    assert (record.stream, record.stored_bytes > 0) == (("3", ""), True)
    assert "COPIED 4 of thread '3'" in repr(record)
    with pytest.raises(InvalidInputError, match="must be a StoredEvent"):
        await saver.log.decode("1-2-3")


@POOLS
async def test_decoding_writes_with_an_erased_base_asks_for_a_retry(saver: Any, database_uri: str) -> None:
    """Between reading an event and asking what it says, its base may be erased."""
    config = await put(saver, config_of("1"), "a", {"x": TEXTS})
    await saver.aput_writes(config, [("x", [*TEXTS, 2])], "t")
    _, writes = [event async for event in saver.log.tail()]
    await saver.adelete_thread("1")
    with pytest.raises(LogBusyError, match="thread '1' were erased during the read: run it again"):
        await saver.log.decode(writes)


async def test_the_command_loads_only_the_types_that_are_allowed(database_uri: str) -> None:
    """Of a worker's own only those that it is told to: a writer of the log must not run code in it."""
    await _fill_with_views(database_uri)

    def kinds(*options: str) -> list[str]:
        done = eventlog(database_uri, "project", "rebuild", "tests.feed.views:Kinds", *options)
        assert done.exit_code == 0, done.stderr
        with psycopg.connect(database_uri) as conn:
            return [kind for (kind,) in conn.execute("select kind from kinds")]

    assert kinds() == ["dict"]
    assert kinds("--allow", "tests.feed.views:Point") == ["Point"]
    assert kinds("--trust") == ["Point"]
    done = eventlog(database_uri, "project", "rebuild", "tests.feed.views:Kinds", "--allow", "Point")
    assert (done.exit_code, done.stdout) == (2, "")


async def _fill_with_views(uri: str) -> None:
    async with open_saver("sync-pool", uri) as saver:
        config = await put(saver, config_of("1"), "a", {})
        await saver.aput_writes(config, [("p", Point(1, 2))], "t")
