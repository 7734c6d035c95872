"""A database with a settable time: what the log calls the clock is then ours."""

from __future__ import annotations

from datetime import datetime, timedelta

import psycopg

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
        is_cluster = conn.execute("select from pg_extension where extname = 'citus'").fetchone() is not None
        if is_cluster:
            Driver(conn).run_script(distribute(Statements("eventlog"), 4))
        conn.execute("create schema clock")
        conn.execute("create table clock.ahead (by interval not null)")
        conn.execute("insert into clock.ahead values ('0')")
        if is_cluster:
            conn.execute("select create_reference_table('clock.ahead')")
        conn.execute("grant usage on schema clock to public")
        conn.execute("grant select on clock.ahead to public")
        # Runs in every session from its next statement on, also where the planner has put the old one in the place of
        # a call.
        conn.execute(
            "create or replace function eventlog.clock_v1() returns timestamptz language sql volatile as "
            "'select pg_catalog.clock_timestamp() + by from clock.ahead'"
        )


class Clock:
    """Sets the time of one database's log, at once for everybody.

    Args:
        uri: the database. What `setup()` makes is made first, but for partitions.
        behind: how far behind the real time it is to start.
    """

    def __init__(self, uri: str, behind: timedelta = timedelta(0)) -> None:
        self._uri = direct(uri)
        make_clock(self._uri)
        self._run("update clock.ahead set by = %s", -behind)

    def advance(self, by: timedelta) -> None:
        """Let time pass, or go back."""
        self._run("update clock.ahead set by = by + %s", by)

    def set(self, at: datetime) -> None:
        """Let it be a certain time now."""
        self._run("update clock.ahead set by = %s - pg_catalog.clock_timestamp()", at)

    def _run(self, statement: str, value: object) -> None:
        with psycopg.connect(self._uri, autocommit=True) as conn:
            conn.execute(statement.encode(), (value,))
