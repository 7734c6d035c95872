"""Timing of a saver's calls, and of what they cost the server."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

import psycopg


class Timer:
    """Times methods of an object in place: ``calls[name]`` collects seconds."""

    def __init__(self, target: Any, *names: str) -> None:
        self.calls: dict[str, list[float]] = defaultdict(list)
        for name in names:
            setattr(target, name, self._timed(name, getattr(target, name)))

    def _timed(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.calls[name].append(time.perf_counter() - started)

        return timed

    def median_ms(self, name: str, last: int | None = None) -> float:
        """The median of all calls, or of the last ones, in milliseconds."""
        return median(self.calls[name][-last if last else 0 :]) * 1000

    def total_ms(self, name: str) -> float:
        """The sum of all calls, in milliseconds."""
        return sum(self.calls[name]) * 1000


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
        """Bytes of the tables whose qualified name matches, with indexes and TOAST."""
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
        """Do now what the server would do some time, perhaps while something is measured."""
        self._conn.execute("vacuum analyze")
        self._conn.execute("checkpoint")

    def close(self) -> None:
        """Close the connection."""
        self._conn.close()
