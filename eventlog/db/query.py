"""The vocabulary of operations, and of scripts that are made of them.

An operation is a generator: it yields a `Query`, receives the rows (or has the database's error thrown into it), and
returns its result. It never touches a connection, so each exists once for sync and async and is tested without a
database (the idea of ``auth_flow`` in httpx and of psycopg's own generators).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

__all__ = [
    "BatchableQuery",
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
    """Whether it runs all the time, with few bytes as a rule and its parameters in a tuple."""
    weight: int = 0
    """Bytes that the operation will decode beside those of the answer, which may be a difference from them."""


@dataclass(frozen=True, slots=True)
class UserCallback(Query):
    """Somebody else's code works with the connection, in the transaction of the operation; it gives no rows.

    In the async driver, what it returns is awaited.
    """

    statement: bytes = b""
    function: Callable[[Any], Any] = field(kw_only=True)


@dataclass(frozen=True, slots=True)
class BatchableQuery(Query):
    """A query of one row that can be run together with others, by one statement."""

    join: Callable[[Sequence[BatchableQuery]], Query] = field(kw_only=True)
    """Makes the joint query. Its rows are the answers, each behind the number (from 1) of the query that it answers; a
    query without an answer did nothing, and is to run alone."""


Op: TypeAlias = Generator[Query, Rows, T]


def completed(value: T) -> Op[T]:
    """An operation that asks for nothing: its result is there already."""
    return value
    yield  # what makes it a generator


#: Starts an operation from the beginning: a retry needs a fresh generator.
MakeOp: TypeAlias = Callable[[], Op[T]]


@dataclass(frozen=True, slots=True)
class Pause:
    """A script or an iterator waits before it goes on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Parallel:
    """Scripts that a script runs side by side; it receives their results in order.

    On a single connection, one after the other. The first error ends those that have not begun, and the others after
    their next step.
    """

    scripts: Sequence[Script[Any]]
    workers: int
    """At most so many at a time, and not more than the pool has connections."""
    on_result: Callable[[int, Any], None] | None = None
    """Told of each one's number and result when it is done, never two at a time."""


#: Several operations, one after the other, each in a transaction of its own: the script yields how to start each, and
#: receives its result or has its error (an `EventLogError`) thrown into it.
Script: TypeAlias = Generator["MakeOp[Any] | Pause | Parallel", Any, T]


def single(make_op: MakeOp[T]) -> Script[T]:
    """A script of one operation."""
    result: T = yield make_op
    return result


class Weighed(NamedTuple):
    """An operation that decodes about so many bytes beside those that the database sends."""

    make_op: MakeOp[Any]
    weight: int


#: What an iterator does: it starts operations, whose results it receives, waits, or gives items to its reader.
Steps: TypeAlias = Generator["MakeOp[Any] | Weighed | Pause | list[T]", Any, None]
