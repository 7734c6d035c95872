"""Whether a pooler stands between a connection and the server, and so whether statements may be prepared on it.

psycopg prepares statements under names of its own, `_pg3_0` and so on, and remembers which it has prepared on a
connection. A pooler in transaction mode gives each transaction another server connection. There the name may be
unknown, or taken, and calls fail; or it is the name of *another client's* statement, which is then executed with our
parameters, and nothing fails. Poolers do not tell that they are there. But they make up the process id that a client is
told when it connects, as the server processes behind them change (PgBouncer, PgCat, PgDog and Odyssey do); so the
question is whether the server says the same.

PgBouncer from 1.21 on can keep track of prepared statements, where it is set up to. That cannot be found out, and is
not relied on: a database function gains little by it (up to a tenth, docs/architecture.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from eventlog.db.query import Query, Rows
from eventlog.logger import logger

__all__ = ["BACKEND_PID_QUERY", "Poolers"]

#: Asks for the process id of who answers.
BACKEND_PID_QUERY = Query(b"select pg_catalog.pg_backend_pid()")


class Poolers:
    """What a driver knows about the ways that its connections take."""

    def __init__(self) -> None:
        self.is_direct: dict[Any, bool] = {}
        """Connections that were probed. psycopg may prepare statements only where it says True."""
        self._has_told = False

    def record_probe(self, conn: Any, rows: Rows) -> None:
        """Take note of what `BACKEND_PID_QUERY` answered."""
        # The pool has a new connection, perhaps in the place of one that was closed.
        for each in list(self.is_direct):
            if each.closed:
                self.is_direct.pop(each, None)
        ((pid,),) = rows
        self.is_direct[conn] = is_direct = pid == conn.info.backend_pid
        if not is_direct and not self._has_told:
            self._has_told = True
            logger.warning(
                "eventlog.pooler_found",
                advice="connections go through a pooler, so the saver prepares no statements: the pooler may send each "
                "to another server connection. Set prepare_threshold=None on your connections for your own statements",
            )

    @contextmanager
    def disable_prepare(self, conn: Any) -> Iterator[None]:
        """Meanwhile, what somebody else's code executes on a connection is prepared only where ours is."""
        threshold = conn.prepare_threshold
        if threshold is None or self.is_direct.get(conn):
            yield
            return
        conn.prepare_threshold = None
        try:
            yield
        finally:
            conn.prepare_threshold = threshold
