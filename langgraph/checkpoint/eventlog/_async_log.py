"""The async twin of `_log` and `_log_reader`."""

from __future__ import annotations

from langgraph.checkpoint.eventlog._log import EventLog
from langgraph.checkpoint.eventlog._setup import AsyncConnected, awaitable, iterating

__all__ = ["AsyncEventLog"]


class AsyncEventLog(AsyncConnected):
    """The async twin of `langgraph.checkpoint.eventlog.EventLog`: the same methods under the same names.

    Each method that asks the database is awaitable, or an async iterator. Callbacks (`on_thread` and the like) are
    called in the event loop. Arguments as for `EventLog`, on a psycopg `AsyncConnection` or `AsyncConnectionPool`.
    """

    # --- threads and their history

    threads = awaitable(EventLog.threads)
    namespaces = awaitable(EventLog.namespaces)
    diff = awaitable(EventLog.diff)
    state_at = awaitable(EventLog.state_at)

    history = iterating(EventLog.history)
    changes = iterating(EventLog.changes)

    # --- checkpoints as they are stored, and figures

    inspect = awaitable(EventLog.inspect)
    find = awaitable(EventLog.find)
    stats = awaitable(EventLog.stats)
    partitions = awaitable(EventLog.partitions)
    projections = awaitable(EventLog.projections)

    # --- the feed

    tail = iterating(EventLog.tail)
    decode = awaitable(EventLog.decode)
    tail_position = awaitable(EventLog.tail_position)
    lag = awaitable(EventLog.lag)

    # --- integrity

    verify = awaitable(EventLog.verify)
    seals = awaitable(EventLog.seals)
    prove = awaitable(EventLog.prove)
    receipt = awaitable(EventLog.receipt)
    verify_archive = awaitable(EventLog.verify_archive)
    seal = awaitable(EventLog.seal)

    # --- erasing and copying

    grant = awaitable(EventLog.grant)
    make_partitions = awaitable(EventLog.make_partitions)
    delete_thread = awaitable(EventLog.delete_thread)
    purge = awaitable(EventLog.purge)
    delete_for_runs = awaitable(EventLog.delete_for_runs)
    prune = awaitable(EventLog.prune)
    expire = awaitable(EventLog.expire)
    retain = awaitable(EventLog.retain)
    copy_thread = awaitable(EventLog.copy_thread)
    fork_thread = awaitable(EventLog.fork_thread)

    # --- projections, replication

    project = awaitable(EventLog.project)
    rebuild_projection = awaitable(EventLog.rebuild_projection)
    forget_projection = awaitable(EventLog.forget_projection)
    rebuild = awaitable(EventLog.rebuild)
    make_subscriber = awaitable(EventLog.make_subscriber)
    take_over = awaitable(EventLog.take_over)
