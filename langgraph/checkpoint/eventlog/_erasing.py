"""Erasing a part of a thread, in one transaction: what survives reads as before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog import lifecycle, reading
from eventlog.codec import Codec, loads, split_serializer
from eventlog.drafting import Draft
from eventlog.events import Kind
from eventlog.identity import Stream
from eventlog.lifecycle import Cut, Erased, EventEntry, Operation, Outline, ThreadOutline
from eventlog.log import logger
from eventlog.operations import Op
from eventlog.reading import CheckpointRow
from langgraph.checkpoint.eventlog._operations import Context, Operations
from projections import survivors
from projections.cutting import plan_cut
from projections.survivors import Kept, heads, interrupts, unresolved

__all__ = ["Choose", "Eraser"]

#: What survives, given a thread's outline.
Choose = Callable[["Eraser", ThreadOutline], Op[Kept]]

#: Ancestors that are looked at, and events that are written anew, at a time.
CHUNK = 64

#: The states of a chunk are in memory at once: this many bytes of them, or one.
CHUNK_BYTES = 32 * 1024 * 1024


class Eraser:
    """Erases with a given serializer, which encodes what is carried forward.

    Args:
        context: settings, statements and frames.
        serde: the saver's serializer.
    """

    def __init__(self, context: Context, serde: SerializerProtocol) -> None:
        self._context = context
        self._operations = Operations(context, serde)
        self._serde, cipher = split_serializer(serde)
        self._codec = Codec(context.settings, cipher)

    def erase(
        self,
        thread_id: str,
        choose: Choose,
        operation: Operation,
        *,
        void_before: datetime | None = None,
        dry_run: bool = False,
    ) -> Op[Erased]:
        """Erase all of a thread but what is chosen, and what that needs. Run it in one transaction.

        Args:
            choose: what survives.
            operation: what the log is to say of it.
            void_before: for retention: what was recorded before is left to the drop of its partition.
            dry_run: only count.

        Raises:
            EventTooLargeError: when a state that must be written anew is over ``max_body_bytes``.
            LogCorruptedError: when one does not decode.
        """
        statements = self._context.statements
        look = lifecycle.read_tips if dry_run else lifecycle.lock_threads
        tips = yield from look(statements, [thread_id])
        outline = yield from lifecycle.read_outline(statements, thread_id, tips)
        kept = yield from choose(self, outline)
        total = Erased(thread_id, 0, 0, 0)
        for ns, stream in outline.items():
            yield from self._keep_replayed(Stream(thread_id, ns), stream, kept[ns])
            yield from self._keep_senders(Stream(thread_id, ns), stream, kept[ns])
            cut = plan_cut(stream, kept[ns], void_before)
            # Records of what was done to a deleted stream go with their partitions.
            if cut is None or not stream.tip.has_data:
                continue
            if not dry_run:
                yield from self._carry(stream, cut)
                yield from lifecycle.cut_stream(statements, stream, cut, operation, void_before)
            total = Erased(
                thread_id, total.events + cut.events, total.checkpoints + len(cut.gone), total.bytes + cut.bytes
            )
        if not dry_run:
            self._context.frames.drop_thread(thread_id)
        return total

    def open_ids(self, outline: ThreadOutline) -> Op[Kept]:
        """The ends of all branches, and the checkpoints at which an interrupt waits for an answer."""
        found: Kept = {}
        for ns, stream in outline.items():
            found[ns] = heads(stream)
            for event in unresolved(stream):
                if event.checkpoint_id in found[ns] or event.checkpoint_id not in stream.checkpoints:
                    continue
                where = Stream(stream.tip.thread_id, ns)
                for stored in (yield from reading.read_writes(self._context.statements, where, event.checkpoint_id)):
                    if stored.seq == event.seq and interrupts(self._codec, stored, f"event {stored.seq} of {where}"):
                        found[ns].add(event.checkpoint_id)
        return found

    def _keep_replayed(self, stream: Stream, outline: Outline, kept: set[str]) -> Op[None]:
        """Add the ancestors that `DeltaChannel`s of what is kept still replay: up to each channel's stored value.

        LangGraph's contract, as in `_delta_history`: along the parents, and a value ends the walk for its channel.
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
                line = self._line(outline, path)
                rows = [CheckpointRow(*stream, id_, entries[id_].state_bytes) for id_ in line]
                for folded in (yield from self._operations.read_chunk(rows)):
                    id_ = folded.frame.checkpoint_id
                    if id_ == start:
                        # Without a version it was never written.
                        wanted &= folded.frame.versions.keys()
                    elif wanted:
                        kept.add(id_)
                        wanted -= {channel for channel in wanted if id_ in walked[channel]}
                        for channel in wanted:
                            walked[channel].add(id_)
                    wanted -= folded.frame.channels.keys()
                    if not wanted:
                        break
                path = entries[line[-1]].parent_id
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
        for stored in (yield from reading.read_events(statements, stream, list(orphans))) if orphans else ():
            event = self._codec.decode_checkpoint(stored.body, f"event {stored.seq} of {stream}")
            if loads(self._serde, event.fields).get("v", 0) < 4:
                parent_id = orphans[stored.seq]
                assert parent_id is not None
                writes = yield from reading.read_writes(statements, stream, parent_id)
                if any(survivors.sends(self._codec, each, f"event {each.seq} of {stream}") for each in writes):
                    kept.add(parent_id)

    @staticmethod
    def _line(outline: Outline, checkpoint_id: str) -> list[str]:
        """A checkpoint and its ancestors, nearest first, as many as may be in memory at once."""
        line: list[str] = []
        size = 0
        next_id: str | None = checkpoint_id
        while next_id is not None and (entry := outline.checkpoints.get(next_id)) is not None and len(line) < CHUNK:
            size += entry.state_bytes
            if line and size > CHUNK_BYTES:
                break
            line.append(next_id)
            next_id = entry.parent_id
        return line

    # --- carrying forward

    def _carry(self, outline: Outline, cut: Cut) -> Op[None]:
        if cut.moved:
            statements = self._context.statements
            yield from lifecycle.carry_events(statements, outline, cut.moved, [None] * len(cut.moved))
        checkpoints = [event for event in cut.rewritten if event.kind == Kind.CHECKPOINT_SAVED]
        while checkpoints:
            chunk = self._affordable(outline, checkpoints)
            del checkpoints[: len(chunk)]
            yield from self._carry_checkpoints(outline, chunk, set(cut.gone))
        for event in cut.rewritten:
            if event.kind == Kind.WRITES_SAVED:
                yield from self._carry_writes(outline, event)

    @staticmethod
    def _affordable(outline: Outline, events: Sequence[EventEntry]) -> list[EventEntry]:
        size, total = 0, 0
        for event in events[:CHUNK]:
            total += outline.checkpoints[event.checkpoint_id].state_bytes
            if size and total > CHUNK_BYTES:
                break
            size += 1
        return list(events[:size])

    def _carry_checkpoints(self, outline: Outline, events: list[EventEntry], gone: set[str]) -> Op[None]:
        stream = Stream(outline.tip.thread_id, outline.tip.checkpoint_ns)
        rows = [
            CheckpointRow(*stream, event.checkpoint_id, outline.checkpoints[event.checkpoint_id].state_bytes)
            for event in events
        ]
        seqs, bodies = [], []
        for folded in (yield from self._operations.read_chunk(rows)):
            frame = folded.frame
            if frame.parent_id in gone:
                frame = replace(frame, parent_id=None)
            seqs.append(folded.frame.seq)
            bodies.append(self._codec.encode_checkpoint(Draft.event(frame, None)))
        yield from lifecycle.carry_events(self._context.statements, outline, seqs, bodies)

    def _carry_writes(self, outline: Outline, event: EventEntry) -> Op[None]:
        stream = Stream(outline.tip.thread_id, outline.tip.checkpoint_ns)
        stored = yield from reading.read_writes(self._context.statements, stream, event.checkpoint_id)
        one = [each for each in stored if each.seq == event.seq]
        saved = yield from self._operations.restated_writes(stream, one)
        bodies = [self._codec.encode_writes(each) for each in saved]
        yield from lifecycle.carry_events(self._context.statements, outline, [event.seq], bodies)
