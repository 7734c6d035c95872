"""What the tests of rebuilding share: a log with all sorts of events, a load, and what is done at the lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from typing import Any

import pytest

from eventlog.errors import ThreadDeletedError
from langgraph.checkpoint.eventlog import EventLogSaver
from projections.repair import Repairer
from tests.support.checkpoints import checkpoint_of, config_of, put

__all__ = ["TEXTS", "Load", "append", "at_the_lock", "fill"]

TEXTS = [f"{number} " * 20 for number in range(30)]


async def fill(saver: Any, *thread_ids: str, checkpoints: int = 6) -> None:
    """Checkpoints with writes, in two namespaces; some are put twice, some are forks."""
    for thread_id in thread_ids:
        for ns in ("", "child"):
            config = config_of(thread_id, ns=ns)
            for number in range(checkpoints):
                state = {"x": [*TEXTS, number], "n": number}
                stored = await put(saver, config, f"{number:03}", state, metadata={"step": number})
                await saver.aput_writes(stored, [("x", [*TEXTS, number])], f"task {number}")
                if number % 3 == 2:
                    await put(saver, config, f"{number:03}", {"x": [*TEXTS, "again"]}, metadata={"step": number})
                if number % 4 != 3:
                    config = stored


def append(saver: EventLogSaver, thread_id: str, id_: str, parent: str | None = None, **values: Any) -> Any:
    state = {"x": TEXTS, **values}
    checkpoint = checkpoint_of(id_, state, dict.fromkeys(state, id_))
    return saver.put(config_of(thread_id, parent), checkpoint, {"step": id_}, checkpoint["channel_versions"])


class Load:
    """Writers, readers, and others that erase and copy, until it ends. An error in one of them fails the test."""

    def __init__(self, saver: EventLogSaver) -> None:
        self._saver = saver
        self._stop = threading.Event()
        self._ids = count()
        self.appended = 0

    def __enter__(self) -> Load:
        works = [self._write] * 4 + [self._write_afresh] + [self._read, self._erase, self._prune, self._copy]
        self._executor = ThreadPoolExecutor(len(works))
        self._running = [self._executor.submit(self._until_stopped, work, n) for n, work in enumerate(works)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for each in self._running:
            each.result()
        self._executor.shutdown()

    def _until_stopped(self, work: Callable[[int], None], number: int) -> None:
        while not self._stop.is_set():
            with suppress(ThreadDeletedError):
                work(number)

    def _write(self, number: int) -> None:
        """A conversation that is never erased: its writer reads what it wrote, whatever is repaired."""
        thread_id, parent = f"kept {number}", None
        for _ in range(20):
            id_ = f"{next(self._ids):08}"
            stored = append(self._saver, thread_id, id_, parent, by=number)
            self._saver.put_writes(stored, [("x", [*TEXTS, id_])], "task")
            self.appended += 2
            found = self._saver.get_tuple(config_of(thread_id))
            assert found is not None, f"{thread_id} is gone"
            assert found.checkpoint["id"] == id_, f"{found.checkpoint['id']} is read, and {id_} was written"
            assert [each[2][-1] for each in found.pending_writes or []] == [id_]
            parent = id_ if int(id_) % 5 else parent
            time.sleep(0.01)

    def _write_afresh(self, number: int) -> None:
        for _ in range(5):
            id_ = f"{next(self._ids):08}"
            append(self._saver, f"thread {int(id_) % 3}", id_, None, by=number)
            append(self._saver, f"thread {int(id_) % 3}", id_, None, by=[number])
            time.sleep(0.01)

    def _read(self, _: int) -> None:
        time.sleep(0.02)
        for found in self._saver.list(None, limit=30):
            assert found.checkpoint["channel_values"]["x"] == TEXTS
            again = self._saver.get_tuple(found.config)
            assert again is None or again.checkpoint["channel_values"]["x"] == TEXTS

    def _erase(self, _: int) -> None:
        self._saver.delete_thread(f"thread {next(self._ids) % 3}")
        time.sleep(0.1)

    def _prune(self, _: int) -> None:
        self._saver.prune([f"kept {next(self._ids) % 4}"])
        time.sleep(0.1)

    def _copy(self, _: int) -> None:
        target = f"copy {next(self._ids)}"
        with suppress(LookupError):
            self._saver.copy_thread(f"kept {next(self._ids) % 4}", target)
            if next(self._ids) % 2:
                self._saver.delete_thread(target)
        time.sleep(0.2)


def at_the_lock(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None], under: Callable[[], None]) -> None:
    """Have something done just before a stream's row is locked, and just after; the first time."""
    page = Repairer._page
    times = count()

    def with_pauses(self: Repairer, place: Any, *, accept_loss: bool) -> Any:
        op = page(self, place, accept_loss=accept_loss)
        rows = None
        while True:
            try:
                query = op.send(rows)  # type: ignore[arg-type]
            except StopIteration as stop:
                return stop.value
            is_first = query.statement == self._statements["rebuild_lock"] and next(times) == 0
            if is_first:
                before()
            rows = yield query
            if is_first:
                under()

    monkeypatch.setattr(Repairer, "_page", with_pauses)
