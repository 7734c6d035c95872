"""What the two savers have in common: state, versions, and what each call needs."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.base import SerializerProtocol

from langgraph.checkpoint.eventlog._operations import Context, Operations
from langgraph.checkpoint.eventlog._versions import next_version
from langgraph.checkpoint.eventlog.lifecycle.threads import Lifecycle

__all__ = ["BaseEventLogSaver"]


class BaseEventLogSaver(BaseCheckpointSaver[str]):
    """The base of the savers. Copies (`with_allowlist` makes them) share connection, settings and cache."""

    def __init__(self, serde: SerializerProtocol | None, settings: dict[str, Any]) -> None:
        super().__init__(serde=serde)
        self._context = Context.create(settings)

    @property
    def _operations(self) -> Operations:
        # Asked for each time: `serde` is a public attribute, and copies have another one.
        return self._context.operations_for(self.serde)

    @property
    def _listing_operations(self) -> Operations:
        """For one listing."""
        return Operations(self._context, self.serde, share=self._context.settings.share_history)

    @property
    def _lifecycle(self) -> Lifecycle:
        return Lifecycle(self._context, self.serde)

    def get_next_version(self, current: str | None, channel: None = None) -> str:
        """The channel version after `current`, in the format of `PostgresSaver`."""
        return next_version(current)
