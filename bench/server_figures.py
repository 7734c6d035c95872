"""The server's cost of the savers' calls: bytes of WAL and of tables."""

from __future__ import annotations

import psycopg

__all__ = ["Server"]


class Server:
    """The server's own figures, on a connection of its own."""

    def __init__(self, uri: str) -> None:
        self._conn = psycopg.connect(uri, autocommit=True)

    def wal(self) -> int:
        """Bytes of WAL written so far, by the whole server."""
        row = self._conn.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").fetchone()
        assert row is not None
        return int(row[0])

    def tables(self, like: str) -> int:
        """Bytes of the tables with a matching qualified name, with indexes and TOAST."""
        row = self._conn.execute(
            """
            select coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
            from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
            where c.relkind in ('r', 'm') and n.nspname || '.' || c.relname like %s
            """,
            (like,),
        ).fetchone()
        assert row is not None
        return int(row[0])

    def tidy(self) -> None:
        """Run the server's background work now, so that it does not disturb a measurement."""
        self._conn.execute("vacuum analyze")
        self._conn.execute("checkpoint")

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()
