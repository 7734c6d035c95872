"""Writers that append, erase and copy until they are told to stop, and remember what was acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from typing import Any

from psycopg_pool import ConnectionPool

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.rebuild.workload import append

__all__ = ["Load", "wait_until"]

#: Seconds; nothing here should take more than a few.
PATIENCE = 240


def wait_until(is_so: Callable[[], Any], what: str) -> None:
    """Look until something is so."""
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.05)


class Load:
    """Writers on one log, each on a thread of its own, which it prunes, copies, and erases copies of.

    Args:
        uri: the database, which is set up.
        workers: how many.
        settings: of the saver.
    """

    def __init__(self, uri: str, workers: int = 4, expects: tuple[type[Exception], ...] = (), **settings: Any) -> None:
        self._uri, self._workers, self._expects = uri, workers, expects
        self._settings = {"snapshot_floor_bytes": 2000, **settings}
        self.started: list[tuple[str, str]] = []
        self.done: list[tuple[str, str]] = []
        """Threads and checkpoints that were put, and their writes, acknowledged."""
        self._stop = threading.Event()

    def __enter__(self) -> Load:
        self._stack = ExitStack()
        pool = ConnectionPool(
            self._uri,
            min_size=1,
            max_size=self._workers,
            kwargs={"autocommit": True},
            # A server that was stopped is found when it is back.
            reconnect_timeout=1,
            reconnect_failed=ConnectionPool.check,
            open=False,
        )
        saver = EventLogSaver(self._stack.enter_context(pool), **self._settings)
        threads = self._stack.enter_context(ThreadPoolExecutor(self._workers))
        names = [f"load {number}" for number in range(self._workers)]
        self._running = [threads.submit(self._write, saver, name) for name in names]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._stack.close()
        for each in self._running:
            each.result()

    def wait_for(self, more: int) -> None:
        """Until so many more were acknowledged."""
        end = len(self.done) + more
        wait_until(lambda: len(self.done) >= end or any(each.done() for each in self._running), "appending")

    def _write(self, saver: EventLogSaver, thread_id: str) -> None:
        latest = saver.get_tuple({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})
        parent = None if latest is None else latest.checkpoint["id"]
        for step in count(0 if parent is None else int(parent) + 1):
            if self._stop.is_set():
                return
            id_ = f"{step:06}"
            self.started.append((thread_id, id_))
            stored = append(saver, thread_id, id_, parent, by=thread_id)
            saver.put_writes(stored, [("x", ["text"] * 50), ("y", step)], "task")
            self.done.append((thread_id, id_))
            if step % 20 == 19:
                saver.log.prune([thread_id], keep_last=5)
                target = f"copy of {thread_id} at {id_}"
                saver.copy_thread(thread_id, target)
                saver.delete_thread(target)
            parent = id_
