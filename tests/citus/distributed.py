"""What a distributed log is, on each node of a cluster."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from typing_extensions import LiteralString

from eventlog.distribution import COPIED, DELEGATED, DISTRIBUTED
from tests.faults.proxy import Proxy
from tests.support.cluster import Cluster, Node

__all__ = ["assert_distributed", "functions_on", "move_node", "port_of", "rows_on", "thread_on", "wait_for_prepared"]

TABLES = """
    select c.relname::text, d.partmethod::text, (select count(*) from pg_dist_shard as s where s.logicalrelid = c.oid)
    from pg_class as c left join pg_dist_partition as d on d.logicalrelid = c.oid
    where c.relnamespace = 'eventlog'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
"""

#: Each function, what it says and what is set for it, and whether Citus runs it on the node of its thread.
FUNCTIONS = """
    select
        p.oid::regprocedure::text, md5(p.prosrc), array_to_string(p.proconfig, ' '), p.prosecdef, p.proacl::text,
        o.objid is not null, o.distribution_argument_index is not null
    from pg_proc as p left join pg_dist_object as o on o.classid = 'pg_proc'::regclass and o.objid = p.oid
    where p.pronamespace = 'eventlog'::regnamespace and p.prorettype <> 'trigger'::regtype
    order by 1
"""

GUARDS = """
    select t.tgname from pg_trigger as t inner join pg_class as c on c.oid = t.tgrelid
    where c.relnamespace = 'eventlog'::regnamespace and t.tgname in ('events_immutable', 'events_not_truncated')
"""


def rows_on(node: Node, database: str, query: LiteralString, *params: Any) -> list[tuple[Any, ...]]:
    """The rows of a query on one node, as the superuser."""
    with psycopg.connect(node.uri(database), autocommit=True) as conn:
        return conn.execute(query, params).fetchall()


def functions_on(node: Node, database: str) -> dict[str, tuple[Any, ...]]:
    """The log's functions there, by their names."""
    return {
        name.split("(")[0].removeprefix("eventlog."): tuple(rest) for name, *rest in rows_on(node, database, FUNCTIONS)
    }


def assert_distributed(cluster: Cluster, database: str, *, shards: int = 4) -> None:
    """Every table is distributed or has its copies, and every node has the same functions, of which those on one thread
    run on its node."""
    tables = {name: tuple(rest) for name, *rest in rows_on(cluster.nodes[0], database, TABLES)}
    assert tables == {**dict.fromkeys(DISTRIBUTED, ("h", shards)), **dict.fromkeys(COPIED, ("n", 1))}
    colocated = rows_on(
        cluster.nodes[0],
        database,
        "select count(distinct colocationid) from pg_dist_partition where partmethod = 'h'",
    )
    assert colocated == [(1,)]
    assert rows_on(cluster.nodes[0], database, GUARDS) == []
    here, *others = cluster.on_all(lambda node: functions_on(node, database))
    for other in others:
        assert other == here
    assert not [name for name, (_, settings, *_) in here.items() if "force_generic_plan" in (settings or "")]
    assert not [name for name, (*_, is_known, _) in here.items() if not is_known]
    assert {name for name, (*_, is_delegated) in here.items() if is_delegated} == set(DELEGATED)


def port_of(cluster: Cluster, database: str, thread_id: str) -> int:
    """The port of the node that has a thread, as the coordinator knows it."""
    ((port,),) = rows_on(
        cluster.nodes[0],
        database,
        "select nodeport from citus_shards where shardid ="
        " get_shard_id_for_distribution_column('eventlog.streams', %s::text)",
        thread_id,
    )
    return int(port)


def thread_on(cluster: Cluster, node: Node | Proxy, database: str) -> str:
    """The id of a thread on a node, or on the node behind a proxy."""
    return next(each for each in map(str, range(1000)) if port_of(cluster, database, each) == node.port)


def move_node(coordinator: Node, database: str, old: int, new: int) -> None:
    """Tell a cluster, in one database, that a node has another port."""
    ((number,),) = rows_on(coordinator, database, "select nodeid from pg_dist_node where nodeport = %s", old)
    with psycopg.connect(coordinator.uri(database), autocommit=True) as conn:
        conn.execute("select citus_update_node(%s, '127.0.0.1', %s)", (number, new))
        # By itself Citus does so within a minute. Until then, it changes no table.
        conn.execute("select start_metadata_sync_to_all_nodes()")


def wait_for_prepared(cluster: Cluster, database: str, seconds: float = 60) -> None:
    """Until Citus has ended what was left of commits on several nodes."""
    left = "select gid from pg_prepared_xacts where database = current_database()"
    deadline = time.monotonic() + seconds
    while found := [rows for node in cluster.nodes if (rows := rows_on(node, database, left))]:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
