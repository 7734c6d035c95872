"""A PostgreSQL server that a test starts and stops as it likes, with a folder that it may copy and put back.

Whichever folder is started, it answers at the same connection string.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.server import configure, new_directory, run_program, unprivileged_user, uri_of

__all__ = ["Cluster", "run_cluster"]

#: Seconds; starting and stopping take one or two.
PATIENCE = 240


class Cluster:
    """One server at a time, of several folders.

    Args:
        programs: the directory of PostgreSQL's programs.
        home: where its folders are made; and its socket.
    """

    def __init__(self, programs: Path, home: Path) -> None:
        self._programs = programs
        self.home = home
        # PostgreSQL refuses to run as root.
        self._user = unprivileged_user() if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(home, self._user.pw_uid, self._user.pw_gid)
        self.running: Path | None = None

    def uri(self, database: str = "postgres") -> str:
        return uri_of(self.home, database)

    def make(self, name: str, **settings: str) -> Path:
        """Make a cluster in a new folder."""
        data = self.home / name
        self.run("initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--username=postgres", "-D", data)
        configure(data, **{"listen_addresses": "", "unix_socket_directories": str(self.home), **settings})
        return data

    def copy(self, data: Path, name: str) -> Path:
        """Copy the folder of a stopped server."""
        copied = self.home / name
        self._run(["cp", "-a", data, copied])
        return copied

    def start(self, data: Path) -> None:
        """Start the server of a folder, and wait until it can be written to."""
        self.run("pg_ctl", "start", "--wait", "-D", data, "-l", self.home / "log")
        self.running = data
        deadline = time.monotonic() + PATIENCE
        with psycopg.connect(self.uri(), autocommit=True) as conn:
            while conn.execute("select pg_is_in_recovery()").fetchone() == (True,):
                assert time.monotonic() < deadline, (self.home / "log").read_text()
                time.sleep(0.05)

    def stop(self, mode: str = "fast") -> None:
        assert self.running is not None
        self.run("pg_ctl", "stop", "--wait", f"--mode={mode}", "-D", self.running)
        self.running = None

    def run(self, program: str, *args: str | Path) -> None:
        """Run one of PostgreSQL's programs, as the user that the server runs as."""
        self._run([self._programs / program, *args])

    def _run(self, command: list[str | Path]) -> None:
        run_program(command, self.home, uid=self._user and self._user.pw_uid, log=self.home / "log")


@contextmanager
def run_cluster(programs: Path, **settings: str) -> Iterator[Cluster]:
    """Make a cluster in the folder `data` and start it; in the end, stop what runs and delete everything."""
    home = new_directory()
    cluster = Cluster(programs, home)
    try:
        cluster.start(cluster.make("data", **settings))
        yield cluster
    finally:
        if cluster.running is not None:
            cluster.stop("immediate")
        shutil.rmtree(home)
