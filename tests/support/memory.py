"""LangGraph's saver in memory, which ours is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver

from tests.support.checkpoints import key_of

__all__ = ["OrderedMemorySaver"]


class OrderedMemorySaver(InMemorySaver):
    """Pending writes are in LangGraph's order. In early versions they came as they were put, or by task id alone."""

    get_delta_channel_history = BaseCheckpointSaver.get_delta_channel_history
    aget_delta_channel_history = BaseCheckpointSaver.aget_delta_channel_history

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        super().put_writes(config, writes, task_id, task_path)
        key = key_of(config)
        self.writes[key] = dict(sorted(self.writes[key].items(), key=lambda item: (item[1][3], *item[0])))
