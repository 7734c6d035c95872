"""What all copies of a saver and its log share beside the connection: settings, statements, caches."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.statements import Statements
from eventlog.format.strict import strict
from eventlog.settings import Settings
from langgraph.checkpoint.eventlog._concurrency import ObservedHeads
from langgraph.checkpoint.eventlog._get import Reader
from projections.lineage import LineageCache
from projections.message_cache import MessageCache
from snapshots.state import StateCache

__all__ = ["Context"]

#: Of how many serializers the readers are kept: copies of a saver (`with_allowlist`) may take turns.
KEPT_READERS = 8

#: What `DeltaChannel`s are replayed from has this part of the bytes that states have, beside them.
LINEAGES_SHARE = 2


@dataclass(frozen=True, slots=True)
class Context:
    """Settings, statements and caches."""

    settings: Settings
    statements: Statements
    states: StateCache
    observed: ObservedHeads
    messages: MessageCache
    lineages: LineageCache
    readers: list[Reader] = field(default_factory=list, repr=False)
    """By the serializers that were used last."""

    @classmethod
    def create(cls, keywords: dict[str, Any]) -> Context:
        """From a saver's keyword arguments. Raises InvalidInputError."""
        settings = Settings.parse(keywords)
        return cls(
            settings,
            Statements(settings.schema_name),
            StateCache(settings.state_cache_bytes),
            ObservedHeads(),
            MessageCache(settings.message_cache_bytes),
            LineageCache(settings.state_cache_bytes // LINEAGES_SHARE),
        )

    def reading(self, serde: SerializerProtocol) -> SerializerProtocol:
        """The serializer that a log reads with: it decodes rows of any writer, so it builds only safe types."""
        return serde if self.settings.trust_types else strict(serde)

    def reader(self, serde: SerializerProtocol) -> Reader:
        """The reader with a serializer, made once: any thread may use it."""
        for each in self.readers:
            # Not what a serializer takes for equal: it may decode other types.
            if each.serde is serde:
                return each
        reader = Reader(self, serde)
        self.readers[:] = [reader, *self.readers[: KEPT_READERS - 1]]
        return reader
