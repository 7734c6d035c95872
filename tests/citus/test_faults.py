"""Workers and the coordinator of a cluster are killed, paused and replaced while applications write.

What was acknowledged is there once, errors name the node, and threads on other nodes go on.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from psycopg_pool import ConnectionPool

from eventlog.db.retry import RetryPolicy
from eventlog.errors import ConnectionLostError, EventLogError, StatementCanceledError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.citus.distributed import assert_distributed, move_node, port_of, rows_on, thread_on, wait_for_prepared
from tests.faults.workload import Workload, assert_nothing_lost
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, put, values_of
from tests.support.cluster import Cluster, Node, run_cluster
from tests.support.server import new_directory

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300 + 10 * float(os.environ.get("FAULT_SECONDS", 0)))]

SECONDS = float(os.environ.get("FAULT_SECONDS", 1))

KINDS = pytest.mark.parametrize("kind", ["sync-pool", "async-pool", "sync-connection", "async-connection"])


def threads_on(cluster: Cluster, node: Node, database: str, workload: Workload) -> list[str]:
    """The threads of a workload that are on a node."""
    ids = [worker.thread_id for worker in workload.workers]
    return [each for each in ids if port_of(cluster, database, each) == node.port]


def assert_errors_name(node: Node, errors: list[EventLogError]) -> None:
    assert {type(each) for each in errors} <= {ConnectionLostError}
    for each in errors:
        assert isinstance(each, ConnectionLostError)
        assert each.node == f"127.0.0.1:{node.port}", each
        assert f"127.0.0.1:{node.port}" in str(each)


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_applications_ride_out_a_worker_that_is_killed(mode: str, victims: Cluster, victim: str) -> None:
    """Threads on the other node go on meanwhile; those on this one wait, and go on when it is back."""
    uri, node = victims.uri(victim), victims.nodes[1]
    with Workload(uri) as workload:
        workload.go_on()
        concerned = threads_on(victims, node, victim, workload)
        others = [each.thread_id for each in workload.workers if each.thread_id not in concerned]
        assert concerned
        assert others
        node.stop(mode=mode)
        workload.go_on(among=others)
        time.sleep(SECONDS)
        node.start()
        workload.go_on(2)
    assert workload.errors == []
    assert_nothing_lost(workload, uri)


def test_a_worker_that_is_killed_again_and_again_loses_nothing(victims: Cluster, victim: str) -> None:
    """Each worker in turn, at any moment of what is under way."""
    uri = victims.uri(victim)
    with Workload(uri) as workload:
        workload.go_on()
        for number in range(4):
            node = victims.nodes[1 + number % 2]
            node.stop()
            node.start()
            time.sleep(0.3 * number)
        workload.go_on(2)
    assert workload.errors == []
    assert_nothing_lost(workload, uri)


@KINDS
async def test_the_error_names_the_node_that_is_away(kind: str, victims: Cluster, victim: str) -> None:
    """Only calls that need it fail. The client's own connection goes on when the node is back."""
    node, healthy = victims.nodes[1], victims.nodes[2]
    lost, kept = thread_on(victims, node, victim), thread_on(victims, healthy, victim)
    async with open_saver(kind, victims.uri(victim), retry=RetryPolicy(deadline=0.3)) as saver:
        for thread_id in (lost, kept):
            await put(saver, config_of(thread_id), "1", {"x": 1})
        node.stop()
        for call in (
            lambda: put(saver, config_of(lost, "1"), "2", {"x": 2}),
            lambda: saver.aput_writes(config_of(lost, "1"), [("x", 1)], "task"),
            lambda: saver.aget_tuple(config_of(lost)),
            lambda: saver.log.threads(),
            lambda: saver.adelete_thread(lost),
        ):
            with pytest.raises(ConnectionLostError, match=f"node 127.0.0.1:{node.port} cannot be reached") as caught:
                await call()
            assert_errors_name(node, [caught.value])
        await put(saver, config_of(kept, "1"), "2", {"x": 2})
        assert await values_of(saver, config_of(kept)) == {"x": 2}
        node.start()
        await put(saver, config_of(lost, "1"), "2", {"x": 2})
        assert await values_of(saver, config_of(lost)) == {"x": 2}
        assert (await saver.log.verify()).problems == []


def test_a_call_waits_no_longer_than_away_deadline_for_a_node(victims: Cluster, victim: str) -> None:
    node = victims.nodes[1]
    thread_id = thread_on(victims, node, victim)
    with EventLogSaver.from_conn_string(
        victims.uri(victim), retry=RetryPolicy(first_wait=0.05, longest_wait=0.2, away_deadline=1.0)
    ) as saver:
        saver.get_tuple(config_of(thread_id))
        node.stop()
        began = time.monotonic()
        with pytest.raises(ConnectionLostError):
            saver.get_tuple(config_of(thread_id))
        assert 0.5 < time.monotonic() - began < 10


@pytest.mark.parametrize("mode", ["immediate", "fast"])
def test_applications_ride_out_a_restart_of_the_coordinator(mode: str, victims: Cluster, victim: str) -> None:
    uri = victims.uri(victim)
    with Workload(uri) as workload:
        workload.go_on()
        victims.nodes[0].stop(mode=mode)
        time.sleep(SECONDS)
        victims.nodes[0].start()
        workload.go_on(2)
    assert {type(each) for each in workload.errors} <= {ConnectionLostError}
    wait_for_prepared(victims, victim)
    assert_nothing_lost(workload, uri)


async def test_setup_goes_on_when_a_worker_is_back(victims: Cluster) -> None:
    """A worker is killed while the log is distributed. The error names it, or setup() waits for it; the next setup()
    goes on, and no row is lost."""
    name = victims.create_database(prefix="interrupted")
    uri, node = victims.uri(name), victims.nodes[1]
    async with open_saver("async-pool", uri, retry=RetryPolicy(deadline=0.5)) as saver:
        await saver.setup()
        for number in range(8):
            await put(saver, config_of(number), "1", {"x": number})
        node.stop()
        with pytest.raises(ConnectionLostError) as caught:
            await saver.setup(citus=True, shards=4)
        assert_errors_name(node, [caught.value])
        node.start()
        setting_up = asyncio.create_task(saver.setup(citus=True, shards=4))
        await asyncio.sleep(0.5)
        await asyncio.to_thread(node.stop)
        await asyncio.to_thread(node.start)
        with suppress(ConnectionLostError):
            await setting_up
        await saver.setup(citus=True, shards=4)
        assert_distributed(victims, name)
        for number in range(8):
            assert await values_of(saver, config_of(number)) == {"x": number}
        await put(saver, config_of("8"), "1", {"x": 8})
    assert Tables(uri).events() == 9
    victims.drop_database(name)


# --- a coordinator's standby takes over


@contextmanager
def standby_of(cluster: Cluster, programs: Path) -> Iterator[Node]:
    """A standby of the coordinator, which waits for it with each commit."""
    node = Node(programs, new_directory())
    try:
        node.follow(cluster.nodes[0])
        node.start()
        rows_on(cluster.nodes[0], "postgres", "select 1")
        with psycopg.connect(cluster.uri("postgres"), autocommit=True) as admin:
            admin.execute("alter system set synchronous_standby_names = '*'")
            admin.execute("select pg_reload_conf()")
        yield node
    finally:
        node.stop()
        shutil.rmtree(node.home, ignore_errors=True)


def test_a_standby_of_the_coordinator_takes_over() -> None:
    """The coordinator is gone for good, and its standby is promoted: applications that know both go on."""
    programs = Path(os.environ["EVENTLOG_TEST_CITUS"])
    with run_cluster(programs, synchronous_commit="on") as cluster:
        name = cluster.create_database(prefix="failover")
        with EventLogSaver.from_conn_string(cluster.uri(name)) as saver:
            saver.setup(citus=True, shards=4)
        with standby_of(cluster, programs) as standby:
            ports = f"127.0.0.1:{cluster.nodes[0].port},127.0.0.1:{standby.port}"
            with Workload(f"postgresql://postgres@{ports}/{name}?target_session_attrs=read-write") as workload:
                workload.go_on()
                cluster.nodes[0].stop()
                standby.promote()
                with psycopg.connect(standby.uri(name), autocommit=True) as conn:
                    conn.execute("alter system reset synchronous_standby_names")
                    conn.execute("select pg_reload_conf()")
                move_node(standby, name, cluster.nodes[0].port, standby.port)
                workload.go_on(2)
            assert {type(each) for each in workload.errors} <= {ConnectionLostError}
            cluster.nodes[0] = standby
            wait_for_prepared(cluster, name)
            assert_nothing_lost(workload, standby.uri(name))
            assert_distributed(cluster, name)


# --- a worker that does not answer


def test_a_worker_that_does_not_answer_holds_up_its_own_threads_alone(victims: Cluster, victim: str) -> None:
    """It is paused: connections to it stay open. With `statement_timeout`, calls that need it get their error."""
    uri, node = victims.uri(victim), victims.nodes[1]
    stuck, free = thread_on(victims, node, victim), thread_on(victims, victims.nodes[2], victim)
    rows: dict[str, list[str]] = {stuck: [], free: []}
    with ConnectionPool(uri, kwargs={"autocommit": True, "options": "-c statement_timeout=2s"}, open=True) as pool:
        saver = EventLogSaver(pool, retry=RetryPolicy(deadline=1))

        def append(thread_id: str) -> None:
            id_ = f"{len(rows[thread_id]) + 1:06}"
            parent = rows[thread_id][-1] if rows[thread_id] else None
            saver.put(config_of(thread_id, parent), _checkpoint(id_), {}, {"x": 1})
            rows[thread_id].append(id_)

        for thread_id in rows:
            append(thread_id)
        node.pause()
        try:
            began = time.monotonic()
            with pytest.raises((StatementCanceledError, ConnectionLostError)):
                append(stuck)
            assert time.monotonic() - began < 20
            for _ in range(20):
                append(free)
        finally:
            node.resume()
        for thread_id in rows:
            append(thread_id)
    for thread_id, ids in rows.items():
        found = Tables(uri).rows(
            "select checkpoint_id from {schema}.events where thread_id = %s order by seq", thread_id
        )
        assert [id_ for (id_,) in found] == ids
    with EventLogSaver.from_conn_string(uri) as saver:
        assert saver.log.verify().problems == []


def _checkpoint(id_: str) -> Any:
    return {**empty_checkpoint(), "id": id_, "channel_values": {"x": id_}, "channel_versions": {"x": 1}}
