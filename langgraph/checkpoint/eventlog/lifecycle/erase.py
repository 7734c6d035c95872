"""Erasing a part of a thread, in one transaction: the surviving checkpoints read as before."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import INTERRUPT, TASKS

from eventlog import records
from eventlog.db.query import Op
from eventlog.events import Kind, StoredEvent
from eventlog.format.values import format_of, loads
from eventlog.logger import logger
from eventlog.read import CheckpointRow, read_events, read_writes
from eventlog.records import Cut, Erased, Operation, Outline, ThreadOutline
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import CHUNK_BYTES, affordable
from langgraph.checkpoint.eventlog.lifecycle.plan import plan_cut
from langgraph.checkpoint.eventlog.lifecycle.rules import Kept, heads, unresolved, writes_to
from snapshots.encode import event_of
from snapshots.fold import Folded

__all__ = ["Choose", "Eraser", "delete_thread"]

#: Chooses the surviving checkpoints, given a thread's outline.
Choose = Callable[["Eraser", ThreadOutline], Op[Kept]]

#: The number of ancestors that are examined, and of events that are written again, at a time.
CHUNK = 64


def delete_thread(
    context: Context,
    thread_id: str,
    operation: Operation,
    *,
    idle_since: datetime | None = None,
    expired_before: datetime | None = None,
) -> Op[Erased | None]:
    """Erase a thread, from the caches too. Arguments and result as `eventlog.records.delete_thread`."""
    erased = yield from records.delete_thread(
        context.statements, thread_id, operation, idle_since=idle_since, expired_before=expired_before
    )
    context.states.drop_thread(thread_id)
    context.lineages.drop_thread(thread_id)
    return erased


class Eraser:
    """Erases with a saver's serializer, which encodes relocated events."""

    def __init__(self, context: Context, serde: SerializerProtocol) -> None:
        self._context = context
        self._reader = context.reader(serde)
        self._codec = self._reader.codec

    def erase(
        self,
        thread_id: str,
        choose: Choose,
        operation: Operation,
        *,
        expired_before: datetime | None = None,
        dry_run: bool = False,
    ) -> Op[Erased]:
        """Erase a thread except the chosen checkpoints and their needs. Run it in one transaction.

        Raises EventTooLargeError when a state that must be written again is over ``max_body_bytes``.

        Args:
            expired_before: for retention: events recorded earlier are left to the drop of their partition.
            dry_run: only count.
        """
        outline = yield from self.outline(thread_id, dry_run=dry_run)
        kept = yield from choose(self, outline)
        return (
            yield from self.cut(thread_id, outline, kept, operation, expired_before=expired_before, dry_run=dry_run)
        )

    def outline(self, thread_id: str, *, dry_run: bool) -> Op[ThreadOutline]:
        """A thread's streams without bodies, locked until the transaction ends; in a dry run as they are."""
        statements = self._context.statements
        tips = yield from (
            records.read_tips(statements, [thread_id]) if dry_run else records.lock_thread(statements, thread_id)
        )
        return (yield from records.read_outline(statements, thread_id, tips))

    def cut(
        self,
        thread_id: str,
        outline: ThreadOutline,
        kept: Kept,
        operation: Operation,
        *,
        expired_before: datetime | None = None,
        dry_run: bool = False,
    ) -> Op[Erased]:
        """Erase a thread with this `outline` except the checkpoints `kept` and their needs. As `erase`."""
        statements = self._context.statements
        total = Erased(thread_id, 0, 0, 0)
        for ns, each in outline.items():
            stream = Stream(thread_id, ns)
            yield from self._keep_replayed(stream, each, kept[ns])
            yield from self._keep_senders(stream, each, kept[ns])
            cut = plan_cut(each, kept[ns], expired_before)
            # The records of a deleted stream go with their partitions.
            if cut is None or not each.tip.has_data:
                continue
            if not dry_run:
                yield from self._relocate(stream, each, cut)
                yield from records.cut_stream(statements, each, cut, operation, expired_before)
            total = Erased(
                thread_id, total.events + cut.events, total.checkpoints + len(cut.gone), total.bytes + cut.bytes
            )
        if not dry_run:
            self._context.states.drop_thread(thread_id)
            self._context.lineages.drop_thread(thread_id)
        return total

    def is_waiting(self, outline: ThreadOutline) -> Op[bool]:
        """Whether an interrupt waits for an answer, on any branch.

        An interrupt in a subgraph is also one of the task that called it, so the root graph's writes suffice, if the
        thread has a root graph.
        """
        root = outline.get("")
        streams = outline.values() if root is None or not root.checkpoints else [root]
        for each in streams:
            name = Stream(each.tip.thread_id, each.tip.checkpoint_ns)
            # The latest checkpoint first: it nearly always has the interrupt.
            seqs = [event.seq for event in reversed(unresolved(each, of_heads=True))]
            for start in range(0, len(seqs), CHUNK):
                for stored in (yield from read_events(self._context.statements, name, seqs[start : start + CHUNK])):
                    if writes_to(INTERRUPT, self._codec, stored, name.describe_event(stored.seq)):
                        return True
        return False

    def open_ids(self, outline: ThreadOutline) -> Op[Kept]:
        """The ends of all branches, and the checkpoints at which an interrupt waits for an answer."""
        found: Kept = {}
        for ns, stream in outline.items():
            found[ns] = heads(stream)
            waiting = {
                event.seq: event.checkpoint_id
                for event in unresolved(stream)
                if event.checkpoint_id in stream.checkpoints.keys() - found[ns]
            }
            name = Stream(stream.tip.thread_id, ns)
            for seqs in _affordable_events(stream, waiting):
                for stored in (yield from read_events(self._context.statements, name, seqs)):
                    if writes_to(INTERRUPT, self._codec, stored, name.describe_event(stored.seq)):
                        found[ns].add(waiting[stored.seq])
        return found

    def _keep_replayed(self, stream: Stream, outline: Outline, kept: set[str]) -> Op[None]:
        """Add the ancestors that `DeltaChannel`s of kept checkpoints replay: up to each channel's stored value.

        LangGraph's contract (`Reader.delta_channel_history`): along the parents, and a value ends a channel's walk.
        """
        entries = outline.checkpoints
        chosen = len(kept)
        # Channels of the whole stream: one that is no longer a DeltaChannel is still replayed where it has no value.
        channels = {channel for entry in entries.values() for channel in entry.delta_channels}
        # Below a checkpoint that a walk has passed, everything is kept already. Oldest first, so that most walks end at
        # once.
        walked: dict[str, set[str]] = {channel: set() for channel in channels}
        for start in sorted(kept, key=lambda id_: entries[id_].seq):
            parent_id = entries[start].parent_id
            wanted = {channel for channel in channels if parent_id not in walked[channel]}
            for channel in channels:
                walked[channel].add(start)
            path: str | None = start
            while path is not None and wanted:
                line = self._line(stream, outline, path)
                count, read = yield from self._reader.read_affordable(line)
                for folded in read:
                    id_ = folded.state.checkpoint_id
                    if id_ == start:
                        # Without a version it was never written.
                        wanted &= folded.state.versions.keys()
                    elif wanted:
                        kept.add(id_)
                        wanted -= {channel for channel in wanted if id_ in walked[channel]}
                        for channel in wanted:
                            walked[channel].add(id_)
                    wanted -= folded.state.channels.keys()
                    if not wanted:
                        break
                path = entries[line[count - 1].checkpoint_id].parent_id
                path = path if path in entries else None
        if len(kept) > chosen:
            logger.info(
                "eventlog.kept_for_replay",
                **stream._asdict(),
                checkpoints=len(kept) - chosen,
                reason="a surviving checkpoint's DeltaChannel replays their writes",
            )

    def _keep_senders(self, stream: Stream, outline: Outline, kept: set[str]) -> Op[None]:
        """Add the parents that hold a checkpoint's sends: before version 4 these are writes of the parent."""
        entries = outline.checkpoints
        orphans = {
            entries[id_].seq: parent_id
            for id_ in kept
            if (parent_id := entries[id_].parent_id) in entries and parent_id not in kept
        }
        statements = self._context.statements
        for seqs in _affordable_events(outline, orphans):
            for stored in (yield from read_events(statements, stream, seqs)):
                context = stream.describe_event(stored.seq)
                event = self._codec.decode_checkpoint(stored.body, context)
                if format_of(loads(self._reader.plain, event.fields, context), context) < 4:
                    parent_id = orphans[stored.seq]
                    assert parent_id is not None
                    writes = yield from read_writes(statements, stream, parent_id)
                    if any(writes_to(TASKS, self._codec, each, stream.describe_event(each.seq)) for each in writes):
                        kept.add(parent_id)

    @staticmethod
    def _line(stream: Stream, outline: Outline, checkpoint_id: str) -> list[CheckpointRow]:
        """A checkpoint and its ancestors, nearest first, as many as are read together."""
        line: list[CheckpointRow] = []
        next_id: str | None = checkpoint_id
        while next_id is not None and (entry := outline.checkpoints.get(next_id)) is not None and len(line) < CHUNK:
            line.append(CheckpointRow(*stream, next_id, entry.state_bytes))
            next_id = entry.parent_id
        return affordable(line, CHUNK)

    # --- relocating

    def _relocate(self, stream: Stream, outline: Outline, cut: Cut) -> Op[None]:
        if cut.moved:
            statements = self._context.statements
            yield from records.relocate_events(statements, outline, cut.moved, [None] * len(cut.moved))
        rows = [
            CheckpointRow(*stream, event.checkpoint_id, outline.checkpoints[event.checkpoint_id].state_bytes)
            for event in cut.rewritten
            if event.kind == Kind.CHECKPOINT_SAVED
        ]
        while rows:
            count, read = yield from self._reader.read_affordable(affordable(rows, CHUNK))
            del rows[:count]
            yield from self._relocate_checkpoints(outline, read, set(cut.gone))
        for event in cut.rewritten:
            if event.kind == Kind.WRITES_SAVED:
                yield from self._relocate_writes(stream, outline, event)

    def _relocate_checkpoints(self, outline: Outline, read: list[Folded], gone: set[str]) -> Op[None]:
        seqs, bodies = [], []
        for folded in read:
            frame = folded.state
            if frame.parent_id in gone:
                # No run began the thread with this checkpoint.
                frame = replace(
                    frame,
                    parent_id=None,
                    erased_parent_id=frame.parent_id,
                    observed_latest_id=frame.checkpoint_id,
                )
            seqs.append(folded.state.seq)
            bodies.append(self._codec.encode_checkpoint(event_of(frame, None, self._context.settings.max_body_bytes)))
        yield from records.relocate_events(self._context.statements, outline, seqs, bodies)

    def _relocate_writes(self, stream: Stream, outline: Outline, event: StoredEvent) -> Op[None]:
        stored = yield from read_events(self._context.statements, stream, [event.seq])
        saved = yield from self._reader.restated_writes(stream, stored)
        bodies = [self._codec.encode_writes(each) for each in saved]
        yield from records.relocate_events(self._context.statements, outline, [event.seq], bodies)


def _affordable_events(outline: Outline, seqs: Iterable[int]) -> Iterator[list[int]]:
    """Events of a stream in chunks, each of `CHUNK_BYTES` of bodies as they are stored, or of one event."""
    chunk, total = list[int](), 0
    for seq in seqs:
        total += outline.body_bytes.get(seq, 0)
        if chunk and total > CHUNK_BYTES:
            yield chunk
            chunk, total = [], outline.body_bytes.get(seq, 0)
        chunk.append(seq)
    if chunk:
        yield chunk
