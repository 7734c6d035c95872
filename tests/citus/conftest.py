"""What the tests on a cluster share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.cluster import Cluster, run_cluster
from tests.support.server import Server


@pytest.fixture(scope="session")
def cluster(server: Server) -> Cluster:
    """The session's cluster: its nodes must not be harmed."""
    assert isinstance(server, Cluster)
    return server


@pytest.fixture(scope="session")
def plain_template(cluster: Cluster) -> str:
    """The name of a database of the cluster with a log that is not distributed. Clone it."""
    name = cluster.create_database(prefix="plain")
    with psycopg.connect(cluster.uri(name), autocommit=True) as conn:
        EventLogSaver(conn).setup()
    return name


@pytest.fixture
def database(database_uri: str) -> str:
    """The name of the test's own database, with a distributed log."""
    return str(conninfo_to_dict(database_uri)["dbname"])


@pytest.fixture
def plain(cluster: Cluster, plain_template: str) -> Iterator[str]:
    """The name of a database of the test's own, with a log that is not distributed."""
    name = cluster.create_database(plain_template, prefix="test")
    yield name
    cluster.drop_database(name)


@pytest.fixture(scope="module")
def _victims() -> Iterator[tuple[Cluster, str]]:
    # Commits of the session's cluster are not on the disk yet when they are answered.
    settings = {"synchronous_commit": "on", "citus.node_connection_timeout": "5000"}
    with run_cluster(Path(os.environ["EVENTLOG_TEST_CITUS"]), **settings) as cluster:
        name = cluster.create_database(prefix="template")
        with psycopg.connect(cluster.uri(name), autocommit=True) as conn:
            EventLogSaver(conn).setup(citus=True, shards=4)
        yield cluster, name


@pytest.fixture
def victims(_victims: tuple[Cluster, str]) -> Iterator[Cluster]:
    """A cluster that may be harmed. All its nodes run again after the test."""
    cluster, _ = _victims
    yield cluster
    for node in cluster.nodes:
        node.resume() if node.runs else node.start()


@pytest.fixture
def victim(victims: Cluster, _victims: tuple[Cluster, str]) -> str:
    """The name of a database on that cluster, with a distributed log."""
    return victims.create_database(_victims[1])


@pytest.fixture(autouse=True)
def _quiet_pools(caplog: pytest.LogCaptureFixture) -> None:
    """Pools log each connection that they do not get: hundreds here, in which what failed would drown."""
    caplog.set_level(logging.ERROR, logger="psycopg.pool")
