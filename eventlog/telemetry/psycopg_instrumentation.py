"""psycopg's own OpenTelemetry instrumentation, if a program uses it: each statement gets exactly one span.

It replaces a connection's cursor class with one that traces, and would miss a driver's own cursors. So if a connection
is traced, the driver creates its cursors from that class, and leaves the spans of statements to it.

Not if the traced class is derived from another class than psycopg's (the user's may bind on the client), and not with
sqlcommenter: a comment that changes each time would have each statement prepared again. Then only the driver makes
spans.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import FunctionType
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from eventlog.db.connections import Connections, Known

__all__ = ["TracedConnections", "is_traced"]

_PLAIN = (psycopg.Cursor, psycopg.AsyncCursor)


@dataclass(slots=True)
class _Traced(Known):
    """A connection that psycopg's instrumentation traced when it was first used."""

    cursor_class: Any = None


class TracedConnections(Connections):
    """Like `Connections`, with cursors that psycopg's instrumentation traces if it traces the connection's."""

    def add(self, conn: Any) -> Known:
        """Add a connection."""
        if (cursor_class := _traced_cursor_class(conn)) is not None:
            self.setdefault(conn, _Traced(cursor_class=cursor_class))
        return super().add(conn)

    def new_cursor(self, conn: Any) -> Any:
        """A cursor that returns tuples and asks for binary results."""
        known = self.get(conn)
        if not isinstance(known, _Traced):
            return super().new_cursor(conn)
        cursor = known.cursor_class(conn, row_factory=tuple_row)
        cursor.format = psycopg.pq.Format.BINARY
        return cursor


def is_traced(known: Known) -> bool:
    """Whether psycopg's instrumentation makes the spans of a connection's statements."""
    return isinstance(known, _Traced)


def _traced_cursor_class(conn: Any) -> Any:
    found = conn.cursor_factory
    if not getattr(found, "__module__", "").startswith("opentelemetry.") or found.__bases__[0] not in _PLAIN:
        return None
    execute = vars(found).get("execute")
    if not isinstance(execute, FunctionType):
        return None
    tracers = [
        cell.cell_contents for cell in execute.__closure__ or () if hasattr(cell.cell_contents, "_db_api_integration")
    ]
    return None if not tracers or any(getattr(each, "_commenter_enabled", True) for each in tracers) else found
