"""What can go wrong, as one family: `EventLogError` and below.

Errors of the database driver are caught in one place (`eventlog.db.sync`) and raised as one of these ``from`` the
original. The docstring of each class is its default message.
"""

from __future__ import annotations

import asyncio

__all__ = [
    "CheckpointExistsError",
    "ConcurrentUpdateError",
    "ConnectionLostError",
    "CursorError",
    "DatabaseTooNewError",
    "EventLogError",
    "EventLoopError",
    "EventTooLargeError",
    "HistoryErasedError",
    "InvalidInputError",
    "LogBusyError",
    "LogCorruptedError",
    "MigrationError",
    "MissingGrantError",
    "NotSetUpError",
    "PoolTimeoutError",
    "ProjectionChangedError",
    "ProjectionError",
    "ReadOnlyServerError",
    "SealNotFoundError",
    "SerializationError",
    "ServerFullError",
    "StatementCanceledError",
    "StorageError",
    "ThreadDeletedError",
    "ThreadExistsError",
    "ThreadNotFoundError",
]


class EventLogError(Exception):
    """The event log refused the operation."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((self.__doc__ or "").split()))


class InvalidInputError(EventLogError, ValueError):
    """An argument is not what it must be. Nothing was written."""


class CursorError(InvalidInputError):
    """The cursor is of another log, or of a time that a restore undid. Read from the start, or from the end of now."""


class EventLoopError(EventLogError, asyncio.InvalidStateError):
    """Synchronous methods of AsyncEventLogSaver would block its own event loop: await their async twins there."""


class SerializationError(EventLogError):
    """The serializer refused a value. Nothing was written."""


class EventTooLargeError(EventLogError, ValueError):
    """An event's body is over the limit ``max_body_bytes``. Nothing was written."""


class ThreadDeletedError(EventLogError):
    """The checkpoint that this builds on was erased. Start again without a checkpoint id."""


class ThreadExistsError(EventLogError, ValueError):
    """The target thread has data. Delete it first, or choose another id. Nothing was copied."""


class ThreadNotFoundError(EventLogError, LookupError):
    """The thread, or the checkpoint of it, is not there."""


class HistoryErasedError(EventLogError, LookupError):
    """What the thread was at that time was erased since, or may have been."""


class SealNotFoundError(EventLogError, LookupError):
    """The log was never sealed, or has no such seal."""


class CheckpointExistsError(EventLogError):
    """Two writers kept replacing the same checkpoint. Nothing was written: repeat the call."""


class ConcurrentUpdateError(EventLogError):
    """Another run has gone on from the same checkpoint since this one read it. Run again, from the latest checkpoint.

    Also raised for what builds on a checkpoint that is not there, as one that was refused. Only with the setting
    ``concurrency="strict"``; the checkpoint was not written.
    """

    thread_id: str = ""
    checkpoint_ns: str = ""
    parent_id: str | None = None
    """What both build on; None: both started the thread. Or what is not there."""
    checkpoint_id: str = ""
    """The checkpoint that was refused."""
    conflicting_id: str = ""
    """The one that was there first. Where the parent is not there, the latest."""


class LogCorruptedError(EventLogError):
    """A stored body does not decode. Other threads are not affected."""


class ProjectionError(EventLogError):
    """A custom projection failed. Its view and its cursor are as they were before the batch."""


class ProjectionChangedError(ProjectionError):
    """The projection in the database was set up by another version or class. Rebuild it."""


class StorageError(EventLogError):
    """PostgreSQL refused the operation."""


class LogBusyError(StorageError):
    """Somebody else worked on the same at the same time, or held a lock for too long. Run it again."""


class ConnectionLostError(StorageError):
    """The connection to PostgreSQL was lost."""


class PoolTimeoutError(StorageError):
    """The connection pool gave no connection in time: all are in use. Nothing was written."""


class StatementCanceledError(StorageError):
    """PostgreSQL ended the statement: it took longer than statement_timeout, or an administrator ended it. Nothing was
    written."""


class ServerFullError(StorageError):
    """The server has no space or memory left. Nothing was written: free some, and run it again."""


class ReadOnlyServerError(StorageError):
    """The server takes no writes. Nothing was written."""

    def __init__(self, message: str | None = None, *, is_standby: bool = False) -> None:
        super().__init__(message)
        self.is_standby = is_standby
        """Whether it is a standby: another server is the primary."""


class NotSetUpError(StorageError):
    """The event log's tables or functions are not there. Run `setup()` once on this database (and schema)."""


class MissingGrantError(StorageError):
    """The database user lacks a right that this operation needs."""


class MigrationError(StorageError):
    """The database's schema could not be brought up to date."""


class DatabaseTooNewError(MigrationError):
    """The database was set up by a newer version of this package. Upgrade the package."""
