"""What a snapshot holds: a frame's versions, versions seen and values."""

from __future__ import annotations

from eventlog.events import StoredEvent
from eventlog.format.codec import Codec
from eventlog.format.contents import Channels, Versions, VersionsSeen
from eventlog.streams import Stream
from snapshots.state import CheckpointState

__all__ = ["encode", "load"]


def encode(codec: Codec, frame: CheckpointState) -> bytes:
    """A frame's snapshot.

    Raises:
        EventTooLargeError: when the state is over ``max_body_bytes``.
    """
    return codec.encode_snapshot(frame.versions, frame.seen, frame.channels)


def load(codec: Codec, stream: Stream, stored: StoredEvent) -> tuple[Versions, VersionsSeen, Channels]:
    """Versions, versions seen and values.

    Raises:
        LogCorruptedError: naming the stream and the event.
    """
    return codec.decode_snapshot(stored.body, f"the snapshot at {stream.describe_event(stored.seq)}")
