"""Logs that were dumped and restored into another cluster: whole, in parts, while others wrote."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg_pool import ConnectionPool

from eventlog.errors import MissingGrantError
from langgraph.checkpoint.eventlog import EventLogSaver
from projections.usage import Usage
from tests.database.test_rights import as_role
from tests.rebuild.workload import append
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, everything, put
from tests.support.full_log import SETTINGS, Reading, assert_goes_on, assert_reads, assert_verified, grow, open_reader
from tests.support.server import Server
from tests.support.soundness import projected

pytestmark = pytest.mark.portable

#: How a dump is taken, and how it is restored.
WAYS = {
    "custom": (["--format=custom"], ["pg_restore", "--exit-on-error"]),
    "directory, side by side": (["--format=directory", "--jobs=3"], ["pg_restore", "--exit-on-error", "--jobs=3"]),
    "script": ([], ["psql", "--quiet", "--set=ON_ERROR_STOP=1"]),
    "schema": (["--format=custom", "--schema=eventlog", "--schema=eventlog_views"], ["pg_restore", "--exit-on-error"]),
}

Dump = Callable[..., Path]
Restore = Callable[..., str]


def run(*command: Any) -> None:
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def dump(server: Server, tmp_path: Path) -> Dump:
    """Dumps a database of the session's server; returns the file or folder."""
    numbers = count()

    def take(uri: str, *options: str) -> Path:
        path = tmp_path / f"dump {next(numbers)}"
        run(server.programs / "pg_dump", f"--file={path}", *options, uri)
        return path

    return take


@pytest.fixture
def restore(newest_server: Server) -> Iterator[Restore]:
    """Restores a dump as a new database of another cluster; returns its connection string."""
    names: list[str] = []

    def put_back(path: Path, program: str, *options: str, into: str | None = None) -> str:
        if into is None:
            names.append(newest_server.create_database(prefix="restored"))
            into = newest_server.uri(names[-1])
        run(newest_server.programs / program, *options, *(["-f"] if program == "psql" else []), path, "-d", into)
        return into

    yield put_back
    for name in names:
        newest_server.drop_database(name)


@pytest.mark.parametrize("way", WAYS)
async def test_a_restored_log_reads_verifies_and_accepts_appends(
    server: Server, full_log: tuple[str, Reading], dump: Dump, restore: Restore, way: str
) -> None:
    """It reads as it did, is what it was, and goes on."""
    name, expected = full_log
    how, back = WAYS[way]
    uri = restore(dump(server.uri(name), *how), *back)
    await assert_reads(uri, expected)
    with pytest.raises(psycopg.errors.RestrictViolation):
        Tables(uri).run("update {schema}.events set body = ''")
    with pytest.raises(psycopg.errors.RestrictViolation):
        Tables(uri).run("truncate {schema}.events")
    await assert_goes_on(uri, expected)


async def test_an_owner_without_superuser_dumps_and_restores_alone(
    server: Server, newest_server: Server, dump: Dump, restore: Restore
) -> None:
    """Also where a worker has made tables for its views, and without the privileges: setup grants them again."""
    roles = ("an owner alone", "a worker", "a writer")
    for cluster in {newest_server, server}:
        with psycopg.connect(cluster.uri("postgres"), autocommit=True) as conn:
            for role in roles:
                conn.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
    uris = []
    for cluster in (server, newest_server):
        database = cluster.create_database(prefix="owned")
        with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
            conn.execute(sql.SQL('grant create on database {} to "an owner alone"').format(sql.Identifier(database)))
        uris.append(cluster.uri(database))
    source, target = uris
    async with open_saver("sync-string", as_role(source, "an owner alone")) as owner:
        await owner.setup(grant={"projector": "a worker", "writer": "a writer"})
        await put(owner, config_of("1"), "a", {"x": 1})
    async with open_saver("sync-string", as_role(source, "a worker")) as worker:
        assert await worker.log.project(Usage()) == {"usage": 1}
    path = dump(as_role(source, "an owner alone"), "--format=custom", "--schema=eventlog", "--no-privileges")

    restore(path, "pg_restore", "--exit-on-error", into=as_role(target, "an owner alone"))
    async with open_saver("sync-string", as_role(target, "an owner alone")) as owner:
        await owner.setup()
    async with open_saver("sync-string", as_role(target, "a writer")) as writer:
        await put(writer, config_of("1", "a"), "b", {"x": 2})
        with pytest.raises(MissingGrantError):
            await writer.adelete_thread("1")
    for cluster, uri in zip((server, newest_server), uris, strict=True):
        cluster.drop_database(psycopg.conninfo.conninfo_to_dict(uri)["dbname"])


async def test_a_log_restored_under_another_owner_works(
    server: Server, newest_server: Server, full_log: tuple[str, Reading], dump: Dump, restore: Restore
) -> None:
    """`setup` grants the rights again, and the new owner can do all that an owner does.

    With its privileges, a log that was granted to an auditor is not restored: the old owner's default privileges are
    not for another role to alter.
    """
    name, expected = full_log
    roles = ("an owner", "an application")
    clusters = {newest_server, server}
    for cluster in clusters:
        with psycopg.connect(cluster.uri("postgres"), autocommit=True) as conn:
            for role in roles:
                conn.execute(sql.SQL("create role {} login").format(sql.Identifier(role)))
    copy = server.create_database(name)
    try:
        Tables(server.uri(copy)).run(
            "select {schema}.grant_rights_v1('writer', 'an application', 'eventlog_views')",
            "select {schema}.grant_rights_v1('auditor', 'an application', 'eventlog_views')",
        )
        path = dump(server.uri(copy), "--format=custom", "--schema=eventlog", "--schema=eventlog_views")
    finally:
        server.drop_database(copy)
    target = newest_server.create_database(prefix="other")
    uri = newest_server.uri(target)
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute(sql.SQL('grant create on database {} to "an owner"').format(sql.Identifier(target)))
    restore(path, "pg_restore", "--exit-on-error", "--no-owner", "--no-privileges", "--role=an owner", into=uri)
    async with open_saver("sync-string", as_role(uri, "an owner"), **SETTINGS) as owner:
        await owner.setup()
    await assert_reads(as_role(uri, "an owner"), expected)
    async with open_saver("sync-string", as_role(uri, "an application"), **SETTINGS) as saver:
        await saver.setup()
        await grow(saver, "steady", "m", after="l")
        with pytest.raises(MissingGrantError):
            await saver.adelete_thread("steady")
    await assert_goes_on(as_role(uri, "an owner"), expected)
    newest_server.drop_database(target)
    for cluster in clusters:
        cluster.finish_dropping()
        with psycopg.connect(cluster.uri("postgres"), autocommit=True) as conn:
            for role in roles:
                conn.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


@pytest.mark.parametrize(
    "without",
    ["streams|checkpoints|snapshots", "streams", "checkpoints", "snapshots"],
)
async def test_a_restore_of_the_log_alone_is_rebuilt(
    server: Server, full_log: tuple[str, Reading], dump: Dump, restore: Restore, without: str
) -> None:
    """The log alone is enough: rebuilding makes the rest."""
    name, expected = full_log
    options = [f"--exclude-table-data=eventlog.{table}" for table in without.split("|")]
    uri = restore(dump(server.uri(name), "--format=custom", *options), "pg_restore", "--exit-on-error")
    async with open_reader(uri) as saver:
        assert (await saver.log.verify()).problems != [] or without == "snapshots"
        await saver.log.rebuild()
        assert await everything(saver) == expected.tuples
    assert {**projected(Tables(uri)), "snapshots": [], "keyframes": []} == {
        **expected.rows,
        "snapshots": [],
        "keyframes": [],
    }
    await assert_verified(uri, expected.seals)


async def test_schema_and_data_restore_from_separate_dumps(
    server: Server, full_log: tuple[str, Reading], dump: Dump, restore: Restore
) -> None:
    """First the tables, from one dump, then what is in them, from another."""
    name, expected = full_log
    uri = restore(dump(server.uri(name), "--schema-only", "--format=custom"), "pg_restore", "--exit-on-error")
    data = dump(server.uri(name), "--data-only", "--format=custom")
    restore(data, "pg_restore", "--exit-on-error", into=uri)
    await assert_reads(uri, expected)
    await assert_goes_on(uri, expected)


async def test_a_dump_under_load_holds_all_acknowledged_appends(
    server: Server, database_uri: str, dump: Dump, restore: Restore
) -> None:
    """What was acknowledged before the dump began is in it, and of each operation all or nothing."""
    done: list[tuple[str, str]] = []
    stop = threading.Event()
    ready = threading.Barrier(9)

    def write(saver: EventLogSaver, number: int) -> None:
        parent = None
        for step in count():
            thread_id, id_ = f"{number}", f"{step:06}"
            stored = append(saver, thread_id, id_, parent, by=number)
            saver.put_writes(stored, [("x", ["text"] * 50), ("y", step)], "task")
            done.append((thread_id, id_))
            if step % 20 == 19:
                saver.log.prune([thread_id], keep_last=5)
                saver.copy_thread(thread_id, f"{number} {step}")
            parent = id_
            if step == 5:
                ready.wait()
            if stop.is_set():
                return

    with ConnectionPool(database_uri, min_size=4, max_size=8, kwargs={"autocommit": True}) as pool:
        saver = EventLogSaver(pool, snapshot_floor_bytes=2000)
        with ThreadPoolExecutor(8) as threads:
            writing = [threads.submit(write, saver, number) for number in range(8)]
            try:
                ready.wait()
                before = set(done)
                path = dump(database_uri, "--format=directory", "--jobs=2")
                after = set(done)
            finally:
                stop.set()
            for each in writing:
                each.result()
    assert len(after) > len(before)
    uri = restore(path, "pg_restore", "--exit-on-error", "--jobs=3")
    await assert_verified(uri, [])
    tables, original = Tables(uri), Tables(database_uri)
    latest = dict(tables.rows("select thread_id, latest_checkpoint_id from {schema}.streams"))
    for thread_id, id_ in before:
        assert latest[thread_id] >= id_
    async with open_reader(uri) as reader:
        for thread_id in map(str, range(8)):
            found = await reader.aget_tuple(config_of(thread_id))
            assert found.checkpoint["channel_values"]["by"] == int(thread_id)
        await put(reader, config_of("0", latest["0"]), "a last one", {"x": 1})
    events = "select seq, digest from {schema}.events where thread_id = '1' and as_of is null"
    there = dict(original.rows(events))
    # A prune later than the dump took some out of the original, but the numbers of both mean the same.
    assert all(there.get(seq, digest) == digest for seq, digest in tables.rows(events))
