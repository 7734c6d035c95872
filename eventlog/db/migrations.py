"""Setting up the schema: migrations first, then the database functions, then partitions.

A script is identified by its name. A migration is applied once, in the order of `MIGRATIONS`. A function, which has its
version in its name, is applied again if a later revision of this package changes its text.

Many replicas may run it at once, under a polled lock (`eventlog.db.locks`). Each script is a transaction of its own, so
that a setup that fails half-way continues where it stopped.

Savers continue to append in the meantime. A script that changes a table waits for the transactions that use it, and all
others wait behind the script: one forgotten transaction would stop all appends as long as it stays open. So a script
waits for a lock only briefly, lets the others through, and tries again.
"""

from __future__ import annotations

import random
import time
from typing import NamedTuple, TypeAlias

from psycopg import errors as pg

from eventlog.db.locks import lock_holder, try_lock
from eventlog.db.query import Op, Pause, Query
from eventlog.db.query import Script as Steps
from eventlog.db.statements import Script, Statements
from eventlog.errors import DatabaseTooNewError, LogBusyError, MigrationError, MissingGrantError
from eventlog.logger import logger

__all__ = [
    "LOCK_POLL_SECONDS",
    "LOCK_TIMEOUT_SECONDS",
    "Progress",
    "check_not_newer",
    "migrate",
    "migrate_step",
    "wait_for_lock",
]

LOCK_POLL_SECONDS = 0.1

#: How long another setup, or transactions that use a table, may keep this one from its next script.
LOCK_TIMEOUT_SECONDS = 60.0

#: How long a script waits for each lock on a table, in milliseconds. Less than PostgreSQL's deadlock_timeout (a
#: second): otherwise the server could cancel a writer that holds one table and waits for another.
LOCK_WAIT_MS = 100


#: The functions by which functions are distributed: until a database has them, its log is not distributed.
_DISTRIBUTING = {"distribute_functions_v1", "is_distributed_v1"}


class Progress(NamedTuple):
    """The result of one step of the migration."""

    done: bool = False
    version: int = 0
    """How many migrations had been applied before this step."""
    script: str | None = None


def migrate(statements: Statements) -> Steps[None]:
    """Apply all scripts that the database lacks, each in a transaction.

    Raises as `migrate_step`, and MigrationError with the sessions that kept a script from its locks for too long.
    """
    started = since = time.monotonic()
    first: Progress | None = None
    scripts = 0
    while True:
        try:
            progress = yield lambda: migrate_step(statements)
        except LogBusyError as busy:
            if time.monotonic() - since > LOCK_TIMEOUT_SECONDS:
                holders = yield lambda: _holders(statements)
                raise MigrationError(
                    f"{busy} for {LOCK_TIMEOUT_SECONDS:.0f} seconds. {holders} End the session "
                    "(select pg_terminate_backend(pid)) or wait for it, and run setup() again: it continues where "
                    "it stopped"
                ) from busy
            if not (yield lambda: _rest(statements)):
                yield Pause(LOCK_POLL_SECONDS)
            continue
        if progress is None:
            yield from wait_for_lock(statements, since)
            continue
        since = time.monotonic()
        if progress.script is not None:
            first = first or progress
            scripts += 1
        if progress.done:
            if first is not None:
                logger.info(
                    "eventlog.set_up",
                    schema=statements.schema,
                    from_version=first.version,
                    to_version=progress.version,
                    scripts=scripts,
                    milliseconds=round((time.monotonic() - started) * 1000),
                )
            return


def wait_for_lock(statements: Statements, since: float) -> Steps[None]:
    """Pause while another session has the migration lock. Raises MigrationError if it has had it for too long.

    Args:
        since: when this setup last went on, by `time.monotonic`.
    """
    if time.monotonic() - since > LOCK_TIMEOUT_SECONDS:
        holder = yield lambda: lock_holder(statements)
        # Going on without the lock could apply a script twice.
        raise MigrationError(
            f"another session has held the migration lock for {LOCK_TIMEOUT_SECONDS:.0f} seconds: "
            f"{holder or 'it has just ended'}. If it is a setup(), run this again when that one has ended; "
            "else end the session (select pg_terminate_backend(pid))"
        )
    yield Pause(LOCK_POLL_SECONDS)


def migrate_step(statements: Statements) -> Op[Progress | None]:
    """Apply the next script that the database lacks. Run it in a transaction, again and again, until it is done.

    Returns None if another setup holds the lock: wait and try again.

    Raises:
        DatabaseTooNewError: if the database has scripts that this version does not know.
    """
    if not (yield from try_lock(statements.schema)):
        return None

    found = yield Query(statements["setup_state"], (statements.schema,))
    ((exists, encoding, *settings),) = found
    if encoding != "UTF8":
        raise MigrationError(
            f"the database's encoding is {encoding}, and the log needs UTF8: create database … encoding 'UTF8'"
        )
    if not exists:
        yield from _create_schema(statements)
        return Progress()

    applied = yield from _applied(statements)
    script = _next_script(statements.scripts, applied)
    version = sum(revision is None for _, revision in applied.values())
    if script is None:
        return Progress(done=True, version=version)
    yield Query(statements["setup_settings"], (f"{LOCK_WAIT_MS}ms", "off", "pg_catalog, pg_temp"))
    try:
        yield Query(script.statement, returns=False)
        if script.revision is not None and applied.keys() >= _DISTRIBUTING:
            yield from _distribute_functions(statements)
        # Restore the settings: the transaction may be the user's, and continue. In a pipeline the script's error is
        # raised here.
        yield Query(statements["setup_settings"], settings)
    except pg.LockNotAvailable as exc:
        raise LogBusyError(
            f"{script.name} did not get its locks on the tables of schema {statements.schema!r}"
        ) from exc
    yield Query(statements["put_script"], (script.name, script.checksum, script.revision), returns=False)
    logger.debug("eventlog.migrated", script=script.name, schema=statements.schema)
    return Progress(version=version, script=script.name)


def _distribute_functions(statements: Statements) -> Op[None]:
    """Make a function of a distributed log, new or replaced, what it has to be on Citus, before a call can find it."""
    ((is_distributed,),) = yield Query(statements["is_distributed"])
    if is_distributed:
        yield Query(statements["distribute_functions"], ([],))


def _create_schema(statements: Statements) -> Op[None]:
    """Create the schema unless an administrator has: then the user needs only the right to create tables in it."""
    schema = statements.compose("{schema}").decode()
    ((user, database, exists, may_create),) = yield Query(statements["setup_rights"], (statements.schema,))
    if not may_create:
        what = f"usage, create on schema {schema}" if exists else f'create on database "{database}"'
        raise MissingGrantError(
            f'user "{user}" may not set up the log. Let an administrator run: grant {what} to "{user}"'
        )
    if not exists:
        yield Query(statements["create_schema"], returns=False)
    yield Query(statements["create_migrations"], returns=False)


def check_not_newer(statements: Statements) -> Op[None]:
    """For operations that must know every function and table, unlike appending and reading.

    Raises DatabaseTooNewError when a newer version of this package has set up the database.
    """
    applied = yield from _applied(statements)
    _check_known(statements.scripts, applied)
    newest = max(revision or 0 for _, revision in applied.values())
    known = max(script.revision or 0 for script in statements.scripts)
    if newest > known:
        raise DatabaseTooNewError(f"{_TOO_NEW} (its functions have revision {newest}, this version's {known})")


#: The database's record of each script: its checksum, and for a function the revision; None for a migration.
_Applied: TypeAlias = "dict[str, tuple[str, int | None]]"

_TOO_NEW = "a newer version of langgraph-checkpoint-eventlog set up the database: upgrade the package"


def _applied(statements: Statements) -> Op[_Applied]:
    try:
        rows = yield Query(statements["applied_scripts"])
    except pg.UndefinedColumn as exc:
        raise MigrationError(
            f"schema {statements.schema!r} has a log in a format from before the first release, which this version "
            "cannot read: set up a new one, in another schema (schema=…) or database"
        ) from exc
    return {name: (checksum, revision) for name, checksum, revision in rows}


def _check_known(scripts: tuple[Script, ...], applied: _Applied) -> None:
    migrations = {name for name, (_, revision) in applied.items() if revision is None}
    if unknown := sorted(migrations - {script.name for script in scripts}):
        raise DatabaseTooNewError(f"{_TOO_NEW} (unknown migrations: {', '.join(unknown)})")


def _next_script(scripts: tuple[Script, ...], applied: _Applied) -> Script | None:
    _check_known(scripts, applied)
    for script in scripts:
        checksum, revision = applied.get(script.name, (None, None))
        if checksum is None:
            return script
        if checksum == script.checksum:
            continue
        if script.revision is None or revision is None or revision == script.revision:
            raise MigrationError(
                f"checksum mismatch for {script.name}: the database was set up by a different build. Install the build "
                "that set it up"
            )
        if revision < script.revision:
            return script
    return None


def _rest(statements: Statements) -> Op[bool]:
    """Let others through before the next try; returns False if another setup has taken the lock.

    Holds the lock: otherwise replicas that start together would take turns, and leave no time in between. Sleeps in
    short statements, as statement_timeout may be short.
    """
    if not (yield from try_lock(statements.schema)):
        return False
    for _ in range(random.randint(3, 9)):
        yield Query(b"select pg_catalog.pg_sleep(0.1)")
    return True


def _holders(statements: Statements) -> Op[str]:
    """The sessions that hold locks on the log's tables, as a sentence."""
    found = []
    for pid, user, application, state, prepared_as, seconds, tables in (
        yield Query(statements["lock_holders"], (statements.schema,))
    ):
        who = f"process {pid} of user {user!r}" if prepared_as is None else f"prepared transaction {prepared_as!r}"
        known = (application and repr(application), state, None if seconds is None else f"for {seconds} s")
        found.append(f"{who} ({', '.join(filter(None, (*known, *tables)))})")
    return f"Sessions that hold locks on them: {'; '.join(found)}." if found else "No session holds one now."
