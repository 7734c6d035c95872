"""Writing rows of one stream to PostgresSaver's tables, and reading them back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import ThreadNotExportedError
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog.transfer.export_rows import (
    BlobRow,
    CheckpointRow,
    Layout,
    WriteRow,
    same_json,
    to_json,
    version_text,
)

__all__ = ["Batch", "Target"]


@dataclass(slots=True)
class Batch:
    """Rows that are written and verified together."""

    checkpoints: list[CheckpointRow] = field(default_factory=list)
    blobs: dict[str, list[BlobRow]] = field(default_factory=dict)
    """By checkpoint."""
    writes: list[WriteRow] = field(default_factory=list)


class Target:
    """One stream of the thread in the tables."""

    def __init__(self, tables: Statements, stream: Stream, layout: Layout) -> None:
        self._tables, self._stream, self.layout = tables, stream, layout
        self._digests: dict[tuple[str, str], bytes | None] = {}
        """Digests of existing rows of values, by channel and version; None if there is no row."""

    def receive(self, batch: Batch) -> Op[tuple[int, int]]:
        """Write rows and verify them; returns how many were new, and the bytes of their values.

        Raises ThreadNotExportedError if the rows in the tables differ from the log in the end.
        """
        ids = [row.checkpoint_id for row in batch.checkpoints]
        there = {id_ for (id_,) in (yield Query(self._tables["exported_ids"], (*self._stream, ids)))}
        new = [row for row in batch.checkpoints if row.checkpoint_id not in there]
        blobs = {each[:2]: each for row in new for each in batch.blobs[row.checkpoint_id]}
        values = [each for key, each in blobs.items() if self._digests.get(key) is None]
        sizes: list[int] = []
        if values:
            sizes += yield from self._insert("export_blobs", values)
        if new:
            rows = [(row.checkpoint_id, row.parent_id, to_json(row.checkpoint), to_json(row.metadata)) for row in new]
            sizes += yield from self._insert("export_checkpoints", rows)
        if batch.writes:
            sizes += yield from self._insert("export_writes", batch.writes)
        yield from self._verify_checkpoints(batch.checkpoints, set(blobs))
        yield from self._verify_writes(batch.writes)
        return len(sizes), sum(sizes)

    def _insert(self, name: str, rows: Sequence[Sequence[Any]]) -> Op[list[int]]:
        """Insert rows; returns the value's bytes for each row that did not exist."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        return [size or 0 for (size,) in (yield Query(self._tables[name], (*self._stream, *columns)))]

    def _verify_checkpoints(self, rows: Sequence[CheckpointRow], written: set[tuple[str, str]]) -> Op[None]:
        keys = {
            (channel, version_text(version))
            for row in rows
            for channel, version in row.checkpoint["channel_versions"].items()
        }
        if wanted := sorted((keys - self._digests.keys()) | written):
            self._digests.update(dict.fromkeys(wanted))
            names = [[channel for channel, _ in wanted], [version for _, version in wanted]]
            for channel, version, type_, blob in (yield Query(self._tables["exported_blobs"], (*names, *self._stream))):
                self._digests[channel, version] = self.layout.blob_digest(type_, blob)
        ids = [row.checkpoint_id for row in rows]
        found = {each[0]: each for each in (yield Query(self._tables["exported_checkpoints"], (*self._stream, ids)))}
        for row in rows:
            _, parent_id, checkpoint, metadata = found[row.checkpoint_id]
            if parent_id != row.parent_id:
                raise self._differs(row, f"its parent is {parent_id} there, and {row.parent_id} in the log")
            if not same_json(metadata, row.metadata):
                raise self._differs(row, "it has other metadata there")
            inline = checkpoint.pop("channel_values", None) or {}
            fields = {name: value for name, value in row.checkpoint.items() if name != "channel_values"}
            if not same_json(checkpoint, fields):
                raise self._differs(row, "it has other fields or versions there")
            for channel in {*row.channels, *inline, *fields["channel_versions"]}:
                if not self._has(row, channel, inline):
                    raise self._differs(
                        row, f"channel {channel!r} has another value there, or under its version in another checkpoint"
                    )

    def _has(self, row: CheckpointRow, channel: str, inline: dict[str, Any]) -> bool:
        """Whether a channel of a checkpoint has the same value (or none) as in the log."""
        version = row.checkpoint["channel_versions"].get(channel)
        blob = None if version is None else self._digests[channel, version_text(version)]
        value = row.channels.get(channel)
        if blob is not None:
            return value is not None and blob == self.layout.digest(channel, value)
        if channel not in inline:
            return value is None
        return value is not None and self.layout.is_inline(value, inline[channel])

    def _verify_writes(self, rows: Sequence[WriteRow]) -> Op[None]:
        ids = sorted({row.checkpoint_id for row in rows})
        if not ids:
            return
        found = {each[:4]: each[4:] for each in (yield Query(self._tables["exported_writes"], (*self._stream, ids)))}
        for row in rows:
            *key, channel, type_, blob = row
            there = found.get((key[0], key[1], key[2], key[3]))
            if there is None or there[0] != channel or not self._same(there[1:], (type_, blob)):
                raise ThreadNotExportedError(
                    f"thread {self._stream.thread_id!r} is another one there: of task {row.task_id}, write {row.idx} "
                    f"to checkpoint {row.checkpoint_id} differs"
                )

    def _same(self, one: tuple[str, bytes], other: tuple[str, bytes]) -> bool:
        return one == other or self.layout.opened(*one) == self.layout.opened(*other)

    def _differs(self, row: CheckpointRow, how: str) -> ThreadNotExportedError:
        return ThreadNotExportedError(
            f"thread {self._stream.thread_id!r} is another one there: of checkpoint {row.checkpoint_id}, {how}. Delete "
            "it there, or leave it out"
        )
