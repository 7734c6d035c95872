"""Setting up the schema: migrations first, then the database functions, then partitions.

Safe to run from many replicas at once. The lock is *polled*: whoever waits in ``pg_advisory_lock`` holds a snapshot
that deadlocks with ``CREATE INDEX CONCURRENTLY``; and it is a transaction's, not a session's, so that it works
through PgBouncer. Each script is a transaction of its own, so that a setup that fails half-way goes on where it
stopped.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, NamedTuple

from eventlog.errors import DatabaseTooNewError, MigrationError, MissingGrantError
from eventlog.locks import try_lock
from eventlog.log import logger
from eventlog.operations import Query, Rows
from eventlog.statements import Script, Statements

__all__ = ["LOCK_POLL_SECONDS", "LOCK_TIMEOUT_SECONDS", "Progress", "migrate_step", "wait_for_lock"]

LOCK_POLL_SECONDS = 0.1
LOCK_TIMEOUT_SECONDS = 60.0


class Progress(NamedTuple):
    """What one step of the migration did."""

    locked: bool
    """False: another setup holds the lock; wait and try again."""
    done: bool
    """True: nothing is left to apply."""


def migrate_step(statements: Statements) -> Generator[Query, Rows, Progress]:
    """Apply the next script that the database lacks. Run it in a transaction, again and again, until it is done.

    Raises:
        DatabaseTooNewError: when the database has scripts that this version does not know.
        MigrationError: when an applied script is not the one that this version has, or the encoding is not UTF8.
    """
    if not (yield from try_lock(statements.schema)):
        return Progress(locked=False, done=False)

    # Not to_regclass: it fails in a schema that the user may not use, where the answer is which grants are missing.
    ((exists, encoding),) = yield Query(
        b"""
        select
            exists (
                select 1 from pg_catalog.pg_class as c
                inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid
                where n.nspname = %s and c.relname = 'migrations'
            ),
            current_setting('server_encoding')
        """,
        (statements.schema,),
    )
    if encoding != "UTF8":
        raise MigrationError(f"the database's encoding is {encoding}; the log needs UTF8: create the database with it")
    if not exists:
        yield from _create_schema(statements)
        return Progress(locked=True, done=False)

    rows = yield Query(statements.compose("select name, checksum from {schema}.migrations"))
    script = _next_script(statements.scripts, dict(rows))
    if script is None:
        return Progress(locked=True, done=True)
    yield Query(script.statement, returns=False)
    yield Query(
        statements.compose("insert into {schema}.migrations (name, checksum) values (%s, %s)"),
        (script.name, script.checksum),
        returns=False,
    )
    logger.info("eventlog.migrated", script=script.name, schema=statements.schema)
    return Progress(locked=True, done=False)


def _create_schema(statements: Statements) -> Generator[Query, Rows, None]:
    """The schema may be the administrator's: then creating it is not asked for, only creating in it."""
    schema = statements.compose("{schema}").decode()
    ((user, database, exists, may_create),) = yield Query(
        b"""
        select
            current_user::text, current_database()::text, n.oid is not null,
            case when n.oid is null then has_database_privilege(current_database(), 'create')
            else has_schema_privilege(n.oid, 'create') and has_schema_privilege(n.oid, 'usage') end
        from (values (%s::text)) as wanted (name)
        left join pg_catalog.pg_namespace as n on n.nspname = wanted.name
        """,
        (statements.schema,),
    )
    if not may_create:
        what = f"usage, create on schema {schema}" if exists else f'create on database "{database}"'
        raise MissingGrantError(
            f'user "{user}" may not set up the log. Let an administrator run: grant {what} to "{user}"'
        )
    if not exists:
        yield Query(statements.compose("create schema {schema}"), returns=False)
    yield Query(
        statements.compose(
            """
            create table {schema}.migrations (
                name text collate "C" primary key,
                checksum text not null,
                applied_at timestamptz not null default clock_timestamp(),
                applied_by text not null default session_user
            )
            """
        ),
        returns=False,
    )


def _next_script(scripts: tuple[Script, ...], applied: dict[str, Any]) -> Script | None:
    unknown = sorted(applied.keys() - {script.name for script in scripts})
    if unknown:
        raise DatabaseTooNewError(
            "the database was set up by a newer version of langgraph-checkpoint-eventlog: upgrade the package "
            f"(unknown: {', '.join(unknown)})"
        )
    for script in scripts:
        if script.name not in applied:
            return script
        if applied[script.name] != script.checksum:
            raise MigrationError(
                f"{script.name} was applied to the database with another text than this version has: the installed "
                "package and the database do not belong together"
            )
    return None


def wait_for_lock(started: float) -> float:
    """How long to sleep before asking for the lock again, in seconds.

    Raises:
        MigrationError: when it has been held for too long. Going on without it could apply a script twice.
    """
    if time.monotonic() - started > LOCK_TIMEOUT_SECONDS:
        raise MigrationError(
            f"another setup() has held the migration lock for {LOCK_TIMEOUT_SECONDS:.0f} seconds; try again when it "
            "is done, or end its session (pg_locks, locktype 'advisory')"
        )
    return LOCK_POLL_SECONDS
