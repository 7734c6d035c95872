"""Erasing, copying, retention and partitions on a cluster: on all nodes or on none, through each node."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from eventlog.errors import EventLogError, ThreadExistsError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, put, values_of
from tests.support.cluster import Cluster
from tests.support.soundness import assert_sound


def node_of(uri: str, thread_id: str) -> int:
    """The port of the node that has a thread."""
    with psycopg.connect(uri) as conn:
        ((port,),) = conn.execute(
            "select n.nodeport from pg_dist_placement p join pg_dist_node n using (groupid)"
            " where p.shardid = get_shard_id_for_distribution_column('eventlog.streams', %s::text)",
            (thread_id,),
        )
    return int(port)


def threads_on_two_nodes(uri: str) -> tuple[str, str]:
    """The ids of two threads that two nodes have."""
    ids = [f"t{number}" for number in range(50)]
    first = node_of(uri, ids[0])
    return ids[0], next(each for each in ids if node_of(uri, each) != first)


def partitions_of(uri: str) -> list[str]:
    """The names of the partitions that are attached on a node."""
    with psycopg.connect(uri) as conn:
        return [
            name
            for (name,) in conn.execute(
                "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid"
                " where i.inhparent = 'eventlog.events'::regclass order by 1"
            )
        ]


def shards_of(uri: str, partition: str) -> int:
    """How many shards of a partition a node stores."""
    with psycopg.connect(uri) as conn:
        conn.execute("set citus.override_table_visibility to off")
        ((count,),) = conn.execute(
            "select count(*) from pg_class where relname ~ %s and relkind = 'r'", (rf"^{partition}_\d{{4,}}$",)
        )
    return int(count)


def everywhere(cluster: Cluster, database: str) -> list[list[str]]:
    return [partitions_of(node.uri(database)) for node in cluster.nodes]


def make_old(uri: str) -> str:
    """Give the log a partition of long ago, without events; returns its name."""
    with psycopg.connect(uri, autocommit=True) as conn:
        ((name,),) = conn.execute("select eventlog.ensure_partitions_v1('2020-01-05', 0, 'month')")
    return str(name)


async def grow(saver: Any, thread_id: str, count: int = 3, *, ns: str = "") -> None:
    config = config_of(thread_id, ns=ns)
    for number in range(count):
        config = await put(saver, config, f"{number}", {"x": [f"{thread_id} {number}"] * 20})
        await saver.aput_writes(config, [("x", number)], "task")


# --- threads on two nodes


@pytest.mark.parametrize("through", [0, 1, 2])
async def test_a_thread_is_copied_to_another_node(through: int, cluster: Cluster, database: str) -> None:
    uri = cluster.nodes[through].uri(database)
    source, target = threads_on_two_nodes(uri)
    async with open_saver("sync-pool", uri) as saver:
        await grow(saver, source)
        await grow(saver, source, ns="sub:1")
        await saver.acopy_thread(source, target)
        assert await values_of(saver, config_of(target)) == await values_of(saver, config_of(source))
        # The same copy again changes nothing; another one is refused.
        before = Tables(uri).events()
        await saver.acopy_thread(source, target)
        assert Tables(uri).events() == before
        await grow(saver, "other", 1)
        with pytest.raises(ThreadExistsError):
            await saver.acopy_thread("other", target)
        await saver.adelete_thread(source)
        assert await values_of(saver, config_of(target)) == {"x": [f"{source} 2"] * 20}
        assert (await saver.log.verify()).problems == []
    assert_sound(Tables(uri))


async def test_a_copy_that_fails_leaves_nothing_on_either_node(victims: Cluster, victim: str) -> None:
    """The target's node does not answer; when it is back, the same call copies."""
    uri = victims.uri(victim)
    source, target = threads_on_two_nodes(uri)
    async with open_saver("sync-pool", uri) as saver:
        await grow(saver, source)
        (stopped,) = [node for node in victims.nodes if node.port == node_of(uri, target)]
        stopped.stop()
        with pytest.raises(EventLogError, match=str(stopped.port)):
            await saver.acopy_thread(source, target)
        stopped.start()
        assert await saver.aget_tuple(config_of(target)) is None
        await saver.acopy_thread(source, target)
        assert await values_of(saver, config_of(target)) == await values_of(saver, config_of(source))


# --- partitions


@pytest.mark.parametrize("through", [1, 2])
async def test_an_append_through_a_worker_makes_its_partition(through: int, cluster: Cluster, database: str) -> None:
    """The coordinator makes it, on all nodes."""
    Tables(cluster.uri(database)).drop_partitions()
    assert everywhere(cluster, database) == [[], [], []]
    async with open_saver("sync-pool", cluster.nodes[through].uri(database)) as saver:
        await grow(saver, "1")
        made = partitions_of(cluster.uri(database))
        assert len(made) == 4
        assert everywhere(cluster, database) == [made] * 3
        assert await saver.log.make_partitions() == []
        assert len(await saver.log.make_partitions(5)) == 2
        assert (await saver.log.verify()).problems == []


async def test_a_worker_that_cannot_reach_the_coordinator_says_what_to_do(victims: Cluster, victim: str) -> None:
    uri = victims.uri(victim)
    Tables(uri).drop_partitions()
    worker = victims.nodes[1]
    here = next(f"t{number}" for number in range(50) if node_of(uri, f"t{number}") == worker.port)
    async with open_saver("sync-connection", worker.uri(victim)) as saver:
        victims.nodes[0].stop()
        try:
            with pytest.raises(EventLogError, match="coordinator of the Citus cluster"):
                await grow(saver, here)
        finally:
            victims.nodes[0].start()
        await grow(saver, here)


async def test_a_partition_is_dropped_on_all_nodes_or_on_none(victims: Cluster, victim: str) -> None:
    """A worker is stopped: the error names it, nothing is dropped, and the same call drops when it is back."""
    uri = victims.uri(victim)
    old = make_old(uri)
    stopped = victims.nodes[2]
    before = everywhere(victims, victim)
    shards = [shards_of(node.uri(victim), old) for node in victims.nodes]
    assert sum(shards) == 4
    with EventLogSaver.from_conn_string(uri) as saver:
        stopped.stop()
        try:
            with pytest.raises(EventLogError, match=str(stopped.port)):
                saver.log.retain(timedelta(days=90))
        finally:
            stopped.start()
        assert everywhere(victims, victim) == before
        assert [shards_of(node.uri(victim), old) for node in victims.nodes] == shards
        assert Tables(uri).one("select count(*) from {schema}.partitions where dropped_at is not null") == 0

        (dropped,) = saver.log.retain(timedelta(days=90)).partitions
        assert dropped.name == old
        assert everywhere(victims, victim) == [[each for each in names if each != old] for names in before]
        assert [shards_of(node.uri(victim), old) for node in victims.nodes] == [0, 0, 0]
        for node in victims.nodes:
            assert Tables(node.uri(victim)).one(
                "select dropped_at is not null from {schema}.partitions where name = %s", old
            )


def test_partitions_are_made_on_all_nodes_or_on_none(victims: Cluster, victim: str) -> None:
    uri = victims.uri(victim)
    before = everywhere(victims, victim)
    stopped = victims.nodes[1]
    with EventLogSaver.from_conn_string(uri) as saver:
        stopped.stop()
        try:
            with pytest.raises(EventLogError, match=str(stopped.port)):
                saver.log.make_partitions(8)
        finally:
            stopped.start()
        assert everywhere(victims, victim) == before
        assert len(saver.log.make_partitions(8)) == 5
        assert [len(names) for names in everywhere(victims, victim)] == [9, 9, 9]


def test_a_partition_is_dropped_by_the_coordinator_alone(cluster: Cluster, database: str) -> None:
    """On a worker the error says where to connect, and nothing is dropped."""
    make_old(cluster.uri(database))
    before = everywhere(cluster, database)
    with (
        EventLogSaver.from_conn_string(cluster.nodes[1].uri(database)) as saver,
        pytest.raises(EventLogError, match="coordinator"),
    ):
        saver.log.retain(timedelta(days=90))
    assert everywhere(cluster, database) == before


def test_a_lock_on_a_worker_delays_the_drop_and_no_append(cluster: Cluster, database: str) -> None:
    """The drop gives up after a moment, on whichever node it waits, and is tried again."""
    uri = cluster.uri(database)
    make_old(uri)
    with (
        psycopg.connect(cluster.nodes[1].uri(database)) as reader,
        psycopg.connect(uri, autocommit=True) as conn,
        EventLogSaver.from_conn_string(uri) as saver,
    ):
        # A statement that looks at all partitions locks them until its transaction ends.
        reader.execute("lock table only eventlog.events in access share mode")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            conn.execute("select eventlog.drop_partition_v1('events_20200101', null)")
        reader.rollback()
        assert len(saver.log.retain(timedelta(days=90)).partitions) == 1


async def test_sizes_count_all_shards(cluster: Cluster, database: str) -> None:
    async with open_saver("sync-pool", cluster.uri(database)) as saver:
        for number in range(20):
            await grow(saver, f"{number}")
        found = (await saver.log.partitions(exact=True)).partitions
        assert [each.rows for each in found] == [120, 0, 0, 0]
        shards = Tables(cluster.uri(database)).rows(
            "select table_name::text, sum(shard_size)::bigint from citus_shards group by 1"
        )
        assert {f"eventlog.{each.name}": each.bytes for each in found}.items() <= dict(shards).items()


# --- purging


async def test_a_purge_rewrites_the_shards_on_all_nodes(cluster: Cluster, database: str) -> None:
    uri = cluster.uri(database)
    ids = threads_on_two_nodes(uri)
    async with open_saver("sync-pool", uri) as saver:
        for each in ids:
            await grow(saver, each)
            await saver.adelete_thread(each)

        def files() -> set[tuple[int, str, int]]:
            found = set()
            for node in cluster.nodes:
                with psycopg.connect(node.uri(database)) as conn:
                    conn.execute("set citus.override_table_visibility to off")
                    for name, file in conn.execute(
                        "select relname::text, relfilenode::bigint from pg_class"
                        r" where relname ~ '^(streams|checkpoints|snapshots|events_\d+)_\d{4,}$' and relkind = 'r'"
                        " and relnamespace = 'eventlog'::regnamespace and pg_table_size(oid) > 0"
                    ):
                        found.add((node.port, name, file))
            return found

        before = files()
        done = await saver.log.purge(list(ids))
        assert done.is_complete
        after = files()
        names = {each.name for each in done.tables}
        assert {"checkpoints", "snapshots", "streams"} <= names
        kept = {each[1] for each in before & after}
        assert not any(each.startswith(("checkpoints_", "snapshots_", "streams_")) for each in kept)
        current = next(each for each in names if each.startswith("events_"))
        assert not any(each.startswith(f"{current}_") for each in kept)


async def test_a_transaction_on_a_worker_that_may_see_erased_rows_is_named(cluster: Cluster, database: str) -> None:
    uri = cluster.uri(database)
    for thread_id in threads_on_two_nodes(uri):
        (node,) = [each for each in cluster.nodes if each.port == node_of(uri, thread_id)]
        async with open_saver("sync-pool", uri) as saver:
            await grow(saver, thread_id)
            with psycopg.connect(node.uri(database)) as old:
                old.execute("set transaction isolation level repeatable read")
                old.execute("select from pg_class")
                await saver.adelete_thread(thread_id)
                (holder,) = (await saver.log.purge([thread_id])).held_by
                assert holder.startswith(f"process {old.info.backend_pid} of user ")
                assert holder.endswith(f" on node 127.0.0.1:{node.port}")
            assert (await saver.log.purge([thread_id])).held_by == []


def test_the_statement_of_a_drop_runs_on_one_node(database_uri: str) -> None:
    """Nothing is left prepared on a node."""
    make_old(database_uri)
    with psycopg.connect(database_uri, autocommit=True) as conn:
        conn.execute(sql.SQL("select eventlog.drop_partition_v1('events_20200101', 'me')"))
        rows = conn.execute("select result from run_command_on_all_nodes('select count(*) from pg_prepared_xacts')")
        assert {result for (result,) in rows} == {"0"}
