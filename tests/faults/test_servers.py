"""Servers that answer, but not with what was asked for: too slow, read-only, full, or busy with others.

Who is not concerned must not notice: the errors of those workers are counted, and there are none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventlog.errors import (
    ConnectionLostError,
    LogBusyError,
    PoolTimeoutError,
    ReadOnlyServerError,
    ServerFullError,
    StatementCanceledError,
)
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.faults.private import PrivateServer, private_home, server_in
from tests.faults.workload import Workload, assert_nothing_lost
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, converse, put
from tests.support.server import Server

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900 + 10 * float(os.environ.get("FAULT_SECONDS", 0)))]

SECONDS = float(os.environ.get("FAULT_SECONDS", 3))

#: The threads with streams that another session holds.
HELD = ("sync 0", "sync 3", "async 0", "async 3")


@contextmanager
def holding(uri: str, *thread_ids: str) -> Iterator[psycopg.Connection[Any]]:
    """A session that holds the rows of streams, which every append to them waits for."""
    with psycopg.connect(uri) as conn:
        conn.execute("select 1 from eventlog.streams where thread_id = any(%s) for update", (list(thread_ids),))
        yield conn


def set_for_all(uri: str, setting: str, value: str) -> None:
    """What new sessions of the database have from now on."""
    with psycopg.connect(uri, autocommit=True) as conn:
        database = conn.info.dbname
        conn.execute(f"alter database {database} set {setting} = '{value}'".encode())


@pytest.mark.parametrize(
    ("setting", "error"), [("statement_timeout", StatementCanceledError), ("lock_timeout", LogBusyError)]
)
def test_timeouts_affect_only_the_locked_streams(setting: str, error: type[Exception], database_uri: str) -> None:
    """Another session holds four streams for longer than a statement may take, and lets go."""
    # Long for any statement that does not wait, also where the machine is busy.
    set_for_all(database_uri, setting, "2s")
    with Workload(database_uri) as workload:
        workload.go_on()
        others = [worker.thread_id for worker in workload.workers if worker.thread_id not in HELD]
        with holding(database_uri, *HELD):
            workload.wait_until(lambda: all(workload.errors_of([each]) for each in HELD))
            workload.go_on(among=others)
        workload.go_on()
    assert {type(each) for each in workload.errors_of(HELD)} == {error}
    assert workload.errors_of(others) == []
    assert_nothing_lost(workload, database_uri)


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_callers_see_no_serialization_failure(isolation: str, database_uri: str) -> None:
    """Appends to one stream collide, as another session appends to all of them: callers do not see that."""
    set_for_all(database_uri, "default_transaction_isolation", isolation)
    with Workload(database_uri) as workload, EventLogSaver.from_conn_string(database_uri) as saver:
        workload.go_on()
        is_over = threading.Event()
        noise = threading.Thread(target=_append_to_all, args=(workload, saver, is_over))
        noise.start()
        time.sleep(SECONDS)
        workload.go_on()
        is_over.set()
        noise.join()
        failures = Tables(database_uri).one(
            "select sum(xact_rollback) from pg_stat_database where datname = current_database()"
        )
    assert workload.errors == []
    assert failures > 0
    assert_nothing_lost(workload, database_uri)


def _append_to_all(workload: Workload, saver: EventLogSaver, is_over: threading.Event) -> None:
    """Writes that belong to no task of the graphs: LangGraph leaves them alone."""
    number = 0
    while not is_over.is_set():
        for worker in workload.workers:
            latest = saver.get_tuple(config_of(worker.thread_id))
            if latest is not None:
                number += 1
                saver.put_writes(latest.config, [("noise", number)], f"noise {number}")
                workload.record.wrote(latest.config, [("noise", number)], f"noise {number}")


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool", "sync-connection", "async-connection"])
async def test_an_append_ended_by_a_deadlock_is_retried(kind: str, database_uri: str) -> None:
    """Another session takes an append's locks in the other order; PostgreSQL ends the append, which is repeated."""
    set_for_all(database_uri, "deadlock_timeout", "1s")
    async with open_saver(kind, database_uri) as saver:
        await converse(saver, "1", ids="ab")
        # A session that has waited for so long looks for a deadlock: not this one.
        with psycopg.connect(database_uri, options="-c deadlock_timeout=10min") as other:
            blocker = threading.Thread(target=_cross, args=(database_uri, other))
            other.execute("lock table eventlog.checkpoints in share row exclusive mode")
            blocker.start()
            await put(saver, config_of("1", "b"), "c", {"x": 1})
            blocker.join()
        assert (await saver.aget_tuple(config_of("1"))).checkpoint["id"] == "c"
    tables = Tables(database_uri)
    assert tables.one("select count(*) from {schema}.events where checkpoint_id = 'c'") == 1
    # The append may take the stream again before the other session has it.
    assert tables.one("select deadlocks from pg_stat_database where datname = current_database()") >= 1


def _cross(uri: str, other: psycopg.Connection[Any]) -> None:
    """Once an append has the stream and waits for the table: have the table, and wait for the stream."""
    tables = Tables(uri)
    with tables:
        while not tables.one(
            "select count(*) from pg_locks where relation = 'eventlog.checkpoints'::regclass and not granted"
        ):
            time.sleep(0.01)
    other.execute("select 1 from eventlog.streams where thread_id = '1' for update")
    other.commit()


def test_readers_continue_while_the_server_is_read_only(victim: PrivateServer) -> None:
    """The server takes no writes for a while, as one that is being moved: readers go on."""
    uri = victim.create("app")
    with Workload(uri) as workload:
        workload.go_on()
        victim.run("alter system set default_transaction_read_only = on")
        victim.run("select pg_reload_conf()")
        workload.wait_until(lambda: all(worker.errors for worker in workload.workers))
        reads = workload.reads
        workload.wait_until(lambda: workload.reads > reads + len(workload.workers))
        _write_again(victim)
        workload.go_on()
    assert {type(error) for error in workload.errors} == {ReadOnlyServerError}
    assert all("default_transaction_read_only" in str(error) for error in workload.errors)
    assert_nothing_lost(workload, uri)


def _write_again(server: PrivateServer) -> None:
    with psycopg.connect(server.uri("postgres"), autocommit=True) as conn:
        conn.execute("set default_transaction_read_only = off")
        conn.execute("alter system reset default_transaction_read_only")
        conn.execute("select pg_reload_conf()")


def test_a_failover_loses_no_acknowledged_append(victim: PrivateServer, server: Server) -> None:
    """The primary is killed and its standby promoted; savers that know both go on with all that was acknowledged."""
    victim.create("app")
    with private_home() as home:
        standby = server_in(server, home)
        try:
            standby.follow(victim)
            standby.start()
            # Acknowledged is then what the standby has, too.
            victim.run("alter system set synchronous_standby_names = '*'")
            victim.run("select pg_reload_conf()")
            both = f"host={victim.home},{home} user=postgres dbname=app target_session_attrs=read-write"
            with Workload(both) as workload:
                workload.go_on()
                victim.kill()
                standby.promote()
                workload.go_on()
            assert {type(error) for error in workload.errors} <= {
                ConnectionLostError,
                PoolTimeoutError,
                ReadOnlyServerError,
            }
            assert_nothing_lost(workload, standby.uri("app"))
        finally:
            standby.destroy()


def test_a_standby_is_read_and_refuses_writes(victim: PrivateServer, server: Server) -> None:
    """A saver that was given a standby reads, and says what it would take to write."""
    uri = victim.create("app")
    with private_home() as home, EventLogSaver.from_conn_string(uri) as primary:
        primary.put(config_of("1"), *_ROOT)
        standby = server_in(server, home)
        try:
            standby.follow(victim)
            standby.start()
            with EventLogSaver.from_conn_string(standby.uri("app"), retry={"attempts": 2}) as saver:
                assert saver.get(config_of("1")) == primary.get(config_of("1"))
                with pytest.raises(ReadOnlyServerError, match="target_session_attrs=read-write"):
                    saver.put(config_of("2"), *_ROOT)
                standby.promote()
                saver.put(config_of("2"), *_ROOT)
                assert saver.get(config_of("2")) is not None
        finally:
            standby.destroy()


_ROOT: Any = (
    {
        "v": 4, "id": "1", "ts": "2025-11-22T06:30:00.000000+00:00", "channel_values": {"x": 1},
        "channel_versions": {"x": "1"}, "versions_seen": {}, "updated_channels": None,
    },
    {},
    {"x": "1"},
)  # fmt: skip


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 160 MB, in memory."""
    with private_home() as home:
        mount = ["mount", "-t", "tmpfs", "-o", "size=160m,mode=755", "tmpfs", str(home)]
        done = subprocess.run(mount if os.geteuid() == 0 else ["sudo", "-n", *mount], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"only who may mount can have a disk run full: {done.stderr.decode().strip()}")
        try:
            yield home
        finally:
            unmount = ["umount", "--lazy", str(home)]
            subprocess.run(unmount if os.geteuid() == 0 else ["sudo", "-n", *unmount], check=True)


@pytest.mark.parametrize("what", ["tables", "all"])
def test_a_full_disk_loses_no_acknowledged_append(what: str, small_disk: Path, server: Server) -> None:
    """No space is left: for the tables, or for the server's log too, at which it dies. Then space is freed."""
    with ExitStack() as stack:
        home = small_disk
        if what == "tables":
            home = stack.enter_context(private_home())
        private = server_in(server, home)
        stack.callback(private.destroy)
        private.initialize()
        private.start()
        if what == "tables":
            _move_tables(private, small_disk)
        uri = private.create("app")
        with Workload(uri) as workload:
            workload.go_on()
            ballast = small_disk / "ballast"
            _fill(ballast)
            workload.wait_until(lambda: all(worker.errors for worker in workload.workers))
            if what == "tables":
                reads = workload.reads
                workload.wait_until(lambda: workload.reads > reads + len(workload.workers))
            ballast.unlink()
            if what == "all":
                private.start()
            workload.go_on()
        assert {type(error) for error in workload.errors} <= {ServerFullError, ConnectionLostError, PoolTimeoutError}
        assert any(isinstance(error, ServerFullError) for error in workload.errors)
        assert_nothing_lost(workload, uri)


def _move_tables(private: PrivateServer, disk: Path) -> None:
    """Have new databases on that disk."""
    space = disk / "space"
    space.mkdir()
    shutil.chown(space, os.stat(private.data).st_uid)
    with psycopg.connect(private.uri("postgres"), autocommit=True) as conn:
        conn.execute(f"create tablespace small location '{space}'".encode())
    private.run("alter database template1 set tablespace small")


def _fill(file: Path) -> None:
    """Write until there is no room, down to the last kilobyte."""
    with file.open("wb", buffering=0) as ballast:
        for size in (2**20, 2**12):
            try:
                while True:
                    ballast.write(bytes(size))
            except OSError:
                pass
