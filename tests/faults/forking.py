"""A process that opens a saver and forks: run by `test_forks`, as ``python -m tests.faults.forking KIND URI``.

It prints what went wrong, a line each, in the child or in the parent.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from langgraph.checkpoint.eventlog import EventLogSaver, ForkedProcessError, Usage
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.support.checkpoints import checkpoint_of, config_of

AUTOCOMMIT = {"autocommit": True}
CONFIG = config_of("1", "1")

Call = Callable[[Any], Any]

#: Of the sync saver; the async one's have an "a" before the saver's own.
CALLS: dict[str, Call] = {
    "get_tuple": lambda saver: saver.get_tuple(CONFIG),
    "put": lambda saver: saver.put(config_of(), checkpoint_of("1", {"x": 1}, {"x": "1"}), {}, {"x": "1"}),
    "put_writes": lambda saver: saver.put_writes(CONFIG, [("x", 1)], "task"),
    "list": lambda saver: list(saver.list(CONFIG)),
    "delete_thread": lambda saver: saver.delete_thread("1"),
    "prune": lambda saver: saver.prune(["1"]),
    "setup": lambda saver: saver.setup(),
    "log.history": lambda saver: list(saver.log.history("1")),
    "log.tail": lambda saver: list(saver.log.tail(follow=True)),
    "log.verify": lambda saver: saver.log.verify(),
    "log.project": lambda saver: saver.log.project(Usage()),
}
ASYNC_CALLS: dict[str, Call] = {
    "aget_tuple": lambda saver: saver.aget_tuple(CONFIG),
    "aput": lambda saver: saver.aput(config_of(), checkpoint_of("1", {"x": 1}, {"x": "1"}), {}, {"x": "1"}),
    "alist": lambda saver: anext(saver.alist(CONFIG)),
    "setup": lambda saver: saver.setup(),
    "log.history": lambda saver: anext(saver.log.history("1")),
    "log.verify": lambda saver: saver.log.verify(),
}


def problems_of(saver: Any, calls: dict[str, Call], run: Callable[[Any], Any]) -> Iterator[str]:
    """Calls that do not say that the process was forked."""
    for name, call in calls.items():
        try:
            run(call(saver))
        except ForkedProcessError as exc:
            if "after the fork" not in str(exc):
                yield f"{name}: {exc}"
        except BaseException:
            yield f"{name}: {traceback.format_exc()}"
        else:
            yield f"{name} did something"


async def _awaited(found: Any) -> Any:
    return await found


def in_child(saver: Any) -> None:
    """All that a child may try, what it throws away included."""
    is_async = isinstance(saver, AsyncEventLogSaver)
    # Its sync methods as well, which would wait for a loop that does not run.
    found = list(problems_of(saver, {name: CALLS[name] for name in ("get_tuple", "put", "list")}, lambda each: each))
    if is_async:
        found += problems_of(saver, ASYNC_CALLS, lambda each: asyncio.run(_awaited(each)))
    else:
        found += problems_of(saver, CALLS, lambda each: each)
    for line in found:
        print("in the child,", line, flush=True)
    gc.collect()


def wait_for(child: int) -> None:
    _, status = os.waitpid(child, 0)
    if status != 0:
        print("the child ended with", status, flush=True)


@contextmanager
def opened(kind: str, uri: str) -> Iterator[EventLogSaver]:
    with ExitStack() as stack:
        if kind == "sync-string":
            yield stack.enter_context(EventLogSaver.from_conn_string(uri))
        elif kind == "sync-pipeline":
            yield stack.enter_context(EventLogSaver.from_conn_string(uri, pipeline=True))
        elif kind == "sync-pool":
            yield EventLogSaver(stack.enter_context(ConnectionPool(uri, kwargs=AUTOCOMMIT)))
        else:
            yield EventLogSaver(stack.enter_context(psycopg.Connection.connect(uri, **AUTOCOMMIT)))


def run_sync(kind: str, uri: str) -> None:
    with opened(kind, uri) as saver:
        CALLS["put"](saver)
        before = sessions(uri)
        child = os.fork()
        if child == 0:
            in_child(saver)
            if kind in ("sync-string", "sync-pipeline"):
                raise SystemExit(0)  # Leaves the block, as a script does at its end.
            os._exit(0)
        for _ in range(50):
            CALLS["get_tuple"](saver)
        wait_for(child)
        process = multiprocessing.get_context("fork").Process(target=in_child, args=(saver,))
        process.start()
        process.join()
        if process.exitcode != 0:
            print("the process of multiprocessing ended with", process.exitcode)
        check(saver.get_tuple(CONFIG), before, sessions(uri))


async def run_async(kind: str, uri: str) -> None:
    if kind == "async-string":
        async with AsyncEventLogSaver.from_conn_string(uri) as saver:
            await fork_with(saver, uri)
    elif kind == "async-pool":
        async with AsyncConnectionPool(uri, kwargs=AUTOCOMMIT, open=False) as pool:
            await fork_with(AsyncEventLogSaver(pool), uri)
    else:
        async with await psycopg.AsyncConnection.connect(uri, **AUTOCOMMIT) as conn:
            await fork_with(AsyncEventLogSaver(conn), uri)


async def fork_with(saver: AsyncEventLogSaver, uri: str) -> None:
    await ASYNC_CALLS["aput"](saver)
    before = sessions(uri)
    child = os.fork()
    if child == 0:
        in_child(saver)
        os._exit(0)
    for _ in range(50):
        await saver.aget_tuple(CONFIG)
    wait_for(child)
    check(await saver.aget_tuple(CONFIG), before, sessions(uri))


def sessions(uri: str) -> set[int]:
    """The server's processes for this one, so that one that was replaced is noticed."""
    with psycopg.connect(uri, application_name="watcher") as conn:
        rows = conn.execute(
            "select pid from pg_stat_activity where datname = current_database() and application_name <> 'watcher'"
            " and backend_type = 'client backend'"
        ).fetchall()
    return {pid for (pid,) in rows}


def check(found: Any, before: set[int], after: set[int]) -> None:
    if found is None or found.checkpoint["channel_values"] != {"x": 1}:
        print("the parent reads", found)
    if not before or not before <= after:
        print("the parent's sessions were", before, "and are", after)


if __name__ == "__main__":
    name, where = sys.argv[1:]
    if name.startswith("sync"):
        run_sync(name, where)
    else:
        asyncio.run(run_async(name, where))
