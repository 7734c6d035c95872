"""PostgresSaver's tables: their schema, their version, and their fence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import psycopg
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import AsyncPipeline, Pipeline

from eventlog.db.base import AsyncConn, Conn
from eventlog.db.query import Op, Pause, Query, Rows, Script, UserCallback
from eventlog.db.statements import Statements
from eventlog.errors import EventLogError, InvalidInputError, NotSetUpError
from langgraph.checkpoint.eventlog._setup import AsyncConnected, Connected, awaitable
from langgraph.checkpoint.eventlog.transfer import fence
from langgraph.checkpoint.eventlog.transfer.fence import CopyError, FenceStatus, Moved, Settled
from langgraph.checkpoint.eventlog.transfer.postgres_tables import LATEST_VERSION

__all__ = ["AsyncIncumbent", "Found", "Incumbent", "find", "run_on_tables"]

T = TypeVar("T")

TABLES = ("checkpoint_blobs", "checkpoint_migrations", "checkpoint_writes", "checkpoints")


#: A thread's mark in the fence.
Mark = Literal["moving", "moved", "none", "no fence"]


class Found(NamedTuple):
    """PostgresSaver's tables in a database."""

    statements: Statements
    """For their schema."""
    version: int
    columns: frozenset[str]
    """Of `checkpoints`."""


def find(schema: str | None) -> Op[Found]:
    """PostgresSaver's tables, in a schema or in the first of the search path that has them.

    Raises:
        NotSetUpError: when there are none, or not all of them.
        InvalidInputError: when a newer version of langgraph-checkpoint-postgres has set them up.
    """
    rows = yield Query(Statements("public")["find_incumbent"], {"schema": schema})
    where = f"schema {schema!r}" if schema else "the search path"
    setup = "Run PostgresSaver.setup() there, or name the schema that has them"
    if not rows:
        raise NotSetUpError(f"{where} has no tables of langgraph-checkpoint-postgres. {setup}")
    name, tables, columns = rows[0]
    if missing := sorted(set(TABLES) - set(tables)):
        raise NotSetUpError(f"schema {name!r} lacks tables of langgraph-checkpoint-postgres: {missing}. {setup}")
    statements = Statements(name)
    ((version,),) = yield from fence.explained(statements, _version)
    if version is None or version > LATEST_VERSION:
        raise InvalidInputError(
            f"the tables of langgraph-checkpoint-postgres in schema {name!r} are of schema version {version}; this "
            f"package knows 0 to {LATEST_VERSION}. Upgrade it"
        )
    return Found(statements, version, frozenset(columns))


def _version(statements: Statements) -> Op[Rows]:
    return (yield Query(statements["find_incumbent_version"]))


def _explaining(statements: Statements, script: Script[T]) -> Script[T]:
    """A script, each of its operations `fence.explained`."""

    def wrapped(step: Any) -> Any:
        return step if isinstance(step, Pause) else partial(fence.explained, statements, lambda _: step())

    try:
        step = next(script)
        while True:
            try:
                result = yield wrapped(step)
            except EventLogError as exc:
                step = script.throw(exc)
            else:
                step = script.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]


class _Tables:
    """Remembers the tables once they were found."""

    def __init__(self, schema: str | None) -> None:
        self._schema = schema
        self._statements: Statements | None = None

    def one(self, run: Callable[[Statements], Op[Any]]) -> Script[Any]:
        """An operation on the tables, in one transaction."""
        statements = yield from self._find()
        return (yield partial(fence.explained, statements, run))

    def script(self, run: Callable[[Statements], Script[Any]]) -> Script[Any]:
        """A script on the tables."""
        statements = yield from self._find()
        return (yield from _explaining(statements, run(statements)))

    def move(self, thread_id: str, moved_to: str, copy: fence.Copy) -> Script[Moved | None]:
        """As `Incumbent.move`."""
        statements = yield from self._find()
        if not (yield partial(fence.is_installed, statements)):
            return None
        return (yield from _explaining(statements, fence.move(statements, thread_id, moved_to, copy)))

    def _find(self) -> Script[Statements]:
        if self._statements is None:
            found: Found = yield partial(find, self._schema)
            self._statements = found.statements
        return self._statements


def _has(thread_id: str, statements: Statements) -> Op[bool]:
    ((found,),) = yield Query(statements["incumbent_has"], {"thread_id": thread_id})
    return bool(found)


def _delete(thread_id: str, statements: Statements) -> Op[None]:
    for name in ("incumbent_delete_checkpoints", "incumbent_delete_blobs", "incumbent_delete_writes"):
        yield Query(statements[name], (thread_id,), returns=False)
    if (yield from fence.is_installed(statements)):
        yield from fence.forget_deletions(statements, [thread_id])


def _mark_of(thread_id: str, statements: Statements) -> Op[Mark]:
    if not (yield from fence.is_installed(statements)):
        return "no fence"
    return (yield from fence.check_thread(statements, thread_id)) or "none"  # type: ignore[return-value]


def _lent(use: Callable[[Any], Any]) -> Op[None]:
    yield UserCallback(function=use)


class Incumbent(Connected):
    """The tables of `PostgresSaver`, on a connection or a pool.

    Args:
        conn, pipe: as for `PostgresSaver`. A connection must not be in a transaction.
        schema: where the tables are; by default in the first schema of the search path that has them.
    """

    def __init__(
        self,
        conn: Conn,
        pipe: Pipeline | None = None,
        serde: SerializerProtocol | None = None,
        *,
        schema: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(conn, pipe, serde, **({} if schema is None else {"schema": schema}), **settings)
        self._tables = _Tables(schema)
        self._has_pipe = pipe is not None

    def run(self, script: Script[T]) -> T:
        """Run a script on the tables' side: each of its operations in one transaction."""
        return self._driver.run_script(script)

    def install_fence(self) -> bool:
        """Make the fence; returns whether it is new. As the owner of the tables.

        Raises:
            LogBusyError: when a table's lock was not to be had within 5 seconds. Nothing was changed.
            MissingGrantError: when the user does not own the tables.
        """
        return self._driver.run_script(self._tables.script(fence.install))  # type: ignore[no-any-return]

    def remove_fence(self) -> bool:
        """Take the fence away, marks included; returns whether there was one. As the owner of the tables.

        Raises:
            InvalidInputError: when threads are marked as moving.
            LogBusyError: as `install_fence`.
        """
        return self._driver.run_script(self._tables.script(fence.remove))  # type: ignore[no-any-return]

    def fence_status(self) -> FenceStatus:
        """The status of the fence."""
        return self._driver.run_script(self._tables.one(fence.status))  # type: ignore[no-any-return]

    def settle(self, thread_id: str, moved_to: str, is_in_log: Callable[[], Any]) -> Settled:
        """Put an end to the move of a thread that a dead mover left.

        Args:
            moved_to: the place of the log that is asked (`log_place`). A mark for another log is left alone.
            is_in_log: tells whether the log has the thread, which then was moved; else the mark goes. It is called
                while no mover can change that, and awaited in async.
        """
        run = partial(fence.settle, thread_id=thread_id, moved_to=moved_to, is_in_log=is_in_log)
        return self._driver.run_script(self._tables.one(run))

    def forget_deletions(self, thread_ids: Sequence[str]) -> None:
        """Note that the log has deleted these threads as well."""
        return self._driver.run_script(  # type: ignore[no-any-return]
            self._tables.one(partial(fence.forget_deletions, thread_ids=thread_ids))
        )

    def move(self, thread_id: str, moved_to: str, copy: fence.Copy) -> Moved | None:
        """Move a thread behind the fence; None, with nothing done, where there is no fence.

        Args:
            moved_to: where the thread is then, as old replicas are told.
            copy: copies it and commits, by a connection in the transaction that holds the thread's locks; awaited in
                async. What it raises undoes the mark, unless it may have committed. It may be called again, after an
                earlier call did its work.

        Raises:
            LogBusyError: when the thread's writers or another mover kept it busy for a minute.
        """
        return self._driver.run_script(self._tables.move(thread_id, moved_to, self._guarded(copy)))

    def mark_of(self, thread_id: str) -> Mark:
        """A thread's mark in the fence."""
        return self._driver.run_script(self._tables.one(partial(_mark_of, thread_id)))

    def has(self, thread_id: str) -> bool:
        """Whether the thread is in the tables."""
        return self._driver.run_script(self._tables.one(partial(_has, thread_id)))  # type: ignore[no-any-return]

    def delete(self, thread_id: str) -> None:
        """Delete a thread from the tables in one transaction. The fence does not record it: the log deletes it too."""
        return self._driver.run_script(self._tables.one(partial(_delete, thread_id)))  # type: ignore[no-any-return]

    def lend(self, use: Callable[[Any], Any]) -> None:
        """Call a function with a connection, outside of a transaction where it is in autocommit mode; awaited in async.

        It may be called again. In a pipeline it is called in a transaction.
        """
        # A pipeline begins a transaction with its first statement: `use` could begin none of its own.
        run = self._driver.run_atomic if self._has_pipe else self._driver.run
        return run(partial(_lent, use))

    def _guarded(self, copy: fence.Copy) -> fence.Copy:
        """`copy` with its errors wrapped, so that a driver passes them to a script."""

        def guarded(conn: Any) -> None:
            try:
                copy(conn)
            except (EventLogError, psycopg.Error):
                raise
            except Exception as exc:
                raise CopyError from exc

        return guarded


class AsyncIncumbent(AsyncConnected):
    """The async twin of `Incumbent`."""

    def __init__(
        self,
        conn: AsyncConn,
        pipe: AsyncPipeline | None = None,
        serde: SerializerProtocol | None = None,
        *,
        schema: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(conn, pipe, serde, **({} if schema is None else {"schema": schema}), **settings)
        self._tables = _Tables(schema)
        self._has_pipe = pipe is not None

    run = awaitable(Incumbent.run)
    install_fence = awaitable(Incumbent.install_fence)
    remove_fence = awaitable(Incumbent.remove_fence)
    fence_status = awaitable(Incumbent.fence_status)
    settle = awaitable(Incumbent.settle)
    forget_deletions = awaitable(Incumbent.forget_deletions)
    move = awaitable(Incumbent.move)
    mark_of = awaitable(Incumbent.mark_of)
    has = awaitable(Incumbent.has)
    delete = awaitable(Incumbent.delete)
    lend = awaitable(Incumbent.lend)

    def _guarded(self, copy: fence.Copy) -> fence.Copy:
        async def guarded(conn: Any) -> None:
            try:
                await copy(conn)
            except (EventLogError, psycopg.Error):
                raise
            except Exception as exc:
                raise CopyError from exc

        return guarded


def run_on_tables(
    target: Any, schema: str | None, connections: int, make_script: Callable[[], Script[Any]], *, is_async: bool
) -> Any:
    """The result of a script on tables; in async, something to await.

    Args:
        target: a connection or a pool, or a connection string, for which a pool is opened.
    """
    if not isinstance(target, str):
        return (AsyncIncumbent if is_async else Incumbent)(target, schema=schema).run(make_script())
    options: dict[str, Any] = {"pool_max_size": connections} | ({} if schema is None else {"schema": schema})

    async def opened() -> Any:
        async with AsyncIncumbent.from_conn_string(target, **options) as tables:
            return await tables.run(make_script())

    if is_async:
        return opened()
    with Incumbent.from_conn_string(target, **options) as tables:
        return tables.run(make_script())
