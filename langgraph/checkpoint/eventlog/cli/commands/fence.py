"""The fence in PostgresSaver's database: `fence install`, `fence remove`, `fence status`, `fence settle`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Annotated, Any

from typer import Context, Exit, Option

from langgraph.checkpoint.eventlog._setup import sharing
from langgraph.checkpoint.eventlog.cli.options import Yes
from langgraph.checkpoint.eventlog.cli.render.output import is_interactive, plural
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.transfer.incumbent import Incumbent
from langgraph.checkpoint.eventlog.transfer.mover import Mover

__all__ = ["FENCE"]

Source = Annotated[
    str,
    Option(
        "--from",
        envvar="EVENTLOG_FROM_DSN",
        metavar="DSN",
        help="The database with the tables of langgraph-checkpoint-postgres.",
    ),
]
FromSchema = Annotated[
    str | None,
    Option(metavar="NAME", help="The schema of these tables. By default the first on the search path that has them."),
]


def _tables(source: str, schema: str | None) -> AbstractContextManager[Incumbent]:
    named: dict[str, Any] = {} if schema is None else {"schema": schema}
    return Incumbent.from_conn_string(source, **named)


def install(ctx: Context, source: Source, from_schema: FromSchema = None) -> None:
    """Install the fence: a table 'moved', and triggers on PostgresSaver's tables that refuse writes to moved threads.

    Run it as the owner of the tables, before the first replica uses MigratingSaver.
    """
    session = Session.of(ctx)
    with _tables(source, from_schema) as tables:
        is_new = tables.install_fence()
    session.document(installed=is_new)
    session.say("The fence is installed." if is_new else "The fence was installed already.")


def remove(ctx: Context, source: Source, from_schema: FromSchema = None, yes: Yes = False) -> None:
    """Remove the fence, with its table of moved threads.

    Stop the last replica that uses PostgresSaver first: it could write to moved threads again.
    """
    session = Session.of(ctx)
    with _tables(source, from_schema) as tables:
        status = tables.fence_status()
        if status.moved and not yes:
            if not is_interactive():
                session.note(
                    f"Error: {plural(status.moved, 'thread')} were moved to the log, and there is no terminal to ask "
                    "on. Give --yes to remove the fence."
                )
                raise Exit(2)
            session.confirm(
                f"{plural(status.moved, 'thread')} were moved to the log, and PostgresSaver could write to them again. "
                "Remove the fence?"
            )
        was_there = tables.remove_fence()
    session.document(removed=was_there)
    session.say("The fence is removed." if was_there else "There was no fence.")


def status(ctx: Context, source: Source, from_schema: FromSchema = None) -> None:
    """Show how many threads were moved, which are being moved, and which were deleted from the old tables since."""
    session = Session.of(ctx)
    with _tables(source, from_schema) as tables:
        found = tables.fence_status()
    session.documents([found])
    if not found.is_installed:
        session.say("There is no fence.")
        return
    session.say(f"{plural(found.moved, 'thread')} moved, {len(found.moving)} being moved.")
    for thread_id in found.moving:
        session.say(f"  {thread_id}: being moved, or the process that moved it died: run eventlog fence settle")
    for thread_id in found.deleted:
        session.say(f"  {thread_id}: deleted from the old tables after it was moved: run eventlog delete")


def settle(ctx: Context, source: Source, from_schema: FromSchema = None) -> None:
    """Finish moves that a dead process left: a thread that the log has is marked as moved, any other goes back.

    Threads that a running process moves, or that are on their way to another log, are left alone and named.
    """
    session = Session.of(ctx)
    settled = moved = 0
    with session.open() as log, _tables(source, from_schema) as tables:
        mover = sharing(Mover, log)
        place = mover.where()
        left_alone: set[str] = set()
        elsewhere: list[str] = []
        # A page at a time.
        while page := [id_ for id_ in tables.fence_status().moving if id_ not in left_alone]:
            for thread_id in page:
                outcome = tables.settle(thread_id, place, partial(mover.has, thread_id))
                if outcome == "elsewhere":
                    elsewhere.append(thread_id)
                if outcome in ("busy", "elsewhere"):
                    left_alone.add(thread_id)
                    continue
                session.document(thread_id=thread_id, moved=outcome == "moved")
                settled += 1
                moved += outcome == "moved"
    session.document(settled=settled, moved=moved, elsewhere=elsewhere)
    for thread_id in elsewhere:
        session.say(f"  {thread_id}: not on its way to {place}: run the command with the log that `moved` names")
    session.say(f"Settled {plural(settled, 'thread')}: {moved} moved, {settled - moved} back with PostgresSaver.")


FENCE: dict[str, Callable[..., None]] = {"install": install, "remove": remove, "status": status, "settle": settle}
