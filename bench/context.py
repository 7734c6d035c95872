"""The context of a workload: a server, how much to measure, and a callback for the progress."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

__all__ = ["Context", "Scale"]

T = TypeVar("T")

#: How much is measured: everything in about ten minutes, a rough picture in two, or only that it runs.
Scale = Literal["full", "quick", "tiny"]


@dataclass(frozen=True)
class Context:
    """One run of one workload."""

    server: str
    """Connection string of a user who may create databases."""
    scale: Scale
    report: Callable[[float], None]
    """Is called with the completed part of the workload, from 0 to 1."""

    def pick(self, full: T, quick: T, tiny: T) -> T:
        """The value for the scale."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.scale]

    def track(self, items: Sequence[T], begin: float = 0.0, end: float = 1.0) -> Iterator[T]:
        """The items, reporting after each; for a workload of several parts, from `begin` to `end`."""
        for number, item in enumerate(items, 1):
            yield item
            self.report(begin + (end - begin) * number / len(items))

    @contextlib.contextmanager
    def database(self, template: str | None = None) -> Iterator[str]:
        """The connection string of a new database, dropped afterwards, so that one workload does not slow another.

        Args:
            template: the connection string of a database to copy, which has no connections.
        """
        name = f"bench_{uuid4().hex[:12]}"
        source = "template1" if template is None else conninfo_to_dict(template)["dbname"]
        with psycopg.connect(self.server, autocommit=True) as conn:
            identifiers = [sql.Identifier(name), sql.Identifier(str(source))]
            conn.execute(sql.SQL("create database {} template {}").format(*identifiers))
            try:
                yield make_conninfo(self.server, dbname=name)
            finally:
                conn.execute(sql.SQL("drop database {} with (force)").format(identifiers[0]))
