"""Erased means erased: after a purge the server's data files have nothing of a deleted thread's content."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventlog.errors import InvalidInputError, ProjectionError
from eventlog.events import Kind
from langgraph.checkpoint.eventlog import EventLog, EventLogSaver, Usage
from tests.cli.command import documents, eventlog
from tests.database.test_rights import as_role, role  # noqa: F401 -- a fixture
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import config_of, put
from tests.support.pooler import direct

#: Where a user's content may be; each has a marker of its own.
PLACES = ("content", "metadata", "run_id", "task_path", "error", "channel", "written", "snapshot")
MARKERS = {place: f"Zq7{place}Xk9" for place in PLACES}


def noise(seed: int) -> bytes:
    """What does not compress, so that the marker beside it is stored as it is."""
    return random.Random(seed).randbytes(3000)


async def plant(saver: Any, thread_id: str) -> None:
    metadata = {"note": MARKERS["metadata"], "run_id": MARKERS["run_id"], "source": "loop"}
    values = {"x": [MARKERS["content"], noise(1)], MARKERS["channel"]: noise(2)}
    config = await put(saver, config_of(thread_id), "a", values, metadata=metadata)
    writes = [("__error__", [MARKERS["error"], noise(3)]), ("y", [MARKERS["written"], noise(4)])]
    await saver.aput_writes(config, writes, "task", MARKERS["task_path"])
    for number in range(20):
        values = {**values, "small": [MARKERS["snapshot"], number]}
        config = await put(saver, config, f"b{number:02}", values, metadata=metadata)


class Files:
    """The data directory of a server, but for its WAL, and its log of statements."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def found(self) -> set[str]:
        """The places of which the marker is in a file."""
        with psycopg.connect(direct(self._uri), autocommit=True) as conn:
            conn.execute("checkpoint")
            ((oid, data),) = conn.execute(
                "select oid, current_setting('data_directory') from pg_database where datname = current_database()"
            )
        found: set[str] = set()
        for file in (*(Path(data) / "base" / str(oid)).iterdir(), *(Path(data) / "global").iterdir()):
            content = file.read_bytes()
            found |= {place for place, marker in MARKERS.items() if marker.encode() in content}
        return found

    def vacuum(self) -> None:
        with psycopg.connect(direct(self._uri), autocommit=True) as conn:
            conn.execute("vacuum (analyze)")


@pytest.fixture
def files(database_uri: str) -> Files:
    return Files(database_uri)


@pytest.mark.attack("thief")
@pytest.mark.portable
@POOLS
async def test_a_purge_removes_a_deleted_threads_bytes(kind: str, database_uri: str, files: Files) -> None:
    """A vacuum does not: it frees them. Statistics have none, though they were taken while the thread was there."""
    async with open_saver(kind, database_uri, snapshot_floor_bytes=1) as saver:
        await plant(saver, "1")
        await put(saver, config_of("2"), "a", {"x": "another"})
        await saver.log.project(Usage())
        files.vacuum()
        assert files.found() == set(PLACES)
        await saver.adelete_thread("1")
        await saver.log.project(Usage())
        files.vacuum()
        assert files.found() != set()
        done = await saver.log.purge(["1"])
        assert (done.left, done.held_by) == ({}, [])
        assert {"streams", "checkpoints", "snapshots", "usage"} <= {each.name for each in done.tables}
        assert len([each for each in done.tables if each.name.startswith("events_")]) == 1
        assert all(each.seconds > 0 and each.bytes_after <= each.bytes_before for each in done.tables)
        assert files.found() == set()
        assert (await saver.aget_tuple(config_of("2"))).checkpoint["channel_values"] == {"x": "another"}
        assert (await saver.log.verify()).problems == []


@pytest.mark.attack("thief")
async def test_no_column_with_content_has_statistics(database_uri: str, files: Files) -> None:
    async with open_saver("sync-pool", database_uri, snapshot_floor_bytes=1) as saver:
        await plant(saver, "1")
        files.vacuum()
        columns = "attname in ('body', 'metadata', 'run_id')"
        with psycopg.connect(direct(database_uri)) as conn:
            assert conn.execute(f"select from pg_stats where schemaname = 'eventlog' and {columns}").fetchall() == []  # type: ignore[arg-type]
            assert conn.execute("select from pg_stats where schemaname = 'eventlog'").fetchall()


async def test_rows_that_a_transaction_may_see_are_reported(database_uri: str, files: Files) -> None:
    async with open_saver("sync-pool", database_uri) as saver:
        await plant(saver, "1")
        with psycopg.connect(direct(database_uri)) as old:
            old.execute("set transaction isolation level repeatable read")
            old.execute("select from pg_class")
            await saver.adelete_thread("1")
            done = await saver.log.purge(["1"])
            (holder,) = done.held_by
            assert holder.startswith(f"process {old.info.backend_pid} of user ")
            assert files.found() != set()
            shown = eventlog(database_uri, "delete", "1", "--yes", "--purge")
            assert shown.exit_code == 1
            assert f"stay in the files while this transaction is open: {holder}" in shown.stderr
        done = await saver.log.purge()
        assert done.held_by == []
        assert files.found() == set()


async def test_a_transaction_without_a_snapshot_is_reported(database_uri: str, files: Files) -> None:
    """Vacuum heeds its id too: it may have been the one that wrote the rows."""
    async with open_saver("sync-pool", database_uri) as saver:
        await plant(saver, "1")
        with psycopg.connect(direct(database_uri)) as old:
            old.execute("select pg_current_xact_id()")
            await saver.adelete_thread("1")
            (holder,) = (await saver.log.purge(["1"])).held_by
            assert holder.startswith(f"process {old.info.backend_pid} of user ")
            assert files.found() != set()
        assert (await saver.log.purge(["1"])).is_complete
        assert files.found() == set()


class Notes:
    """A view outside of the log's schemas, and one that it does not name."""

    name = "notes"
    version = 1
    tables: Sequence[str] | None = ("public.notes",)

    def setup(self, conn: Any) -> None:
        conn.execute("drop table if exists public.notes")
        conn.execute("create table public.notes (thread_id text, note text)")
        conn.execute("alter table public.notes alter column note set statistics 0")

    def apply(self, conn: Any, events: Any) -> None:
        for event in events:
            if event.kind == Kind.THREAD_DELETED:
                conn.execute("delete from public.notes where thread_id = %s", (event.thread_id,))
            elif note := event.metadata.get("note"):
                conn.execute("insert into public.notes values (%s, %s)", (event.thread_id, note))


class AsyncNotes(Notes):
    async def setup(self, conn: Any) -> None:  # type: ignore[override]
        await conn.execute("drop table if exists public.notes")
        await conn.execute("create table public.notes (thread_id text, note text)")
        await conn.execute("alter table public.notes alter column note set statistics 0")

    async def apply(self, conn: Any, events: Any) -> None:  # type: ignore[override]
        for event in events:
            if event.kind == Kind.THREAD_DELETED:
                await conn.execute("delete from public.notes where thread_id = %s", (event.thread_id,))
            elif note := event.metadata.get("note"):
                await conn.execute("insert into public.notes values (%s, %s)", (event.thread_id, note))


@pytest.mark.portable
@POOLS
async def test_projections_that_have_not_come_to_the_erasure_are_named(
    kind: str, database_uri: str, files: Files
) -> None:
    """Their tables still have the thread, so writing them again would keep it. Those that have are written again."""
    notes = AsyncNotes() if kind.startswith("async") else Notes()
    async with open_saver(kind, database_uri) as saver:
        await plant(saver, "1")
        await put(saver, config_of("2"), "a", {"x": 1}, metadata={"note": "kept"})
        await saver.log.project([Usage(), notes])
        with psycopg.connect(direct(database_uri), autocommit=True) as conn:
            conn.execute("create table eventlog_views.my_own as select 1 as one")
        await saver.adelete_thread("1")
        await saver.log.project(Usage())
        await put(saver, config_of("2"), "b", {"x": 1})
        done = await saver.log.purge(["1"])
        assert done.behind == {"notes": 2}
        assert not done.is_complete
        assert files.found() == {"metadata"}
        assert {each.name for each in done.tables}.isdisjoint({"notes", "my_own"})
        assert "usage" in {each.name for each in done.tables}
        shown = eventlog(database_uri, "delete", "1", "--yes", "--purge")
        assert shown.exit_code == 1
        assert "projection notes is 2 events behind, and has not applied the erasure" in shown.stderr
        # Of another thread, nobody is behind.
        assert (await saver.log.purge(["2"])).behind == {}
        assert (await saver.log.purge()).behind == {"notes": 2}
        await saver.log.project(notes)
        done = await saver.log.purge(["1"])
        assert done.is_complete
        assert done.tables[-1].name in {"notes", "usage", "usage_messages"}
        assert "notes" in {each.name for each in done.tables}
        assert files.found() == set()
        with psycopg.connect(direct(database_uri)) as conn:
            assert conn.execute("select * from public.notes").fetchall() == [("2", "kept")]


async def test_projections_that_name_no_tables_are_reported(database_uri: str) -> None:
    notes = Notes()
    async with open_saver("sync-pool", database_uri) as saver:
        await plant(saver, "1")
        notes.tables = None
        await saver.log.project(notes)
        await saver.adelete_thread("1")
        await saver.log.project(notes)
        done = await saver.log.purge(["1"])
        assert (done.unnamed, done.behind, done.is_complete) == (["notes"], {}, False)
        shown = eventlog(database_uri, "delete", "1", "--yes", "--purge")
        assert shown.exit_code == 1
        assert "projection notes does not name its tables" in shown.stderr
        for wrong in ("public.notes", 7, [1]):
            notes.tables = wrong  # type: ignore[assignment]
            with pytest.raises(InvalidInputError, match=r"Notes\.tables must be a sequence"):
                await saver.log.rebuild_projection(notes)
        notes.tables = ["public.notes", "public.others"]
        with pytest.raises(ProjectionError, match=r"names the table public\.others, but its `setup` did not create it"):
            await saver.log.rebuild_projection(notes)
        notes.tables = ["notes"]
        await saver.log.rebuild_projection(notes)
        assert (await saver.log.projections())[0].tables == ["public.notes"]
        await saver.log.project(notes)
        assert (await saver.log.purge(["1"])).is_complete


async def test_the_command_purges(database_uri: str, files: Files) -> None:
    async with open_saver("sync-pool", database_uri) as saver:
        await plant(saver, "1")
    shown = eventlog(database_uri, "delete", "1", "--purge", "--dry-run")
    assert shown.exit_code == 0
    assert "and lock each one meanwhile" in shown.stdout
    assert files.found() != set()
    done = eventlog(database_uri, "delete", "1", "--yes", "--purge", "--json")
    assert done.exit_code == 0
    assert "checkpoints" in [each.get("purged") for each in documents(done)]
    assert files.found() == set()
    assert "locked for" in eventlog(database_uri, "delete", "1", "--yes", "--purge").stdout


@pytest.mark.attack("eraser")
async def test_who_does_not_own_the_log_is_told_what_to_run(database_uri: str, role: str) -> None:  # noqa: F811
    """An eraser may erase, and not rewrite tables."""
    with EventLogSaver.from_conn_string(database_uri) as saver:
        saver.setup(grant={"eraser": role})
    async with open_saver("sync-pool", database_uri) as saver:
        await plant(saver, "1")
    with EventLog.from_conn_string(as_role(database_uri, role)) as log:
        log.delete_thread("1")
        done = log.purge(["1"])
    assert done.tables == []
    assert 'vacuum (full, analyze) "eventlog"."checkpoints";' in done.left
    shown = eventlog(as_role(database_uri, role), "delete", "1", "--yes", "--purge")
    assert shown.exit_code == 1
    assert 'may run vacuum (full, analyze) "eventlog"."checkpoints";' in shown.stderr
