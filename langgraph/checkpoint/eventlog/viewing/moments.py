"""The state of a thread as of a moment."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from eventlog.db.query import Op, Query
from eventlog.errors import HistoryErasedError
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog.viewing.arguments import moment
from langgraph.checkpoint.eventlog.viewing.checkpoint import checkpoint_at
from langgraph.checkpoint.eventlog.viewing.plain import Limits
from langgraph.checkpoint.eventlog.viewing.reader import Reader
from langgraph.checkpoint.eventlog.viewing.texts import iso
from langgraph.checkpoint.eventlog.viewing.timeline import known_thread

__all__ = ["at"]


async def at(
    reader: Reader, thread_id: str, time: str | None = None, *, ns: str = "", limits: Limits | None = None
) -> dict[str, Any]:
    """The checkpoint that a run would have found at a time, as it was then; without a time, the span to choose from.

    Args:
        time: ISO 8601, without a zone in UTC; with three decimals, the end of that millisecond.
        ns: the namespace.
        limits: limits of the shown values.

    Raises:
        ThreadNotFoundError: when the thread never existed.
        InvalidInputError: for an invalid time, or a time in the future.
    """
    await known_thread(reader, thread_id, ns)
    wanted = moment(time) if time else None
    first, last = await reader.ask(lambda: _span(reader, Stream(thread_id, ns)))
    document: dict[str, Any] = {
        "thread_id": thread_id,
        "ns": ns,
        "time": iso(wanted),
        "first": iso(first),
        "last": iso(last),
        "erased": None,
        "checkpoint": None,
    }
    if wanted is None:
        return document
    try:
        found = await checkpoint_at(reader, thread_id, wanted, ns=ns, limits=limits or Limits())
    except HistoryErasedError as exc:
        return {**document, "erased": str(exc)}
    return {**document, "checkpoint": found}


def _span(reader: Reader, stream: Stream) -> Op[tuple[datetime | None, datetime | None]]:
    ((first, last),) = yield Query(reader.statements["viewing_span"], stream._asdict())
    return first, last
