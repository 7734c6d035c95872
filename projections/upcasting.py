"""Decoding the values of one checkpoint with the user's upcasters (`eventlog.format.upcasting`)."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.format.contents import Channels, Serialized
from eventlog.format.upcasting import Place, Upcasting
from eventlog.streams import EventRef, Stream
from projections.message_cache import ValueDecoder

__all__ = ["UpcastingDecoder"]


class UpcastingDecoder(ValueDecoder):
    """Decodes the values of one checkpoint and of its writes.

    Args:
        decoder: decodes values that need no upcaster.
        serde: the plain serializer.
        version: the ``state_version`` that the checkpoint was saved with; None: it is not known.
    """

    def __init__(
        self,
        decoder: ValueDecoder,
        serde: SerializerProtocol,
        upcasting: Upcasting,
        checkpoint_id: str,
        version: int | None,
    ) -> None:
        super().__init__(serde)
        self._decoder, self._upcasting = decoder, upcasting
        self._checkpoint_id, self._version = checkpoint_id, version

    def value(self, value: Serialized, context: object) -> Any:
        """A write's value, where the context is an event with a channel; else the checkpoint's own."""
        if not isinstance(context, EventRef) or context.channel is None:
            return self._decoder.value(value, context)
        place = self._place(context.stream, context.channel)
        if self._upcasting.applies(place.channel, self._version):
            return self._upcasting.load(self._serde, value, place, self._version, context)
        self._upcasting.check(self._serde, value, place)
        return self._decoder.value(value, context)

    def channels(self, event: EventRef, channels: Channels) -> dict[str, Any]:
        """The values of the checkpoint's channels."""
        stream, seq, _ = event
        upcast = {name for name in channels if self._upcasting.applies(name, self._version)}
        others = {name: value for name, value in channels.items() if name not in upcast}
        for name, value in others.items():
            self._upcasting.check(self._serde, value, self._place(stream, name))
        found = self._decoder.channels(event, others)
        for name in upcast:
            found[name] = self.value(channels[name], EventRef(stream, seq, name))
        return {name: found[name] for name in channels}

    def _place(self, stream: Stream, channel: str) -> Place:
        return Place(*stream, self._checkpoint_id, channel)
