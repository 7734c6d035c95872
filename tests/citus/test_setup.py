"""`setup(citus=True)`: again, at once, interrupted, under load, where it cannot work, and what later setups do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint

from eventlog.db.migrations import migrate_step
from eventlog.db.statements import Statements
from eventlog.db.sync import Driver
from eventlog.distribution import DISTRIBUTED
from eventlog.errors import ConnectionLostError, InvalidInputError, MigrationError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.citus.distributed import assert_distributed, functions_on, rows_on
from tests.faults.proxy import FAULTS, Proxy, Step
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, converse, put, values_of
from tests.support.cluster import Cluster
from tests.support.soundness import assert_sound
from tests.versions.test_function_identity import build

REPLICAS = 8

#: Of a thread that `converse` wrote.
EVENTS = 9

#: At so many steps of one setup, spread over it, one fault each.
SAMPLE = 8


async def use(uri: str, thread_id: str = "1") -> None:
    """Write and read, and see that the log is sound."""
    async with open_saver("async-string", uri) as saver:
        await converse(saver, thread_id, ids="abc")
        assert (await saver.aget_tuple(config_of(thread_id))).config["configurable"]["checkpoint_id"] == "c"
        assert (await saver.log.verify()).problems == []
    assert_sound(Tables(uri))


@pytest.mark.parametrize("kind", ["sync-pool", "async-connection"])
async def test_setup_may_be_repeated(kind: str, cluster: Cluster, database: str, database_uri: str) -> None:
    """With and without `citus`, the log stays as it is."""
    async with open_saver(kind, database_uri) as saver:
        await put(saver, config_of(), "1", {"x": 1})
        for arguments in ({"citus": True}, {}, {"citus": True, "shards": 4}):
            await saver.setup(**arguments)
            assert_distributed(cluster, database)
        assert await values_of(saver, config_of()) == {"x": 1}
    await use(database_uri, "2")


async def test_a_replica_that_is_connected_to_a_worker_may_call_setup(cluster: Cluster, database: str) -> None:
    """The coordinator has set up everything: nothing is left to do."""
    for node in cluster.nodes[1:]:
        async with open_saver("async-pool", node.uri(database)) as saver:
            await saver.setup()
            await put(saver, config_of(node.port), "1", {"x": 1})
    assert_distributed(cluster, database)


@pytest.mark.parametrize("has_log", [False, True], ids=["new", "existing"])
async def test_eight_replicas_distribute_the_log_at_once(
    has_log: bool, cluster: Cluster, plain: str, empty_database_uri: str
) -> None:
    uri = cluster.uri(plain) if has_log else empty_database_uri
    if has_log:
        async with open_saver("async-pool", uri) as saver:
            await converse(saver, "old", ids="abc")
    start = threading.Barrier(REPLICAS)

    def set_up(number: int) -> None:
        with EventLogSaver.from_conn_string(uri) as saver:
            start.wait(60)
            saver.setup(citus=True, shards=4)

    with ThreadPoolExecutor(REPLICAS) as executor:
        list(executor.map(set_up, range(REPLICAS)))
    name = uri.rsplit("/", 1)[1]
    assert_distributed(cluster, name)
    if has_log:
        assert Tables(uri).events("old") == EVENTS
    await use(uri)


@pytest.mark.parametrize("kind", ["sync-string", "async-connection"])
async def test_setup_resumes_after_a_fault_at_any_step(kind: str, cluster: Cluster, plain_template: str) -> None:
    """Interrupted anywhere, the next setup goes on where it stopped. No row is lost or doubled."""
    steps: list[Step] = []
    for number in range(SAMPLE + 1):
        name = cluster.create_database(plain_template)
        async with open_saver("async-pool", cluster.uri(name)) as saver:
            await converse(saver, "old", ids="abc")
        with Proxy(cluster.nodes[0].socket_uri(name)) as proxy:
            at = steps[(len(steps) - 1) * (number - 1) // (SAMPLE - 1)] if steps else None
            async with open_saver(kind, proxy.uri) as saver:
                plan = proxy.follow(FAULTS[number % 4], at)
                if "connection" in kind and at is not None:
                    with pytest.raises(ConnectionLostError, match="pool"):
                        await saver.setup(citus=True, shards=4)
                else:
                    await saver.setup(citus=True, shards=4)
                assert plan.is_done == (at is not None)
                steps = steps or list(plan.steps)
        async with open_saver(kind, cluster.uri(name)) as saver:
            await saver.setup(citus=True, shards=4)
        assert_distributed(cluster, name)
        assert Tables(cluster.uri(name)).events("old") == EVENTS
        assert_sound(Tables(cluster.uri(name)))
        cluster.drop_database(name)


@pytest.mark.parametrize("appends_through", ["one saver", "a saver each"])
async def test_a_log_is_distributed_in_place_while_savers_append(
    appends_through: str, cluster: Cluster, plain: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Appends wait, reads go on, and nothing is lost. Each table is reported when it begins and when it is done."""
    uri = cluster.uri(plain)
    caplog.set_level(logging.INFO, logger="eventlog")
    stop = threading.Event()
    written: dict[str, list[str]] = {f"{number}": [] for number in range(4)}
    reads = 0

    def write(saver: EventLogSaver, thread_id: str) -> None:
        while not stop.is_set():
            id_ = f"{len(written[thread_id]):06}"
            parent = written[thread_id][-1] if written[thread_id] else None
            saver.put(config_of(thread_id, parent), _checkpoint(id_), {}, {"x": 1})
            saver.put_writes(config_of(thread_id, id_), [("x", 1)], "task")
            written[thread_id].append(id_)

    def read(saver: EventLogSaver) -> None:
        nonlocal reads
        while not stop.is_set():
            for thread_id, ids in written.items():
                known = ids[-1] if ids else None
                found = saver.get_tuple(config_of(thread_id))
                assert known is None or (found is not None and found.checkpoint["id"] >= known)
                reads += 1

    with (
        EventLogSaver.from_conn_string(uri) as shared,
        EventLogSaver.from_conn_string(uri) as other,
        EventLogSaver.from_conn_string(uri) as reader,
        ThreadPoolExecutor(5) as executor,
    ):
        savers = [shared, shared if appends_through == "one saver" else other] * 2
        running = [executor.submit(write, saver, each) for saver, each in zip(savers, written, strict=True)]
        running.append(executor.submit(read, reader))
        try:
            _wait_until(lambda: all(len(ids) > 20 for ids in written.values()))
            shared.setup(citus=True, shards=4)
            after = {each: len(ids) for each, ids in written.items()}
            _wait_until(lambda: all(len(ids) > after[each] + 20 for each, ids in written.items()))
        finally:
            stop.set()
        for each in running:
            each.result()
    assert reads > 0
    assert_distributed(cluster, plain)
    for thread_id, ids in written.items():
        rows = Tables(uri).rows(
            "select kind, checkpoint_id from {schema}.events where thread_id = %s order by seq", thread_id
        )
        assert rows == [(kind, id_) for id_ in ids for kind in (1, 2)]
    messages = [record.getMessage() for record in caplog.records]
    for table in DISTRIBUTED:
        begun = next(n for n, each in enumerate(messages) if "distributing" in each and f"table={table!r}" in each)
        done = next(n for n, each in enumerate(messages) if "distributed " in each and f"table={table!r}" in each)
        assert begun < done
        assert "milliseconds=" in messages[done]
    await use(uri, "another")


def _checkpoint(id_: str) -> Any:
    return {**empty_checkpoint(), "id": id_, "channel_values": {"x": id_}, "channel_versions": {"x": 1}}


def _wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to that in a minute")


# --- where it cannot work


def set_up(uri: str, **arguments: Any) -> None:
    with psycopg.connect(uri, autocommit=True) as conn:
        EventLogSaver(conn).setup(**{"citus": True, **arguments})


def test_a_database_without_the_extension_gets_no_log(cluster: Cluster) -> None:
    name = cluster.create_plain_database()
    with pytest.raises(MigrationError, match=r"no extension citus.*create extension citus"):
        set_up(cluster.uri(name))
    assert rows_on(cluster.nodes[0], name, "select to_regnamespace('eventlog')") == [(None,)]
    cluster.drop_database(name)


def test_a_cluster_without_nodes_gets_no_log(cluster: Cluster) -> None:
    name = cluster.create_plain_database()
    rows_on(cluster.nodes[0], name, "select 1")
    with psycopg.connect(cluster.uri(name), autocommit=True) as conn:
        conn.execute("create extension citus")
    with pytest.raises(MigrationError, match=r"no node .* may hold shards: add one with citus_add_node"):
        set_up(cluster.uri(name))
    cluster.drop_database(name)


def test_a_worker_gets_no_log_of_its_own(cluster: Cluster, empty_database_uri: str) -> None:
    name = empty_database_uri.rsplit("/", 1)[1]
    with pytest.raises(MigrationError, match=r"on a worker .* run setup\(\) on its coordinator"):
        set_up(cluster.nodes[1].uri(name))
    assert rows_on(cluster.nodes[1], name, "select to_regnamespace('eventlog')") == [(None,)]
    set_up(empty_database_uri, shards=4)
    assert_distributed(cluster, name)


def test_another_number_of_shards_is_refused(cluster: Cluster, database: str, database_uri: str) -> None:
    with pytest.raises(InvalidInputError, match="has 4 shards already, not 8"):
        set_up(database_uri, shards=8)
    assert_distributed(cluster, database)


@pytest.mark.parametrize("shards", [0, -1, 4097, True, 4.0, "4"], ids=repr)
def test_a_number_of_shards_that_cannot_be_is_refused(shards: Any, cluster: Cluster, plain: str) -> None:
    with pytest.raises(InvalidInputError, match="shards must be a number from 1 to 4096"):
        set_up(cluster.uri(plain), shards=shards)
    with pytest.raises(InvalidInputError, match="citus must be True or False"):
        set_up(cluster.uri(plain), citus="yes")
    with pytest.raises(InvalidInputError, match="give citus=True too"):
        set_up(cluster.uri(plain), citus=False, shards=4)


@pytest.mark.parametrize("shards", [1, 7])
async def test_a_log_may_have_any_number_of_shards(shards: int, cluster: Cluster, plain: str) -> None:
    set_up(cluster.uri(plain), shards=shards)
    assert_distributed(cluster, plain, shards=shards)
    await use(cluster.uri(plain))


# --- later setups


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_a_replaced_function_stays_distributed(
    kind: str, cluster: Cluster, database: str, database_uri: str
) -> None:
    """A newer revision of the functions, by a setup without `citus`."""
    async with open_saver(kind, database_uri) as saver:
        with build(revision=2, changes=True):
            await saver.setup()
        changed = "select prosrc ~ 'of a later revision' from pg_proc where proname = 'was_erased_v1'"
        assert cluster.on_all(lambda node: rows_on(node, database, changed)) == [[(True,)]] * 3
        assert_distributed(cluster, database)
        await put(saver, config_of(), "1", {"x": 1})


def test_no_call_finds_a_function_that_is_replaced_and_not_distributed(
    cluster: Cluster, database: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each single transaction of the setup, all nodes have all functions as they must be."""
    from eventlog.db import statements

    changed = ("append_writes_v1", "read_feed_v1", "rival_of_v1", "read_replay_v1")
    original = statements._function

    def function(name: str) -> str:
        text = original(name)
        return text.replace("begin\n", "begin\n    -- newer\n", 1) if name in changed else text

    monkeypatch.setattr(statements, "FUNCTIONS_REVISION", 2)
    monkeypatch.setattr(statements, "_function", function)
    before = functions_on(cluster.nodes[0], database)
    with psycopg.connect(database_uri, autocommit=True) as conn:
        for number in range(len(changed)):
            progress = Driver(conn).run_atomic(lambda: migrate_step(Statements("eventlog")))
            assert progress is not None
            assert progress.script in changed
            assert_distributed(cluster, database)
            after = functions_on(cluster.nodes[0], database)
            assert sum(after[name] != before[name] for name in after) == number + 1


async def test_a_new_function_reaches_all_nodes(
    cluster: Cluster, database: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that an earlier version did not have: here, one that is gone."""
    Tables(database_uri).run(
        "drop function {schema}.read_replay_v1", "delete from {schema}.migrations where name = 'read_replay_v1'"
    )
    set_up(database_uri, citus=False)
    assert_distributed(cluster, database)
    await use(database_uri)
