"""PgBouncer in transaction mode, between the savers and the test session's server.

With EVENTLOG_TEST_PGBOUNCER set to the program, the connection strings of the fixtures lead through it: whatever a
saver does works on server connections that it shares with others, and gets another one for each transaction. What a
test does beside the savers goes there as well, but for what needs a session: that asks `direct` for the way around.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

__all__ = ["cancelling", "direct", "is_between", "run_pooler", "tracks_statements"]

#: Seconds; it starts and stops in a fraction of one.
PATIENCE = 120

#: Fewer than the clients of most tests that have several, so that they share.
SERVER_CONNECTIONS = 4

SETTINGS = {
    "pool_mode": "transaction",
    "default_pool_size": SERVER_CONNECTIONS,
    # Else the one that was used last comes first, and clients that take turns would always meet the same.
    "server_round_robin": 1,
    "max_client_conn": 1000,
    # The users that the server knows; PgBouncer asks it about others, as this user.
    "auth_type": "trust",
    "auth_user": "postgres",
    "admin_users": "postgres",
    # A database is dropped as soon as its test is done, and a server connection that ends is no news.
    "log_connections": 0,
    "log_disconnections": 0,
    "verbose": 0,
}

#: The hosts of poolers, and of the servers behind them, as connection strings have them.
_behind: dict[str, str] = {}
_tracking: dict[str, bool] = {}


def is_between() -> bool:
    """Whether the connection strings of the fixtures lead through a pooler."""
    return bool(_behind)


def tracks_statements() -> bool:
    """Whether the pooler knows which client prepared what, and where."""
    return any(_tracking.values())


def direct(uri: str) -> str:
    """The same database without the pooler, for what needs a session of its own."""
    for pooler, server in _behind.items():
        uri = uri.replace(f"host={pooler}", f"host={server}")
    return uri


def cancelling(uri: str) -> str:
    """The same database, for tests that cancel what the server works on: around a PgBouncer that may die of it.

    1.18 does now and then ("bad client state: 0", PgBouncer's issue 801), and takes all connections with it.
    """
    return uri if tracks_statements() else direct(uri)


@contextmanager
def run_pooler(program: Path, server: Path, home: Path) -> Iterator[Path]:
    """Run PgBouncer before the server with its socket in `server`; yields the directory of its own, which is `home`."""
    config, users, log = home / "pgbouncer.ini", home / "users", home / "log"
    users.write_text('"postgres" ""\n')
    settings = {**SETTINGS, "auth_file": users, "unix_socket_dir": home, "listen_port": 5432, "logfile": log}
    tracks = _version(program) >= (1, 21)
    if tracks:
        settings["max_prepared_statements"] = 100
    config.write_text(
        f"[databases]\n* = host={server} port=5432\n[pgbouncer]\n"
        + "".join(f"{name} = {value}\n" for name, value in settings.items())
    )
    # The user that it runs as may not reach where it is.
    copied = shutil.copy(program, home)
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        # It refuses to run as root; and who runs the server can reach its socket.
        owner = (server / ".s.PGSQL.5432").stat()
        os.chown(home, owner.st_uid, owner.st_gid)
        options = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": ()}
    nowhere = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([copied, "--quiet", config], cwd=home, **nowhere, **options)
    hosts = [quote(str(each), safe="") for each in (home, server)]
    try:
        _wait_for(process, f"postgresql://postgres@/pgbouncer?host={hosts[0]}", log)
        _behind[hosts[0]], _tracking[hosts[0]] = hosts[1], tracks
        yield home
    finally:
        _behind.pop(hosts[0], None)
        _tracking.pop(hosts[0], None)
        process.terminate()
        process.wait(timeout=PATIENCE)
        shutil.rmtree(home)


def _wait_for(process: subprocess.Popen[bytes], console: str, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            psycopg.connect(console, autocommit=True, connect_timeout=10).close()
        except psycopg.OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"PgBouncer does not start:\n{log.read_text() if log.exists() else ''}") from None
            time.sleep(0.05)
        else:
            return


def _version(program: Path) -> tuple[int, ...]:
    shown = subprocess.run(
        [program, "--version"], check=True, capture_output=True, encoding="utf-8", timeout=PATIENCE
    ).stdout
    found = re.match(r"PgBouncer (\d+)\.(\d+)", shown)
    assert found is not None, shown
    return tuple(map(int, found.groups()))
