"""Any checkpointer as a source, through its public interface: SQLite, memory and others.

It returns decoded values, which the log's serializer serializes again, and writes without index and path. The index is
counted again for each task, as `put_writes` counts it. If the saver's order of writes is not that of the task ids, the
import makes paths that keep the order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, CheckpointTuple

from eventlog.db.query import Op
from eventlog.errors import SourceError
from langgraph.checkpoint.eventlog.transfer.source import (
    Origin,
    Pages,
    SourceCheckpoint,
    SourceWrite,
    ask,
    made_at,
)

__all__ = ["AnySaver"]

T = TypeVar("T")

#: Checkpoints that are in memory together.
PAGE_ROWS = 16


class AnySaver:
    """The threads of a checkpointer.

    Args:
        saver: a checkpointer. Others may use it meanwhile, but must not change the threads that are imported.
        is_async: call its async methods.
    """

    def __init__(self, saver: BaseCheckpointSaver[Any], *, is_async: bool) -> None:
        self._saver, self._is_async = saver, is_async
        self._ids: list[str] | None = None

    @property
    def origin(self) -> Origin:
        """The saver's class."""
        return Origin(type(self._saver).__name__)

    def check(self) -> Op[None]:
        """Nothing to check: the saver is open."""
        yield from ()

    def threads(self, after: str | None, rows: int) -> Op[list[str]]:
        """The ids of threads: all checkpoints are listed once to find them."""
        ids = yield from self._threads()
        return [id_ for id_ in ids if after is None or id_ > after][:rows]

    def count_threads(self) -> Op[int | None]:
        """The number of threads."""
        return len((yield from self._threads()))

    def last_active(self, thread_ids: Sequence[str]) -> Op[dict[str, datetime]]:
        """When the latest checkpoint of each thread was made."""
        found: dict[str, datetime] = {}
        for id_ in thread_ids:
            for _, checkpoint_id, ts in (yield from self._names(id_)):
                if (at := made_at(checkpoint_id, ts)) is not None:
                    found[id_] = max(at, found.get(id_, at))
        return found

    def begin(self) -> Op[None]:
        """Does nothing: a saver offers no transactions."""
        yield from ()

    def end(self) -> Op[None]:
        """As `begin`."""
        yield from ()

    def outline(self, thread_id: str) -> Op[str]:
        """Empty: only its values show whether a thread has changed."""
        yield from ()
        return ""

    def writes(
        self, thread_id: str, checkpoint_ns: str, checkpoint_ids: Sequence[str], channel: str
    ) -> Op[dict[str, list[SourceWrite]]]:
        """The writes to a channel of checkpoints, each read whole."""
        found: dict[str, list[SourceWrite]] = {}
        for checkpoint_id in checkpoint_ids:
            key = {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns, "checkpoint_id": checkpoint_id}
            each = yield from self._get({"configurable": key})
            writes = [] if each is None else _writes(each.pending_writes or [])
            found[checkpoint_id] = [write for write in writes if write.channel == channel]
        return found

    def sample(self, rows: int) -> Op[list[str]]:
        """Random threads, each equally likely."""
        ids = yield from self._threads()
        return random.sample(ids, min(rows, len(ids)))

    def disk_bytes(self) -> Op[tuple[int, int] | None]:
        """Not known."""
        yield from ()
        return None

    def thread_bytes(self, thread_ids: Sequence[str]) -> Op[int | None]:
        """Not known."""
        yield from ()
        return None

    def pages(self, thread_id: str) -> Pages:
        """A thread's checkpoints: listed once without keeping them, then read one by one, oldest first."""
        names: list[tuple[str, str, Any]] | None = None

        def next_page() -> Op[list[SourceCheckpoint]]:
            nonlocal names
            if names is None:
                names = yield from self._names(thread_id)
                names.sort(reverse=True)
            page: list[SourceCheckpoint] = []
            while names and len(page) < PAGE_ROWS:
                ns, checkpoint_id, _ = names.pop()
                key = {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}
                found = yield from self._get({"configurable": key})
                if found is None:
                    raise SourceError(f"{self.origin} lists checkpoint {checkpoint_id}, but does not return it")
                page.append(_checkpoint(ns, found))
            return page

        return next_page

    def _threads(self) -> Op[list[str]]:
        if self._ids is None:
            found = yield from self._list(None, lambda each: str(each.config["configurable"]["thread_id"]))
            self._ids = sorted(set(found))
        return self._ids

    def _names(self, thread_id: str) -> Op[list[tuple[str, str, Any]]]:
        return self._list({"configurable": {"thread_id": thread_id}}, _name)

    def _list(self, config: Any, take: Callable[[CheckpointTuple], T]) -> Op[list[T]]:
        """The copy of each of the saver's checkpoints."""

        def collect() -> list[T]:
            with self._translated():
                return [take(each) for each in self._saver.list(config)]

        async def acollect() -> list[T]:
            with self._translated():
                return [take(each) async for each in self._saver.alist(config)]

        return ask(acollect if self._is_async else collect)

    def _get(self, config: Any) -> Op[CheckpointTuple | None]:
        def get() -> CheckpointTuple | None:
            with self._translated():
                return self._saver.get_tuple(config)

        async def aget() -> CheckpointTuple | None:
            with self._translated():
                return await self._saver.aget_tuple(config)

        return ask(aget if self._is_async else get)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as exc:
            # Savers may raise any error: their own, a database's, or that they are sync or async only.
            raise SourceError(f"{self.origin} cannot be read: {type(exc).__name__}: {exc}") from exc


def _name(found: CheckpointTuple) -> tuple[str, str, Any]:
    configurable = found.config["configurable"]
    return configurable.get("checkpoint_ns") or "", configurable["checkpoint_id"], found.checkpoint.get("ts")


def _checkpoint(ns: str, found: CheckpointTuple) -> SourceCheckpoint:
    configurable = (found.parent_config or {}).get("configurable") or {}
    return SourceCheckpoint(
        ns,
        found.config["configurable"]["checkpoint_id"],
        configurable.get("checkpoint_id") or None,
        found.checkpoint,
        found.metadata,
        decoded=found.checkpoint.get("channel_values") or {},
        writes=_writes(found.pending_writes or []),
    )


def _writes(pending: Sequence[tuple[str, str, Any]]) -> list[SourceWrite]:
    counts: dict[str, int] = {}
    writes = []
    for task_id, channel, value in pending:
        idx = WRITES_IDX_MAP.get(channel)
        if idx is None:
            idx = counts.get(task_id, 0)
        counts[task_id] = counts.get(task_id, 0) + 1
        writes.append(SourceWrite("", task_id, idx, channel, None, value))
    places = [write[:3] for write in writes]
    if places != sorted(places):
        # Each group of successive writes of one task gets a path that sorts after those before.
        number, last = 0, None
        for at, write in enumerate(writes):
            number += last is not None and (write.task_id != last.task_id or write.idx <= last.idx)
            last = write
            writes[at] = write._replace(task_path=f"~imported, {number:08}")
    return writes
