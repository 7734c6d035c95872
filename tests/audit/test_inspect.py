"""Looking into the log through the savers: checkpoints as stored, where they are, the log in numbers."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from eventlog.errors import (
    HistoryErasedError,
    InvalidInputError,
    LogCorruptedError,
    MissingGrantError,
    ThreadNotFoundError,
)
from langgraph.checkpoint.eventlog import CheckpointName
from tests.database.test_rights import as_role, role
from tests.support.adapters import KINDS, POOLS, open_saver
from tests.support.checkpoints import TEXTS, Tables, config_of, converse, put, tangle

pytestmark = pytest.mark.portable

__all__ = ["role"]  # fixture


# --- inspect


@pytest.mark.parametrize("kind", KINDS)
async def test_inspect_returns_the_values_of_get_tuple(kind: str, database_uri: str) -> None:
    """Of every checkpoint: the same values, once they are loaded, and where it is in the log."""
    async with open_saver(kind, database_uri) as saver:
        await tangle(saver)
        rows = {
            id_: rest
            for id_, *rest in Tables(database_uri).rows(
                "select checkpoint_id, seq, recorded_at, state_bytes, parent_checkpoint_id from {schema}.checkpoints"
            )
        }
        for id_, (seq, recorded_at, state_bytes, parent_id) in rows.items():
            expected = await saver.aget_tuple(config_of("1", id_))
            found = await saver.log.inspect(config_of("1", id_))
            assert (found.thread_id, found.checkpoint_ns, found.checkpoint_id) == ("1", "", id_)
            assert (found.seq, found.recorded_at, found.state_bytes) == (seq, recorded_at, state_bytes)
            assert found.saved_at == recorded_at
            assert found.parent_checkpoint_id == parent_id
            assert found.keyframe_seq <= seq
            assert 1 <= found.replayed <= seq - found.keyframe_seq + 1
            values = {name: found.load(channel.value) for name, channel in found.channels.items()}
            assert values == expected.checkpoint["channel_values"]
            assert sum(len(channel.value.data) for channel in found.channels.values()) == state_bytes
            assert found.versions == expected.checkpoint["channel_versions"]
            assert found.versions_seen == expected.checkpoint["versions_seen"]
            assert found.load(found.metadata) == expected.metadata
            assert found.load(found.fields)["ts"] == expected.checkpoint["ts"]
            writes = [(write.task_id, write.channel, found.load(write.value)) for write in found.writes]
            assert writes == expected.pending_writes
        latest = await saver.log.inspect(config_of("1"))
        assert latest.checkpoint_id == max(rows)
        for nowhere in (config_of("none"), config_of("1", "none"), config_of("1", ns="none")):
            assert await saver.log.inspect(nowhere) is None


@POOLS
async def test_inspect_counts_the_events_to_replay(kind: str, database_uri: str) -> None:
    """A line of small differences: one event more for each checkpoint, until a snapshot."""
    async with open_saver(kind, database_uri) as saver:
        await converse(saver, ids="abcd")
        assert [(await saver.log.inspect(config_of("1", id_))).replayed for id_ in "abcd"] == [1, 2, 3, 4]
    async with open_saver(kind, database_uri, snapshot_floor_bytes=0) as saver:
        config = config_of("2")
        for id_ in "abcdefgh":
            config = await put(saver, config, id_, {"x": [*TEXTS, id_]})
        found = await saver.log.inspect(config)
        assert found.keyframe_seq > 1
        assert found.replayed < found.seq


@POOLS
async def test_inspect_of_an_encrypted_log_needs_its_key(kind: str, database_uri: str) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0" * 32)
    async with open_saver(kind, database_uri, serde=serde) as saver:
        await put(saver, config_of("1"), "a", {"x": "secret"})
        found = await saver.log.inspect(config_of("1"))
        assert found.load(found.channels["x"].value) == "secret"
    async with open_saver(kind, database_uri) as saver:
        with pytest.raises(LogCorruptedError, match="encrypted"):
            await saver.log.inspect(config_of("1"))


@POOLS
async def test_inspect_says_when_a_relocated_checkpoint_was_saved_first(kind: str, database_uri: str) -> None:
    """However often it was relocated; `recorded_at` is that of the last time."""
    async with open_saver(kind, database_uri) as saver:
        await converse(saver, ids="abcdef")
        first = await saver.log.inspect(config_of("1", "f"))
        assert first.saved_at == first.recorded_at
        times = [first.recorded_at]
        for keep in (3, 1):
            await saver.log.prune(["1"], keep_last=keep)
            found = await saver.log.inspect(config_of("1", "f"))
            assert found.saved_at == first.saved_at
            times.append(found.recorded_at)
        assert times == sorted(times)
        assert times[-1] > times[0]
        (entry,) = [each async for each in saver.log.history("1", kinds=["checkpoint"])]
        assert (found.saved_at, found.recorded_at) == (entry.time, entry.relocated_at)


async def test_inspect_at_a_time_is_what_state_at_returns(kind: str, saver: Any) -> None:
    """The same checkpoint with the same values and writes, as it is stored."""
    await tangle(saver)
    times = [each.time async for each in saver.log.history("1")]
    for time in times:
        expected = await saver.log.state_at("1", time)
        found = await saver.log.inspect(config_of("1"), at=time)
        if expected is None:
            assert found is None
            continue
        assert found.checkpoint_id == expected.checkpoint["id"]
        values = {name: found.load(channel.value) for name, channel in found.channels.items()}
        assert values == expected.checkpoint["channel_values"]
        assert found.load(found.metadata) == expected.metadata
        writes = [(write.task_id, write.channel, found.load(write.value)) for write in found.writes]
        assert writes == expected.pending_writes
        assert found.recorded_at == found.saved_at <= time
    assert await saver.log.inspect(config_of("1"), at=times[0] - timedelta(days=1)) is None
    with pytest.raises(InvalidInputError, match="a checkpoint_id or a time, not both"):
        await saver.log.inspect(config_of("1", "a"), at=times[0])
    with pytest.raises(InvalidInputError, match="at must be a datetime with a time zone"):
        await saver.log.inspect(config_of("1"), at=datetime(2026, 1, 1))
    with pytest.raises(InvalidInputError, match="in the future"):
        await saver.log.inspect(config_of("1"), at=times[0] + timedelta(days=366))
    with pytest.raises(ThreadNotFoundError):
        await saver.log.inspect(config_of("none"), at=times[0])
    await saver.log.prune(["1"])
    with pytest.raises(HistoryErasedError):
        await saver.log.inspect(config_of("1"), at=times[0])


@POOLS
async def test_find_step_has_the_branch_of_the_latest_checkpoint_first(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        config = config_of("1")
        for step, id_ in enumerate("abcd", -1):
            config = await put(saver, config, id_, {"x": id_}, metadata={"step": step})
        # Two branches from b: the second one ends with the latest checkpoint.
        for id_ in ("b1", "e"):
            await put(saver, config_of("1", "b"), id_, {"x": id_}, metadata={"step": 1})
        await put(saver, config_of("1", ns="sub"), "s", {"x": 1}, metadata={"step": 1})

        def found(step: int, **options: Any) -> Any:
            return saver.log.find_step("1", step, **options)

        assert await found(1) == [("1", "", "e", True), ("1", "", "c", False), ("1", "", "b1", False)]
        assert await found(-1) == [("1", "", "a", True)]
        assert await found(2) == [("1", "", "d", False)]
        assert await found(1, limit=1) == [("1", "", "e", True)]
        assert await found(1, checkpoint_ns="sub") == [("1", "sub", "s", True)]
        assert await found(7) == await found(0, checkpoint_ns="sub") == []
        assert await saver.log.find_step("none", 0) == []
        for wrong in ("1", True, 1.0, 1 << 40):
            with pytest.raises(InvalidInputError, match="step must be an int"):
                await found(wrong)


# --- find, namespaces


@POOLS
async def test_find_matches_the_beginnings_of_ids(kind: str, database_uri: str) -> None:
    """By how an id begins, in one thread or in all; copies have the same ids."""
    async with open_saver(kind, database_uri) as saver:
        for thread_id, ns in (("1", ""), ("1", "sub"), ("2", "")):
            for id_ in ("a1", "a2", "b%_1"):
                await put(saver, config_of(thread_id, ns=ns), id_, {"x": id_})
        everywhere = [CheckpointName(*name) for name in (("1", "", "a1"), ("1", "sub", "a1"), ("2", "", "a1"))]
        assert await saver.log.find("a1") == everywhere
        assert await saver.log.find("a1", thread_id="1") == everywhere[:2]
        assert await saver.log.find("a1", thread_id="1", checkpoint_ns="") == everywhere[:1]
        assert [name.checkpoint_id for name in await saver.log.find("a", thread_id="2")] == ["a1", "a2"]
        assert [name.checkpoint_id for name in await saver.log.find("b%", thread_id="2")] == ["b%_1"]
        assert len(await saver.log.find("a", limit=4)) == 4
        for nothing in ("a3", "a11", "c", "_", "%", "A"):
            assert await saver.log.find(nothing) == []
        await saver.adelete_thread("2")
        assert await saver.log.find("a1") == everywhere[:2]


@POOLS
async def test_namespaces_returns_the_latest_checkpoint_of_each(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        for ns, id_ in (("", "a"), ("", "b"), ("sub", "c")):
            await put(saver, config_of("1", ns=ns), id_, {"x": id_})
        assert await saver.log.namespaces("1") == {"": "b", "sub": "c"}
        assert await saver.log.namespaces("none") == {}
        await saver.adelete_thread("1")
        assert await saver.log.namespaces("1") == {"": None, "sub": None}


@POOLS
async def test_bad_arguments_are_refused(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        for call in (
            lambda: saver.log.find(""),
            lambda: saver.log.find(None),
            lambda: saver.log.find("a\0"),
            lambda: saver.log.find("a", thread_id=""),
            lambda: saver.log.find("a", thread_id=["1"]),
            lambda: saver.log.find("a", checkpoint_ns=""),
            lambda: saver.log.find("a", thread_id="1", checkpoint_ns=1),
            lambda: saver.log.find("a", limit=0),
            lambda: saver.log.find("a", limit=2**31),
            lambda: saver.log.find("a", limit=2**70),
            lambda: saver.log.namespaces(""),
            lambda: saver.log.namespaces(None),
            lambda: saver.log.inspect({}),
            lambda: saver.log.inspect(None),
            lambda: saver.log.stats(exact=1),
        ):
            with pytest.raises(InvalidInputError):
                await call()


# --- stats


@POOLS
async def test_exact_stats_equal_the_tables(kind: str, database_uri: str) -> None:
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri, snapshot_floor_bytes=0) as saver:
        await tangle(saver)
        await converse(saver, "2", "sub")
        await converse(saver, "deleted")
        await saver.adelete_thread("deleted")
        found = await saver.log.stats(exact=True)
    assert found.is_exact
    assert (found.threads, found.streams) == (2, 2)
    for name in ("checkpoints", "events", "snapshots"):
        assert getattr(found, name) == len(tables.contents()[name])
    sums = (
        "select (select sum(octet_length(body)) from {schema}.events) + sum(octet_length(body)) from {schema}.snapshots"
    )
    assert found.body_bytes == tables.one(sums)
    assert found.log_bytes > found.body_bytes
    assert found.estimates == ()
    assert found.states_bytes == tables.one("select sum(state_bytes) from {schema}.checkpoints")
    depths = sorted(n for (n,) in tables.rows("select seq - keyframe_seq from {schema}.checkpoints"))
    assert found.replay.max == depths[-1]
    assert found.replay.median == depths[(len(depths) - 1) // 2]
    assert found.replay.median <= found.replay.p95 <= found.replay.max
    assert found.growth.events_per_day == found.events
    assert found.growth.since < datetime.now(timezone.utc)
    relations = {each.name: each for each in found.relations}
    assert set(relations) >= {"events", "streams", "checkpoints", "snapshots", "partitions", "migrations"}
    for each in found.relations:
        assert each.bytes >= each.heap_bytes + each.index_bytes + each.toast_bytes
    assert relations["events"].bytes == sum(each.bytes for each in found.partitions)
    assert [each.bytes for each in found.relations] == sorted((each.bytes for each in found.relations), reverse=True)


@POOLS
async def test_estimates_are_close_once_statistics_are_up_to_date(kind: str, database_uri: str) -> None:
    """As far as the server knows; once its statistics are up to date, they are close."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as saver:
        for number in range(20):
            await converse(saver, f"{number}", ids="ab")
            await converse(saver, f"{number}", "sub", ids="ab")
        tables.run("analyze {schema}.events", "analyze {schema}.streams", "analyze {schema}.checkpoints")
        found, exact = await saver.log.stats(), await saver.log.stats(exact=True)
    assert not found.is_exact
    assert (found.threads, found.streams, found.checkpoints) == (20, 40, 80)
    assert found.events == exact.events
    assert (found.states_bytes, found.replay) == (exact.states_bytes, exact.replay)
    assert found.log_bytes == exact.log_bytes > (exact.body_bytes or 0)
    assert found.body_bytes is None
    assert found.estimates == ("threads", "streams", "events", "snapshots", "growth")
    assert found.growth.events_per_day == exact.growth.events_per_day


@POOLS
async def test_estimates_stay_close_after_a_rebuild(kind: str, database_uri: str) -> None:
    """It writes in place, and the estimates are those of the server's counters."""
    async with open_saver(kind, database_uri) as saver:
        for number in range(60):
            await converse(saver, f"{number}", ids="abc")
        await saver.log.rebuild()
    tables = Tables(database_uri)
    for _ in range(600):
        # What sessions counted is there once they have ended, or, behind a pooler, were idle for a while.
        counted = tables.rows(
            "select pg_stat_get_live_tuples('{schema}.checkpoints'::regclass),"
            " pg_stat_get_live_tuples('{schema}.streams'::regclass)"
        )
        if counted == [(180, 60)]:
            break
        await asyncio.sleep(0.1)
    async with open_saver(kind, database_uri) as saver:
        found = await saver.log.stats()
    rows = {each.name: each.rows for each in found.relations}
    assert (rows["checkpoints"], rows["streams"], found.checkpoints, found.streams) == (180, 60, 180, 60)


async def test_a_sample_of_pages_is_extrapolated_to_all_checkpoints(
    database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are many checkpoints, some pages of them are looked at, and the sum is that of all."""
    monkeypatch.setattr("eventlog.statistics.FEW_CHECKPOINTS", 500)
    tables = Tables(database_uri)
    async with open_saver("sync-pool", database_uri) as saver:
        await put(saver, config_of("1"), "a", {"x": "x" * 1000})
        tables.run(
            """
            insert into {schema}.checkpoints
            select
                thread_id, checkpoint_ns, 'b' || n, seq, recorded_at, first_at, null, keyframe_seq, keyframe_at,
                state_bytes, null, metadata
            from {schema}.checkpoints, generate_series(1, 20000) as n
            """
        )
        tables.run("analyze {schema}.checkpoints")
        found, exact = await saver.log.stats(), await saver.log.stats(exact=True)
    assert exact.checkpoints == found.checkpoints == 20_001
    # Which pages are in the sample is left to chance, but some are; all rows are alike and say the same of all.
    assert found.states_bytes == exact.states_bytes


@POOLS
async def test_stats_of_an_empty_log_are_zero(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        for exact in (False, True):
            found = await saver.log.stats(exact=exact)
            assert (found.threads, found.streams, found.checkpoints, found.events, found.snapshots) == (0, 0, 0, 0, 0)
            assert (found.states_bytes, found.replay) == (0, (0, 0, 0))
            assert found.growth.events_per_day == 0


@POOLS
async def test_stats_count_the_cache_hits_and_misses_of_the_saver(kind: str, database_uri: str) -> None:
    """Hits and misses of this saver, and of its copies."""
    async with open_saver(kind, database_uri, state_cache_bytes=1_000_000) as saver:
        await put(saver, config_of("1"), "a", {"x": "x" * 5000})
        config = await put(saver, config_of("1", "a"), "b", {"x": "x" * 5001})
        before = (await saver.log.stats()).cache
        assert (before.entries, before.max_bytes) == (1, 1_000_000)
        assert 5000 < before.bytes < 20_000
        await saver.aget_tuple(config)
        await saver.aget_tuple(config_of("1", "a"))
        after = (await saver.with_allowlist([]).log.stats()).cache
        assert (after.hits - before.hits, after.misses - before.misses) == (1, 1)
    async with open_saver(kind, database_uri, state_cache_bytes=0) as saver:
        await saver.aget_tuple(config)
        assert (await saver.log.stats()).cache == (0, 0, 0, 0, 1)


@POOLS
async def test_the_right_to_read_is_enough_to_inspect(kind: str, database_uri: str, role: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        await converse(saver)
    async with open_saver(kind, as_role(database_uri, role)) as saver:
        with pytest.raises(MissingGrantError):
            await saver.log.stats()
        with psycopg.connect(database_uri, autocommit=True) as conn:
            conn.execute("select eventlog.grant_rights_v1('auditor', %s, 'eventlog_views')", (role,))
        for exact in (False, True):
            assert (await saver.log.stats(exact=exact)).checkpoints == 8
        assert (await saver.log.inspect(config_of("1"))).checkpoint_id == "h"
        assert await saver.log.find("h") == [("1", "", "h")]
        assert await saver.log.namespaces("1") == {"": "h"}


async def test_growth_is_averaged_over_the_last_thirty_days(database_uri: str) -> None:
    """A log that is a hundred days old: only the last thirty count, and are divided by thirty."""
    tables = Tables(database_uri)
    tables.run("update {schema}.migrations set applied_at = now() - interval '100 days'")
    async with open_saver("sync-pool", database_uri) as saver:
        await converse(saver, ids="abc")
        found = await saver.log.stats(exact=True)
    days: Any = (datetime.now(timezone.utc) - found.growth.since) / timedelta(days=1)
    assert abs(days - 30) < 0.01
    assert abs(found.growth.events_per_day - 9 / 30) < 0.01
