"""Erasing a part of a thread, in one transaction: what survives reads as before."""

from __future__ import annotations

from collections.abc import Callable
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
from langgraph.checkpoint.eventlog._get import affordable
from langgraph.checkpoint.eventlog.lifecycle.plan import plan_cut
from langgraph.checkpoint.eventlog.lifecycle.rules import Kept, heads, unresolved, writes_to
from snapshots.encode import event_of

__all__ = ["Choose", "Eraser", "delete_thread"]

#: What survives, given a thread's outline.
Choose = Callable[["Eraser", ThreadOutline], Op[Kept]]

#: Ancestors that are looked at, and events that are written anew, at a time.
CHUNK = 64


def delete_thread(
    context: Context,
    thread_id: str,
    operation: Operation,
    *,
    idle_since: datetime | None = None,
    expired_before: datetime | None = None,
) -> Op[Erased | None]:
    """Erase a thread, here too. Arguments and result as `eventlog.records.delete_thread`."""
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
        """Erase all of a thread but what is chosen, and what that needs. Run it in one transaction.

        Raises EventTooLargeError when a state that must be written again is over ``max_body_bytes``.

        Args:
            expired_before: for retention: events recorded before are left to the drop of their partition.
            dry_run: only count.
        """
        statements = self._context.statements
        look = records.read_tips if dry_run else records.lock_threads
        tips = yield from look(statements, [thread_id])
        outline = yield from records.read_outline(statements, thread_id, tips)
        kept = yield from choose(self, outline)
        total = Erased(thread_id, 0, 0, 0)
        for ns, each in outline.items():
            stream = Stream(thread_id, ns)
            yield from self._keep_replayed(stream, each, kept[ns])
            yield from self._keep_senders(stream, each, kept[ns])
            cut = plan_cut(each, kept[ns], expired_before)
            # Records of what was done to a deleted stream go with their partitions.
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
            for stored in (yield from read_events(self._context.statements, name, list(waiting))):
                if writes_to(INTERRUPT, self._codec, stored, name.describe_event(stored.seq)):
                    found[ns].add(waiting[stored.seq])
        return found

    def _keep_replayed(self, stream: Stream, outline: Outline, kept: set[str]) -> Op[None]:
        """Add the ancestors that `DeltaChannel`s of what is kept still replay: up to each channel's stored value.

        LangGraph's contract (`Reader.delta_channel_history`): along the parents, and a value ends a channel's walk.
        """
        entries = outline.checkpoints
        chosen = len(kept)
        # Of the whole stream: a channel that is none any more is still replayed where it has no value of its own.
        channels = {channel for entry in entries.values() for channel in entry.delta_channels}
        # Where a walk for a channel has been, everything below is kept already. Oldest first, so that most walks are
        # over at once.
        walked: dict[str, set[str]] = {channel: set() for channel in channels}
        for start in sorted(kept, key=lambda id_: entries[id_].seq):
            parent_id = entries[start].parent_id
            wanted = {channel for channel in channels if parent_id not in walked[channel]}
            for channel in channels:
                walked[channel].add(start)
            path: str | None = start
            while path is not None and wanted:
                line = self._line(stream, outline, path)
                for folded in (yield from self._reader.read_chunk(line)):
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
                path = entries[line[-1].checkpoint_id].parent_id
                path = path if path in entries else None
        if len(kept) > chosen:
            logger.info("eventlog.kept_for_replay", **stream._asdict(), checkpoints=len(kept) - chosen)

    def _keep_senders(self, stream: Stream, outline: Outline, kept: set[str]) -> Op[None]:
        """Add the parents that hold what a checkpoint sends to tasks: before version 4, writes of theirs."""
        entries = outline.checkpoints
        orphans = {
            entries[id_].seq: parent_id
            for id_ in kept
            if (parent_id := entries[id_].parent_id) in entries and parent_id not in kept
        }
        statements = self._context.statements
        for stored in (yield from read_events(statements, stream, list(orphans))):
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
            chunk = affordable(rows, CHUNK)
            del rows[: len(chunk)]
            yield from self._relocate_checkpoints(outline, chunk, set(cut.gone))
        for event in cut.rewritten:
            if event.kind == Kind.WRITES_SAVED:
                yield from self._relocate_writes(stream, outline, event)

    def _relocate_checkpoints(self, outline: Outline, rows: list[CheckpointRow], gone: set[str]) -> Op[None]:
        seqs, bodies = [], []
        for folded in (yield from self._reader.read_chunk(rows)):
            frame = folded.state
            if frame.parent_id in gone:
                # Nobody started the thread with it.
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
