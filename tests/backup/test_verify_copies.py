"""`verify` on copies that the administrator of the server does not run: a restored base backup, and a hot standby.

An administrator who may change the server can make it answer what they like. A copy of its files is read by a server
of the verifier's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from langgraph.checkpoint.eventlog import EventLog, EventLogSaver
from tests.backup.cluster import PATIENCE, Cluster, run_cluster
from tests.support.checkpoints import checkpoint_of, config_of
from tests.support.server import Server, uri_of
from tests.support.signing import make_keys

SETTINGS = {"wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on"}


@pytest.fixture(scope="module")
def cluster(server: Server) -> Iterator[Cluster]:
    with run_cluster(server.programs, **SETTINGS) as running:
        yield running


def fill(uri: str, thread_id: str) -> None:
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.setup()
        config = config_of(thread_id)
        for number in range(5):
            config = saver.put(
                config, checkpoint_of(f"{number}", {"x": number}, {"x": f"{number}"}), {}, {"x": f"{number}"}
            )
            saver.put_writes(config, [("x", number)], "task")
        saver.prune([thread_id])


def base_backup(cluster: Cluster, name: str, *options: str) -> Path:
    copy = cluster.home / name
    cluster.run(
        *("pg_basebackup", "--no-sync", "--checkpoint=fast", "--wal-method=stream", "-U", "postgres"),
        *("-h", str(cluster.home), "-D", copy, *options),
    )
    return copy


@pytest.mark.attack("superuser")
def test_verify_runs_on_a_restored_base_backup(cluster: Cluster, tmp_path: Path) -> None:
    """It finds there what the copy has, whatever the original server says: code that was replaced before, too."""
    uri, keys = cluster.uri(), make_keys(tmp_path)
    fill(uri, "1")
    with EventLog.from_conn_string(uri) as log:
        document = log.seal(key=keys.private).document
    assert cluster.running is not None
    original = cluster.running
    whole = base_backup(cluster, "whole")
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute("set session_replication_role = replica")
        conn.execute("delete from eventlog.events where thread_id = '1' and seq = 10")
        conn.execute("alter table eventlog.seals enable row level security")
    altered = base_backup(cluster, "altered")
    cluster.stop()
    try:
        for copy, is_altered in ((whole, False), (altered, True)):
            cluster.start(copy)
            with EventLog.from_conn_string(uri) as log:
                found = log.verify(seal=document, public_key=keys.public, states=True)
                assert found.events > 0
                assert (found.found > 0) == is_altered, found.problems
                words = " ".join(each.what for each in found.problems)
                assert ("row security" in words) == ("missing" in words) == is_altered
            cluster.stop()
    finally:
        if cluster.running is not None:
            cluster.stop()
        cluster.start(original)


def test_verify_runs_on_a_hot_standby(cluster: Cluster) -> None:
    """Read only, while the primary goes on; what is altered on the primary arrives, and is found."""
    uri = cluster.uri("standing")
    with psycopg.connect(cluster.uri(), autocommit=True) as conn:
        conn.execute("create database standing")
    fill(uri, "2")
    copy = base_backup(cluster, "standby", "--write-recovery-conf")
    with (copy / "postgresql.auto.conf").open("a") as conf:
        conf.write(f"unix_socket_directories = '{copy}'\n")
    standby = uri_of(copy, "standing")
    cluster.run("pg_ctl", "start", "--wait", "-D", copy, "-l", cluster.home / "standby log")
    try:
        with EventLog.from_conn_string(standby) as log:
            found = log.verify(states=True)
            assert (found.problems, found.streams) == ([], 1)
            with psycopg.connect(standby) as conn:
                assert conn.execute("select pg_is_in_recovery()").fetchone() == (True,)
            with psycopg.connect(uri, autocommit=True) as conn:
                conn.execute("drop trigger events_immutable on eventlog.events")
                conn.execute("update eventlog.events set body = body || '\\x00' where kind = 1")
            deadline = time.monotonic() + PATIENCE
            # The trigger's end may arrive before the rows.
            while not any("altered" in each.what for each in log.verify().problems):
                assert time.monotonic() < deadline
                time.sleep(0.1)
    finally:
        cluster.run("pg_ctl", "stop", "--wait", "--mode=immediate", "-D", copy)
