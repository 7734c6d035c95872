"""`get_delta_channel_history`: what a `DeltaChannel` needs to rebuild its value.

LangGraph's contract: walk from the target's parent to the root along *parents* (not along bases); collect each
channel's writes; stop, per channel, at the nearest ancestor where the channel has a stored value, its seed. The seed
is the value before the writes that are stored with the same ancestor, which therefore belong to the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import DeltaChannelHistory, PendingWrite
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op
from eventlog.errors import InvalidInputError
from eventlog.format.contents import Serialized
from eventlog.format.values import loads
from eventlog.read import CheckpointRow, read_ancestors
from eventlog.streams import EventRef
from langgraph.checkpoint.eventlog._config import parse_config
from langgraph.checkpoint.eventlog._context import Context
from projections.tuples import ResolvedWrite

__all__ = ["delta_channel_history"]

#: Ancestors that are looked up, and folded, at a time.
ANCESTORS = 64


def delta_channel_history(
    context: Context, serde: SerializerProtocol, config: RunnableConfig, channels: Sequence[str]
) -> Op[Mapping[str, DeltaChannelHistory]]:
    """The writes (oldest first) and the seed of each channel; just empty writes when the target is not there."""
    if isinstance(channels, str):
        raise InvalidInputError("channels must be a sequence of channel names, not a str")
    stream, cursor, _ = parse_config(config)
    reader = context.reader(serde)
    plain = reader.plain
    # Newest first while walking.
    collected: dict[str, list[ResolvedWrite]] = {channel: [] for channel in channels}
    seeds: dict[str, tuple[Serialized, EventRef]] = {}
    remaining = set(collected)

    if cursor is None and remaining:
        cursor = yield from reader.latest_id(stream)
    skip_target = True
    while cursor is not None and remaining:
        ancestors = yield from read_ancestors(context.statements, stream, cursor, ANCESTORS)
        cursor = ancestors[-1].parent_id if len(ancestors) == ANCESTORS else None
        path = ancestors[1:] if skip_target else ancestors
        skip_target = False
        rows = [CheckpointRow(*stream, each.checkpoint_id, each.state_bytes) for each in path]
        for folded in (yield from reader.read_chunk(rows)) if rows else ():
            writes = yield from reader.writes_of(stream, folded.writes, folded.state)
            for write in reversed(writes):
                if write.channel in remaining:
                    collected[write.channel].append(write)
            for channel in remaining & folded.state.channels.keys():
                seeds[channel] = (
                    folded.state.channels[channel],
                    EventRef(stream, folded.state.seq, channel),
                )
            remaining -= seeds.keys()
            if not remaining:
                break

    histories: dict[str, DeltaChannelHistory] = {}
    for channel in channels:
        pending: list[PendingWrite] = [
            (
                write.task_id,
                write.channel,
                loads(plain, write.value, EventRef(stream, write.seq, channel)),
            )
            for write in reversed(collected[channel])
        ]
        histories[channel] = {"writes": pending}
        if channel in seeds:
            histories[channel]["seed"] = loads(plain, *seeds[channel])
    return histories
