"""The link between the coordinator and a worker is cut, at chosen messages, in operations on one node and on two.

The coordinator reaches the worker through a proxy that knows PostgreSQL's protocol: a fault is placed at a message.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from eventlog.db.retry import RetryPolicy
from eventlog.errors import ConnectionLostError, EventLogError
from tests.citus.distributed import move_node, port_of, rows_on, thread_on, wait_for_prepared
from tests.faults.proxy import FAULTS, Fault, Proxy, Said
from tests.faults.workload import Workload, assert_nothing_lost
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, converse, put
from tests.support.cluster import Cluster, Node
from tests.support.soundness import assert_sound

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

#: Those that lose something.
LOSSES: tuple[Fault, ...] = tuple(each for each in FAULTS if each != "delay")

PREPARED = "select gid from pg_prepared_xacts where database = current_database()"


@contextmanager
def linked(cluster: Cluster, node: Node, database: str) -> Iterator[Proxy]:
    """The nodes reach one node through a proxy, for one database."""
    with Proxy(node.socket_uri(database)) as proxy:
        move_node(cluster.nodes[0], database, node.port, proxy.port)
        try:
            yield proxy
        finally:
            proxy.follow()
            move_node(cluster.nodes[0], database, proxy.port, node.port)


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


#: Messages of a transaction on two nodes, and of the other node's answers, from its begin to its end.
COMMITTING = (
    Said("client", b"BEGIN TRANSACTION"),
    Said("client", b"PREPARE TRANSACTION"),
    Said("server", b"PREPARE TRANSACTION"),
    Said("client", b"COMMIT PREPARED"),
    Said("server", b"COMMIT PREPARED"),
)


@pytest.mark.parametrize("harm", ["reset", "kill"])
async def test_a_copy_from_one_node_to_another_is_whole_or_not_there(harm: str, victims: Cluster, victim: str) -> None:
    """The link to the copy's node is cut, or that node killed, at the messages that commit the copy. What is prepared
    then is committed if the coordinator has committed, else rolled back: by Citus's daemon, or when an administrator
    asks for it."""
    uri, tables, node = victims.uri(victim), Tables(victims.uri(victim)), victims.nodes[1]
    source = thread_on(victims, victims.nodes[2], victim)
    left_over = 0
    with linked(victims, node, victim) as proxy:
        async with (
            open_saver("async-pool", uri) as saver,
            open_saver("async-pool", uri, retry=RetryPolicy(attempts=1)) as impatient,
        ):
            await converse(saver, source, ids="abc")
            names = (each for number in range(1000) if port_of(victims, victim, each := f"copy {number}") == proxy.port)
            await impatient.acopy_thread(source, target := next(names))
            whole = tables.events(target)
            for at in COMMITTING:
                target = next(names)
                plan = proxy.follow("reset", at, node.stop if harm == "kill" else None)
                error = await _attempt(impatient.acopy_thread(source, target))
                assert plan.is_done, at
                proxy.follow()
                if harm == "kill":
                    node.start()
                left_over += len(rows_on(node, victim, PREPARED))
                if harm == "kill":
                    rows_on(victims.nodes[0], victim, "select recover_prepared_transactions()")
                wait_for_prepared(victims, victim)
                has_committed = "COMMIT PREPARED" in str(at)
                assert (error is None) == has_committed, (at, error)
                assert tables.events(target) == (whole if has_committed else 0), at
                if not has_committed:
                    assert isinstance(error, ConnectionLostError)
                    assert error.node == f"127.0.0.1:{proxy.port}"
                    await saver.acopy_thread(source, target)
            assert (await saver.log.verify()).problems == []
    assert left_over > 0
    assert_sound(tables)


async def _attempt(call: Awaitable[Any]) -> EventLogError | None:
    try:
        await call
    except EventLogError as exc:
        return exc
    return None
