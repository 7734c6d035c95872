"""A database whose time can be set: what the log calls the clock is then ours.

The log's functions and queries say `clock_timestamp()` without a schema, so that a session whose search_path has
another function of that name before the system's gets that one.
"""

from __future__ import annotations

from datetime import timedelta

import psycopg
from psycopg import sql

from tests.pooler import direct

__all__ = ["Clock"]


class Clock:
    """Sets the time of one database, for sessions that begin afterwards.

    Args:
        uri: the database.
        behind: how far behind the real time it is to start.
    """

    def __init__(self, uri: str, behind: timedelta = timedelta(0)) -> None:
        self._uri = direct(uri)
        with psycopg.connect(self._uri, autocommit=True) as conn:
            conn.execute("create schema clock")
            conn.execute("create table clock.ahead (by interval not null)")
            conn.execute("insert into clock.ahead values (%s)", (-behind,))
            conn.execute(
                "create function clock.clock_timestamp() returns timestamptz language sql volatile as "
                "'select pg_catalog.clock_timestamp() + by from clock.ahead'"
            )
            conn.execute("grant usage on schema clock to public")
            conn.execute("grant select on clock.ahead to public")
            conn.execute(
                sql.SQL("alter database {} set search_path = clock, pg_catalog, public").format(
                    sql.Identifier(conn.info.dbname)
                )
            )

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        with psycopg.connect(self._uri, autocommit=True) as conn:
            conn.execute("update clock.ahead set by = by + %s", (by,))
