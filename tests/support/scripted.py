"""Runs an operation without a database: the test says what each query is answered.

This is the protocol of a driver (`eventlog.db.query`) and nothing else: a query comes out, rows or an error go in.
`AppendedCheckpoint` and `AppendedWrites` turn what was appended into the rows of the reads that come after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.pq import DiagnosticField

from eventlog.db.query import Op, Query, Rows
from eventlog.db.statements import Statements

__all__ = ["AT", "STATEMENTS", "Answer", "AppendedCheckpoint", "AppendedWrites", "fail_with", "play"]

T = TypeVar("T")

STATEMENTS = Statements("eventlog")

#: When every event of a scripted log was recorded.
AT = datetime(2026, 1, 2, tzinfo=timezone.utc)
DIGEST = bytes(32)

#: Rows, an error to throw, or a function of the query that gives the rows.
Answer: TypeAlias = "Rows | psycopg.Error | Callable[[Query], Rows]"


def play(op: Op[T], *exchanges: tuple[str, Answer]) -> T:
    """Run an operation to its end.

    Args:
        op: the operation.
        exchanges: the name of each query that it must ask, in order, and what it is answered.

    Returns: the operation's result. Its error passes through, and also then every exchange must have happened.
    """
    left = list(exchanges)
    step = _sender(op, None)
    try:
        while True:
            query = step()
            assert left, f"one query more than expected: {query.statement.decode()}"
            name, answer = left.pop(0)
            assert query.statement == STATEMENTS[name], f"expected {name}, got: {query.statement.decode()}"
            if isinstance(answer, psycopg.Error):
                step = _thrower(op, answer)
            else:
                step = _sender(op, answer(query) if callable(answer) else answer)
    except StopIteration as stop:
        assert not left, f"not asked: {[name for name, _ in left]}"
        return stop.value  # type: ignore[no-any-return]
    except Exception:
        assert not left, f"not asked: {[name for name, _ in left]}"
        raise


def _sender(op: Op[Any], rows: Rows | None) -> Callable[[], Query]:
    return lambda: op.send(rows)  # type: ignore[arg-type]  # None starts it


def _thrower(op: Op[Any], error: psycopg.Error) -> Callable[[], Query]:
    return lambda: op.throw(error)


def fail_with(error: type[psycopg.Error], message: str = "refused", *, constraint: str | None = None) -> psycopg.Error:
    """An error as the server sends it."""
    info: dict[Any, bytes | None] = dict.fromkeys(DiagnosticField)
    info[DiagnosticField.MESSAGE_PRIMARY] = message.encode()
    info[DiagnosticField.CONSTRAINT_NAME] = None if constraint is None else constraint.encode()
    return error(message, info=info)  # type: ignore[arg-type]


@dataclass
class AppendedCheckpoint:
    """Answers an append of a checkpoint, and remembers it. It can be read then, if the append is of a whole state."""

    status: str = "ok"
    seq: int = 1
    epoch: int = 0
    params: Sequence[Any] = ()

    def __call__(self, query: Query) -> Rows:
        assert isinstance(query.params, tuple)
        self.params = query.params
        if self.status != "ok":
            return [(self.status, None, None, None, None)]
        return [("ok", self.seq, AT, self.epoch, DIGEST)]

    @property
    def base_seq(self) -> int | None:
        """The event that the appended one is a difference from."""
        return None if self.params[5] is None else int(self.params[5])

    @property
    def replaces(self) -> bool:
        """Whether it is to replace a checkpoint of the same id."""
        return bool(self.params[10])

    @property
    def body(self) -> bytes:
        """The event's."""
        return bytes(self.params[17])

    def head(self) -> tuple[Any, ...]:
        """The first row of a read: which checkpoint it is."""
        return (0, self.seq, self.epoch, AT, self.params[2], self.params[3], DIGEST)

    def rows(self, *writes: AppendedWrites) -> Rows:
        """What reading the checkpoint is answered, with these writes to it."""
        return [self.head(), self.event(), *(each.event() for each in writes)]

    def event(self) -> tuple[Any, ...]:
        """The row of its event."""
        return (2, self.seq, self.base_seq, AT, None, None, self.body)

    def snapshot(self, body: bytes) -> tuple[Any, ...]:
        """The row of a snapshot of its state."""
        return (1, self.seq, None, AT, None, None, body)


@dataclass
class AppendedWrites:
    """Answers an append of writes, and remembers it."""

    status: str = "ok"
    seq: int = 2
    params: Sequence[Any] = ()

    def __call__(self, query: Query) -> Rows:
        assert isinstance(query.params, tuple)
        self.params = query.params
        return [("ok", self.seq, AT, 0, DIGEST) if self.status == "ok" else (self.status, None, None, None, None)]

    @property
    def base_seq(self) -> int | None:
        """The event that it is a difference from."""
        return None if self.params[4] is None else int(self.params[4])

    @property
    def body(self) -> bytes:
        """The event's."""
        return bytes(self.params[9])

    def event(self) -> tuple[Any, ...]:
        """The row of its event when its checkpoint is read."""
        return (4, self.seq, self.base_seq, AT, None, None, self.body)

    def stored(self) -> tuple[Any, ...]:
        """The row of its event when the writes are read alone."""
        return (self.seq, self.base_seq, AT, self.body)
