"""The vocabulary of operations, and of scripts that are made of them.

An operation is a generator: it yields a `Query`, receives the rows (or has the database's error thrown into it), and
returns its result. It never touches a connection, so each exists once for sync and async and is tested without a
database (the idea of ``auth_flow`` in httpx and of psycopg's own generators).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple, TypeAlias, TypeVar

__all__ = [
    "BatchableQuery",
    "Group",
    "MakeOp",
    "Op",
    "Parallel",
    "Pause",
    "Query",
    "Rows",
    "Script",
    "Steps",
    "UserCallback",
    "Weighed",
    "completed",
    "single",
]

T = TypeVar("T")

Rows: TypeAlias = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Query:
    """One statement and its parameters."""

    statement: bytes
    params: Sequence[Any] | Mapping[str, Any] | None = None
    returns: bool = True
    is_frequent: bool = False
    """Whether it runs very often, usually with few bytes, and has its parameters in a tuple."""
    weight: int = 0
    """Bytes that the operation decodes in addition to the answer, which may be a difference from them."""


@dataclass(frozen=True, slots=True)
class UserCallback(Query):
    """Runs the caller's code with the connection, in the operation's transaction; it returns no rows.

    The async driver awaits the result.
    """

    statement: bytes = b""
    function: Callable[[Any], Any] = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class Group:
    """The queries that one node of a distributed database can run together."""

    key: str
    is_distributed: bytes
    """The statement that asks whether the database is distributed."""


@dataclass(frozen=True, slots=True)
class BatchableQuery(Query):
    """A query of one row that can be run together with others, by one statement."""

    join: Callable[[Sequence[BatchableQuery], str | None], Query] = field(kw_only=True)
    """Makes the joint query, of all or (by its key) of one group. Each row of its answer begins with the number (from
    1) of the query that it answers; a query without a row changed nothing, and is run alone."""
    group: Group | None = field(default=None, kw_only=True)
    """In a distributed database the query is only run together with others of its group."""


Op: TypeAlias = Generator[Query, Rows, T]


def completed(value: T) -> Op[T]:
    """An operation without queries: its result is known."""
    return value
    yield  # what makes it a generator


#: Starts an operation from the beginning: a retry needs a fresh generator.
MakeOp: TypeAlias = Callable[[], Op[T]]


#: How often per second a pause checks whether it is to end.
LOOKS = 10


@dataclass(frozen=True, slots=True)
class Pause:
    """A wait of a script or an iterator."""

    seconds: float
    stop: Callable[[], bool] | None = None
    """Checked `LOOKS` times a second: true ends the pause."""

    def parts(self) -> Iterator[float]:
        """How long to sleep, in seconds, repeatedly until it is over."""
        if self.stop is None:
            yield self.seconds
            return
        until = monotonic() + self.seconds
        while (left := until - monotonic()) > 0 and not self.stop():
            yield min(left, 1 / LOOKS)


@dataclass(frozen=True, slots=True)
class Parallel:
    """Scripts that a script runs side by side; it receives their results in order.

    On a single connection they run one after the other. After the first error no further script begins, and the running
    ones stop after their next step.
    """

    scripts: Sequence[Script[Any]]
    workers: int
    """The most that run at a time, within the pool's number of connections."""
    on_result: Callable[[int, Any], None] | None = None
    """Called with each script's number and result when it is done, never two at a time."""


#: Several operations, one after the other, each in a transaction of its own: the script yields how to start each, and
#: receives its result or has its error (an `EventLogError`) thrown into it.
Script: TypeAlias = Generator["MakeOp[Any] | Pause | Parallel", Any, T]


def single(make_op: MakeOp[T]) -> Script[T]:
    """A script of one operation."""
    result: T = yield make_op
    return result


class Weighed(NamedTuple):
    """An operation that decodes about so many bytes in addition to those from the database."""

    make_op: MakeOp[Any]
    weight: int


#: The steps of an iterator: it starts operations and receives their results, waits, or gives items to its reader.
Steps: TypeAlias = Generator["MakeOp[Any] | Weighed | Pause | list[T]", Any, None]
