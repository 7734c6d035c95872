"""A Citus cluster for one test session: a coordinator and two workers on loopback, with the programs of one PostgreSQL.

Each database of a test exists on all three, as a copy of one that Citus knows: Citus keeps what it knows of nodes,
shards and placements in the database itself.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from tests.support.server import Server, configure, new_directory, run_program, unprivileged_user

__all__ = ["Cluster", "Node", "run_cluster"]

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


class Node:
    """One PostgreSQL server on loopback, that can be stopped and started.

    Args:
        programs: the directory of PostgreSQL's programs.
        settings: of the server, beside `SETTINGS`.
    """

    def __init__(self, programs: Path, **settings: str) -> None:
        self._programs = programs
        self.home = new_directory()
        self.data, self._log = self.home / "data", self.home / "log"
        self.port = _free_port()
        user = unprivileged_user() if os.geteuid() == 0 else None
        self._uid = None if user is None else user.pw_uid
        if user is not None:
            os.chown(self.home, user.pw_uid, user.pw_gid)
        self._run("initdb", "--no-sync", "--auth=trust", "--encoding=UTF8", "--username=postgres", "-D", self.data)
        configure(
            self.data,
            listen_addresses="127.0.0.1",
            port=str(self.port),
            unix_socket_directories=str(self.home),
            **SETTINGS,
            **settings,
        )

    def _run(self, program: str, *args: str | Path) -> None:
        run_program([self._programs / program, *args], self.home, uid=self._uid, log=self._log)

    def start(self) -> None:
        self._run("pg_ctl", "start", "--wait", "-D", self.data, "-l", self._log)

    def stop(self, *, mode: str = "immediate") -> None:
        self._run("pg_ctl", "stop", "--wait", f"--mode={mode}", "-D", self.data)

    def uri(self, database: str) -> str:
        """A connection string as the superuser."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


class Cluster(Server):
    """The nodes, and the databases on them; as a server, it is the coordinator."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self._admins: list[psycopg.Connection] = [
            psycopg.connect(node.uri("postgres"), autocommit=True) for node in nodes[1:]
        ]
        super().__init__(nodes[0].home)
        # What is not from a template of ours is from this one.
        for admin in (self._admin, *self._admins):
            admin.execute("create database citus_template")
        for node in nodes:
            with psycopg.connect(node.uri("citus_template"), autocommit=True) as conn:
                conn.execute("create extension citus")
        with psycopg.connect(self.uri("citus_template"), autocommit=True) as conn:
            conn.execute("select citus_set_coordinator_host('127.0.0.1', %s)", (nodes[0].port,))
            for node in nodes[1:]:
                conn.execute("select citus_add_node('127.0.0.1', %s)", (node.port,))

    def uri(self, database: str) -> str:
        return self.nodes[0].uri(database)

    saver_uri = uri

    def create_database(self, template: str = "citus_template", *, prefix: str = "test") -> str:
        if template == "template1":
            template = "citus_template"
        name = f"{prefix}_{next(self._numbers)}"
        for admin in (self._admin, *self._admins):
            # Citus's background worker would be a session in it.
            admin.execute(sql.SQL("alter database {} allow_connections false").format(sql.Identifier(template)))
            admin.execute(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = %s", (template,)
            )
            admin.execute(
                sql.SQL("create database {} template {} strategy file_copy").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        return name

    def drop_database(self, name: str) -> None:
        for admin in (self._admin, *self._admins):
            admin.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def close(self) -> None:
        for admin in self._admins:
            admin.close()
        self._admin.close()


@contextmanager
def run_cluster(programs: Path, *, workers: int = 2, **settings: str) -> Iterator[Cluster]:
    """Start a coordinator and workers, yield them, and stop and delete them."""
    with ExitStack() as stack:
        nodes = []
        for _ in range(workers + 1):
            node = Node(programs, **settings)
            stack.callback(shutil.rmtree, node.home, ignore_errors=True)
            node.start()
            stack.callback(node.stop)
            nodes.append(node)
        cluster = Cluster(nodes)
        stack.callback(cluster.close)
        yield cluster


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
