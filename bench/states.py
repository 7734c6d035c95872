"""Threads with incompressible states, in channels of equal size of which one changes at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint

__all__ = ["put_states"]


def put_states(
    savers: Sequence[Any],
    thread_id: str,
    *,
    count: int,
    channels: int,
    size: int,
    report: Callable[[int], None] = lambda _: None,
) -> None:
    """Put the same checkpoints by each of the savers.

    Args:
        savers: the savers that put them.
        thread_id: of the thread, which is new.
        count: of checkpoints after the first, which has all channels.
        channels: how many there are; with one, the state changes as a whole.
        size: of a channel's value, bytes.
        report: is called with the number of each checkpoint.
    """
    choice = random.Random(thread_id)
    values = {f"channel_{number:02}": choice.randbytes(size) for number in range(channels)}
    versions = dict.fromkeys(values, f"{1:032}.0")
    config: Any = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    changed = dict(versions)
    for number in range(count + 1):
        if number:
            name = f"channel_{number % channels:02}"
            values = {**values, name: choice.randbytes(size)}
            changed = {name: f"{number + 1:032}.0"}
            versions = {**versions, **changed}
        checkpoint: Any = {**empty_checkpoint(), "channel_values": values, "channel_versions": versions}
        metadata: Any = {"source": "loop", "step": number, "parents": {}}
        answers = [saver.put(config, checkpoint, metadata, changed) for saver in savers]
        config = answers[0]
        report(number)
