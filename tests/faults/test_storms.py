"""Servers that end sessions, die and are not there, while sixteen workers drive graphs.

By default each fault lasts for seconds; FAULT_SECONDS says how many it is to last.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from eventlog.errors import ConnectionLostError, PoolTimeoutError
from tests.faults.private import PrivateServer
from tests.faults.proxy import FAULTS, Proxy, Step
from tests.faults.workload import Workload, assert_nothing_lost
from tests.support.checkpoints import Tables

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900 + 10 * float(os.environ.get("FAULT_SECONDS", 0)))]

SECONDS = float(os.environ.get("FAULT_SECONDS", 3))


def test_terminated_sessions_lose_no_acknowledged_append(database_uri: str) -> None:
    """An administrator ends sessions, any of them, again and again."""
    chance = random.Random(1)
    with Workload(database_uri) as workload, Tables(database_uri) as tables:
        workload.go_on()
        deadline = time.monotonic() + SECONDS
        ended = 0
        while time.monotonic() < deadline:
            ended += len(
                tables.rows(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where datname = current_database() and pid <> pg_backend_pid() and random() < %s",
                    chance.choice([0.2, 0.5, 1.0]),
                )
            )
            time.sleep(chance.uniform(0.05, 0.3))
        workload.go_on()
    assert ended > 10
    assert {type(error) for error in workload.errors} <= {ConnectionLostError, PoolTimeoutError}
    assert_nothing_lost(workload, database_uri)


def test_a_killed_server_loses_no_acknowledged_append(victim: PrivateServer) -> None:
    """The postmaster is killed, and started again on the same data, twice."""
    uri = victim.create("app")
    with Workload(uri) as workload:
        for _ in range(2):
            workload.go_on()
            victim.kill()
            time.sleep(SECONDS / 3)
            victim.start()
        workload.go_on()
    assert {type(error) for error in workload.errors} <= {ConnectionLostError, PoolTimeoutError}
    assert_nothing_lost(workload, uri)


def test_savers_recover_when_a_stopped_server_returns(victim: PrivateServer) -> None:
    """The server is shut down for a while, and no process listens."""
    uri = victim.create("app")
    with Workload(uri) as workload:
        workload.go_on()
        victim.stop()
        time.sleep(SECONDS)
        victim.start()
        workload.go_on()
    assert {type(error) for error in workload.errors} <= {ConnectionLostError, PoolTimeoutError}
    assert_nothing_lost(workload, uri)


@pytest.mark.parametrize("concurrency", ["branch", "strict"])
def test_a_faulty_network_loses_no_acknowledged_append(concurrency: str, database_uri: str) -> None:
    """Messages of any kind are cut off, held or cut in their middle, on any connection, again and again."""
    chance = random.Random(1)
    with Proxy(database_uri) as proxy, Workload(proxy.uri, concurrency=concurrency) as workload:
        workload.go_on()
        deadline = time.monotonic() + SECONDS
        done = 0
        while time.monotonic() < deadline:
            sender = chance.choice(["client", "server"])
            plan = proxy.follow(chance.choice(FAULTS), Step(sender, chance.randrange(40), ""))
            time.sleep(chance.uniform(0.02, 0.1))
            done += plan.is_done
        proxy.follow()
        workload.go_on()
    assert done > 5
    assert {type(error) for error in workload.errors} <= {ConnectionLostError, PoolTimeoutError}
    assert_nothing_lost(workload, database_uri)
