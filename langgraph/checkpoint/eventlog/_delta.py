"""`get_delta_channel_history`: the writes and the seed from which a `DeltaChannel` rebuilds its value.

LangGraph's contract: walk from the target's parent to the root along *parents* (not along bases); collect each
channel's writes; stop, per channel, at the nearest ancestor where the channel has a stored value, its seed. The seed is
the value before the writes that are stored with the same ancestor, so these writes belong to the result. If the target
does not exist, no channel has writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import DeltaChannelHistory

from eventlog.db.query import Op
from eventlog.errors import InvalidInputError, LogBusyError, LogCorruptedError
from eventlog.format.contents import Serialized
from eventlog.read import CheckpointRow
from eventlog.read_ancestry import read_ancestry
from eventlog.streams import EventRef, Stream
from langgraph.checkpoint.eventlog._arguments import parse_config
from projections.lineage import Ancestor, AncestorWrite, Lineage, OutdatedError
from projections.tuples import value_of_write

if TYPE_CHECKING:
    from langgraph.checkpoint.eventlog._context import Context
    from langgraph.checkpoint.eventlog._get import Reader

__all__ = ["ChannelHistories"]

#: The number of ancestors in the first page, and in the largest: each further page is as long as all before it.
FIRST_PAGE = 64
LARGEST_PAGE = 1024

#: The bytes of states after which no more ancestors are read together.
PAGE_BYTES = 32 * 1024 * 1024

#: The number of states, bases of writes, that are folded together.
STATES = 8

#: The number of channels of a stream that the cache keeps, beside those of one more request.
MOST_CHANNELS = 64

#: How often a walk starts again because its thread was changed meanwhile.
ROUNDS = 10


class ChannelHistories:
    """Reads histories with the reader's serializer; the cached lineages are in the context."""

    def __init__(self, context: Context, reader: Reader) -> None:
        self._statements, self._lineages, self._reader = context.statements, context.lineages, reader
        self._limit = context.settings.max_body_bytes

    def read(self, config: RunnableConfig, channels: Sequence[str]) -> Op[Mapping[str, DeltaChannelHistory]]:
        """The history of each channel: its writes, oldest first, and its seed, if there is one."""
        if isinstance(channels, str):
            raise InvalidInputError("channels must be a sequence of channel names, not a str")
        stream, checkpoint_id, _ = parse_config(config)
        if not channels:
            return {}
        missing: LogCorruptedError | None = None
        for _ in range(ROUNDS):
            try:
                return (yield from self._read(stream, checkpoint_id, dict.fromkeys(channels)))
            except OutdatedError:
                self._lineages.drop(stream)
            except LogCorruptedError as exc:
                # The rows may have been erased meanwhile. If not, the next round fails in the same way.
                self._lineages.drop(stream)
                if missing is not None and str(missing) == str(exc):
                    raise
                missing = exc
        raise missing or LogBusyError(f"{LogBusyError()} (thread {stream.thread_id!r} is being changed)")

    def _read(
        self, stream: Stream, checkpoint_id: str | None, channels: Mapping[str, Any]
    ) -> Op[Mapping[str, DeltaChannelHistory]]:
        lineage, cursor = yield from self._begin(stream, checkpoint_id, channels)
        walked: list[Ancestor] = []
        writes_of: dict[str, tuple[AncestorWrite, ...]] = {}
        seeds: dict[str, tuple[Serialized, Ancestor]] = {}
        ends: dict[str, int] = {}
        remaining = set(channels)
        if lineage is not None and cursor is not None:
            target = yield from self._ancestor(lineage, stream, cursor)
            cursor = None if target is None else target.parent_id
            passed = {target.checkpoint_id} if target is not None else set()
            while cursor is not None and cursor not in passed and remaining:
                passed.add(cursor)
                ancestor = yield from self._ancestor(lineage, stream, cursor)
                if ancestor is None:
                    break
                walked.append(ancestor)
                for channel in tuple(remaining):
                    stored = lineage.stored(ancestor, channel)
                    if stored is None and (next_id := lineage.first_unknown(ancestor)) is not None:
                        # The channel is as in a base. Bases usually are ancestors: this one is on the next page.
                        yield from self._ancestor(lineage, stream, next_id)
                        stored = lineage.stored(ancestor, channel)
                    if stored is not False:
                        if not isinstance(stored, Serialized):
                            stored = yield from self._value(lineage, stream, ancestor, channel)
                        if stored is not None:
                            seeds[channel] = stored, ancestor
                            ends[channel] = len(walked)
                            remaining.discard(channel)
                cursor = ancestor.parent_id
            writes_of = yield from self._complete(lineage, stream, walked)
            self._lineages.put(stream, self._reader, lineage)

        decoder = self._reader.decoder
        has_upcasters = self._reader.upcasting is not None
        histories: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in channels}
        for at in range(len(walked) - 1, -1, -1):
            if has_upcasters:
                decoder = self._reader.upcasting_decoder(walked[at].checkpoint_id, None)
            for write in writes_of[walked[at].checkpoint_id]:
                channel = write.channel
                if channel in histories and at < ends.get(channel, len(walked)):
                    assert write.value is not None
                    decoded = decoder.value(write.value, EventRef(stream, write.seq, channel))
                    histories[channel]["writes"].append((write.task_id, channel, decoded))
        for channel, (seed, ancestor) in seeds.items():
            if has_upcasters:
                decoder = self._reader.upcasting_decoder(ancestor.checkpoint_id, None)
            histories[channel]["seed"] = decoder.value(seed, EventRef(stream, ancestor.seq, channel))
        return histories

    def _begin(
        self, stream: Stream, checkpoint_id: str | None, channels: Mapping[str, Any]
    ) -> Op[tuple[Lineage | None, str | None]]:
        """The lineage of the stream, brought up to date, and the checkpoint to begin at."""
        lineage = self._lineages.find(stream, self._reader)
        wanted = frozenset(channels)
        if lineage is not None and not wanted <= lineage.channels:
            # Two states of one stream may need different channels.
            wanted = wanted | lineage.channels if len(lineage.channels) < MOST_CHANNELS else wanted
            lineage = None
        known, weight = (None, 0) if lineage is None else (lineage.known, lineage.weight)
        answer = yield from read_ancestry(
            self._statements, stream, checkpoint_id, FIRST_PAGE, PAGE_BYTES, known, weight
        )
        if answer is None:
            return None, None
        if lineage is not None and answer.is_since_known:
            lineage.add_since(answer)
        else:
            lineage = Lineage(self._reader.codec, stream, wanted, answer)
        return lineage, checkpoint_id or answer.latest_id

    def _ancestor(self, lineage: Lineage, stream: Stream, checkpoint_id: str) -> Op[Ancestor | None]:
        """A checkpoint, read with its next ancestors if it is not cached; None when it does not exist."""
        if checkpoint_id not in lineage.checkpoints:
            rows = min(max(2 * FIRST_PAGE, len(lineage.checkpoints)), LARGEST_PAGE)
            page = yield from read_ancestry(self._statements, stream, checkpoint_id, rows, PAGE_BYTES, None)
            if page is None:
                raise OutdatedError
            lineage.add_page(page)
            lineage.checkpoints.setdefault(checkpoint_id, None)
        return lineage.checkpoints[checkpoint_id]

    def _value(self, lineage: Lineage, stream: Stream, ancestor: Ancestor, channel: str) -> Op[Serialized | None]:
        """A stored value that is a difference from another: its state is folded."""
        state = yield from self._reader.read_state(stream, ancestor.checkpoint_id)
        if state is None or state.seq != ancestor.seq:
            raise OutdatedError
        value = state.channels.get(channel)
        lineage.learn(ancestor, channel, value)
        return value

    def _complete(
        self, lineage: Lineage, stream: Stream, walked: Sequence[Ancestor]
    ) -> Op[dict[str, tuple[AncestorWrite, ...]]]:
        """The writes of ancestors, with differences from states resolved."""
        found: dict[str, tuple[AncestorWrite, ...]] = {}
        waiting: dict[str, list[AncestorWrite]] = {}
        for ancestor in walked:
            writes = found[ancestor.checkpoint_id] = lineage.writes_of(ancestor.checkpoint_id)
            if open_ := [write for write in writes if write.value is None]:
                waiting[ancestor.checkpoint_id] = open_
        ids = list(waiting)
        for begin in range(0, len(ids), STATES):
            rows = [CheckpointRow(*stream, id_, 0) for id_ in ids[begin : begin + STATES]]
            states = {folded.state.seq: folded.state for folded in (yield from self._reader.read_chunk(rows))}
            for row in rows:
                for write in waiting[row.checkpoint_id]:
                    base = None if write.base_seq is None else states.get(write.base_seq)
                    if base is None and write.base_seq is not None:
                        # The checkpoint was put again since.
                        base = yield from self._reader.state_after(stream, write.base_seq)
                    value = value_of_write(write.op, base, self._limit, stream.describe_event(write.seq))
                    lineage.complete(write, value)
        return found
