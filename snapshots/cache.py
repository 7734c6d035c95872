"""The cache of states that writers take differences from.

LangGraph reads a thread before it writes to it and then writes child after child, so the base of the next event is
nearly always the state that was just read or written.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from eventlog.statistics import CacheStats
from eventlog.streams import Stream
from snapshots.state import CheckpointState

__all__ = ["StateCache"]


class StateCache:
    """The most recently used frames, bounded by bytes, shared by all threads and copies of a saver.

    Args:
        max_bytes: bound on the sum of the frames' weights; 0 keeps none.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._frames: OrderedDict[tuple[Stream, str], CheckpointState] = OrderedDict()
        self._last: dict[Stream, str] = {}
        self._hits = self._misses = 0

    def get(self, stream: Stream, checkpoint_id: str | None) -> CheckpointState | None:
        """The frame of a checkpoint; with None, the stream's most recent one here (not always the latest)."""
        with self._lock:
            frame = self._find(stream, checkpoint_id)
            if frame is None:
                self._misses += 1
                return None
            self._hits += 1
            self._frames.move_to_end((stream, frame.checkpoint_id))
            return frame

    def peek(self, stream: Stream, checkpoint_id: str | None) -> CheckpointState | None:
        """As `get`, without counting as a use."""
        with self._lock:
            return self._find(stream, checkpoint_id)

    def _find(self, stream: Stream, checkpoint_id: str | None) -> CheckpointState | None:
        found = checkpoint_id if checkpoint_id is not None else self._last.get(stream)
        return None if found is None else self._frames.get((stream, found))

    def put(self, stream: Stream, frame: CheckpointState, replaces: str | None = None) -> None:
        """Keep a frame, instead of its parent's (`replaces`): a thread needs one, and a fork can read its own."""
        with self._lock:
            self._drop((stream, frame.checkpoint_id))
            if replaces is not None:
                self._drop((stream, replaces))
            weight = frame.weight
            if weight > self._max_bytes:
                return
            self._frames[stream, frame.checkpoint_id] = frame
            self._last[stream] = frame.checkpoint_id
            self._bytes += weight
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._frames)))

    def drop(self, stream: Stream, checkpoint_id: str) -> None:
        """Forget a frame that turned out to be stale."""
        with self._lock:
            self._drop((stream, checkpoint_id))

    def drop_thread(self, thread_id: str) -> None:
        """Forget all frames of a thread."""
        with self._lock:
            for key in [key for key in self._frames if key[0].thread_id == thread_id]:
                self._drop(key)

    def _drop(self, key: tuple[Stream, str]) -> None:
        frame = self._frames.pop(key, None)
        if frame is not None:
            self._bytes -= frame.weight
            if self._last.get(key[0]) == key[1]:
                del self._last[key[0]]

    @property
    def stats(self) -> CacheStats:
        """What it holds and how often that was of use."""
        with self._lock:
            return CacheStats(len(self._frames), self._bytes, self._max_bytes, self._hits, self._misses)

    @property
    def size_bytes(self) -> int:
        """The sum of the weights of the frames that it keeps."""
        return self._bytes
