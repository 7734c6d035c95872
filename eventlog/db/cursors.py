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

from eventlog.db.query import Query, Rows

__all__ = ["Cursors", "size_of"]

#: A cursor holds its last parameters and results until it runs again. One that would hold more than this many bytes is
#: not kept.
MOST_HELD_BYTES = 64 * 1024


class Cursors:
    """The cursors of the connections that a driver has used; who has a connection has its cursors too.

    Args:
        cursor_class: not the connection's own: the user's may bind on the client, or know other placeholders.
    """

    def __init__(self, cursor_class: type[psycopg.Cursor[Any]] | type[psycopg.AsyncCursor[Any]]) -> None:
        self._class: Any = cursor_class
        self._kept: dict[Any, dict[bytes, Any]] = {}

    def take(self, conn: Any, query: Query) -> Any:
        """A cursor to run a query with, of the class that was given; the kept one, if there is one."""
        if query.is_frequent and (kept := self._kept.get(conn)) and (cursor := kept.pop(query.statement, None)):
            return cursor
        cursor = self._class(conn, row_factory=tuple_row)
        cursor.format = psycopg.pq.Format.BINARY
        return cursor

    def give_back(self, conn: Any, query: Query, cursor: Any, rows: Rows) -> bool:
        """Keep a cursor for the next time; returns False where it should be closed."""
        if not query.is_frequent or size_of((query.params or (), *rows)) > MOST_HELD_BYTES:
            return False
        kept = self._kept.get(conn)
        if kept is None:
            # The pool has a new connection, perhaps in the place of one that was closed.
            for each in list(self._kept):
                if each.closed:
                    self._kept.pop(each, None)
            kept = self._kept[conn] = {}
        kept[query.statement] = cursor
        return True


def size_of(rows: Iterable[Iterable[Any]]) -> int:
    """The bytes in rows, or in parameters; characters of texts, which are short but for metadata."""
    size = 0
    for row in rows:
        for value in row:
            if type(value) is bytes or type(value) is str:
                size += len(value)
    return size
