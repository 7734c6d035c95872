"""A Citus cluster for one test session: a coordinator and two workers on loopback, with the programs of one PostgreSQL.

Each database of a test exists on all three, as a copy of one that Citus knows: Citus keeps what it knows of nodes,
shards and placements in the database itself.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import psycopg
from psycopg import errors as pg
from psycopg import sql
from typing_extensions import LiteralString

from tests.support.server import Server, configure, new_directory, run_program, unprivileged_user

__all__ = ["Cluster", "Node", "run_cluster"]

T = TypeVar("T")

#: Of each node: Citus needs the library, and prepared transactions for what is written on several nodes.
SETTINGS = {
    "shared_preload_libraries": "citus",
    "max_prepared_transactions": "300",
    # Its background worker looks for deadlocks between nodes, and for prepared transactions that were left.
    "citus.distributed_deadlock_detection_factor": "2",
    "citus.recover_2pc_interval": "2s",
    "citus.node_conninfo": "sslmode=disable",
    "citus.shard_count": "4",
    "citus.enable_statistics_collection": "off",
}

#: How long a database may be in use by sessions that come back, in seconds: Citus's own do.
PATIENCE = 60.0

#: Waits until its input ends, as this process does however it ends, and stops and deletes the nodes in its arguments.
#: SIGQUIT is PostgreSQL's immediate shutdown.
CARETAKER = """
cat > /dev/null
for home; do
    pid=$(head -n 1 "$home/data/postmaster.pid" 2> /dev/null) && kill -QUIT "$pid" && kill -CONT "$pid"
    rm -rf "$home"
done
"""


class Node:
    """One PostgreSQL server on loopback, that can be stopped and started.

    Args:
        programs: the directory of PostgreSQL's programs.
        home: an empty directory.
        settings: of the server, beside `SETTINGS`.
    """

    def __init__(self, programs: Path, home: Path, **settings: str) -> None:
        self._programs = programs
        self.home = home
        self.data, self._log = self.home / "data", self.home / "log"
        self.port = _free_port()
        self._settings = {
            **SETTINGS,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.home),
            **settings,
        }
        user = unprivileged_user() if os.geteuid() == 0 else None
        self._uid = None if user is None else user.pw_uid
        if user is not None:
            os.chown(self.home, user.pw_uid, user.pw_gid)

    def initialize(self) -> None:
        """Make the data directory."""
        self._run("initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--username=postgres", "-D", self.data)

    def copy(self, other: Node) -> None:
        """Have the data directory of another node that was only initialized."""
        shutil.copytree(other.data, self.data)
        for path in (self.data, *self.data.rglob("*")):
            if self._uid is not None:
                os.chown(path, self._uid, -1)

    def follow(self, primary: Node) -> None:
        """Become a standby of another node, which runs."""
        self._run(
            "pg_basebackup", "--checkpoint=fast", "--write-recovery-conf", "--no-sync",
            "-U", "postgres", "-h", primary.home, "-p", str(primary.port), "-D", self.data,
        )  # fmt: skip
        self.configure()

    def promote(self) -> None:
        """Make a standby a server of its own."""
        self._run("pg_ctl", "promote", "--wait", "-D", self.data)

    def configure(self) -> None:
        """Write its settings."""
        configure(self.data, **self._settings)

    def start(self) -> None:
        self._run("pg_ctl", "start", "--wait", "-D", self.data, "-l", self._log)

    @property
    def runs(self) -> bool:
        """Whether it was started, and not stopped since."""
        return (self.data / "postmaster.pid").exists()

    def stop(self, *, mode: str = "immediate") -> None:
        """Stop it: "fast" ends its sessions, "immediate" is a crash. Without effect if it does not run."""
        if self.runs:
            self.resume()
            self._run("pg_ctl", "stop", "--wait", f"--mode={mode}", "-D", self.data)

    def pause(self) -> None:
        """Stop all its processes in place: connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        # The first first: it starts the others.
        postmaster = int((self.data / "postmaster.pid").read_text().split("\n")[0])
        with suppress(ProcessLookupError):
            os.kill(postmaster, number)
        for pid in _children(postmaster):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def uri(self, database: str) -> str:
        """A connection string as the superuser."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def socket_uri(self, database: str) -> str:
        """The same, by the unix socket."""
        return f"postgresql://postgres@/{database}?host={quote(str(self.home), safe='')}&port={self.port}"

    def create_database(self, name: str, template: str) -> None:
        """Copy a database. Ends its sessions: Citus's background worker has one."""
        self._when_unused(template, "create database {} template {} strategy file_copy", name, template)

    def drop_database(self, name: str) -> None:
        """Drop a database, with its sessions and prepared transactions."""
        with suppress(pg.InvalidCatalogName):
            self._when_unused(name, "drop database {} with (force)", name)

    def _when_unused(self, database: str, statement: LiteralString, *names: str) -> None:
        deadline = time.monotonic() + PATIENCE
        with psycopg.connect(self.uri("postgres"), autocommit=True) as admin:
            while True:
                if admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (database,)
                ).fetchall():
                    time.sleep(0.01)  # They take a moment, and PostgreSQL would look again only after 100 ms.
                self._roll_back_prepared(admin, database)
                try:
                    admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
                    return
                except pg.ObjectInUse:
                    if time.monotonic() > deadline:
                        raise

    def _roll_back_prepared(self, admin: psycopg.Connection, database: str) -> None:
        found = admin.execute("select gid from pg_prepared_xacts where database = %s", (database,)).fetchall()
        if found:
            with psycopg.connect(self.uri(database), autocommit=True) as conn:
                for (gid,) in found:
                    with suppress(pg.UndefinedObject):  # Citus has ended it.
                        conn.execute(sql.SQL("rollback prepared {}").format(gid))

    def _run(self, program: str, *args: str | Path) -> None:
        run_program([self._programs / program, *args], self.home, uid=self._uid, log=self._log)


class Cluster(Server):
    """The nodes, and the databases on them; as a server, it is the coordinator."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        super().__init__(nodes[0].home)
        self._executor = ThreadPoolExecutor(2 * len(nodes))
        self._drops: list[Future[None]] = []
        self.on_all(lambda node: node.create_database("citus_template", "template0"))
        self.on_all(_create_extension)
        with psycopg.connect(self.uri("citus_template"), autocommit=True) as conn:
            conn.execute("select citus_set_coordinator_host('127.0.0.1', %s)", (nodes[0].port,))
            for node in nodes[1:]:
                conn.execute("select citus_add_node('127.0.0.1', %s)", (node.port,))

    def on_all(self, function: Callable[[Node], T]) -> list[T]:
        """Call a function with each node, at the same time."""
        return list(self._executor.map(function, self.nodes))

    def uri(self, database: str) -> str:
        return self.nodes[0].uri(database)

    def saver_uri(self, database: str) -> str:
        return self.uri(database)

    def create_database(self, template: str = "template1", *, prefix: str = "test") -> str:
        """Create a database on all nodes. What is no copy of another has the extension, and knows the nodes."""
        name = f"{prefix}_{next(self._numbers)}"
        of = "citus_template" if template == "template1" else template
        self.on_all(lambda node: node.create_database(name, of))
        return name

    def create_plain_database(self, *, prefix: str = "plain") -> str:
        """Create a database without the extension, on the coordinator alone."""
        name = f"{prefix}_{next(self._numbers)}"
        self.nodes[0].create_database(name, "template0")
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database on all nodes, in the background."""
        self.before_drop(name)
        self._drops = [each for each in self._drops if not each.done() or each.result()]
        self._drops += [self._executor.submit(node.drop_database, name) for node in self.nodes]

    def finish_dropping(self, *, all_but: int = 0) -> None:
        """Wait until all databases that are no longer needed are dropped."""
        while self._drops:
            self._drops.pop().result()

    def close(self) -> None:
        self.finish_dropping()
        with suppress(psycopg.OperationalError):  # The coordinator was stopped since.
            super().close()
        self._admin.close()
        self._executor.shutdown()


def _create_extension(node: Node) -> None:
    with psycopg.connect(node.uri("citus_template"), autocommit=True) as conn:
        conn.execute("create extension citus")


@contextmanager
def run_cluster(programs: Path, *, workers: int = 2, **settings: str) -> Iterator[Cluster]:
    """Start a coordinator and workers, yield them, and stop and delete them, however the session ends."""
    with ExitStack() as stack:
        homes = [new_directory() for _ in range(workers + 1)]
        for home in homes:
            stack.callback(shutil.rmtree, home, ignore_errors=True)
        caretaker = subprocess.Popen(
            ["/bin/sh", "-c", CARETAKER, "caretaker", *homes], stdin=subprocess.PIPE, start_new_session=True
        )
        stack.callback(caretaker.communicate)
        nodes = [Node(programs, home, **settings) for home in homes]
        nodes[0].initialize()
        for node in nodes[1:]:
            node.copy(nodes[0])
        with ThreadPoolExecutor(len(nodes)) as executor:
            for node in nodes:
                node.configure()
                stack.callback(node.stop)
            list(executor.map(Node.start, nodes))
        cluster = Cluster(nodes)
        stack.callback(cluster.close)
        yield cluster


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
