"""Removing the bytes of erased rows from the database's files.

A deleted row stays in its page, and vacuum frees its space without overwriting it. `vacuum (full)` writes the table
into new files and drops the old ones. No other session can use the table meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from psycopg import sql

from eventlog.db.query import Op, Query
from eventlog.distribution import is_distributed
from eventlog.feed import COUNT_LIMIT
from eventlog.logger import logger
from langgraph.checkpoint.eventlog._arguments import ids_of
from langgraph.checkpoint.eventlog._context import Context
from projections.custom import read_states

__all__ = ["OnTable", "Purged", "PurgedTable", "purge"]


class PurgedTable(NamedTuple):
    """A table that a purge rewrote, or would rewrite."""

    schema: str
    """The schema."""
    name: str
    """The table."""
    bytes_before: int
    """Bytes on disk before, with indexes."""
    bytes_after: int
    """Bytes on disk after."""
    seconds: float
    """Seconds for which the table was locked."""


#: Told of each table as it is done.
OnTable = Callable[[PurgedTable], None]


@dataclass(slots=True)
class Purged:
    """The result of a purge, done or planned."""

    tables: list[PurgedTable] = field(default_factory=list)
    """The rewritten tables: those of the log first, then those of projections, the smallest first."""
    left: dict[str, str] = field(default_factory=dict)
    """Statements that this user may not run, each with the owner who may."""
    held_by: list[str] = field(default_factory=list)
    """Sessions that may still see erased rows, which therefore stayed. Purge again when they end."""
    behind: dict[str, int] = field(default_factory=dict)
    """Projections that have not reached the erasure, with their lag in events, counted up to 10,000. Their tables were
    not rewritten: call `project`, then purge again."""
    unnamed: list[str] = field(default_factory=list)
    """Projections with classes that do not name their `tables`."""

    @property
    def is_complete(self) -> bool:
        """Whether no table that the log knows contains erased rows."""
        return not (self.left or self.held_by or self.behind or self.unnamed)


class _Table(NamedTuple):
    """In the order of the statement."""

    projection: str | None
    schema: str
    name: str
    bytes: int
    may: bool
    owner: str


def purge(context: Context, thread_ids: Any, dry_run: bool, on_table: OnTable | None) -> Op[Purged]:
    """Rewrite tables one after the other. The statements do not run in a transaction."""
    threads = None if thread_ids is None else ids_of(thread_ids, "thread_ids")
    statements, given = context.statements, {"threads": threads, "most": COUNT_LIMIT}
    tables = [_Table(*row) for row in (yield Query(statements["purge_tables"], given))]
    holders = "purge_holders_on_nodes" if (yield from is_distributed(statements)) else "purge_holders"
    purged = Purged(held_by=[holder for (holder,) in (yield Query(statements[holders], given))])
    for table in tables:
        if table.projection is None:
            yield from _purge_table(context, purged, table, dry_run, on_table)
    # After the log's own tables: meanwhile, an active worker may apply the erasure to its view.
    states = yield from read_states(statements)
    purged.behind = dict((yield Query(statements["purge_behind"], given))) if states else {}
    purged.unnamed = [each.name for each in states if each.tables is None]
    for table in tables:
        if table.projection is not None and table.projection not in purged.behind:
            yield from _purge_table(context, purged, table, dry_run, on_table)
    return purged


def _purge_table(context: Context, purged: Purged, table: _Table, dry_run: bool, on_table: OnTable | None) -> Op[None]:
    if not table.may:
        identifier = sql.Identifier(table.schema, table.name).as_string(None)
        purged.left[f"vacuum (full, analyze) {identifier};"] = table.owner
        return
    size, seconds = table.bytes, 0.0
    if not dry_run:
        begun = time.monotonic()
        yield from _rewrite(context, table)
        seconds = time.monotonic() - begun
        size = yield from _size(context, table)
        logger.info("eventlog.purged", table=table.name, bytes=size, seconds=round(seconds, 3))
    done = PurgedTable(table.schema, table.name, table.bytes, size, seconds)
    purged.tables.append(done)
    if on_table is not None:
        on_table(done)


def _rewrite(context: Context, table: _Table) -> Op[None]:
    statements = context.statements
    identifier = sql.Identifier(table.schema, table.name)
    yield Query(statements.compose(statements.template("purge_table"), table=identifier), returns=False)


def _size(context: Context, table: _Table) -> Op[int]:
    ((size,),) = yield Query(context.statements["purge_size"], (table.schema, table.name))
    return int(size)
