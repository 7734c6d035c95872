"""The heads of threads, to find out whether a page is still current.

The feed is not used: a long transaction in any database of the server (a backup) holds it back for hours. A page shows
committed events, and the numbers of streams show at once which events were committed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from eventlog.db.query import Op, Query
from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog.viewing.reader import Reader

__all__ = ["Head", "heads"]

_HEAD = re.compile(r"(\d{1,19})-(\d{1,19})")


class Head(NamedTuple):
    """The progress of a thread. As text: ``120-3``."""

    seq: int
    """The numbers of the last events of all of its streams, added up."""
    epoch: int

    def __str__(self) -> str:
        return f"{self.seq}-{self.epoch}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """The head of a text. Raises InvalidInputError."""
        if found := _HEAD.fullmatch(text):
            return cls(int(found[1]), int(found[2]))
        raise InvalidInputError(f"seen: {text[:100]!r} is no place in a thread: leave it out")


async def heads(reader: Reader, thread_ids: Sequence[str]) -> dict[str, Head]:
    """The heads of threads; threads that never existed are omitted."""

    def read() -> Op[dict[str, Head]]:
        rows = yield Query(reader.statements["viewing_heads"], (list(thread_ids),))
        return {thread_id: Head(seq, epoch) for thread_id, seq, epoch in rows}

    return await reader.ask(read)
