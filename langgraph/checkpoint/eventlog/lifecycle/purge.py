"""Removing the bytes of erased rows from the database's files.

A deleted row stays in its page, and vacuum frees its space without overwriting it. `vacuum (full)` writes the table
into new files and drops the old ones. Nobody else can use the table meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from psycopg import sql

from eventlog.db.query import Op, Query
from eventlog.logger import logger
from langgraph.checkpoint.eventlog._arguments import ids_of
from langgraph.checkpoint.eventlog._context import Context

__all__ = ["OnTable", "Purged", "PurgedTable", "purge"]


class PurgedTable(NamedTuple):
    """A table that was written again, or would be."""

    schema: str
    name: str
    bytes_before: int
    """On disk, with indexes."""
    bytes_after: int
    seconds: float
    """How long it was locked."""


#: Told of each table as it is done.
OnTable = Callable[[PurgedTable], None]


@dataclass(slots=True)
class Purged:
    """What a purge did, and what it may not do."""

    tables: list[PurgedTable] = field(default_factory=list)
    """The smallest first."""
    left: dict[str, str] = field(default_factory=dict)
    """The statements that this user may not run, and the owner who may."""
    held_by: list[str] = field(default_factory=list)
    """What may still see the erased rows, which therefore were not removed: purge again when it has ended."""


class _Table(NamedTuple):
    """In the order of the statement."""

    schema: str
    name: str
    bytes: int
    may: bool
    owner: str


def purge(context: Context, thread_ids: Any, dry_run: bool, on_table: OnTable | None) -> Op[Purged]:
    """Write tables again, one after the other, each statement by itself: none of them runs in a transaction."""
    threads = None if thread_ids is None else ids_of(thread_ids, "thread_ids")
    purged = Purged()
    tables: list[_Table]
    tables, purged.held_by = yield from _look(context, threads)
    for table in tables:
        if not table.may:
            identifier = sql.Identifier(table.schema, table.name).as_string(None)
            purged.left[f"vacuum (full, analyze) {identifier};"] = table.owner
            continue
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
    return purged


def _look(context: Context, threads: list[str] | None) -> Op[tuple[list[_Table], list[str]]]:
    schemas = [context.settings.schema_name, context.settings.views]
    rows = yield Query(context.statements["purge_tables"], {"threads": threads, "schemas": schemas})
    holders = yield Query(context.statements["purge_holders"], {"threads": threads})
    return [_Table(*row) for row in rows], [holder for (holder,) in holders]


def _rewrite(context: Context, table: _Table) -> Op[None]:
    statements = context.statements
    identifier = sql.Identifier(table.schema, table.name)
    yield Query(statements.compose(statements.template("purge_table"), table=identifier), returns=False)


def _size(context: Context, table: _Table) -> Op[int]:
    ((size,),) = yield Query(context.statements["purge_size"], (table.schema, table.name))
    return int(size)
