"""Verifying the replay of `DeltaChannel`s: the log must return the history that follows from the source's rows.

Checkpoints and writes were compared one by one. This module compares a reader's walk through them: from a checkpoint's
parent back to the nearest ancestor with a value of the channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eventlog.db.query import Op
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog._arguments import config_of
from langgraph.checkpoint.eventlog._get import Reader
from langgraph.checkpoint.eventlog.transfer.source import Source
from langgraph.checkpoint.eventlog.transfer.values import ValueReader, is_same
from langgraph.checkpoint.eventlog.transfer.verify import Difference

__all__ = ["Trail", "compare_histories"]

#: The number of branches with compared histories: those with the latest ends.
ENDS = 20

#: Ancestors with writes that are read together.
PAGE_ANCESTORS = 200

#: The key under which LangGraph counts, by channel, the updates since a `DeltaChannel`'s last snapshot.
COUNTERS = "counters_since_delta_snapshot"


class Trail:
    """The checkpoints of a stream that a walk may pass."""

    def __init__(self) -> None:
        self._parents: dict[str, str | None] = {}
        self._valued: dict[str, frozenset[str]] = {}
        self._sets: dict[frozenset[str], frozenset[str]] = {}
        self.channels: set[str] = set()
        """The names of the `DeltaChannel`s."""

    def add(
        self, checkpoint_id: str, parent_id: str | None, metadata: Mapping[str, Any], valued: frozenset[str]
    ) -> None:
        """Add a checkpoint; `valued` are the channels with a value at it."""
        self._parents[checkpoint_id] = parent_id
        # Nearly all checkpoints have the same set.
        self._valued[checkpoint_id] = self._sets.setdefault(valued, valued)
        if isinstance(counters := metadata.get(COUNTERS), Mapping):
            self.channels.update(map(str, counters))

    def ends(self) -> list[str]:
        """The ends of branches, the latest first."""
        inner = set(self._parents.values())
        return sorted((id_ for id_ in self._parents if id_ not in inner), reverse=True)[:ENDS]

    def ancestors(self, checkpoint_id: str, channel: str) -> tuple[list[str], bool]:
        """The ancestors with writes that a channel replays, nearest first, and whether the last one has its seed."""
        found: list[str] = []
        passed = {checkpoint_id}
        at = self._parents[checkpoint_id]
        while at is not None and at in self._parents and at not in passed:
            passed.add(at)
            found.append(at)
            if channel in self._valued[at]:
                return found, True
            at = self._parents[at]
        return found, False


def compare_histories(reader: Reader, values: ValueReader, source: Source, stream: Stream, trail: Trail) -> Op[None]:
    """Compare the histories of all delta channels at the ends of branches. Raises Difference."""
    channels = sorted(trail.channels)
    for checkpoint_id in trail.ends() if channels else ():
        histories = yield from reader.delta_channel_history(config_of(stream, checkpoint_id), channels)
        for channel in channels:
            ancestors, has_seed = trail.ancestors(checkpoint_id, channel)
            where = f"the history of channel {channel!r} at checkpoint {checkpoint_id} of {stream.checkpoint_ns!r}"
            wanted = yield from _writes(values, source, stream, ancestors, channel, where)
            found = [(task_id, value) for task_id, _, value in histories[channel]["writes"]]
            if ("seed" in histories[channel]) != has_seed or not is_same(wanted, found, values.is_same_object):
                raise Difference(f"{where} is another one")


def _writes(
    values: ValueReader, source: Source, stream: Stream, ancestors: Sequence[str], channel: str, where: str
) -> Op[list[tuple[str, Any]]]:
    """The writes of ancestors to a channel, oldest first."""
    found: list[tuple[str, Any]] = []
    ordered = list(reversed(ancestors))
    for begin in range(0, len(ordered), PAGE_ANCESTORS):
        page = ordered[begin : begin + PAGE_ANCESTORS]
        writes = yield from source.writes(stream.thread_id, stream.checkpoint_ns, page, channel)
        for checkpoint_id in page:
            for write in writes.get(checkpoint_id, ()):
                decoded = write.decoded
                if write.value is not None:
                    decoded = values.decoded(values.value(write.value, where), where)
                found.append((write.task_id, decoded))
    return found
