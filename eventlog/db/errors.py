"""Translation of errors: the only place where psycopg's errors become `EventLogError`s."""

from __future__ import annotations

import re
import shlex
from typing import Any

import psycopg
from psycopg import errors as pg

from eventlog.errors import (
    ConnectionLostError,
    EventLogError,
    LogBusyError,
    MissingGrantError,
    NotSetUpError,
    ReadOnlyServerError,
    ServerFullError,
    StatementCanceledError,
    StorageError,
)

__all__ = ["RefusedError", "ask_owner", "is_lost", "is_moving", "lost_node", "read_only", "translate"]

#: PostgreSQL's class "insufficient resources": disk full, out of memory, too many connections or locks.
_INSUFFICIENT = "53"

#: What a server says when it ends a client's session, or does not begin one.
_ENDED = (pg.AdminShutdown, pg.CrashShutdown, pg.CannotConnectNow, pg.IdleSessionTimeout)

#: idle_in_transaction_session_timeout and transaction_timeout (since PostgreSQL 17) end the session, not a statement.
_ENDED_BY_TIMEOUT = ("25P03", "25P04")

#: A node of a Citus cluster, in the messages about nodes that another one cannot reach.
_UNREACHED = re.compile(
    r"\b(?:to the remote node|to the node|for node|connect to|marked as essential:|on host) (?:.*@)?([^\s@]+:\d+)\b"
)

#: The same, in the context of an error that comes from a node.
_ON_NODE = re.compile(r"while executing command on (\S+:\d+)\b")

#: libpq's messages about a connection that broke.
_BROKEN = re.compile(
    r"closed the connection|terminated abnormally|connection not open|invalid socket|no connection to the server"
    r"|could not (?:send|receive) data|SSL SYSCALL|timeout expired"
)

#: Reasons for which a node that can be reached refuses a connection and may accept it later.
_PASSING = re.compile(r"starting up|shutting down|recovery|too many|slots are reserved|limit exceeded")

#: PostgreSQL's message about an object that a user may not use, in English.
_DENIED = re.compile(r"permission denied for (schema|table|view|sequence|function) (.+)", re.DOTALL)

#: What a statement meets that Citus planned before a shard moved to another node, or was split.
_MOVED = re.compile(
    r"could not find valid entry for shard|query from a query on a shard|shard for the given value does not exist"
)

_DENIED_DATABASE = re.compile(r"permission denied for database (.+)", re.DOTALL)

#: The schema in one of our statements: the first quoted name that qualifies another.
_SCHEMA = re.compile(r'("(?:[^"]|"")+")\.')

_AS_OWNER = "Run this as the owner of the log"

#: Operations that only the owner may run.
_CHANGES = re.compile(r"\s*(insert|update|delete|lock|drop|create|alter|truncate)\b", re.IGNORECASE)

#: For each granted function, the first set of rights that has it.
_SET_OF = {
    **dict.fromkeys(
        ("clock", "find_stream_name", "is_distributed", "is_subscriber", "newest_generation", "record_details"),
        "auditor",
    ),
    **dict.fromkeys(("read_ancestry", "read_checkpoint", "read_checkpoints", "read_feed", "record_stubs"), "auditor"),
    **dict.fromkeys(("read_listed", "read_replay", "relation_size", "relation_sizes"), "auditor"),
    **dict.fromkeys(("feed_holder", "feed_keys", "feed_parts"), "auditor"),
    **dict.fromkeys(("end_node_feed", "measure_node_feed", "read_node_feed"), "auditor"),
    **dict.fromkeys(("append_checkpoint", "append_checkpoint_strict", "append_writes"), "writer"),
    **dict.fromkeys(("append_thread", "append_together", "copy_stream", "extend_partitions", "lock_streams"), "writer"),
    "start_generation": "writer",
    **dict.fromkeys(("cut_stream", "delete_thread", "drop_partition", "lock_partition", "relocate_events"), "eraser"),
    **dict.fromkeys(("hold_maintenance", "lock_thread", "set_retention"), "eraser"),
    **dict.fromkeys(("begin_seal", "finish_seal"), "sealer"),
    **dict.fromkeys(("advance_projection", "forget_projection"), "projector"),
    **dict.fromkeys(("lock_projection", "set_aside", "start_projection", "take_back"), "projector"),
    **dict.fromkeys(("import_events", "import_lock", "record_import"), "importer"),
}


class RefusedError(pg.InsufficientPrivilege):
    """A driver's InsufficientPrivilege, with the user and the statement, which PostgreSQL's message leaves out."""

    def __init__(self, exc: pg.InsufficientPrivilege, conn: psycopg.BaseConnection[Any], statement: bytes) -> None:
        super().__init__(*exc.args, info=exc.pgresult, encoding=conn.info.encoding)
        # As PostgreSQL reports it; a pooler may not repeat it.
        user = conn.pgconn.parameter_status(b"session_authorization")
        self.user = user.decode() if user else conn.info.user
        self.database = conn.info.dbname
        self.statement = statement.decode()


def translate(exc: psycopg.Error) -> EventLogError:
    """The domain error for a driver's error."""
    message = str(exc).strip().rstrip(".") or type(exc).__name__
    primary = _primary(exc)
    if isinstance(exc, (pg.UndefinedTable, pg.UndefinedFunction, pg.InvalidSchemaName)):
        return NotSetUpError(f"{NotSetUpError()} ({primary})")
    if isinstance(exc, pg.InsufficientPrivilege):
        return MissingGrantError(_missing_grant(exc))
    if isinstance(exc, (pg.LockNotAvailable, pg.ObjectInUse, pg.DeadlockDetected, pg.SerializationFailure)):
        return LogBusyError(f"{LogBusyError()} ({primary})")
    if is_moving(exc):
        return LogBusyError(f"a shard of the log moved to another node at the same time: try again ({primary})")
    if (node := lost_node(exc)) is not None:
        return _unreached(node, _brief(message))
    if is_lost(exc):
        return ConnectionLostError(
            f"the connection to PostgreSQL was lost: {_brief(message)}. A pool, or from_conn_string(), opens a new one "
            "by itself; a saver on a single connection needs a new connection from you"
        )
    if isinstance(exc, pg.QueryCanceled):
        return StatementCanceledError(f"{StatementCanceledError()} ({primary})")
    if isinstance(exc, (pg.NumericValueOutOfRange, pg.SequenceGeneratorLimitExceeded)):
        return StorageError(
            f"PostgreSQL met a number at its limit: {_brief(message)}. Appends alone do not come that far: unless an "
            "argument of the call has it, a row of the log was altered, and verify() names it. Nothing was written"
        )
    if isinstance(exc, pg.CheckViolation) and exc.diag.constraint_name is None:
        return StorageError(
            f"the log has no partition for the event's time, and none was made ({_brief(message)}): if that is "
            "not about now, the thread's row in `streams` was altered, and verify() names it. Nothing was written"
        )
    if exc.sqlstate is not None and exc.sqlstate.startswith(_INSUFFICIENT):
        return ServerFullError(f"{ServerFullError()} ({primary})")
    return StorageError(f"PostgreSQL refused the operation: {message}")


def _unreached(node: str, message: str) -> StorageError:
    """The domain error for a node of a Citus cluster that the one of the client's connection cannot reach."""
    if "FATAL: " in message and not _PASSING.search(message):
        return StorageError(
            f"the Citus node {node} refuses connections of the node that you are connected to: {message}. See that the "
            "database, the role and the rights of pg_hba.conf are the same on all nodes"
        )
    error = ConnectionLostError(
        f"the Citus node {node} cannot be reached from the node that you are connected to: {message}. Threads on other "
        "nodes go on. Repeat the call when the node is back: that is safe"
    )
    error.node = node
    return error


def _primary(exc: psycopg.Error) -> str:
    """The server's message in one line, with the node of a Citus cluster that it comes from."""
    on_node = _ON_NODE.search(exc.diag.context or "")
    return f"{exc.diag.message_primary} on node {on_node[1]}" if on_node else str(exc.diag.message_primary)


def _brief(message: str) -> str:
    """A server's message without the functions in its context."""
    return re.sub(r"\n\s*", "; ", message.split("\nCONTEXT:")[0])


def _missing_grant(exc: pg.InsufficientPrivilege) -> str:
    primary = exc.diag.message_primary or str(exc)
    if not isinstance(exc, RefusedError):
        return f"the database user lacks a right: {primary}. Grant it to the user that the saver connects as"
    refused = f"user {exc.user!r} lacks a right: {_primary(exc)}"
    if (database := _DENIED_DATABASE.fullmatch(primary)) and _ON_NODE.search(exc.diag.context or ""):
        return (
            f"{refused}. Citus does not repeat such a grant: let an administrator run on each node: grant create on "
            f'database {database[1]} to "{exc.user}"'
        )
    denied = _DENIED.fullmatch(primary)
    schema = _SCHEMA.search(exc.statement)
    if denied is None or schema is None:
        return f"{refused}. {_AS_OWNER}"
    kind, name = denied.groups()
    # The statement needs the schema or table for the functions that it calls.
    called = [name] if kind == "function" else re.findall(r'\."?(\w+_v\d+)"?\(', exc.statement)
    rights = [_SET_OF[each.rsplit("_v", 1)[0]] for each in called if each.rsplit("_v", 1)[0] in _SET_OF]
    if not rights:
        if kind == "function" or _CHANGES.search(exc.statement):
            return f"{refused}. {_AS_OWNER}"
        rights = ["auditor"]
    log = schema[1][1:-1].replace('""', '"')
    return f"{refused}. {ask_owner(rights[0], exc.user, log)}"


def ask_owner(rights: str, user: str, schema: str) -> str:
    """The end of an error: the command that grants a set of rights."""
    option = "" if schema == "eventlog" else f" --schema {shlex.quote(schema)}"
    return f"Let the log's owner run: eventlog grant {rights} {shlex.quote(user)}{option}"


def read_only(exc: psycopg.Error, *, is_standby: bool) -> ReadOnlyServerError:
    """The domain error for a server that accepts no writes."""
    advice = (
        "it is a standby. Connect to the primary: a connection string with several hosts and "
        "target_session_attrs=read-write finds it"
        if is_standby
        else "default_transaction_read_only is set on the database, the user or the connection"
    )
    return ReadOnlyServerError(f"{ReadOnlyServerError()} ({_primary(exc)}): {advice}", is_standby=is_standby)


def is_moving(exc: BaseException | None) -> bool:
    """Whether a shard of the log has moved since Citus planned the statement, which changed nothing."""
    return isinstance(exc, pg.InternalError_) and _MOVED.search(exc.diag.message_primary or "") is not None


def lost_node(exc: psycopg.Error) -> str | None:
    """The node of a Citus cluster that cannot be reached, as ``host:port``. The client's own connection is alive.

    The node that the client is connected to repeats another node's error as if it were its own, or reports that its
    connection to that node failed.
    """
    if exc.sqlstate is None or exc.diag.severity_nonlocalized == "FATAL":
        return None
    primary = exc.diag.message_primary or ""
    on_node, unreached = _ON_NODE.search(exc.diag.context or ""), _UNREACHED.search(primary)
    if isinstance(exc, pg.InternalError_):
        # In the middle of a transaction, Citus reports a broken connection without a SQLSTATE of its own.
        found = unreached or (on_node if _BROKEN.search(primary) else None)
    elif exc.sqlstate.startswith("08") or isinstance(exc, _ENDED):
        found = on_node or unreached
    else:
        found = None
    return found[1] if found else None


def is_lost(exc: psycopg.Error) -> bool:
    """Whether the client's connection is gone.

    An error without a SQLSTATE is the client's own: it could not send or receive.

    libpq reports an internal error if it gets more answers than it asked for: a pooler has added one before it closed
    the connection. Poolers also send errors of class 08: the pooler lost the server's connection, or cannot open one
    (PgBouncer sends 08P01).
    """
    if lost_node(exc) is not None:
        return False
    if exc.sqlstate is not None and exc.sqlstate.startswith("08"):
        return True
    if isinstance(exc, _ENDED):
        return True
    if exc.sqlstate in _ENDED_BY_TIMEOUT:
        return True
    return isinstance(exc, (psycopg.OperationalError, psycopg.InternalError)) and exc.sqlstate is None
