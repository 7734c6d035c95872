"""Physical copies of a server: recovery to a point in time in the middle of activity, and a copy of its folder.

Savers that lived through it remember states of a future that did not happen, under numbers that are handed out again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import psycopg
import pytest

from eventlog.errors import CursorError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.backup.cluster import Cluster, run_cluster
from tests.backup.load import Load
from tests.feed.test_feed import tail
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, put, values_of
from tests.support.full_log import assert_verified
from tests.support.server import Server

SETTINGS = {
    # What was acknowledged must survive; a crash of the machine is not expected.
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "archive_mode": "on",
}
LARGE = ["large " * 10] * 60


@pytest.fixture
def cluster(server: Server) -> Iterator[Cluster]:
    with run_cluster(server.programs, **SETTINGS, archive_command="cp %p ../archive_%f") as running:
        yield running


class Moment(NamedTuple):
    """A point to recover to."""

    setting: str
    value: str
    before: set[tuple[str, str]]
    """What was acknowledged before it."""
    started: set[tuple[str, str]]
    """What was begun before it, or at the same time."""


def moments(cluster: Cluster, load: Load) -> Iterator[Moment]:
    """A point of each kind, while others write."""
    statements = {
        "recovery_target_name": "select pg_create_restore_point('a point')::text, 'a point'",
        "recovery_target_time": "select null, clock_timestamp()::text",
        "recovery_target_xid": "insert into marks default values returning null, pg_current_xact_id()::xid::text",
    }
    with psycopg.connect(cluster.uri(), autocommit=True) as conn:
        conn.execute("create table marks (id bigint generated always as identity)")
        for setting, statement in statements.items():
            load.wait_for(25)
            before = set(load.done)
            ((_, value),) = conn.execute(statement.encode()).fetchall()
            yield Moment(setting, value, before, set(load.started))


async def test_recovery_to_a_point_keeps_what_was_acknowledged_before(cluster: Cluster) -> None:
    """What was acknowledged before is there, what was begun later is not, and nothing half; writers go on."""
    uri = cluster.uri()
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.setup()
    cluster.run("pg_basebackup", "-D", cluster.home / "backup", "--checkpoint=fast", "--wal-method=none", "-d", uri)
    async with (
        open_saver("sync-string", uri) as sync,
        open_saver("async-string", uri) as asynchronous,
    ):
        savers = {"sync": sync, "async": asynchronous}
        parents = {}
        for thread_id, saver in savers.items():
            parents[thread_id] = await put(saver, config_of(thread_id), "1", {"x": LARGE})
        with Load(uri) as load:
            found = list(moments(cluster, load))
            load.wait_for(20)
        for thread_id, saver in savers.items():
            # The same ids and numbers will be handed out again.
            child = await put(saver, parents[thread_id], "2", {"x": [*LARGE, "never was"], "y": "never was"})
            await put(saver, child, "3", {"x": [*LARGE, "never was", "either"], "y": "never was"})
        future = (await tail(sync))[-1].cursor
        cluster.stop()

        for number, moment in enumerate(found):
            data = cluster.copy(cluster.home / "backup", f"recovered_{number}")
            with (data / "postgresql.auto.conf").open("a") as conf:
                conf.write(f"{moment.setting} = '{moment.value}'\n")
                conf.write("recovery_target_action = 'promote'\narchive_mode = off\n")
                conf.write("restore_command = 'cp ../archive_%f %p || cp ../data/pg_wal/%f %p'\n")
            (data / "recovery.signal").touch()
            cluster.start(data)
            assert_as_of(cluster, moment)
            await assert_verified(uri, [])
            for thread_id, saver in savers.items():
                await assert_forgets_the_future(uri, thread_id, saver)
            with pytest.raises(CursorError):
                await tail(sync, future)
            with Load(uri) as load:
                load.wait_for(20)
            assert {event.cursor.generation for event in await tail(sync)} == {1}
            await assert_verified(uri, [])
            cluster.stop("immediate")


def assert_as_of(cluster: Cluster, moment: Moment) -> None:
    tables = Tables(cluster.uri())
    saved = "select thread_id, checkpoint_id from {schema}.events where kind = %s"
    checkpoints, written = (set(tables.rows(saved, kind)) for kind in (1, 2))
    erased = dict(tables.rows("select thread_id, erased_through from {schema}.streams where erased_through <> ''"))
    for thread_id, id_ in moment.before:
        assert (thread_id, id_) in written & checkpoints or id_ <= erased[thread_id], moment.setting
    ours = {each for each in checkpoints | written if each[0].startswith("load")}
    assert ours <= moment.started, moment.setting
    assert ours, moment.setting


async def assert_forgets_the_future(uri: str, thread_id: str, saver: Any) -> None:
    """Another saver appends under the numbers that this saver knows from the future; it does not mix the two up."""
    first = config_of(thread_id, "1")
    async with open_saver("sync-string", uri) as other:
        second = await put(other, first, "2", {"x": [*LARGE, "is"], "z": "is"})
        third = await put(saver, second, "3", {"w": 1}, versions={"x": "2", "z": "2", "w": "3"}, new={"w": "3"})
        await saver.aput_writes(second, [("x", [*LARGE, "is", "written"])], "task")
        for reader in (saver, other):
            assert await values_of(reader, second) == {"x": [*LARGE, "is"], "z": "is"}
            assert await values_of(reader, third) == {"x": [*LARGE, "is"], "z": "is", "w": 1}
            found = await reader.aget_tuple(second)
            assert found.pending_writes == [("task", "x", [*LARGE, "is", "written"])]
    seqs = Tables(uri).rows("select seq from {schema}.events where thread_id = %s order by 1", thread_id)
    assert seqs == [(1,), (2,), (3,), (4,)]


async def test_a_copied_data_folder_keeps_all_acknowledged_appends(cluster: Cluster) -> None:
    """Of a server that was stopped, however hard, the copy has all that was acknowledged; writers go on with it."""
    uri = cluster.uri()
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.setup()
    data = cluster.running
    assert data is not None
    with Load(uri) as load:
        load.wait_for(30)
        cluster.stop("immediate")
        cluster.start(cluster.copy(data, "copied"))
        acknowledged = list(load.done)
        load.wait_for(20)
    tables = Tables(uri)
    latest = dict(tables.rows("select thread_id, latest_checkpoint_id from {schema}.streams"))
    assert all(latest[thread_id] >= id_ for thread_id, id_ in acknowledged)
    await assert_verified(uri, [])
