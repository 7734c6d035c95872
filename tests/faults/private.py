"""Servers that may be harmed: each in a folder of its own, to be killed, filled up, or followed by another.

They keep what is committed through anything that happens to the server's processes (`synchronous_commit` is on). That
`fsync` is off loses nothing here: the operating system goes on.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from typing_extensions import LiteralString

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.server import MEMORY, Server, run_program, uri_of

__all__ = ["PrivateServer", "private_home", "private_server", "server_in"]

SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "on",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "16MB",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "wal_keep_size": "64MB",
}

#: Nothing here takes longer, in seconds, on a machine that does other things too.
PATIENCE = 240.0


class PrivateServer:
    """A server with processes, settings and files of this test's own.

    Args:
        programs: the folder of PostgreSQL's programs.
        uid: who is to run them.
        home: an empty folder, for data and socket.
    """

    def __init__(self, programs: Path, uid: int, home: Path) -> None:
        self._programs = programs
        self._uid = uid
        self.home = home
        self.data = home / "data"

    def initialize(self, **settings: str) -> None:
        """Make the data folder."""
        self._own(self.home)
        self._run("initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--username=postgres", "-D", self.data)
        self.configure(**SETTINGS, unix_socket_directories=str(self.home), **settings)

    def follow(self, primary: PrivateServer) -> None:
        """Become a copy of another server that goes on receiving what that one commits."""
        self._own(self.home)
        self._run(
            "pg_basebackup", "--checkpoint=fast", "--write-recovery-conf", "--no-sync",
            "-U", "postgres", "-h", primary.home, "-D", self.data,
        )  # fmt: skip
        self.configure(unix_socket_directories=str(self.home))

    def configure(self, **settings: str) -> None:
        """Settings for the next start."""
        with (self.data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{name} = '{value}'\n" for name, value in settings.items())

    def start(self) -> None:
        """Start it, if it does not run and the last process of an earlier run is gone; wait until it answers."""
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            if not self._runs():
                with suppress(RuntimeError):
                    self._run("pg_ctl", "start", "--wait", "-D", self.data, "-l", self.home / "log")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the server does not start:\n{(self.home / 'log').read_text()[-4000:]}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.uri("postgres"), connect_timeout=10).close()
        except psycopg.OperationalError:
            return False
        return True

    def _runs(self) -> bool:
        try:
            return _lives(self._pid)
        except FileNotFoundError:
            return False

    def stop(self, mode: str = "fast") -> None:
        """Shut down: "fast" tells the clients, "immediate" is a crash."""
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}", "-D", self.data)

    def kill(self) -> None:
        """Kill the postmaster as the kernel does when memory runs out. Its children notice and go."""
        os.kill(self._pid, signal.SIGKILL)

    def promote(self) -> None:
        """Make a copy a server of its own."""
        self._run("pg_ctl", "promote", "--wait", "-D", self.data)

    @property
    def _pid(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split("\n")[0])

    def uri(self, database: str) -> str:
        """A connection string, as the superuser."""
        return uri_of(self.home, database)

    def create(self, database: str) -> str:
        """Make a database with a log; returns its connection string."""
        self.run("create database {}", database)
        with psycopg.connect(self.uri(database), autocommit=True) as conn:
            EventLogSaver(conn).setup()
        return self.uri(database)

    def run(self, statement: LiteralString, *names: str) -> list[tuple[Any, ...]]:
        """Run a statement in the database `postgres`; names stand for `{}`. Returns the rows, if it has any."""
        with psycopg.connect(self.uri("postgres"), autocommit=True) as conn:
            done = conn.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
            return done.fetchall() if done.description else []

    def destroy(self) -> None:
        """Stop it, however it is. One that was killed is started once more: only then it removes its shared memory."""
        if not (self.data / "postmaster.pid").exists():
            return
        self.start()
        pid = self._pid
        os.kill(pid, signal.SIGQUIT)
        deadline = time.monotonic() + PATIENCE
        while _lives(pid) and time.monotonic() < deadline:
            time.sleep(0.02)

    def _own(self, folder: Path) -> None:
        if os.geteuid() == 0:
            os.chown(folder, self._uid, -1)

    def _run(self, program: str, *args: str | Path) -> None:
        run_program([self._programs / program, *args], self.home, uid=self._uid)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def private_server(like: Server, **settings: str) -> Iterator[PrivateServer]:
    """A server of the programs, and run by the user, of another one, initialized and not started."""
    with private_home() as home:
        server = server_in(like, home)
        try:
            server.initialize(**settings)
            yield server
        finally:
            server.destroy()


def server_in(like: Server, home: Path) -> PrivateServer:
    """A server in a folder, of the programs and run by the user of another one."""
    with psycopg.connect(like.uri("postgres")) as conn:
        ((data,),) = conn.execute("show data_directory").fetchall()
    return PrivateServer(like.programs, os.stat(data).st_uid, home)


@contextmanager
def private_home() -> Iterator[Path]:
    """A folder, in memory where there is some."""
    parent = MEMORY if "TMPDIR" not in os.environ and MEMORY.is_dir() else None
    home = Path(tempfile.mkdtemp(prefix="eventlog-faults-", dir=parent))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)
