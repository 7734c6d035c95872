"""Settings, statements and caches, which all copies of a saver and its log share beside the connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.statements import Statements
from eventlog.format.strict import strict
from eventlog.settings import Settings
from eventlog.telemetry import recorder_of
from langgraph.checkpoint.eventlog._concurrency import ObservedHeads
from langgraph.checkpoint.eventlog._get import Reader
from projections.lineage import LineageCache
from projections.message_cache import MessageCache
from snapshots.state import StateCache

if TYPE_CHECKING:
    from eventlog.telemetry.recorder import Recorder

__all__ = ["Context"]

#: The number of serializers with a kept reader: copies of a saver (`with_allowlist`) may take turns.
KEPT_READERS = 8

#: The cache of lineages (for `DeltaChannel`s) has the bytes of the state cache divided by this, in addition to them.
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
    recorder: Recorder | None = None
    """Reports traces and metrics; None when telemetry is off."""
    readers: list[Reader] = field(default_factory=list, repr=False)
    """By the serializers that were used last."""

    @classmethod
    def create(cls, keywords: dict[str, Any]) -> Context:
        """From a saver's keyword arguments. Raises InvalidInputError, and EventLogError when an extra is missing."""
        settings = Settings.parse(keywords)
        recorder, states = recorder_of(settings), StateCache(settings.state_cache_bytes)
        if recorder is not None:
            recorder.watch_cache(states)
        return cls(
            settings,
            Statements(settings.schema_name),
            states,
            ObservedHeads(),
            MessageCache(settings.message_cache_bytes),
            LineageCache(settings.state_cache_bytes // LINEAGES_SHARE),
            recorder,
        )

    def reading(self, serde: SerializerProtocol) -> SerializerProtocol:
        """The serializer that a log reads with: it decodes rows of any writer, so it builds only safe types."""
        return serde if self.settings.trust_types else strict(serde)

    def reader(self, serde: SerializerProtocol) -> Reader:
        """The reader with a serializer, made once: any thread may use it."""
        for each in self.readers:
            # By identity: a serializer that compares equal may decode other types.
            if each.serde is serde:
                return each
        reader = Reader(self, serde)
        self.readers[:] = [reader, *self.readers[: KEPT_READERS - 1]]
        return reader
