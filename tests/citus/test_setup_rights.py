"""Rights on all nodes, the owner of a distributed log, and who a record names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import psycopg
import pytest
from psycopg import sql

from eventlog.errors import InvalidInputError, MigrationError, MissingGrantError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.citus.distributed import assert_distributed, rows_on, thread_on
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, converse, put, values_of
from tests.support.cluster import Cluster, Node

_numbers = count(1)

#: The nodes that a client may be connected to.
COORDINATOR, FIRST, SECOND = range(3)


@pytest.fixture
def new_role(cluster: Cluster, database: str) -> Iterator[Callable[..., str]]:
    """Makes a role, on all nodes: Citus does where it is made in a database of the cluster."""
    names = []

    def create(options: str = "login") -> str:
        names.append(f"role {next(_numbers)}")
        with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
            conn.execute(sql.SQL("create role {} " + options).format(sql.Identifier(names[-1])))  # type: ignore[operator]
        return names[-1]

    yield create
    known = "select count(*) from pg_roles where rolname = any(%s)"
    assert cluster.on_all(lambda node: rows_on(node, database, known, names)) == [[(len(names),)]] * 3


def as_role(node: Node, database: str, role: str) -> str:
    return node.uri(database).replace("postgres@", role.replace(" ", "%20") + "@")


@pytest.mark.parametrize("through", [COORDINATOR, FIRST], ids=["coordinator", "worker"])
@pytest.mark.parametrize("kind", ["sync-pool", "async-connection"])
async def test_a_granted_role_uses_the_log_through_each_node(
    kind: str, through: int, cluster: Cluster, database: str, new_role: Callable[..., str]
) -> None:
    writer, auditor, other = new_role(), new_role(), new_role()
    with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
        EventLogSaver(conn).setup(grant={"writer": writer, "auditor": auditor})
    threads = [thread_on(cluster, node, database) for node in cluster.nodes[1:]]
    async with open_saver(kind, as_role(cluster.nodes[through], database, writer)) as saver:
        for thread_id in threads:
            config = await put(saver, config_of(thread_id), "1", {"x": 1})
            await saver.aput_writes(config, [("x", 2)], "task")
            assert await values_of(saver, config_of(thread_id)) == {"x": 1}
            with pytest.raises(MissingGrantError, match="eventlog grant eraser"):
                await saver.adelete_thread(thread_id)
    async with open_saver(kind, as_role(cluster.nodes[through], database, auditor)) as saver:
        for thread_id in threads:
            assert await values_of(saver, config_of(thread_id)) == {"x": 1}
            with pytest.raises(MissingGrantError, match="eventlog grant writer"):
                await put(saver, config_of(thread_id), "2", {"x": 2})
    async with open_saver(kind, as_role(cluster.nodes[through], database, other)) as saver:
        with pytest.raises(MissingGrantError):
            await saver.aget_tuple(config_of(threads[0]))


@pytest.mark.parametrize("through", [COORDINATOR, FIRST, SECOND], ids=["coordinator", "worker", "other worker"])
async def test_a_record_names_the_clients_role(
    through: int, cluster: Cluster, database: str, new_role: Callable[..., str]
) -> None:
    """Whatever node the client is connected to, and whichever has the thread."""
    eraser = new_role()
    with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
        EventLogSaver(conn).setup(grant={"eraser": eraser, "writer": eraser})
    threads = [thread_on(cluster, node, database) for node in cluster.nodes[1:]]
    tables = Tables(cluster.uri(database))
    async with open_saver("async-pool", as_role(cluster.nodes[through], database, eraser)) as saver:
        for thread_id in threads:
            await converse(saver, thread_id, ids="abc")
            await saver.adelete_thread(thread_id)
            assert [each["by"] for each in tables.records(thread_id)] == [eraser]


@pytest.mark.parametrize("through", [COORDINATOR, FIRST, SECOND], ids=["coordinator", "worker", "other worker"])
async def test_a_record_of_an_operation_of_several_statements_names_the_clients_role(
    through: int, cluster: Cluster, database: str, new_role: Callable[..., str]
) -> None:
    """Citus has a connection for each role: a lock that the owner's took must not keep the caller's waiting."""
    eraser = new_role()
    with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
        EventLogSaver(conn).setup(grant={"eraser": eraser, "writer": eraser})
    threads = [thread_on(cluster, node, database) for node in cluster.nodes[1:]]
    async with open_saver("async-pool", as_role(cluster.nodes[through], database, eraser)) as saver:
        for thread_id in threads:
            await converse(saver, thread_id, ids="abc")
            await saver.aprune([thread_id])
            assert [each["by"] for each in Tables(cluster.uri(database)).records(thread_id)] == [eraser]


def test_a_grant_to_a_role_that_a_node_lacks_names_it(
    cluster: Cluster, database: str, new_role: Callable[..., str]
) -> None:
    """Nothing is granted then, on any node."""
    name = "only on the coordinator"
    with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
        conn.execute("set citus.enable_create_role_propagation to off")
        conn.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
        with pytest.raises(InvalidInputError, match=name):
            EventLogSaver(conn).setup(grant={"writer": name})
    granted = "select count(*) from eventlog.grants"
    assert cluster.on_all(lambda node: rows_on(node, database, granted)) == [[(0,)]] * 3


def test_the_owner_of_a_distributed_log_must_be_able_to_log_in(
    cluster: Cluster, plain: str, new_role: Callable[..., str]
) -> None:
    """Functions that run with the owner's rights connect to other nodes as the owner."""
    owner = new_role()
    with psycopg.connect(cluster.uri(plain), autocommit=True) as conn:
        saver = EventLogSaver(conn)
        conn.execute("drop schema eventlog cascade")
        _let_create(cluster, plain, owner)
        conn.execute(sql.SQL("set role {}").format(sql.Identifier(owner)))
        saver.setup()
        conn.execute("reset role")
        conn.execute(sql.SQL("alter role {} nologin").format(sql.Identifier(owner)))
        with pytest.raises(MigrationError, match=f'alter role "{owner}" login'):
            saver.setup(citus=True, shards=4)
        conn.execute(sql.SQL("alter role {} login").format(sql.Identifier(owner)))
        saver.setup(citus=True, shards=4)
    assert_distributed(cluster, plain)


def _let_create(cluster: Cluster, database: str, role: str) -> None:
    """On each node: Citus does not repeat a grant on a database."""
    for node in cluster.nodes:
        with psycopg.connect(node.uri(database), autocommit=True) as conn:
            names = sql.Identifier(database), sql.Identifier(role)
            conn.execute(sql.SQL("grant create on database {} to {}").format(*names))


async def test_an_owner_without_further_rights_sets_up_the_log(
    cluster: Cluster, empty_database_uri: str, new_role: Callable[..., str]
) -> None:
    """No superuser is needed but for the extension and the nodes."""
    owner, writer = new_role(), new_role()
    name = empty_database_uri.rsplit("/", 1)[1]
    async with open_saver("async-pool", as_role(cluster.nodes[0], name, owner)) as saver:
        with psycopg.connect(empty_database_uri, autocommit=True) as conn:
            names = sql.Identifier(name), sql.Identifier(owner)
            conn.execute(sql.SQL("grant create on database {} to {}").format(*names))
        with pytest.raises(MissingGrantError, match=f'on node .* run on each node: grant create .* to "{owner}"'):
            await saver.setup(citus=True, shards=4)
        _let_create(cluster, name, owner)
        await saver.setup(citus=True, shards=4, grant={"writer": writer})
        await saver.setup(citus=True)
        await converse(saver, "1", ids="abc")
        await saver.adelete_thread("1")
    assert_distributed(cluster, name)
    for node in cluster.nodes:
        async with open_saver("async-pool", as_role(node, name, writer)) as saver:
            await converse(saver, f"{node.port}", ids="abc")
