"""What psycopg's errors become, and which of them are worth another try."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors as pg

from eventlog import errors
from eventlog.db.base import OperationResult, advance, give_up
from eventlog.db.errors import is_lost, lost_node, read_only, translate
from eventlog.db.query import Op, Query, completed
from eventlog.db.retry import RetryPolicy, is_conflict, is_node_lost, wants_another_connection
from tests.support.scripted import fail_with

pytestmark = pytest.mark.portable


@pytest.mark.parametrize(
    ("given_error", "expected"),
    [
        (pg.UndefinedTable, errors.NotSetUpError),
        (pg.UndefinedFunction, errors.NotSetUpError),
        (pg.InvalidSchemaName, errors.NotSetUpError),
        (pg.InsufficientPrivilege, errors.MissingGrantError),
        (pg.LockNotAvailable, errors.LogBusyError),
        (pg.ObjectInUse, errors.LogBusyError),
        (pg.DeadlockDetected, errors.LogBusyError),
        (pg.SerializationFailure, errors.LogBusyError),
        (pg.AdminShutdown, errors.ConnectionLostError),
        (pg.CrashShutdown, errors.ConnectionLostError),
        (pg.CannotConnectNow, errors.ConnectionLostError),
        (pg.IdleSessionTimeout, errors.ConnectionLostError),
        (pg.IdleInTransactionSessionTimeout, errors.ConnectionLostError),
        (pg.ProtocolViolation, errors.ConnectionLostError),
        (pg.ConnectionFailure, errors.ConnectionLostError),
        (psycopg.OperationalError, errors.ConnectionLostError),
        (psycopg.InternalError, errors.ConnectionLostError),
        (pg.QueryCanceled, errors.StatementCanceledError),
        (pg.DiskFull, errors.ServerFullError),
        (pg.OutOfMemory, errors.ServerFullError),
        (pg.TooManyConnections, errors.ServerFullError),
        (pg.CheckViolation, errors.StorageError),
        (pg.NumericValueOutOfRange, errors.StorageError),
        (pg.SequenceGeneratorLimitExceeded, errors.StorageError),
        (pg.SyntaxError, errors.StorageError),
        (psycopg.DataError, errors.StorageError),
    ],
)
def test_driver_errors_become_our_errors(
    given_error: type[psycopg.Error], expected: type[errors.EventLogError]
) -> None:
    error = translate(fail_with(given_error, "the server's words"))
    assert type(error) is expected
    assert "the server's words" in str(error)


def test_read_only_says_which_kind_of_server_it_is() -> None:
    standby, setting = (read_only(fail_with(pg.ReadOnlySqlTransaction), is_standby=each) for each in (True, False))
    assert (standby.is_standby, setting.is_standby) == (True, False)
    assert "Connect to the primary" in str(standby)
    assert "default_transaction_read_only" in str(setting)


def test_an_error_that_the_server_sent_is_no_lost_connection() -> None:
    assert not is_lost(fail_with(pg.DiskFull))
    assert not is_lost(fail_with(pg.InternalError_))
    assert is_lost(psycopg.OperationalError("the connection is closed"))


def from_node(error: type[psycopg.Error], primary: str, context: str = "", severity: str = "ERROR") -> psycopg.Error:
    """As the node of a Citus cluster sends it that the client is connected to."""
    field = psycopg.pq.DiagnosticField
    texts = {
        field.SQLSTATE: error.sqlstate,
        field.SEVERITY_NONLOCALIZED: severity,
        field.MESSAGE_PRIMARY: primary,
        field.CONTEXT: context,
    }
    return error(primary, info={name: text.encode() for name, text in texts.items() if text})


REFUSED = "connection to the remote node postgres@10.0.0.2:5432 failed with the following error: Connection refused"
ON_NODE = "PL/pgSQL function f() line 1\nwhile executing command on 10.0.0.2:5432"


@pytest.mark.parametrize(
    "exc",
    [
        from_node(pg.ConnectionFailure, REFUSED),
        from_node(pg.ConnectionFailure, "could not establish any connections to the node 10.0.0.2:5432 after 30000 ms"),
        from_node(pg.InternalError_, "server closed the connection unexpectedly\ninvalid socket", ON_NODE),
        from_node(pg.InternalError_, "failure on connection marked as essential: 10.0.0.2:5432"),
        from_node(pg.ConnectionFailure, REFUSED.replace("postgres@", "the role@x@")),
        from_node(pg.AdminShutdown, "terminating connection due to administrator command", ON_NODE),
        from_node(pg.ConnectionFailure, f"{REFUSED[:-18]}FATAL:  the database system is starting up"),
    ],
    ids=str,
)
def test_the_loss_of_a_node_is_not_that_of_the_clients_connection(exc: psycopg.Error) -> None:
    assert lost_node(exc) == "10.0.0.2:5432"
    assert not is_lost(exc)
    error = translate(exc)
    assert isinstance(error, errors.ConnectionLostError)
    assert error.node == "10.0.0.2:5432"
    assert "node 10.0.0.2:5432 cannot be reached" in str(error)
    assert is_node_lost(error)
    assert not wants_another_connection(error)


@pytest.mark.parametrize(
    "exc",
    [
        from_node(pg.AdminShutdown, "terminating connection due to administrator command", severity="FATAL"),
        from_node(pg.ProtocolViolation, "server conn crashed?"),
        from_node(pg.ProtocolViolation, "server conn crashed?", severity="FATAL"),
    ],
    ids=str,
)
def test_the_loss_of_the_clients_connection_names_no_node(exc: psycopg.Error) -> None:
    assert lost_node(exc) is None
    assert is_lost(exc)
    error = translate(exc)
    assert isinstance(error, errors.ConnectionLostError)
    assert error.node == ""


def test_another_internal_error_of_a_node_is_not_its_loss() -> None:
    exc = from_node(pg.InternalError_, "tuple concurrently updated", ON_NODE)
    assert lost_node(exc) is None
    assert not is_lost(exc)
    assert type(translate(exc)) is errors.StorageError


def test_errors_of_a_node_name_it() -> None:
    full = translate(from_node(pg.DiskFull, "could not extend file", ON_NODE))
    assert isinstance(full, errors.ServerFullError)
    assert "could not extend file on node 10.0.0.2:5432" in str(full)
    refused = translate(from_node(pg.ConnectionFailure, f'{REFUSED[:-18]}FATAL:  role "agent" does not exist'))
    assert type(refused) is errors.StorageError
    assert "node 10.0.0.2:5432 refuses" in str(refused)


def test_calls_that_need_a_node_are_tried_until_the_deadline() -> None:
    lost = errors.ConnectionLostError()
    lost.node = "10.0.0.2:5432"
    policy = RetryPolicy(attempts=2, first_wait=0.01, longest_wait=0.05, deadline=2.0)
    tries = []

    def fail() -> None:
        tries.append(1)
        raise lost

    with pytest.raises(errors.ConnectionLostError):
        policy.retrying(is_node_lost)(fail)
    assert len(tries) > 2
    with pytest.raises(errors.ConnectionLostError):
        RetryPolicy(attempts=1).retrying(is_node_lost)(fail)


def caused_by(cause: type[psycopg.Error], error: type[errors.EventLogError] = errors.LogBusyError) -> Exception:
    raised = error()
    raised.__cause__ = fail_with(cause)
    return raised


def test_lost_connections_and_undone_transactions_are_retryable() -> None:
    assert wants_another_connection(errors.ConnectionLostError())
    assert wants_another_connection(errors.ReadOnlyServerError(is_standby=True))
    assert not wants_another_connection(errors.ReadOnlyServerError(is_standby=False))
    assert not wants_another_connection(errors.StatementCanceledError())
    assert is_conflict(caused_by(pg.SerializationFailure))
    assert is_conflict(caused_by(pg.DeadlockDetected))
    # The caller's lock_timeout is the caller's to decide about.
    assert not is_conflict(caused_by(pg.LockNotAvailable))
    assert not is_conflict(caused_by(pg.DeadlockDetected, errors.StorageError))


class Failing:
    """Fails some times before it succeeds."""

    def __init__(self, times: int, error: type[Exception] = errors.ConnectionLostError) -> None:
        self.times = times
        self.error = error
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "done"


POLICY = RetryPolicy(attempts=3, first_wait=0.0, longest_wait=0.0)


@pytest.mark.parametrize("times", [0, 1, 2])
def test_retries_until_it_succeeds(times: int) -> None:
    function = Failing(times)
    assert POLICY.retrying(wants_another_connection)(function) == "done"
    assert function.calls == times + 1


def test_retries_end_with_the_last_error() -> None:
    function = Failing(4)
    with pytest.raises(errors.ConnectionLostError):
        POLICY.retrying(wants_another_connection)(function)
    assert function.calls == 3


def test_other_errors_are_not_retried() -> None:
    function = Failing(1, errors.StatementCanceledError)
    with pytest.raises(errors.StatementCanceledError):
        POLICY.retrying(wants_another_connection)(function)
    assert function.calls == 1


async def test_coroutines_are_retried() -> None:
    function = Failing(2)

    async def call() -> str:
        return function()

    assert await POLICY.async_retrying(wants_another_connection)(call) == "done"
    assert function.calls == 3


def test_the_result_of_an_operation_arrives_as_an_exception() -> None:
    with pytest.raises(OperationResult) as done:
        advance(next, completed(5))
    assert done.value.value == 5


def asking(handles: type[psycopg.Error], becomes: type[errors.EventLogError]) -> Op[None]:
    try:
        yield Query(b"select 1")
    except handles as exc:
        raise becomes from exc


def test_at_the_end_of_a_transaction_an_operation_says_what_its_error_means() -> None:
    op = asking(pg.InsufficientPrivilege, errors.MissingGrantError)
    next(op)
    with pytest.raises(errors.MissingGrantError):
        give_up(op, fail_with(pg.InsufficientPrivilege), errors.StorageError())


def test_an_error_that_an_operation_does_not_handle_is_translated() -> None:
    op = asking(pg.InsufficientPrivilege, errors.MissingGrantError)
    next(op)
    cause = fail_with(pg.DiskFull)
    with pytest.raises(errors.ServerFullError) as raised:
        give_up(op, cause, errors.ServerFullError())
    assert raised.value.__cause__ is cause


@pytest.mark.parametrize(
    "primary",
    [
        "could not find valid entry for shard 102020",
        "cannot execute a distributed query from a query on a shard",
        "shard for the given value does not exist",
    ],
)
def test_a_call_that_meets_the_move_of_a_shard_is_repeated(primary: str) -> None:
    exc = from_node(pg.InternalError_, primary, ON_NODE)
    error = translate(exc)
    error.__cause__ = exc
    assert isinstance(error, errors.LogBusyError)
    assert "try again" in str(error)
    assert is_conflict(error)
    assert not is_conflict(translate(from_node(pg.InternalError_, "another")))
