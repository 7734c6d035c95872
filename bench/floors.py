"""The floor: the theoretical minimum of each call on this server, measured beside the savers.

* of a `put`: the serializer's time for the channels that this very call says have changed, and the commit of an insert
  of one row, a text key and as many bytes as our saver appended for the call.
* of a `put_writes`: the same, for its values.
* of a `get_tuple`: a ``select 1``, and the serializer's time to decode every channel of the state that is read.
* of bytes: the state that was saved last, once, as serialized. (Compression may go below it.)
* of a listing: the serializer's time to decode every channel of every state, and nothing else.

The pool has the settings of the savers' pools, and the serializer is of the savers' kind. The floor's table has a
primary key and no other index. No saver can do its whole work in this time: the floor leaves out the metadata, the
versions and all other parts of a checkpoint.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

__all__ = ["Encoded", "Floors", "encoded"]

#: The state of a checkpoint, serialized.
Encoded = list[tuple[str, bytes]]


def encoded(serde: SerializerProtocol, found: CheckpointTuple | None) -> Encoded:
    """The data that the floor of reading decodes. It is slow: do not call it while measuring."""
    if found is None:
        return []
    return [serde.dumps_typed(value) for value in found.checkpoint["channel_values"].values()]


class Floors:
    """Does the minimum, on a connection of the given pool."""

    def __init__(self, pool: Any, serde: SerializerProtocol) -> None:
        self._pool = pool
        self._serde = serde
        self._keys = itertools.count()
        # Random bytes do not compress, like bodies that a saver has compressed already.
        self._noise = os.urandom(1 << 16)
        with pool.connection() as conn:
            conn.execute("create table if not exists bench_floor (key text primary key, body bytea not null)")

    def body(self, size: int) -> bytes:
        """A row's bytes. It is slow: do not call it while measuring."""
        return (self._noise * (size // len(self._noise) + 1))[:size]

    def put(self, values: Mapping[str, Any], changed: Iterable[str], body: bytes) -> None:
        """Serialize the changed channels, commit one row."""
        for channel in changed:
            if channel in values:
                self._serde.dumps_typed(values[channel])
        self._insert(body)

    def put_writes(self, writes: Sequence[tuple[str, Any]], body: bytes) -> None:
        """Serialize the values, commit one row."""
        for _, value in writes:
            self._serde.dumps_typed(value)
        self._insert(body)

    def get(self, state: Encoded) -> list[Any]:
        """One empty round trip, then decode the state."""
        with self._pool.connection() as conn:
            conn.execute("select 1").fetchone()
        return self.decode(state)

    def decode(self, state: Encoded) -> list[Any]:
        """Decode the state."""
        return [self._serde.loads_typed(each) for each in state]

    def _insert(self, body: bytes) -> None:
        with self._pool.connection() as conn:
            conn.execute("insert into bench_floor (key, body) values (%s, %s)", (f"key-{next(self._keys)}", body))
