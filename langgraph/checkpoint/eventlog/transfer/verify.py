"""Verifying an import: reading back what was appended, and comparing it with the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eventlog.db.query import Op
from eventlog.db.statements import Statements
from eventlog.errors import LogCorruptedError
from eventlog.format.contents import Channels, Serialized
from eventlog.format.values import loads_fields
from eventlog.read import CheckpointRow, read_writes
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog._get import Reader
from langgraph.checkpoint.eventlog.transfer.source import SourceCheckpoint
from langgraph.checkpoint.eventlog.transfer.values import ValueReader, is_same
from projections.tuples import StoredWrite
from snapshots.fold import Folded

__all__ = ["Difference", "Expected", "compare", "fields_of"]

#: Fields of a checkpoint that the log stores separately.
_OWN_FORM = ("id", "channel_values", "channel_versions", "versions_seen")


@dataclass(slots=True)
class Expected:
    """A checkpoint of the source, as the log must have it."""

    source: SourceCheckpoint
    channels: Channels
    """Values that the source has stored, decrypted."""
    writes: list[Serialized | None]
    """The decrypted values of its writes; None if the source returned a decoded value."""

    @property
    def state_bytes(self) -> int:
        """The size of its values."""
        return sum(len(value.data) for value in self.channels.values())


class Difference(Exception):
    """The log differs from the source: the place, and the difference."""


def fields_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint's own fields: all but its id, channels and versions."""
    return {key: value for key, value in checkpoint.items() if key not in _OWN_FORM}


def compare(
    statements: Statements, reader: Reader, values: ValueReader, stream: Stream, expected: Sequence[Expected]
) -> Op[None]:
    """Read checkpoints and writes of a stream back and compare them with the source.

    Raises Difference for the first one that is missing or different.
    """
    rows = [
        CheckpointRow(*stream, each.source.checkpoint_id, each.state_bytes)
        for each in expected
        if each.source.checkpoint is not None
    ]
    comparer = _Comparer(reader, values, stream)
    found: dict[str, Folded] = {}
    pending = list(expected)
    while pending:
        each = pending[0]
        where = f"checkpoint {each.source.checkpoint_id} of namespace {stream.checkpoint_ns!r}"
        try:
            if each.source.checkpoint is None:
                events = yield from read_writes(statements, stream, each.source.checkpoint_id)
                comparer.compare_writes(each, (yield from reader.writes_of(stream, events, None)), where)
            else:
                if each.source.checkpoint_id not in found:
                    count, read = yield from reader.read_affordable(rows)
                    rows = rows[count:]
                    found = {folded.state.checkpoint_id: folded for folded in read}
                folded = found.get(each.source.checkpoint_id)
                if folded is None:
                    raise Difference(f"{where} is missing")
                comparer.compare_state(each, folded, where)
                writes = yield from reader.writes_of(stream, folded.writes, folded.state)
                comparer.compare_writes(each, writes, where)
        except LogCorruptedError as exc:
            raise Difference(f"{where} cannot be read back: {exc}") from exc
        pending.pop(0)


class _Comparer:
    def __init__(self, reader: Reader, values: ValueReader, stream: Stream) -> None:
        self._reader, self._values, self._stream = reader, values, stream

    def compare_state(self, expected: Expected, folded: Folded, where: str) -> None:
        source, state = expected.source, folded.state
        checkpoint = source.checkpoint or {}
        if state.parent_id != source.parent_id:
            raise Difference(f"{where} has the parent {state.parent_id!r}, not {source.parent_id!r}")
        for name, found in (("channel_versions", state.versions), ("versions_seen", state.seen)):
            if not is_same(checkpoint.get(name) or {}, found, self._values.is_same_object):
                raise Difference(f"{where} has other {name}")
        for name, wanted, kept in (
            ("fields", fields_of(checkpoint), state.fields),
            ("metadata", dict(source.metadata), state.metadata),
        ):
            if not is_same(wanted, loads_fields(self._reader.plain, kept, where), self._values.is_same_object):
                raise Difference(f"{where} has other {name}")
        channels = expected.channels.keys() | source.decoded.keys()
        if channels != state.channels.keys():
            different = ", ".join(sorted(channels ^ state.channels.keys()))
            raise Difference(f"{where} has values in other channels: {different}")
        for channel, stored in expected.channels.items():
            kept = state.channels[channel]
            if kept is not stored and kept != stored:
                raise Difference(f"{where} has another value in channel {channel!r}")
        for channel, decoded in source.decoded.items():
            if not self._values.is_decoded(decoded, state.channels[channel], where):
                raise Difference(f"{where} has another value in channel {channel!r}")

    def compare_writes(self, expected: Expected, found: Sequence[StoredWrite], where: str) -> None:
        wanted = expected.source.writes
        if len(wanted) != len(found):
            raise Difference(f"{where} has {len(found)} writes, not {len(wanted)}")
        for source, stored, kept in zip(wanted, expected.writes, found, strict=True):
            if source[:4] != kept[:4]:
                raise Difference(f"{where} has other writes: {kept[:4]} where the source has {source[:4]}")
            is_equal = (
                self._values.is_decoded(source.decoded, kept.value, where) if stored is None else kept.value == stored
            )
            if not is_equal:
                raise Difference(f"{where} has another write {kept.idx} of task {kept.task_id}")
