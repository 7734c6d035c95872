"""Cursors that are used again: psycopg then keeps what it found out about a statement's parameters and results.

A new cursor for each statement costs more than all that the client does to send it and to receive the answer
(docs/performance.md). psycopg keeps its adapters while a cursor runs the same statement, so there is one for each
statement of each connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
from psycopg.rows import tuple_row

__all__ = ["MOST_HELD_BYTES", "Cursors", "size_of"]

#: A cursor holds its last parameters and results until it runs again. One that would hold more than this many bytes is
#: not kept.
MOST_HELD_BYTES = 64 * 1024


class Cursors(dict[Any, dict[bytes, Any]]):
    """The idle cursors of each connection by their statements. The borrower of a connection has its cursors too.

    Args:
        cursor_class: not the connection's own: the user's may bind on the client, or know other placeholders.
    """

    def __init__(self, cursor_class: type[psycopg.Cursor[Any]] | type[psycopg.AsyncCursor[Any]]) -> None:
        super().__init__()
        self._class: Any = cursor_class

    def add(self, conn: Any) -> dict[bytes, Any]:
        """Begin to keep cursors of a connection, and forget those of closed ones, which it may replace in the pool."""
        for each in list(self):
            if each.closed:
                self.pop(each, None)
        return self.setdefault(conn, {})

    def new(self, conn: Any) -> Any:
        """A cursor that returns tuples and asks for binary results."""
        cursor = self._class(conn, row_factory=tuple_row)
        cursor.format = psycopg.pq.Format.BINARY
        return cursor


def size_of(rows: Iterable[Iterable[Any]]) -> int:
    """The bytes in rows, or in parameters; characters of texts, which are short but for metadata."""
    size = 0
    for row in rows:
        for value in row:
            if type(value) is bytes or type(value) is str:
                size += len(value)
    return size
