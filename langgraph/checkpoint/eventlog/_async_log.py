"""The async twin of `_log`."""

from __future__ import annotations

from langgraph.checkpoint.eventlog._log import EventLog
from langgraph.checkpoint.eventlog._setup import AsyncConnected, awaitable, iterating

__all__ = ["AsyncEventLog"]


class AsyncEventLog(AsyncConnected):
    """The async twin of `EventLog`: the same methods, under the same names, with the same arguments.

    `history`, `changes`, `tail` and `tail_changes` are async iterators; every other method is awaitable. Callbacks such
    as `on_thread` run in the event loop. `setup` and `apply` of a projection are `async def`.

    Args:
        conn: A psycopg `AsyncConnection` or `AsyncConnectionPool`, with any settings. The log does not close it.
        pipe: The `AsyncPipeline` of the connection, if it is in pipeline mode.
        serde: The serializer of the savers that write the log.
        settings: Fields of `Settings`, such as `schema`.
    """

    # --- threads and their history

    threads = awaitable(EventLog.threads)
    thread_status = awaitable(EventLog.thread_status)
    namespaces = awaitable(EventLog.namespaces)
    diff = awaitable(EventLog.diff)
    state_at = awaitable(EventLog.state_at)

    history = iterating(EventLog.history)
    changes = iterating(EventLog.changes)

    # --- checkpoints as they are stored, and figures

    inspect = awaitable(EventLog.inspect)
    find = awaitable(EventLog.find)
    find_step = awaitable(EventLog.find_step)
    stats = awaitable(EventLog.stats)
    partitions = awaitable(EventLog.partitions)
    projections = awaitable(EventLog.projections)

    # --- the feed

    tail = iterating(EventLog.tail)
    tail_changes = iterating(EventLog.tail_changes)
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
    prune_all = awaitable(EventLog.prune_all)
    expire = awaitable(EventLog.expire)
    retain = awaitable(EventLog.retain)
    retention = awaitable(EventLog.retention)
    set_retention = awaitable(EventLog.set_retention)
    maintain = awaitable(EventLog.maintain)
    copy_thread = awaitable(EventLog.copy_thread)
    fork_thread = awaitable(EventLog.fork_thread)

    # --- moving in and out

    import_from = awaitable(EventLog.import_from)
    estimate_import = awaitable(EventLog.estimate_import)
    export_to = awaitable(EventLog.export_to)

    # --- projections, replication

    project = awaitable(EventLog.project)
    rebuild_projection = awaitable(EventLog.rebuild_projection)
    forget_projection = awaitable(EventLog.forget_projection)
    set_aside_events = awaitable(EventLog.set_aside_events)
    retry_set_aside = awaitable(EventLog.retry_set_aside)
    rebuild = awaitable(EventLog.rebuild)
    make_subscriber = awaitable(EventLog.make_subscriber)
    take_over = awaitable(EventLog.take_over)
