"""An error as a document: what happened, the next step, and whether to retry."""

from __future__ import annotations

import re
from typing import Any, Final

from eventlog.errors import (
    ConnectionLostError,
    DatabaseTooNewError,
    EventLogError,
    HistoryErasedError,
    InvalidInputError,
    LogBusyError,
    LogCorruptedError,
    MissingGrantError,
    NotSetUpError,
    PoolTimeoutError,
    ReadOnlyServerError,
    SealNotFoundError,
    ServerFullError,
    StatementCanceledError,
    ThreadNotFoundError,
)
from langgraph.checkpoint.eventlog.viewing.reader import Reader
from langgraph.checkpoint.eventlog.viewing.timeline import deletion_of

__all__ = ["error_document", "error_of"]

#: The command in a message that ends with it.
_COMMAND = re.compile(r"\b(?:Let the log's owner run|Run this as the owner of the log|run): ?(eventlog .+)$")

#: Seconds until the next check whether the database is back.
RETRY_AFTER: Final = 2

#: A code, an HTTP status and a hint for each error; the first class that fits counts.
_KINDS: Final[tuple[tuple[tuple[type[EventLogError], ...], str, int, str | None], ...]] = (
    ((ThreadNotFoundError, HistoryErasedError, SealNotFoundError), "not_found", 404, None),
    ((InvalidInputError,), "invalid_request", 400, None),
    ((MissingGrantError,), "missing_grant", 403, "eventlog grant auditor USER"),
    ((NotSetUpError,), "not_set_up", 409, "eventlog setup"),
    ((DatabaseTooNewError,), "database_too_new", 409, "pip install --upgrade langgraph-checkpoint-eventlog"),
    (
        (
            ConnectionLostError,
            PoolTimeoutError,
            LogBusyError,
            ServerFullError,
            ReadOnlyServerError,
        ),
        "database_unavailable",
        503,
        None,
    ),
    # A retry would take as long again.
    ((StatementCanceledError,), "timeout", 504, None),
    ((LogCorruptedError,), "undecodable", 500, "eventlog verify"),
)


def error_of(error: str, status: int, message: str, hint: str | None = None) -> dict[str, Any]:
    """A document of an error."""
    return {
        "error": error,
        "status": status,
        "message": message,
        "hint": hint,
        "retry_after": RETRY_AFTER if status == 503 else None,
        "deleted": None,
    }


async def error_document(reader: Reader, exc: EventLogError, thread_id: str | None = None) -> dict[str, Any]:
    """The document of an error of the log. For a deleted thread it has the time of the deletion.

    Args:
        thread_id: the requested thread.
    """
    message = str(exc)
    document = error_of("internal_error", 500, message)
    for classes, error, status, hint in _KINDS:
        if isinstance(exc, classes):
            found = _COMMAND.search(message)
            document = error_of(error, status, message, found[1] if found else hint)
            break
    if document["status"] == 404 and thread_id is not None:
        try:
            document["deleted"] = await deletion_of(reader, thread_id)
        except EventLogError:
            # A thread that never existed has no history: report the first error.
            return document
    return document
