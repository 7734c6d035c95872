"""Distributing the log over the nodes of a Citus cluster (https://docs.citusdata.com).

`streams`, `events`, `checkpoints` and `snapshots` are distributed by thread, each thread's rows on one node; the other
tables are small and have a copy on each node. A function on one thread runs whole on that thread's node.

A log that exists is distributed in place. Its rows are copied in one transaction: until it ends appends wait, and reads
go on.
"""

from __future__ import annotations

import time
from enum import Enum, auto
from typing import Any, Final

from eventlog.db.locks import try_lock
from eventlog.db.migrations import wait_for_lock
from eventlog.db.query import Op, Query, Script
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError, MigrationError
from eventlog.logger import logger
from eventlog.partitions import check_owner

__all__ = [
    "DELEGATED",
    "DISTRIBUTED",
    "MOST_SHARDS",
    "SHARDS",
    "check_cluster",
    "check_shards",
    "distribute",
    "is_distributed",
]

#: The tables that are distributed by thread, in the order in which they are.
DISTRIBUTED: Final = ("streams", "events", "checkpoints", "snapshots")

#: The log's other tables, which have a copy on each node.
COPIED: Final = (
    "ended",
    "generations",
    "grants",
    "locks",
    "migrations",
    "partitions",
    "projections",
    "rebuilds",
    "sealed",
    "seals",
    "set_aside",
    "settings",
)

#: The functions on one thread, which run on its node.
DELEGATED: Final = (
    "append_checkpoint_strict_v1",
    "append_checkpoint_v1",
    "append_thread_v1",
    "append_writes_v1",
    "cut_stream_v1",
    "delete_thread_v1",
    "end_node_feed_v1",
    "find_stream_name_v1",
    "import_events_v1",
    "lock_thread_v1",
    "measure_node_feed_v1",
    "read_ancestry_v1",
    "read_checkpoint_v1",
    "read_checkpoints_v1",
    "read_node_feed_v1",
    "record_import_v1",
    "relocate_events_v1",
)

#: Into so many shards a log is distributed by default, as Citus does.
SHARDS: Final = 32
MOST_SHARDS: Final = 4096

#: The oldest version of Citus that was tried.
OLDEST: Final = 13


def check_shards(citus: Any, shards: Any) -> None:
    """Validate the arguments of `setup`. Raises InvalidInputError."""
    if not isinstance(citus, bool):
        raise InvalidInputError(f"citus must be True or False, not {citus!r}")
    if shards is None:
        return
    if not citus:
        raise InvalidInputError("shards is for a log on Citus: give citus=True too, or leave it out")
    if type(shards) is not int or not 1 <= shards <= MOST_SHARDS:
        raise InvalidInputError(f"shards must be a number from 1 to {MOST_SHARDS}, not {shards!r}")


def is_distributed(statements: Statements) -> Op[bool]:
    """Whether the log is distributed."""
    ((found,),) = yield Query(statements["is_distributed"])
    return bool(found)


class Step(Enum):
    """What a step of the distribution found or did."""

    BUSY = auto()
    """Another setup has the lock."""
    DONE = auto()
    """Nothing is left."""
    MORE = auto()
    """Something was done."""
    TABLES = auto()
    """The tables come next."""


def distribute(statements: Statements, shards: int | None) -> Script[None]:
    """Distribute what is not distributed yet, each step in a transaction. Many replicas may run it at once.

    Args:
        shards: how many; None: `SHARDS`, or as many as there are.

    Raises:
        InvalidInputError: when the log has another number of shards.
        MigrationError: when the database is not the coordinator of a cluster, or another setup does not finish.
    """
    since = time.monotonic()
    while True:
        step = yield lambda: _step(statements, shards)
        if step is Step.TABLES:
            # One transaction: appends wait for it. Citus distributes tables and functions in different ones.
            step = yield lambda: _distribute_tables(statements, shards or SHARDS)
        if step is Step.DONE:
            return
        if step is Step.BUSY:
            yield from wait_for_lock(statements, since)
        else:
            since = time.monotonic()


def _step(statements: Statements, shards: int | None) -> Op[Step]:
    """Take the next step."""
    if not (yield from try_lock(statements.schema)):
        return Step.BUSY
    if not (yield from _is_coordinator(statements)) and (yield from is_distributed(statements)):
        return Step.DONE  # An application that is connected to a worker: the coordinator has distributed all of it.
    owner = yield from check_owner(statements, "distribute it")
    ((is_subscriber, _),) = yield Query(statements["subscriber"])
    if is_subscriber:
        raise InvalidInputError(
            "the log is a subscriber, which receives another log's events, and cannot be distributed: let it take over "
            "first (EventLog.take_over), or distribute another log"
        )
    yield from check_cluster(statements)
    ((may_log_in,),) = yield Query(statements["owner_may_log_in"])
    if not may_log_in:
        raise MigrationError(
            f"the log's owner {owner!r} cannot log in, and the nodes connect to each other as the owner: let an "
            f'administrator run: alter role "{owner}" login'
        )
    tables = {name: rest for name, *rest in (yield Query(statements["citus_tables"], (statements.schema,)))}
    there = tables["streams"][1]
    if there and shards not in (None, there):
        raise InvalidInputError(
            f"the log has {there} shards already, not {shards}, and their number cannot be changed: leave shards out"
        )
    for name in COPIED:
        if tables[name][0] is None:
            yield Query(statements["copy_to_nodes"], (_qualified(statements, name),))
            return Step.MORE
    if not there:
        # Before the tables, as appends go on behind these.
        yield Query(statements["distribute_functions"], ([],))
        return Step.TABLES
    for name in DISTRIBUTED:
        if tables[name][2]:
            yield Query(statements["delete_local_rows"], (_qualified(statements, name),))
            return Step.MORE
    yield Query(statements["distribute_functions"], (list(DELEGATED),))
    return Step.DONE


def _distribute_tables(statements: Statements, shards: int) -> Op[Step]:
    """Distribute the tables by thread, unless another setup has."""
    if not (yield from try_lock(statements.schema)):
        return Step.BUSY
    if (yield from is_distributed(statements)):
        return Step.MORE
    yield Query(statements["drop_guards"], returns=False)
    for name in DISTRIBUTED:
        began = time.monotonic()
        logger.info("eventlog.distributing", schema=statements.schema, table=name)
        if name == DISTRIBUTED[0]:
            yield Query(statements["distribute_first"], (shards,))
        else:
            yield Query(statements["distribute_table"], (_qualified(statements, name),))
        logger.info(
            "eventlog.distributed",
            schema=statements.schema,
            table=name,
            milliseconds=round((time.monotonic() - began) * 1000),
        )
    yield Query(statements["index_origins"], returns=False)
    return Step.MORE


def _qualified(statements: Statements, name: str) -> str:
    return f"{statements.compose('{schema}').decode()}.{name}"


def check_cluster(statements: Statements) -> Op[None]:
    """Raises MigrationError unless the database is that of the coordinator of a cluster with nodes for the log."""
    version = yield Query(statements["citus_version"])
    if not version:
        raise MigrationError(
            "the database has no extension citus: let an administrator run `create extension citus` in it on every "
            "node, and add the nodes with citus_add_node, or call setup() without citus"
        )
    if int(version[0][0].split(".")[0]) < OLDEST:
        raise MigrationError(f"the log needs Citus {OLDEST} or newer, and this database has {version[0][0]}")
    if not (yield from _is_coordinator(statements)):
        raise MigrationError("the database is on a worker of the Citus cluster: run setup() on its coordinator")
    ((nodes,),) = yield Query(statements["citus_nodes"])
    if not nodes:
        raise MigrationError(
            "no node of the Citus cluster may hold shards: add one with citus_add_node, or let the coordinator hold "
            "them with citus_set_node_property(…, 'shouldhaveshards', true)"
        )


def _is_coordinator(statements: Statements) -> Op[bool]:
    ((found,),) = yield Query(statements["is_coordinator"])
    return bool(found)
