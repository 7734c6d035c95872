"""A database with a settable time: what the log calls the clock is then ours."""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg
from psycopg import sql

from eventlog.db.migrations import migrate
from eventlog.db.statements import Statements
from eventlog.db.sync import Driver
from eventlog.distribution import distribute
from tests.support.pooler import direct

__all__ = ["Clock", "make_clock"]


def make_clock(uri: str) -> None:
    """Make what `setup()` makes, but for partitions, and the clock; nothing where there is one."""
    with psycopg.connect(uri, autocommit=True) as conn:
        if conn.execute("select to_regclass('clock.ahead')").fetchone() != (None,):
            return
        Driver(conn).run_script(migrate(Statements("eventlog")))
        if is_cluster(conn):
            Driver(conn).run_script(distribute(Statements("eventlog"), 4))
        conn.execute("create schema clock")
        conn.execute("grant usage on schema clock to public")
        # On a cluster a table of each node: a statement on a shard may read no other.
        on_all_nodes(conn, sql.SQL("create table clock.ahead (by interval not null)"))
        on_all_nodes(conn, sql.SQL("insert into clock.ahead values ('0')"))
        on_all_nodes(conn, sql.SQL("grant select on clock.ahead to public"))
        # Runs in every session from its next statement on, also where the planner has put the old one in the place of
        # a call.
        conn.execute(
            "create or replace function eventlog.clock_v1() returns timestamptz language sql volatile as "
            "'select pg_catalog.clock_timestamp() + by from clock.ahead'"
        )


def is_cluster(conn: psycopg.Connection) -> bool:
    return conn.execute("select from pg_extension where extname = 'citus'").fetchone() is not None


def on_all_nodes(conn: psycopg.Connection, statement: sql.Composable) -> None:
    if not is_cluster(conn):
        conn.execute(statement)
        return
    command = statement.as_string(conn)
    for success, result in conn.execute("select success, result from run_command_on_all_nodes(%s)", (command,)):
        assert success, result


class Clock:
    """Sets the time of one database's log, at once for everybody.

    Args:
        uri: the database. What `setup()` makes is made first, but for partitions.
        behind: how far behind the real time it is to start.
    """

    def __init__(self, uri: str, behind: timedelta = timedelta(0)) -> None:
        self._uri = direct(uri)
        make_clock(self._uri)
        self._run(sql.SQL("update clock.ahead set by = {}"), -behind)

    def advance(self, by: timedelta) -> None:
        """Let time pass, or go back."""
        self._run(sql.SQL("update clock.ahead set by = by + {}"), by)

    def set(self, at: datetime) -> None:
        """Let it be a certain time now."""
        self._run(sql.SQL("update clock.ahead set by = {} - pg_catalog.clock_timestamp()"), at)

    def _run(self, statement: sql.SQL, value: object) -> None:
        with psycopg.connect(self._uri, autocommit=True) as conn:
            on_all_nodes(conn, statement.format(sql.Literal(value)))
