"""Verifying the log: what was erased is told apart from what was taken out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from eventlog.errors import InvalidInputError, ThreadNotFoundError
from langgraph.checkpoint.eventlog.integrity import chain, verify, verify_streams
from langgraph.checkpoint.eventlog.integrity.chain import Problem
from tests.support.adapters import open_saver
from tests.support.aging import DAY, TEXTS, Log, log
from tests.support.checkpoints import Tables, config_of, put
from tests.support.pooler import direct

__all__ = ["log"]  # a fixture

pytestmark = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])


class LogUnderTest:
    """A log in which everything was done that can be done to threads."""

    def __init__(self, uri: str, saver: Any) -> None:
        self.uri, self.saver, self.tables = uri, saver, Tables(uri)

    def tamper(self, statement: str, *params: Any) -> None:
        """As a superuser does: the triggers are off."""
        with psycopg.connect(self.uri) as conn:
            conn.execute("set session_replication_role = replica")
            assert conn.execute(sql.SQL(statement), params).rowcount > 0  # type: ignore[arg-type]

    async def problems(self, thread_id: str | None = None) -> list[tuple[int, str]]:
        """Of the log: projections that do not know of it disagree, of course."""
        found = await self.saver.log.verify(None if thread_id is None else [thread_id])
        assert found.found == len(found.problems)
        return [
            (each.seq, each.what.split(":")[0].split(",")[0])
            for each in found.problems
            if "disagrees with the log" not in each.what
        ]


@pytest.fixture
async def world(kind: str, database_uri: str) -> AsyncIterator[LogUnderTest]:
    async with open_saver(kind, database_uri, snapshot_floor_bytes=4000) as saver:
        for thread_id in ("plain", "pruned", "deleted", "twice"):
            for ns in ("", "kept"):
                config = config_of(thread_id, ns=ns)
                for number in range(6):
                    config = await put(saver, config, f"c{number}", {"x": [*TEXTS, number]}, metadata={"run_id": "r"})
                    await saver.aput_writes(config, [("x", [*TEXTS, number])], "task")
        await saver.log.prune(["pruned", "twice"], keep_last=3)
        await saver.log.prune(["twice"], keep_last=2)
        await saver.acopy_thread("twice", "copied")
        await saver.adelete_thread("deleted")
        await put(saver, config_of("deleted"), "d1", {"x": 1})
        yield LogUnderTest(database_uri, saver)


async def test_an_untampered_log_has_no_problems(world: LogUnderTest) -> None:
    """Nothing to say, whatever was erased and copied."""
    found = await world.saver.log.verify()
    assert found.problems == []
    assert found.streams == world.tables.one("select count(*) from {schema}.streams")
    assert found.events == world.tables.events()
    assert (await world.saver.log.verify(["plain"])).streams == 2


async def test_unknown_threads_are_refused_before_anything_is_verified(
    world: LogUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are named before anything is verified; what left any trace is one that is verified."""
    told: list[Any] = []
    monkeypatch.setattr(verify, "PAGE", 1)
    with pytest.raises(ThreadNotFoundError, match="'no such thread'"):
        await world.saver.log.verify(["plain", "no such thread"], on_stream=lambda *each: told.append(each))
    assert told == []
    await world.saver.log.seal()
    for table in ("events", "streams", "checkpoints", "snapshots"):
        assert table == "events" or (await world.saver.log.verify(["plain"])).found
        world.tamper(f"delete from eventlog.{table} where thread_id = 'plain'")
    with pytest.raises(ThreadNotFoundError, match="'plain'"):
        await world.saver.log.verify(["plain"])
    assert [what for _, what in await world.problems()] == ["missing", "missing"]


async def test_a_log_verifies_after_retention(log: Log) -> None:
    """And whatever is void, or went with its partition."""
    for thread_id in ("1", "2", "3"):
        await log.grow(thread_id, "c1", "c2", "c3", days=3)
    await log.saver.adelete_thread("3")
    for days in (20, 10, 5, 1):
        await log.saver.log.retain(days * DAY)
        assert (await log.saver.log.verify()).problems == []
        await log.grow("1", f"d{days}", days=4)
    await log.saver.log.retain(DAY, drop_idle=True)
    assert (await log.saver.log.verify()).problems == []


BODY = "decode('01', 'hex') || substr(body, 2, length(body) - 2) || decode('ff', 'hex')"
EVENT = "where thread_id = %s and checkpoint_ns = '' and seq = %s"


@pytest.mark.parametrize(
    ("thread_id", "seq", "change", "expected"),
    [
        ("plain", 5, f"set body = {BODY}", [(5, "altered")]),
        ("plain", 5, "set checkpoint_id = 'other'", [(5, "altered")]),
        ("plain", 5, "set kind = 2", [(5, "altered")]),
        ("plain", 5, "set base_seq = 1", [(5, "altered")]),
        ("plain", 1, "set base_seq = 0", [(1, "altered")]),
        ("plain", 5, "set base_seq = 0", [(5, "altered"), (5, "altered")]),
        ("pruned", 7, "set base_seq = 0", [(7, "altered")]),
        ("plain", 5, "set digest = sha256('x')", [(5, "altered"), (6, "altered")]),
        ("plain", 5, "set recorded_at = recorded_at + interval '1 microsecond'", [(5, "altered")]),
        ("plain", 12, "set digest = sha256('x')", [(12, "altered"), (12, "the last event is missing")]),
        # Relocated, and what came after it.
        ("pruned", 7, f"set body = {BODY}", [(7, "altered since it was relocated")]),
        (
            *("pruned", 7, "set as_of = as_of - interval '1 day'"),
            [(7, "altered"), (7, "altered since it was relocated"), (7, "reordered")],
        ),
        ("pruned", 7, "set first_at = first_at - interval '1 day'", [(7, "altered since it was relocated")]),
        ("pruned", 8, f"set body = {BODY}", [(8, "altered")]),
        # A record, and what it says.
        ("pruned", 13, "set as_of = recorded_at", [(13, "a record with another time than it says")]),
        ("pruned", 13, "set checkpoint_id = 'zzz'", [(13, "altered")]),
        ("copied", 5, f"set body = {BODY}", [(5, "altered"), (5, "a record that cannot be read")]),
    ],
)
async def test_an_altered_event_is_found(
    world: LogUnderTest, thread_id: str, seq: int, change: str, expected: list[Any]
) -> None:
    """Any of what makes an event."""
    Tables(world.uri).drop_checks()
    world.tamper(f"update eventlog.events {change} {EVENT}", thread_id, seq)
    found = await world.problems()
    assert sorted(found) == sorted(expected)
    assert await world.problems("twice") == []


@pytest.mark.parametrize(
    ("thread_id", "seq", "expected"),
    [
        ("plain", 1, [(1, "missing")]),
        ("plain", 5, [(5, "missing")]),
        ("plain", 12, [(12, "missing")]),
        ("pruned", 7, [(7, "missing")]),
        ("twice", 9, [(9, "missing")]),
        ("twice", 10, [(10, "missing")]),
    ],
)
async def test_a_removed_event_is_found(world: LogUnderTest, thread_id: str, seq: int, expected: list[Any]) -> None:
    """Of the chain, at its ends, and of what was relocated, once and again."""
    world.tamper(f"delete from eventlog.events {EVENT}", thread_id, seq)
    assert await world.problems() == expected


async def test_a_removed_operation_record_is_found(world: LogUnderTest) -> None:
    """Then no record accounts for what it erased."""
    world.tamper(f"delete from eventlog.events {EVENT}", "pruned", 13)
    found = [what for _, what in await world.problems()]
    assert found == ["missing", "inserted", "missing"]


@pytest.mark.parametrize(
    ("number", "later", "expected"),
    [
        ("seq", "1 second", [(5, "inserted")]),
        ("94 + seq", "0 seconds", [(99, "inserted")]),
    ],
)
async def test_an_inserted_event_is_found(world: LogUnderTest, number: str, later: str, expected: list[Any]) -> None:
    """A number twice, and one beyond the last."""
    world.tamper(
        "insert into eventlog.events"
        " (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq, state_digest, digest, body)"
        f" select thread_id, checkpoint_ns, {number}, recorded_at + interval '{later}', xid, kind, checkpoint_id,"
        f" base_seq, state_digest, digest, body from eventlog.events {EVENT}",
        "plain",
        5,
    )
    assert set(expected) <= set(await world.problems())


async def test_an_event_in_the_place_of_an_erased_one_is_found(world: LogUnderTest) -> None:
    """A number that a record says is gone: the event is not in the chain, nor was it relocated."""
    world.tamper(
        "insert into eventlog.events"
        " (thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, as_of, state_digest,"
        " origin_body_digest, digest, body)"
        " select thread_id, checkpoint_ns, 3, recorded_at, xid, kind, checkpoint_id, as_of, state_digest,"
        " origin_body_digest, digest, body"
        f" from eventlog.events {EVENT}",
        "pruned",
        7,
    )
    assert await world.problems() == [(3, "put back")]


async def test_an_altered_or_deleted_streams_row_is_found(world: LogUnderTest) -> None:
    world.tamper("update eventlog.streams set digest = sha256('x') where thread_id = 'plain' and checkpoint_ns = ''")
    world.tamper("update eventlog.streams set seq = seq + 1 where thread_id = 'pruned' and checkpoint_ns = ''")
    world.tamper("delete from eventlog.streams where thread_id = 'twice' and checkpoint_ns = 'kept'")
    found = await world.saver.log.verify()
    assert [each[:3] for each in found.problems] == [
        ("plain", "", 12),
        ("pruned", "", 14),
        ("twice", "kept", 0),
    ]


async def test_verifying_resumes_after_a_stream(world: LogUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page, told of each stream, and on from where a call stopped."""
    monkeypatch.setattr(verify, "PAGE", 2)
    world.tamper(f"update eventlog.events set body = {BODY} {EVENT}", "plain", 5)
    seen: list[tuple[str, str, list[Problem]]] = []
    whole = await world.saver.log.verify(on_stream=lambda *each: seen.append(each))
    assert [each[:2] for each in seen] == [
        (thread_id, ns) for thread_id in ("copied", "deleted", "plain", "pruned", "twice") for ns in ("", "kept")
    ]
    assert [problem for *_, problems in seen for problem in problems] == whole.problems
    rest = await world.saver.log.verify(after=("plain", ""))
    assert (rest.streams, rest.problems) == (5, [])


async def test_concurrent_appends_are_no_problem(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as writer, open_saver(kind, database_uri) as saver:
        stopped = False

        async def write() -> None:
            config = config_of()
            number = 0
            while not stopped:
                config = await put(writer, config, f"{number:05}", {"x": [*TEXTS, number]})
                number += 1
                if number % 20 == 0:
                    await writer.log.prune(["1"], keep_last=5)
                    await writer.log.seal()

        writing = asyncio.ensure_future(write())
        try:
            for _ in range(15):
                found = await saver.log.verify()
                assert found.problems == []
        finally:
            stopped = True
            await writing


async def test_bad_arguments_are_refused(world: LogUnderTest) -> None:
    for arguments in (
        {"thread_ids": "plain"},
        {"thread_ids": [None]},
        {"after": "plain"},
        {"workers": 0},
        {"seal": "abc"},
        {"seal": "1:"},
        {"seal": b"0" * 64},
        {"thread_ids": []},
        {"after": ("plain",)},
        {"after": ("plain", None)},
        {"after": ("pl\ud800ain", "")},
        {"after": ("plain", "\0")},
        {"thread_ids": ["plain"], "after": ("plain", "")},
    ):
        with pytest.raises(InvalidInputError):
            await world.saver.log.verify(**arguments)


async def test_an_auditor_verifies_with_the_right_to_read_alone(world: LogUnderTest) -> None:
    """An auditor needs no right but that to read, and may do so on a replica."""
    world.tamper(f"update eventlog.events set body = {BODY} {EVENT}", "plain", 5)
    with psycopg.connect(world.uri, autocommit=True) as conn:
        conn.execute("drop role if exists auditor")
        conn.execute("create role auditor login")
        conn.execute("select eventlog.grant_rights_v1('auditor', %s, 'eventlog_views')", ("auditor",))
    try:
        options = {"autocommit": True, "options": "-c default_transaction_read_only=on"}
        uri = direct(world.uri).replace("postgres@", "auditor@")  # PgBouncer refuses the options.
        async with open_saver("sync-pool", uri, connect=options) as auditor:
            assert [each.seq for each in (await auditor.log.verify()).problems] == [5]
    finally:
        with psycopg.connect(world.uri, autocommit=True) as conn:
            conn.execute("drop owned by auditor")
            conn.execute("drop role auditor")


async def test_an_erased_event_put_back_is_found(world: LogUnderTest) -> None:
    """What was erased comes out of a backup, as it was: its digests fit, but a record says that it went."""
    columns = (
        "thread_id, checkpoint_ns, seq, recorded_at, xid, kind, checkpoint_id, base_seq, state_digest, digest, body"
    )
    with psycopg.connect(world.uri, autocommit=True) as conn:
        conn.execute(f"create table public.backup as select {columns} from eventlog.events where thread_id = 'plain'")
    await world.saver.adelete_thread("plain")
    assert await world.problems() == []
    world.tamper(f"insert into eventlog.events ({columns}) select {columns} from public.backup where seq = 3")
    assert Problem("plain", "", 3, "put back: a record says that it went") in (await world.saver.log.verify()).problems


@pytest.mark.parametrize(
    ("events", "size", "streams", "batch"),
    [(1, 1 << 20, 1, 1), (3, 1 << 20, 2, 3), (1000, 1, 100, 50), (7, 5000, 3, 4)],
)
async def test_page_size_and_workers_do_not_change_the_result(
    world: LogUnderTest, monkeypatch: pytest.MonkeyPatch, events: int, size: int, streams: int, batch: int
) -> None:
    for seq in (1, 5, 12):
        world.tamper(f"update eventlog.events set body = {BODY} {EVENT}", "plain", seq)
    world.tamper("delete from eventlog.streams where thread_id = 'pruned' and checkpoint_ns = ''")
    world.tamper("delete from eventlog.streams where thread_id = 'twice' and checkpoint_ns = 'kept'")
    whole = await world.saver.log.verify(workers=1)
    assert whole.problems
    monkeypatch.setattr(verify_streams, "PAGE_EVENTS", events)
    monkeypatch.setattr(verify_streams, "PAGE_BYTES", size)
    monkeypatch.setattr(verify_streams, "PAGE_STREAMS", streams)
    monkeypatch.setattr(verify, "BATCH", batch)
    told: list[tuple[str, str]] = []
    for workers in (1, 3):
        told.clear()
        assert await world.saver.log.verify(workers=workers, on_stream=lambda *each: told.append(each[:2])) == whole
        assert told == sorted(told)
        assert len(told) == whole.streams == 10
    assert await world.saver.log.verify(["twice"]) == await world.saver.log.verify(["twice"], workers=1)


async def test_all_problems_are_counted_and_the_first_are_kept(
    world: LogUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are counted, the first are kept: of each stream, and in all."""
    monkeypatch.setattr(chain, "MOST_PROBLEMS", 2)
    monkeypatch.setattr(verify_streams, "MOST_PROBLEMS", 2)
    world.tamper("update eventlog.events set digest = sha256('x') where kind < 3")
    found = await world.saver.log.verify(["plain"])
    assert [each.seq for each in found.problems] == [1, 2, 1, 2]
    assert found.found == 2 * 13
    monkeypatch.setattr(verify, "MOST_PROBLEMS", 3)
    again = await world.saver.log.verify(["plain"])
    assert (again.found, again.problems) == (found.found, found.problems[:3])
