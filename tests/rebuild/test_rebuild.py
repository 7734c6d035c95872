"""Rebuilding and comparing: what is damaged is named and repaired."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from typing_extensions import LiteralString

from eventlog.errors import MissingGrantError
from projections import rebuild
from projections.rebuild import Rebuilt
from tests.database.test_rights import admin, as_role, role  # noqa: F401 -- fixtures
from tests.rebuild.workload import fill
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import Tables, config_of, listed, listed_ids, put
from tests.support.soundness import assert_keyframes, assert_sound, projected

pytestmark = pytest.mark.portable


@pytest.fixture
def tables(database_uri: str) -> Tables:
    return Tables(database_uri)


# --- quiet


async def test_rebuilt_projections_equal_live_ones(saver: Any, tables: Tables) -> None:
    """Every kind of saver; over and over."""
    await fill(saver, "1", "2")
    await saver.acopy_thread("1", "3")
    await saver.log.prune(["2"], keep_last=2)
    await saver.adelete_thread("1")
    before = projected(tables)
    everything = await listed(saver, None)

    for _ in range(2):
        found: Rebuilt = await saver.log.rebuild()
        assert not any(found.differing.values()), found.differences
        assert found.differences == []
        assert (found.streams, found.checkpoints) == (len(before["streams"]), len(before["checkpoints"]))
        assert found.events == tables.events()
        assert found.locked_seconds == 0
        assert projected(tables) == before
        assert await listed(saver, None) == everything
    assert_sound(tables)
    assert_keyframes(tables)
    assert tables.rows("select thread_id, finished_at is null from {schema}.rebuilds") == [("", False)] * 2


async def test_rebuild_completes_during_a_vacuum_of_its_table(saver: Any, database_uri: str) -> None:
    """Autovacuum comes when it likes; so does who makes the next batch begin."""
    await fill(saver, "1")
    with psycopg.connect(database_uri) as conn:
        conn.execute("lock table eventlog.rebuilds in share update exclusive mode")  # as a vacuum does
        found: Rebuilt = await saver.log.rebuild()
    assert found.streams == 2
    assert not any(found.differing.values())


async def test_an_empty_log_rebuilds_to_nothing(saver: Any) -> None:
    found = await saver.log.rebuild()
    assert (found.streams, found.checkpoints, found.snapshots, found.events) == (0, 0, 0, 0)
    assert not any((await saver.log.rebuild(check=True)).differing.values())


DAMAGES: dict[str, tuple[LiteralString, list[tuple[str, str, str]]]] = {
    "a stream's row altered": (
        "update {schema}.streams set epoch = 99, latest_checkpoint_id = '000' where checkpoint_ns = ''",
        [("streams", "", "different")],
    ),
    "a stream's row gone": ("delete from {schema}.streams where checkpoint_ns = ''", [("streams", "", "missing")]),
    "a checkpoint altered": (
        "update {schema}.checkpoints set metadata = '{{\"step\": 7}}', state_bytes = 1"
        " where checkpoint_ns = '' and checkpoint_id = '001'",
        [("checkpoints", "001", "different")],
    ),
    "a checkpoint gone": (
        "delete from {schema}.checkpoints where checkpoint_ns = '' and checkpoint_id = '001'",
        [("checkpoints", "001", "missing")],
    ),
    "a checkpoint too many": (
        "insert into {schema}.checkpoints select thread_id, checkpoint_ns, '999', seq, recorded_at, first_at,"
        " parent_checkpoint_id, keyframe_seq, keyframe_at, state_bytes, run_id, metadata"
        " from {schema}.checkpoints where checkpoint_ns = '' and checkpoint_id = '001'",
        [("checkpoints", "999", "surplus")],
    ),
    "a keyframe that is not there": (
        "update {schema}.checkpoints set keyframe_seq = 2 where checkpoint_ns = '' and checkpoint_id = '003'",
        [("checkpoints", "003", "different")],
    ),
    "a snapshot of another state": (
        "update {schema}.snapshots as s set body = o.body from {schema}.snapshots as o where s.checkpoint_ns = ''"
        " and o.thread_id = s.thread_id and o.checkpoint_ns = ''"
        " and s.seq = (select min(seq) from {schema}.snapshots where checkpoint_ns = '')"
        " and o.seq = (select max(seq) from {schema}.snapshots where checkpoint_ns = '')",
        [("snapshots", "FIRST", "different")],
    ),
    "a snapshot that does not decode": (
        "update {schema}.snapshots set body = 'x' where checkpoint_ns = ''"
        " and seq = (select min(seq) from {schema}.snapshots where checkpoint_ns = '')",
        [("snapshots", "FIRST", "different")],
    ),
    "a snapshot too many": (
        "insert into {schema}.snapshots select thread_id, checkpoint_ns, 2, recorded_at, body"
        " from {schema}.snapshots where checkpoint_ns = '' order by seq limit 1",
        [("snapshots", "2", "surplus")],
    ),
    "snapshots of a stream that is not": (
        "insert into {schema}.snapshots select 'stray', checkpoint_ns, seq, recorded_at, body"
        " from {schema}.snapshots where checkpoint_ns = '' order by seq limit 1",
        [("snapshots", "FIRST", "surplus")],
    ),
}


@pytest.mark.parametrize("kind", ["sync-pool", "async-connection"])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_rebuild_names_and_repairs_damage(damage: str, kind: str, database_uri: str, tables: Tables) -> None:
    """What was altered, taken out or put in is found by comparing, which changes nothing, and by rebuilding."""
    statement, expected = DAMAGES[damage]
    async with open_saver(kind, database_uri, snapshot_floor_bytes=0) as saver:
        await fill(saver, "1", checkpoints=16)
        before, snapshots = projected(tables), tables.rows("select * from {schema}.snapshots order by 1, 2, 3")
        first = tables.one("select min(seq)::text from {schema}.snapshots where checkpoint_ns = ''")
        expected = [(table, key.replace("FIRST", first), what) for table, key, what in expected]
        assert not any((await saver.log.rebuild(check=True)).differing.values())
        tables.run(statement)
        damaged = tables.contents()

        told: list[Any] = []
        found = await saver.log.rebuild(check=True, on_difference=told.append)
        assert [(each.table, each.key, each.what) for each in found.differences] == expected
        assert told == found.differences
        assert {each.thread_id for each in told} <= {"1", "stray"}
        assert found.differing == {table: sum(each[0] == table for each in expected) for table in rebuild.TABLES}
        assert tables.contents() == damaged

        found = await saver.log.rebuild()
        assert [(each.table, each.key, each.what) for each in found.differences] == expected
        assert found.differing == {table: sum(each[0] == table for each in expected) for table in rebuild.TABLES}
        assert projected(tables) == before
        assert len(tables.rows("select * from {schema}.snapshots")) == len(snapshots)
        assert not any((await saver.log.rebuild(check=True)).differing.values())
        assert (await saver.aget_tuple(config_of("1", "001"))).metadata["step"] == 1


@POOLS
async def test_a_large_damaged_snapshot_is_put_right(kind: str, database_uri: str, tables: Tables) -> None:
    """Large ones are read one by one."""
    async with open_saver(kind, database_uri, snapshot_floor_bytes=0) as saver:
        config = config_of("1")
        kept = os.urandom(150_000)
        for step in range(8):
            changed = os.urandom(60_000)
            config = await put(saver, config, f"{step}", {"kept": kept, "changed": changed})
        assert tables.one("select max(octet_length(body)) from {schema}.snapshots") > 65536
        assert not any((await saver.log.rebuild(check=True)).differing.values())
        tables.run("update {schema}.snapshots set body = body || 'x'")
        assert (await saver.log.rebuild()).differing["snapshots"] > 0
        assert not any((await saver.log.rebuild(check=True)).differing.values())


@POOLS
async def test_metadata_that_json_cannot_hold_is_derived_as_it_was_put(kind: str, database_uri: str) -> None:
    """The searchable copy comes from what was saved: a serializer may give other objects back."""
    metadata: dict[str, Any] = {
        "tags": {"b", "a", "c"},
        "at": datetime(2026, 1, 2, tzinfo=timezone.utc),
        "ratio": float("nan"),
        "text": "a\0b",
        "id": UUID(int=7),
        "numbers": (1, 2),
        "decimal": Decimal("1.50"),
    }
    async with open_saver(kind, database_uri) as saver:
        await put(saver, config_of("1"), "1", {"x": 1}, metadata=metadata)
        assert not any((await saver.log.rebuild(check=True)).differing.values())
        assert len(await listed_ids(saver, None, filter={"numbers": [1, 2], "tags": ["a", "b", "c"]})) == 1


@POOLS
async def test_differences_show_columns_and_hash_metadata(kind: str, database_uri: str, tables: Tables) -> None:
    """The columns and what is in them, in short; of metadata, which is the user's, a hash."""
    async with open_saver(kind, database_uri) as saver:
        await put(saver, config_of("1"), "1", {"x": 1}, metadata={"secret": "hush"})
        tables.run(
            "update {schema}.checkpoints set metadata = '{{}}', state_bytes = 7",
            "update {schema}.streams set erased_through = repeat('0', 1000)",
        )
        (stream, checkpoint) = sorted(
            (await saver.log.rebuild(check=True)).differences, key=lambda each: -len(each.table)
        )
        stream, checkpoint = (stream, checkpoint) if stream.table == "streams" else (checkpoint, stream)
        assert checkpoint.columns == ("metadata", "state_bytes")
        assert checkpoint.live[1] == "7"
        assert "hush" not in str(checkpoint)
        assert stream.columns == ("erased_through",)
        assert stream.derived == (None,)
        assert len(stream.live[0]) == 64


@POOLS
async def test_lost_projections_are_rebuilt_and_differences_counted(
    kind: str, database_uri: str, tables: Tables
) -> None:
    """More rows than are named are counted."""
    async with open_saver(kind, database_uri) as saver:
        await fill(saver, "1", checkpoints=30)
        before = projected(tables)
        tables.run("truncate {schema}.streams, {schema}.checkpoints, {schema}.snapshots")
        for check in (True, False):
            found = await saver.log.rebuild(check=check)
            assert found.differing == {"streams": 2, "checkpoints": 60, "snapshots": 0}
            assert len(found.differences) == 40
        assert projected(tables, keyframes=False) == {
            table: rows for table, rows in before.items() if table in ("streams", "checkpoints")
        }


@POOLS
async def test_a_check_needs_the_right_to_read_alone(
    kind: str,
    role: str,  # noqa: F811
    admin: Any,  # noqa: F811
    database_uri: str,
    tables: Tables,
) -> None:
    async with open_saver(kind, database_uri) as saver:
        await fill(saver, "1")
    tables.run(f"select {{schema}}.grant_rights_v1('auditor', '{role}', 'eventlog_views')")  # type: ignore[arg-type]
    tables.run("delete from {schema}.checkpoints where checkpoint_id = '001'")
    async with open_saver(kind, as_role(database_uri, role)) as auditor:
        found = await auditor.log.rebuild(check=True)
        assert found.differing == {"streams": 0, "checkpoints": 2, "snapshots": 0}
        with pytest.raises(MissingGrantError, match="only the log's owner can rebuild"):
            await auditor.log.rebuild()
