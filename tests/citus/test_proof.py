"""Verification and seals of a distributed log."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from eventlog.rights import Rights
from langgraph.checkpoint.eventlog import EventLogSaver, verify_proof
from tests.citus.distributed import rows_on, thread_on
from tests.support.adapters import open_saver
from tests.support.checkpoints import TEXTS, config_of, put
from tests.support.cluster import Cluster, Node
from tests.support.signing import make_keys

#: What an administrator of one worker runs there, how it is undone, and what `verify` says of it.
ON_A_WORKER = {
    "a function is replaced": (
        "do $do$ begin execute replace(pg_get_functiondef('eventlog.read_checkpoint_v1'::regproc),"
        " 'c.parent_checkpoint_id, c.keyframe_seq', 'null, c.keyframe_seq'); end $do$",
        ["function read_checkpoint_v1 was altered: its source is another one"],
    ),
    "a function gets other rights": (
        "alter function eventlog.event_leaf_v1 security definer",
        ["function event_leaf_v1 was altered: security definer"],
    ),
    "a shard is hidden by row security": (
        "alter table eventlog.{streams} enable row level security",
        ["relation {streams} was altered: row security"],
    ),
    "a partition's shard is hidden by row security": (
        "alter table eventlog.{events_20} enable row level security",
        ["relation {events_20} was altered: row security"],
    ),
    "a trigger changes what is inserted into a shard": (
        "create function eventlog.change() returns trigger language plpgsql as 'begin return null; end';"
        "create trigger aaa before insert on eventlog.{streams} for each row execute function eventlog.change()",
        ["function change was not made by this version", "trigger aaa on {streams} was not made by this version"],
    ),
    "an index of a shard refuses rows": (
        "create unique index mine on eventlog.{checkpoints} (thread_id, seq)",
        ["index mine on {checkpoints} was not made by this version"],
    ),
    "a shard's column may be null": (
        "alter table eventlog.{streams} alter column digest drop not null",
        ["relation {streams} was altered: column digest bytea"],
    ),
    "a view stands in place of a shard": (
        "alter table eventlog.{snapshots} rename to theirs;"
        "create view eventlog.{snapshots} as select * from eventlog.theirs",
        [
            "constraint snapshots_pkey on snapshots is missing for its shard {snapshots}",
            "index snapshots_pkey on snapshots is missing for its shard {snapshots}",
            "relation {snapshots} was altered: kind v, .*",
        ],
    ),
    "a shard of a partition has rows of another table": (
        "create table public.more () inherits (eventlog.{streams})",
        [r"table public\.more inheriting from {streams} was not made by this version"],
    ),
    "a role may insert into a shard": (
        "grant insert on eventlog.{events_20} to public",
        ["relation {events_20} was altered: insert for all"],
    ),
    "a copy of a small table lost a constraint": (
        "alter table eventlog.{seals} drop constraint seals_number_check",
        ["constraint seals_number_check on seals is missing for its shard {seals}"],
    ),
}


def shard_on(cluster: Cluster, node: Node, database: str, table: str) -> str:
    """The first shard of a table, or of partitions, on a node."""
    ((name,),) = rows_on(
        cluster.nodes[0],
        database,
        "select min(c.relname || '_' || s.shardid)"
        " from citus_shards as s inner join pg_class as c on c.oid = s.table_name"
        " where s.nodeport = %s and c.relname ~ ('^' || %s || '[0-9]*$')",
        node.port,
        table,
    )
    return str(name)


def threads_on(cluster: Cluster, database: str) -> list[str]:
    """The id of a thread on each worker."""
    return [thread_on(cluster, node, database) for node in cluster.nodes[1:]]


async def grow(saver: Any, thread_id: str, ids: str, ns: str = "") -> None:
    config = config_of(thread_id, ns=ns)
    for id_ in ids:
        config = await put(saver, config, id_, {"x": [*TEXTS, id_]}, metadata={"run_id": id_})
        await saver.aput_writes(config, [("x", [*TEXTS, id_])], "task")


@pytest.fixture
def new_login(cluster: Cluster, database: str) -> Iterator[Callable[[Rights], str]]:
    """Makes a role that may log in, with a set of rights; returns its name."""
    names: list[str] = []

    def create(rights: Rights) -> str:
        name = f"proof_{rights}"
        with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
            conn.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(name)))
            conn.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
            EventLogSaver(conn).setup(grant={rights: name})
        names.append(name)
        return name

    yield create
    with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
        for name in names:
            conn.execute(sql.SQL("drop owned by {}").format(sql.Identifier(name)))
            conn.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.mark.parametrize("through", [0, 1], ids=["coordinator", "worker"])
async def test_a_sound_log_has_no_problems_through_any_node(through: int, cluster: Cluster, database: str) -> None:
    """After each kind of operation: those on the coordinator and those on the thread's node number events in turn."""
    async with open_saver("async-pool", cluster.nodes[through].uri(database), snapshot_floor_bytes=4000) as saver:
        for thread_id in threads_on(cluster, database):
            for ns in ("", "sub|graph:1"):
                await grow(saver, thread_id, "abcdef", ns)
            await saver.log.prune([thread_id], keep_last=3)
            await grow(saver, thread_id, "ghi")
            await saver.log.prune([thread_id], keep_last=2)
            await grow(saver, thread_id, "jk")
            await saver.acopy_thread(thread_id, f"copy of {thread_id}")
            await grow(saver, f"gone {thread_id}", "a")
            await saver.adelete_thread(f"gone {thread_id}")
        found = await saver.log.verify()
        assert found.problems == []
        assert found.streams == 10
        seal = await saver.log.seal()
        for thread_id in threads_on(cluster, database):
            assert verify_proof(await saver.log.prove(thread_id), seal)
            assert (await saver.log.verify([thread_id])).problems == []
        found = await saver.log.verify()
        assert (found.problems, found.sealed_streams, found.later_events) == ([], 10, 0)


async def test_a_moved_shard_is_no_problem(cluster: Cluster, database: str) -> None:
    """The events of its streams have positions and transaction ids of two nodes."""
    first, second = cluster.nodes[1:]
    thread_id = thread_on(cluster, first, database)
    async with open_saver("async-pool", cluster.uri(database)) as saver:
        await grow(saver, thread_id, "abc")
        await saver.log.seal()
        rows_on(
            cluster.nodes[0],
            database,
            "select citus_move_shard_placement(get_shard_id_for_distribution_column('eventlog.streams', %s::text),"
            " '127.0.0.1', %s, '127.0.0.1', %s, 'block_writes')",
            *(thread_id, first.port, second.port),
        )
        await grow(saver, thread_id, "def")
        assert (await saver.log.verify()).problems == []
        assert (await saver.log.seal()).changed == 1


async def test_a_transaction_id_that_its_node_had_not_given_is_found(cluster: Cluster, database: str) -> None:
    """Each node has counted to another one."""
    async with open_saver("async-pool", cluster.uri(database)) as saver:
        threads = threads_on(cluster, database)
        for thread_id in threads:
            await grow(saver, thread_id, "ab")
        xids = dict(
            rows_on(
                cluster.nodes[0], database, "select thread_id, max(xid::text::bigint) from eventlog.events group by 1"
            )
        )
        for thread_id in threads:
            rows_on(
                cluster.nodes[0],
                database,
                "update eventlog.events set xid = %s where thread_id = %s and seq = 4 returning 1",
                *(f"{xids[thread_id] + 100_000}", thread_id),
            )
        assert [(each.thread_id, each.seq, each.what) for each in (await saver.log.verify()).problems] == [
            (thread_id, 4, "its transaction id is one that the server had not given") for thread_id in sorted(threads)
        ]


async def test_a_log_sealed_while_it_grows_on_all_nodes_has_no_problems(cluster: Cluster, database: str) -> None:
    """Two clients append, prune and delete on both workers. Then one event is altered, and one thread gone."""
    async with (
        open_saver("async-pool", cluster.uri(database)) as writer,
        open_saver("async-pool", cluster.nodes[1].uri(database)) as other,
        open_saver("async-pool", cluster.uri(database)) as saver,
    ):
        stopped = False

        async def write(client: Any, name: str) -> None:
            number = 0
            while not stopped:
                await grow(client, f"{name} {number % 7}", f"{number:05}"[-1] + "x")
                number += 1
                if number % 10 == 0:
                    await client.log.prune([f"{name} {number % 7}"], keep_last=1)
                if number % 25 == 0:
                    await client.adelete_thread(f"{name} {(number + 3) % 7}")

        writing = [
            asyncio.ensure_future(write(client, f"{client is writer} {each}"))
            for client in (writer, other)
            for each in range(2)
        ]
        try:
            for number in range(12):
                seal = await saver.log.seal()
                assert seal.number == number + 1
                assert (await saver.log.verify()).problems == []
        finally:
            stopped = True
            await asyncio.gather(*writing)
        threads = threads_on(cluster, database)
        for thread_id in threads:
            await grow(saver, thread_id, "abc")
        last = await saver.log.seal()
        verified = await saver.log.verify(seal=f"{last.number}:{last.digest.hex()}")
        assert (verified.problems, verified.later_events) == ([], 0)
        altered, gone = threads
        rows_on(
            cluster.nodes[0],
            database,
            "update eventlog.events set body = body || '\\x00' where thread_id = %s and seq = 3 returning 1",
            altered,
        )
        with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
            for table in ("events", "streams", "checkpoints", "snapshots"):
                conn.execute(f"delete from eventlog.{table} where thread_id = %s", (gone,))
        problems = (await saver.log.verify()).problems
        assert {(each.thread_id, each.seq) for each in problems if each.thread_id} == {(altered, 3)}
        assert [each.seq for each in problems if not each.thread_id and each.stream] == [6]


async def test_a_seal_has_the_end_of_a_stream_that_a_node_still_has(cluster: Cluster, database: str) -> None:
    """A retention that ended it is committed here, and not there yet: its row in `streams` is still there."""
    async with open_saver("async-pool", cluster.uri(database)) as saver:
        await grow(saver, "ending", "ab")
        await grow(saver, "going on", "ab")
        await saver.log.seal()
        await grow(saver, "ending", "c")
        with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
            conn.execute(
                "insert into eventlog.ended (stream, seq, digest, ended_at, partition, recorded_at, previous, leaf,"
                " record) select name, seq + 1, sha256(digest), now(), 'events_1', now(), digest, sha256(''), '{}'"
                " from eventlog.streams where thread_id = 'ending'"
            )
        seal = await saver.log.seal()
        assert (seal.streams, seal.changed) == (1, 1)
        changed = rows_on(
            cluster.nodes[0], database, "select seq, ended_at is not null from eventlog.sealed where seal = 2"
        )
        assert changed == [(7, True)]


async def test_the_lock_of_a_seal_holds_on_all_nodes(cluster: Cluster, database: str, tmp_path: Path) -> None:
    """A second sealer on the coordinator is told so at once; one on a worker waits for the first. Both take a seal."""
    keys = make_keys(tmp_path)
    async with (
        open_saver("async-pool", cluster.uri(database)) as saver,
        open_saver("async-pool", cluster.nodes[1].uri(database)) as on_a_worker,
    ):
        await grow(saver, "1", "a")
        with psycopg.connect(cluster.uri(database)) as conn:
            conn.execute("select eventlog.begin_seal_v1()")
            assert rows_on(cluster.nodes[0], database, "select (eventlog.begin_seal_v1()).o_number") == [(None,)]
            waiting = asyncio.ensure_future(on_a_worker.log.seal(key=keys.private))
            await asyncio.sleep(1)
            assert not waiting.done()
            conn.rollback()
        seal = await waiting
        assert seal.number == 1
        verified = await saver.log.verify(seal=seal.document, public_key=keys.public)
        assert verified.problems == []


async def test_an_auditor_verifies_and_a_sealer_seals(
    cluster: Cluster, database: str, new_login: Callable[[Rights], str]
) -> None:
    """Without any other right; the auditor reads through a session that may only read."""
    uris = {
        rights: cluster.uri(database).replace("postgres@", f"{new_login(rights)}@") for rights in ("auditor", "sealer")
    }
    read_only = {"autocommit": True, "options": "-c default_transaction_read_only=on"}
    async with (
        open_saver("async-pool", cluster.uri(database)) as saver,
        open_saver("sync-pool", uris["auditor"], connect=read_only) as auditor,
        open_saver("sync-pool", uris["sealer"]) as sealer,
    ):
        threads = threads_on(cluster, database)
        for thread_id in threads:
            await grow(saver, thread_id, "abc")
        seal = await sealer.log.seal(actor="a sealer")
        assert (seal.by, seal.streams) == ("proof_sealer", 2)
        assert (await auditor.log.verify()).problems == []
        assert (await auditor.log.verify(threads)).problems == []
        assert verify_proof(await auditor.log.prove(threads[0]), seal)
        with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
            conn.execute("delete from eventlog.streams where thread_id = %s", (threads[1],))
        assert {each.thread_id for each in (await auditor.log.verify()).problems} == {threads[1]}


@pytest.mark.parametrize("what", ON_A_WORKER)
def test_code_that_differs_on_a_worker_is_named(what: str, cluster: Cluster, database: str) -> None:
    script, expected = ON_A_WORKER[what]
    node = cluster.nodes[2]
    shards = {
        table: shard_on(cluster, node, database, table)
        for table in ("streams", "events_20", "checkpoints", "snapshots", "seals")
    }
    with EventLogSaver.from_conn_string(cluster.uri(database)) as saver:
        assert saver.log.verify().problems == []
        with psycopg.connect(node.uri(database), autocommit=True) as conn:
            conn.execute("set citus.enable_ddl_propagation to off; set citus.enable_manual_changes_to_shards to on")
            conn.execute(script.format(**shards).encode())
        found = [each.what for each in saver.log.verify().problems]
    assert len(found) == len(expected), found
    for problem, pattern in zip(found, expected, strict=True):
        text = rf"the database's code: {pattern.format(**shards)} \(on node 127\.0\.0\.1:{node.port}\)"
        assert re.fullmatch(text, problem), found


def test_a_log_on_one_server_of_a_cluster_lost_its_triggers(cluster: Cluster, plain: str) -> None:
    """Only of a log that is distributed they are not expected."""
    with psycopg.connect(cluster.uri(plain), autocommit=True) as conn:
        saver = EventLogSaver(conn)
        assert saver.log.verify().problems == []
        conn.execute("drop trigger events_immutable on eventlog.events")
        conn.execute("drop trigger streams_lost on eventlog.streams")
        found = [each.what for each in saver.log.verify().problems]
    assert "the database's code: trigger events_immutable on events is missing" in found
    assert found[-1] == "the database's code: trigger streams_lost on streams is missing"


def test_a_table_that_is_not_distributed_is_named(cluster: Cluster, database: str) -> None:
    with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
        conn.execute("select undistribute_table('eventlog.set_aside')")
        found = [each.what for each in EventLogSaver(conn).log.verify().problems]
    assert "the database's code: table set_aside is not distributed to all nodes" in found
