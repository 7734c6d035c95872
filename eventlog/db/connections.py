"""A driver's state for each of its connections: cursors, and whether a pooler stands between it and the server.

A new cursor for each statement costs more than the client's other work of sending it and receiving the answer
(docs/performance.md). psycopg caches a statement's parameters and result types while a cursor runs the same statement,
so each connection keeps one cursor for each statement.

psycopg prepares statements under names of its own, `_pg3_0` and so on, and remembers which it has prepared on a
connection. A pooler in transaction mode gives each transaction another server connection. There the name may be unknown
or taken, and calls fail; or it names *another client's* statement, which is then executed with our parameters, without
any error. Poolers do not announce themselves. But they invent the process id that a client gets when it connects, as
the server processes behind them change (PgBouncer, PgCat, PgDog and Odyssey do); so the driver compares that id with
the server's own.

PgBouncer from 1.21 on can track prepared statements, if it is configured to. A client cannot detect that, so the driver
does not rely on it: a database function gains at most a tenth by it (docs/explanation/decisions-reading.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from eventlog.db.query import Query, Rows
from eventlog.logger import logger

__all__ = ["BACKEND_PID_QUERY", "MOST_HELD_BYTES", "Connections", "Known", "disable_prepare", "size_of"]

#: Asks for the server's own process id.
BACKEND_PID_QUERY = Query(b"select pg_catalog.pg_backend_pid()")

#: A cursor holds its last parameters and results until it runs again. A cursor that would hold more bytes than this is
#: dropped.
MOST_HELD_BYTES = 64 * 1024


@dataclass(slots=True)
class Known:
    """A connection's cursors, and whether the server itself answers it. Only its borrower uses it."""

    cursors: dict[bytes, Any] = field(default_factory=dict)
    """Idle ones, by their statements."""
    is_direct: bool | None = None
    """Whether the server itself answers; None: not probed yet. psycopg may prepare statements only if it does."""


class Connections(dict[Any, Known]):
    """The driver's connections, each with its `Known`.

    Args:
        cursor_class: used instead of the connection's own: the user's may bind on the client, or use other
        placeholders.
    """

    def __init__(self, cursor_class: type[psycopg.Cursor[Any]] | type[psycopg.AsyncCursor[Any]]) -> None:
        super().__init__()
        self._cursor_class: Any = cursor_class
        self._has_told = False

    def add(self, conn: Any) -> Known:
        """Add a connection, and forget closed ones, which it may replace in the pool."""
        for each in list(self):
            if each.closed:
                self.pop(each, None)
        return self.setdefault(conn, Known())

    def new_cursor(self, conn: Any) -> Any:
        """A cursor that returns tuples and asks for binary results."""
        cursor = self._cursor_class(conn, row_factory=tuple_row)
        cursor.format = psycopg.pq.Format.BINARY
        return cursor

    def record_probe(self, conn: Any, known: Known, rows: Rows) -> None:
        """Note the answer to `BACKEND_PID_QUERY`."""
        ((pid,),) = rows
        known.is_direct = pid == conn.info.backend_pid
        if not known.is_direct and not self._has_told:
            self._has_told = True
            logger.warning(
                "eventlog.pooler_found",
                advice="connections go through a pooler, so the saver prepares no statements: the pooler may send each "
                "to another server connection. Set prepare_threshold=None on your connections for your own statements",
            )


@contextmanager
def disable_prepare(conn: Any, known: Known) -> Iterator[None]:
    """Inside this context, statements of the user's code are prepared only if the driver's own are."""
    threshold = conn.prepare_threshold
    if threshold is None or known.is_direct:
        yield
        return
    conn.prepare_threshold = None
    try:
        yield
    finally:
        conn.prepare_threshold = threshold


def size_of(rows: Iterable[Iterable[Any]]) -> int:
    """The bytes in rows or parameters, and the characters of texts, which are short except for metadata."""
    return sum([len(value) for row in rows for value in row if type(value) is bytes or type(value) is str])
