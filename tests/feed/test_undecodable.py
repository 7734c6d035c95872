"""Events that do not decode: the feed delivers them; history and projections stop there or go on, as they are told."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest

from eventlog.errors import InvalidInputError, LogCorruptedError
from langgraph.checkpoint.eventlog import Undecodable
from tests.cli.command import eventlog
from tests.feed.views import AsyncSeen, Seen
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import TEXTS, config_of, put, uncompressed
from tests.support.pooler import direct

#: What is done to the second event of thread 'bad', and what is said of it.
DAMAGE = {
    "body": ("body = '\\x01c1'", "does not decode"),
    "kind": ("kind = 9", "is of kind 9, which this version does not know"),
    "metadata": (None, "does not decode: a value of type 'msgpack'"),
}


@pytest.fixture(params=DAMAGE)
async def saver(request: pytest.FixtureRequest, kind: str, database_uri: str) -> Any:
    """Threads 'good', 'bad' and 'last' of three events each; the second one of 'bad' does not decode."""
    change, _ = DAMAGE[request.param]
    async with open_saver(kind, database_uri, snapshot_floor_bytes=1 << 30) as saver:
        for thread_id in ("good", "bad", "last"):
            config = await put(saver, config_of(thread_id), "a", {"x": TEXTS}, metadata={"source": "loop"})
            config = await put(saver, config, "b", {"x": [*TEXTS, 1]}, metadata={"note": "M" * 9})
            await saver.aput_writes(config, [("y", 1)], "task")
        with psycopg.connect(direct(database_uri), autocommit=True) as conn:
            conn.execute("set session_replication_role = replica")
            conn.execute("alter domain eventlog.event_kind drop constraint event_kind_check")
            where = "where thread_id = 'bad' and seq = 2"
            if change is None:
                (body,) = conn.execute(f"select body from eventlog.events {where}").fetchone() or ()
                damaged = uncompressed(body).replace(b"\xa9" + b"M" * 9, b"\xc1" + b"M" * 9)
                assert b"\xc1MMM" in damaged
                conn.execute(f"update eventlog.events set body = %s {where}", (b"\x01" + damaged,))
            else:
                conn.execute(f"update eventlog.events set {change} {where}")  # type: ignore[arg-type]
        yield saver


@pytest.fixture
def says(request: pytest.FixtureRequest) -> str:
    return DAMAGE[request.node.callspec.params["saver"]][1]


@pytest.fixture
def position(saver: Any, database_uri: str) -> int:
    with psycopg.connect(direct(database_uri)) as conn:
        ((found,),) = conn.execute("select position from eventlog.events where thread_id = 'bad' and seq = 2")
    return int(found)


def view(uri: str) -> list[str]:
    with psycopg.connect(uri) as conn:
        rows = conn.execute("select split_part(event, '/', 1) || split_part(event, '/', 3) from seen order by number")
        return [text for (text,) in rows]


@pytest.mark.attack("stolen writer")
@POOLS
async def test_the_feed_delivers_it(saver: Any, kind: str, says: str, position: int) -> None:
    events = [event async for event in saver.log.tail()]
    assert len(events) == 9
    decoded = [await saver.log.decode(event) for event in events]
    (bad,) = [event for event in decoded if event.error is not None]
    assert (bad.thread_id, bad.seq, bad.stored.position) == ("bad", 2, position)
    assert says in str(bad.error)
    assert f"its position in the log is {position}" in str(bad.error)
    assert repr(bad)


@POOLS
async def test_decode_stops_at_it_where_it_is_told_to(saver: Any, kind: str, says: str, position: int) -> None:
    for event in [event async for event in saver.log.tail()]:
        if (event.thread_id, event.seq) == ("bad", 2):
            with pytest.raises(LogCorruptedError, match=rf"{says}.*position in the log is {position}"):
                await saver.log.decode(event, on_undecodable="stop")
        else:
            assert (await saver.log.decode(event, on_undecodable="stop")).error is None
    with pytest.raises(InvalidInputError, match="on_undecodable must be 'show' or 'stop'"):
        await saver.log.decode(event, on_undecodable="skip")


@POOLS
async def test_diff_stops_or_shows_what_does_not_decode(saver: Any, kind: str, says: str) -> None:
    """A part of a state that does not decode is shown as such; without its body there is no state to compare."""
    with pytest.raises(LogCorruptedError):
        await saver.log.diff("bad", "a", "b")
    if not says.startswith("does not decode: a value"):
        with pytest.raises(LogCorruptedError):
            await saver.log.diff("bad", "a", "b", on_undecodable="show")
    else:
        for one, other in ("ab", "ba"):
            found = await saver.log.diff("bad", one, other, on_undecodable="show")
            assert [each.kind for each in found.channels["x"]] == ["added" if one == "a" else "removed"]
            ((what, path, *values),) = found.metadata
            bad = values.pop(0 if one == "b" else 1)
            assert (what, path, values) == ("changed", (), [{"source": "loop"}])
            assert isinstance(bad, Undecodable)
            assert bad.type == "msgpack"
            assert b"\xc1MMM" in bad.data
            assert says in bad.error
        assert (await saver.log.diff("bad", "b", "b", on_undecodable="show")).metadata == []
    with pytest.raises(InvalidInputError, match="on_undecodable must be 'stop' or 'show'"):
        await saver.log.diff("bad", "a", "b", on_undecodable="skip")


@POOLS
async def test_a_state_with_a_part_that_does_not_decode_is_not_shown(saver: Any, kind: str, says: str) -> None:
    """An event of an unknown kind is none of a checkpoint: the one before it was the latest."""
    if "of kind 9" in says:
        found = await saver.log.state_at("bad", datetime.now(timezone.utc))
        assert found.checkpoint["id"] == "a"
    else:
        with pytest.raises(LogCorruptedError, match="event 2 of thread 'bad'"):
            await saver.log.state_at("bad", datetime.now(timezone.utc))
    assert await saver.log.state_at("good", datetime.now(timezone.utc)) is not None


@POOLS
async def test_history_stops_or_shows_it(saver: Any, kind: str, says: str, position: int) -> None:
    for read in (saver.log.history, saver.log.changes):
        with pytest.raises(LogCorruptedError, match=rf"{says}.*position in the log is {position}"):
            _ = [each async for each in read("bad")]
        found = [each async for each in read("bad", on_undecodable="show")]
        entries = [getattr(each, "entry", each) for each in found]
        assert [each.seq for each in entries] == [1, 2, 3]
        assert says in entries[1].error
        assert entries[0].error is entries[2].error is None
        assert len([each async for each in read("good")]) == 3
    with pytest.raises(InvalidInputError, match="on_undecodable must be 'stop' or 'show'"):
        _ = [each async for each in saver.log.history("bad", on_undecodable="skip")]


@pytest.mark.parametrize("kind", ["sync-pool"])
async def test_history_goes_on_behind_it_with_events_that_build_on_it(saver: Any, kind: str) -> None:
    """What cannot be told without it is not told; with values, their entries say why there are none."""
    await put(saver, config_of("bad", "b"), "c", {"x": [*TEXTS, 1, 2]})
    entries = [each async for each in saver.log.history("bad", on_undecodable="show", newest_first=True)]
    assert [each.seq for each in entries] == [4, 3, 2, 1]
    assert entries[0].channels[0].channel == "x"
    changes = [each async for each in saver.log.changes("bad", on_undecodable="show")]
    assert changes[3].entry.seq == 4
    assert (changes[3].entry.error is None) is bool(changes[3].values)


@pytest.mark.attack("stolen writer")
@POOLS
async def test_projections_stop_before_it_or_skip_it(
    saver: Any, kind: str, database_uri: str, says: str, position: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A skipped event is named in a warning, and the cursor is behind it."""
    seen = AsyncReading() if kind.startswith("async") else Reading()
    match = rf"{says}.*position in the log is {position}"
    with pytest.raises(LogCorruptedError, match=match):
        await saver.log.project(seen, batch_events=1)
    assert view(database_uri) == ["good1", "good2", "good3", "bad1"]
    with caplog.at_level(logging.WARNING, "eventlog"):
        applied: list[Any] = []
        counts = await saver.log.project(seen, on_undecodable="skip", on_batch=lambda _, done: applied.append(done))
    assert counts == {"seen": 4}
    assert sum(each.skipped for each in applied) == 1
    assert view(database_uri) == ["good1", "good2", "good3", "bad1", "bad3", "last1", "last2", "last3"]
    (record,) = [each for each in caplog.records if each.message.startswith("eventlog.projection_skipped")]
    assert f"position={position}" in record.message


class Reading(Seen):
    """Looks at what the events say."""

    def apply(self, conn: Any, events: Any) -> None:
        for event in events:
            assert event.metadata is not event.writes
        super().apply(conn, events)


class AsyncReading(AsyncSeen):
    async def apply(self, conn: Any, events: Any) -> None:
        for event in events:
            assert event.metadata is not event.writes
        await super().apply(conn, events)


@pytest.mark.parametrize("kind", ["sync-pool"])
async def test_rebuild_names_its_position(saver: Any, kind: str, position: int, says: str) -> None:
    with pytest.raises(LogCorruptedError, match=rf"event 2 of thread 'bad'.*position in the log is {position}"):
        await saver.log.rebuild(check=True)


@pytest.mark.parametrize("kind", ["sync-pool"])
async def test_the_command_shows_it(saver: Any, kind: str, database_uri: str, says: str, position: int) -> None:
    assert len(eventlog(database_uri, "tail").stdout.splitlines()) == 9
    if not says.startswith("does not decode: a value"):  # The command shows such values as what they are.
        done = eventlog(database_uri, "history", "bad")
        assert done.exit_code == 1
        assert str(position) in done.stderr
    for more in ([], ["--changes"]):
        done = eventlog(database_uri, "history", "bad", "--show-undecodable", *more)
        assert done.exit_code == 0
        assert "does not decode" in done.stdout or says.startswith("does not decode: a value")
    for more, code in (([], 1), (["--skip-undecodable"], 0)):
        assert eventlog(database_uri, "project", "run", "usage", "--once", *more).exit_code == code
