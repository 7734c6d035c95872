"""All errors of this package: `EventLogError` and its subclasses.

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
    "EventsLostError",
    "ForkedProcessError",
    "HistoryErasedError",
    "InvalidInputError",
    "LogBusyError",
    "LogCorruptedError",
    "MigrationError",
    "MissingClassError",
    "MissingGrantError",
    "NotSetUpError",
    "PoolTimeoutError",
    "ProjectionChangedError",
    "ProjectionError",
    "ProofError",
    "ReadOnlyServerError",
    "SealNotFoundError",
    "SerializationError",
    "ServerFullError",
    "SourceError",
    "StatementCanceledError",
    "StorageError",
    "ThreadDeletedError",
    "ThreadExistsError",
    "ThreadNotExportedError",
    "ThreadNotFoundError",
    "ThreadNotImportedError",
    "UpcastError",
]


class EventLogError(Exception):
    """The event log refused the operation."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((self.__doc__ or "").split()))


class InvalidInputError(EventLogError, ValueError):
    """An argument or a setting is not valid. Nothing was written."""


class CursorError(InvalidInputError):
    """The cursor belongs to another log, or to a time that a restore undid. Restart from the beginning or from
    `tail_position()`."""


class EventLoopError(EventLogError, asyncio.InvalidStateError):
    """A synchronous method of AsyncEventLogSaver would block the saver's event loop: await the async method there."""


class ForkedProcessError(EventLogError, RuntimeError):
    """The saver was opened in another process, from which this one was forked. Open the saver after the fork. Nothing
    was written."""


class SerializationError(EventLogError):
    """The serializer refused a value. Nothing was written. Keep the value out of the state, or give the saver a
    serializer that accepts it."""


class EventTooLargeError(EventLogError, ValueError):
    """An event's body is over the limit ``max_body_bytes``. Nothing was written. Keep large values outside the state,
    or raise the setting."""


class ThreadDeletedError(EventLogError):
    """The checkpoint that this call builds on was erased. Start again without a checkpoint id."""


class ThreadExistsError(EventLogError, ValueError):
    """The target thread has data. Delete it first, or choose another id. Nothing was copied."""


class ThreadNotFoundError(EventLogError, LookupError):
    """The thread or its checkpoint does not exist. `eventlog threads` lists the threads."""


class ThreadNotExportedError(EventLogError):
    """The thread was not exported. Nothing of it was written."""


class ThreadNotImportedError(EventLogError):
    """The thread was not imported. Nothing of it was written, and the source did not change."""

    thread_id: str = ""


class SourceError(EventLogError):
    """The checkpointer to import from cannot be read. Check its connection string and schema."""


class HistoryErasedError(EventLogError, LookupError):
    """The thread's state at that time was erased since, or may have been. A backup of that time has it."""


class SealNotFoundError(EventLogError, LookupError):
    """The log has no such seal, or none at all. `seal()` makes one."""


class ProofError(EventLogError, ValueError):
    """A signed document, a proof or an archive does not hold: it was altered, or is of another key or log."""


class CheckpointExistsError(EventLogError):
    """Two writers kept replacing the same checkpoint. Nothing was written: repeat the call."""


class ConcurrentUpdateError(EventLogError):
    """Another run put a checkpoint on the same parent after this run read it. Run again, from the latest checkpoint.

    Also raised where the parent is not there: it was refused itself, or never arrived. Only with the setting
    ``concurrency="strict"``; the checkpoint was not written.
    """

    thread_id: str = ""
    checkpoint_ns: str = ""
    parent_id: str | None = None
    """The parent of both checkpoints; None: both start the thread. Or the parent that is not there."""
    checkpoint_id: str = ""
    """The checkpoint that was refused."""
    conflicting_id: str = ""
    """The checkpoint that was put first. Where the parent is not there, the latest."""


class LogCorruptedError(EventLogError):
    """A stored event does not decode. Other threads are not affected. Check the key of an encrypted log, then run
    `eventlog verify`."""


class MissingClassError(EventLogError, LookupError):
    """The class of a stored object is gone, and the saver has no upcaster for the channel. The log is unchanged.
    Register an upcaster, or restore the class."""

    thread_id: str = ""
    checkpoint_ns: str = ""
    checkpoint_id: str = ""
    channel: str = ""
    class_name: str = ""
    """As ``package.module.Class``."""


class UpcastError(EventLogError, ValueError):
    """An upcaster failed on a stored value. The log is unchanged. Fix the upcaster, and read again."""

    thread_id: str = ""
    checkpoint_ns: str = ""
    checkpoint_id: str = ""
    channel: str = ""


class EventsLostError(EventLogError):
    """Events are missing: a stream's number in `streams` is beyond its last event. Restore them from a backup, or
    accept the loss, which is recorded."""

    thread_id: str = ""
    checkpoint_ns: str = ""
    last_seq: int = 0
    """The number of the last event that is there; 0: none is."""
    expected_seq: int = 0
    """The number of the last event that the stream had, as `streams` says."""


class ProjectionError(EventLogError):
    """A custom projection failed. Its view and its cursor did not change. Fix the cause, and run it again."""


class ProjectionChangedError(ProjectionError):
    """Another version or class set up the projection in the database. Rebuild it: `eventlog project rebuild NAME`."""


class StorageError(EventLogError):
    """PostgreSQL refused the operation."""


class LogBusyError(StorageError):
    """Lock timeout or conflict with another transaction. Run it again."""


class ConnectionLostError(StorageError):
    """The connection to PostgreSQL was lost. Repeat the call: that is safe.

    On Citus also raised where another node cannot be reached: the client's own connection goes on then.
    """

    node: str = ""
    """The node of a Citus cluster that could not be reached, as ``host:port``; empty: the client's own connection was
    lost."""


class PoolTimeoutError(StorageError):
    """The connection pool gave no connection in time: all are in use. Nothing was written. Enlarge the pool, or find
    the calls that hold its connections."""


class StatementCanceledError(StorageError):
    """PostgreSQL canceled the statement: it ran longer than statement_timeout, or an administrator canceled it. Nothing
    was written. Run it again, or raise the limit for this role."""


class ServerFullError(StorageError):
    """The server has no disk space or memory left. Nothing was written. Free some, and run it again."""


class ReadOnlyServerError(StorageError):
    """The server accepts no writes. Nothing was written."""

    def __init__(self, message: str | None = None, *, is_standby: bool = False) -> None:
        super().__init__(message)
        self.is_standby = is_standby
        """Whether it is a standby: another server is the primary."""


class NotSetUpError(StorageError):
    """The event log's tables or functions do not exist. Run `setup()` once on this database (and schema)."""


class MissingGrantError(StorageError):
    """The database user lacks a right that this operation needs. Let the log's owner grant it: `eventlog grant`."""


class MigrationError(StorageError):
    """`setup()` could not bring the database's schema up to date."""


class DatabaseTooNewError(MigrationError):
    """A newer version of this package set up the database. Upgrade the package."""
