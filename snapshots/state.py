"""The state of one checkpoint, its values still serialized, and the cache of states that serve as bases.

LangGraph reads a thread before it writes to it, and then writes child after child. So the base of the next event is
nearly always the state that was just read or written.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from eventlog.format.contents import NO_SALT, NOTHING, Channels, Serialized, Versions, VersionsSeen
from eventlog.format.digest import ChannelDigest
from eventlog.statistics import CacheStats
from eventlog.streams import Stream, StreamHead

__all__ = ["CheckpointState", "StateCache"]

#: The weight of a state beside its values: objects, keys and version texts.
ENTRY_BYTES = 200


@dataclass(slots=True)
class CheckpointState:
    """A checkpoint, its values serialized. Treat it as immutable: children share unchanged values."""

    checkpoint_id: str
    versions: Versions
    seen: VersionsSeen
    channels: Channels
    parent_id: str | None = None
    fields: Serialized = NOTHING
    """The checkpoint's own fields, as in `eventlog.format.contents.CheckpointSaved`."""
    metadata: Serialized = NOTHING
    observed_latest_id: str | None = None
    salt: bytes = NO_SALT
    erased_parent_id: str | None = None
    """As in `eventlog.format.contents.CheckpointSaved`."""
    digests: dict[str, ChannelDigest] = field(default_factory=dict, compare=False)
    """Digests of the values, if they were computed (`snapshots.encode.digest_state`)."""

    seq: int = 0
    """The event that saved it; 0 while it is being made."""
    recorded_at: datetime | None = None
    epoch: int = 0
    """The stream's epoch when the state was read or written: it is a valid base only while the epoch is the same."""
    head: StreamHead | None = None
    """The stream's last known event. It is a later one than the state's own if writes followed."""
    keyframe_seq: int = 0
    """The event where replay starts: a self-contained one, or one with a snapshot."""
    keyframe_at: datetime | None = None
    replay_cost: int = 0
    """The cost of replaying from the keyframe, in bytes (`snapshots.encode`)."""
    state_bytes: int = field(init=False)
    weight: int = field(init=False)
    """Approximate memory, in bytes."""

    def __post_init__(self) -> None:
        self.state_bytes = sum([len(value.data) for value in self.channels.values()])
        names = len(self.channels) + len(self.versions) + sum(map(len, self.seen.values()))
        self.weight = self.state_bytes + len(self.fields.data) + len(self.metadata.data) + ENTRY_BYTES * (1 + names)

    @property
    def largest(self) -> tuple[str, Serialized] | None:
        """Name and value of the largest channel, which other values may resemble."""
        return max(self.channels.items(), key=lambda item: len(item[1].data), default=None)


class StateCache:
    """The most recently used states, bounded by bytes, shared by all threads and copies of a saver.

    Args:
        max_bytes: bound on the sum of the states' weights; 0 keeps none.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._lock = threading.Lock()
        self._states: OrderedDict[tuple[Stream, str], CheckpointState] = OrderedDict()
        self._last: dict[Stream, str] = {}
        self._hits = self._misses = 0

    def get(self, stream: Stream, checkpoint_id: str | None) -> CheckpointState | None:
        """The state of a checkpoint; with None, the stream's most recently cached one (not always the latest)."""
        with self._lock:
            found = checkpoint_id if checkpoint_id is not None else self._last.get(stream)
            state = None if found is None else self._states.get((stream, found))
            if state is None:
                self._misses += 1
                return None
            self._hits += 1
            self._states.move_to_end((stream, state.checkpoint_id))
            return state

    def put(self, stream: Stream, state: CheckpointState, replaces: str | None = None) -> None:
        """Keep a state in place of its parent's (`replaces`): a thread needs only one, and a fork reads its own."""
        with self._lock:
            self._drop((stream, state.checkpoint_id))
            if replaces is not None:
                self._drop((stream, replaces))
            weight = state.weight
            if weight > self._max_bytes:
                return
            self._states[stream, state.checkpoint_id] = state
            self._last[stream] = state.checkpoint_id
            self._bytes += weight
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._states)))

    def drop(self, stream: Stream, checkpoint_id: str) -> None:
        """Forget a state that turned out to be stale."""
        with self._lock:
            self._drop((stream, checkpoint_id))

    def drop_thread(self, thread_id: str) -> None:
        """Forget all states of a thread."""
        with self._lock:
            for key in [key for key in self._states if key[0].thread_id == thread_id]:
                self._drop(key)

    def _drop(self, key: tuple[Stream, str]) -> None:
        state = self._states.pop(key, None)
        if state is not None:
            self._bytes -= state.weight
            if self._last.get(key[0]) == key[1]:
                del self._last[key[0]]

    @property
    def stats(self) -> CacheStats:
        """The size of the cache, and its hits and misses."""
        with self._lock:
            return CacheStats(len(self._states), self._bytes, self._max_bytes, self._hits, self._misses)

    @property
    def size_bytes(self) -> int:
        """The sum of the weights of the states that it keeps."""
        return self._bytes
