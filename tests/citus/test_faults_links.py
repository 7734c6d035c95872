"""The link between the coordinator and a worker is cut, at chosen messages, in operations on one node and on two.

The coordinator reaches the worker through a proxy that knows PostgreSQL's protocol: a fault is placed at a message.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from eventlog.db.retry import RetryPolicy
from eventlog.errors import ConnectionLostError, EventLogError
from tests.citus.distributed import port_of, rows_on, thread_on, wait_for_prepared
from tests.faults.proxy import FAULTS, Fault, Proxy
from tests.faults.workload import Workload, assert_nothing_lost
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, converse, put
from tests.support.cluster import Cluster, Node
from tests.support.soundness import assert_sound

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

#: Those that lose something.
LOSSES: tuple[Fault, ...] = tuple(each for each in FAULTS if each != "delay")


@contextmanager
def linked(cluster: Cluster, node: Node, database: str) -> Iterator[Proxy]:
    """The nodes reach one node through a proxy, for one database."""
    with Proxy(node.socket_uri(database)) as proxy:
        _move(cluster, database, node.port, proxy.port)
        try:
            yield proxy
        finally:
            proxy.follow()
            _move(cluster, database, proxy.port, node.port)


def _move(cluster: Cluster, database: str, old: int, new: int) -> None:
    with psycopg.connect(cluster.uri(database), autocommit=True) as conn:
        conn.execute(
            "select citus_update_node(nodeid, '127.0.0.1', %s) from pg_dist_node where nodeport = %s", (new, old)
        )


def test_applications_ride_out_a_cut_link(victims: Cluster, victim: str) -> None:
    """The worker runs, and the coordinator cannot reach it."""
    with linked(victims, victims.nodes[1], victim) as proxy:
        with Workload(victims.uri(victim)) as workload:
            workload.go_on()
            proxy.cut_all()
            workload.go_on()
            proxy.refuse()
            time.sleep(1)
            proxy.accept()
            workload.go_on(2)
        assert workload.errors == []
        wait_for_prepared(victims, victim)
        assert_nothing_lost(workload, victims.uri(victim))


async def test_the_error_names_the_node_behind_the_link(victims: Cluster, victim: str) -> None:
    thread_id = thread_on(victims, victims.nodes[1], victim)
    with linked(victims, victims.nodes[1], victim) as proxy:
        async with open_saver("async-pool", victims.uri(victim), retry=RetryPolicy(deadline=0.2)) as saver:
            await put(saver, config_of(thread_id), "1", {"x": 1})
            proxy.refuse()
            with pytest.raises(ConnectionLostError) as caught:
                await put(saver, config_of(thread_id, "1"), "2", {"x": 2})
            assert caught.value.node == f"127.0.0.1:{proxy.port}"
            proxy.accept()
            await put(saver, config_of(thread_id, "1"), "2", {"x": 2})
    assert Tables(victims.uri(victim)).events(thread_id) == 2


@pytest.mark.parametrize("kind", ["sync-pool", "async-connection"])
async def test_an_append_is_there_once_whichever_message_is_lost(kind: str, victims: Cluster, victim: str) -> None:
    """Of an append's messages between the nodes, each is lost in each way. It is retried, and found to be done if it
    was."""
    uri, tables = victims.uri(victim), Tables(victims.uri(victim))
    with linked(victims, victims.nodes[1], victim) as proxy:
        thread_id = thread_on(victims, proxy, victim)
        async with open_saver(kind, uri) as saver:
            config = await put(saver, config_of(thread_id), f"{0:06}", {"x": 0})
            config = await put(saver, config, f"{1:06}", {"x": 1})  # on connections that are there
            plan = proxy.follow()
            number = 2
            config = await put(saver, config, f"{number:06}", {"x": number})
            steps = list(plan.steps)
            assert steps
            for at in steps:
                for fault in LOSSES:
                    number += 1
                    plan = proxy.follow(fault, at)
                    config = await put(saver, config, f"{number:06}", {"x": number})
                    assert plan.is_done
                    proxy.follow()
        rows = tables.rows("select checkpoint_id from {schema}.events where thread_id = %s order by seq", thread_id)
        assert rows == [(f"{each:06}",) for each in range(number + 1)]
    assert_sound(tables)


@pytest.mark.parametrize("harm", ["reset", "kill"])
async def test_a_copy_from_one_node_to_another_is_whole_or_not_there(harm: str, victims: Cluster, victim: str) -> None:
    """The link to the copy's node is cut, or that node killed, at each message of the copy's transaction. What is
    prepared then is committed if the coordinator has committed, else rolled back: by Citus's daemon, or when an
    administrator asks for it."""
    uri, tables, node = victims.uri(victim), Tables(victims.uri(victim)), victims.nodes[1]
    source = thread_on(victims, victims.nodes[2], victim)
    outcomes: set[tuple[bool, bool]] = set()
    with linked(victims, node, victim) as proxy:
        async with open_saver("async-pool", uri, retry=RetryPolicy(attempts=1)) as saver:
            await converse(saver, source, ids="abc")
            whole = tables.events(source)
            names = (each for number in range(1000) if port_of(victims, victim, each := f"copy {number}") == proxy.port)
            await saver.acopy_thread(source, next(names))  # on connections that are there from here on
            plan = proxy.follow()
            await saver.acopy_thread(source, next(names))
            steps = [step for step in plan.steps if step.sender == "client"]
            for at in steps if harm == "reset" else steps[-3:]:
                target = next(names)
                plan = proxy.follow("reset", at, node.stop if harm == "kill" else None)
                error = await _attempt(saver.acopy_thread(source, target))
                assert plan.is_done
                proxy.follow()
                if harm == "kill":
                    node.start()
                    rows_on(victims.nodes[0], victim, "select recover_prepared_transactions()")
                wait_for_prepared(victims, victim)
                found = tables.events(target)
                assert found in (0, whole), f"half a copy: {found} of {whole} events, after {error}"
                assert error is not None or found == whole
                outcomes.add((error is None, found == whole))
                if found == 0:
                    await saver.acopy_thread(source, target)
            assert (await saver.log.verify()).problems == []
    assert (False, False) in outcomes, "no fault before the commit"
    assert (True, True) in outcomes, "no fault between prepare and commit"
    assert_sound(tables)


async def _attempt(call: Awaitable[Any]) -> EventLogError | None:
    try:
        await call
    except EventLogError as exc:
        return exc
    return None
