"""`project`: custom projections."""

from __future__ import annotations

import os
import pkgutil
import sys
from typing import Annotated, Any

import typer

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import EventLog
from langgraph.checkpoint.eventlog.cli.commands.show import Allow, Trust
from langgraph.checkpoint.eventlog.cli.group import Group
from langgraph.checkpoint.eventlog.cli.render.output import plural, when
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.following.project import BATCH_EVENTS, checked_projections
from projections.custom import Applied, Projection
from projections.usage import Usage

__all__ = ["register"]

Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="PROJECTION",
        show_default=False,
        help="'usage', which comes with the package, or your own: package.module:Class.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    project = typer.Typer(
        name="project",
        cls=Group,
        help="Keep custom projections of the log up to date.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    for command in (run, rebuild, forget):
        project.command()(command)
    project.command("list")(list_)
    app.add_typer(project)


def run(
    ctx: typer.Context,
    targets: Targets,
    once: Annotated[
        bool, typer.Option("--once", help="End when all events are applied, instead of waiting for more.")
    ] = False,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=100_000, metavar="N", help="Apply at most N events at a time.")
    ] = BATCH_EVENTS,
    poll: Annotated[
        float, typer.Option("--poll", min=0.01, max=3600, metavar="SECONDS", help="Look for new events this often.")
    ] = 1.0,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Apply the log's events to projections as they arrive, until interrupted.

    Each batch commits together with the projection's cursor, so the command may be killed at any time and run again. Of
    several workers for one projection, one applies and the others stand by.
    """
    session = Session.of(ctx)
    output = session.output
    with session.open_to_apply(allow or (), trust=trust) as log:
        projections = [_projection(target, session) for target in targets]
        with output.progress("Applying", None, "events") as advance:
            waiting: set[str] = set()

            def tell(name: str, applied: Applied) -> None:
                if applied.is_standby and name not in waiting:
                    waiting.add(name)
                    output.note(f"Standing by: another worker applies {name}.")
                if not applied.events:
                    return
                if session.as_json:
                    output.document(projection=name, events=applied.events, cursor=str(applied.cursor))
                for _ in range(applied.events):
                    advance()

            counts = log.project(projections, follow=not once, batch_events=batch, poll_interval=poll, on_batch=tell)
    if not session.as_json:
        for name, events in counts.items():
            output.say(f"Applied {plural(events, 'event')} to {name}, which is up to date.")


def rebuild(ctx: typer.Context, targets: Targets, allow: Allow = None, trust: Trust = False) -> None:
    """Empty projections and apply the whole log again, after a change of their version.

    After an interruption, 'project run' continues. Events that were erased from the log are not applied.
    """
    session = Session.of(ctx)
    with session.open() as log:
        projections = [_projection(target, session) for target in targets]
        # All of them, before the first is emptied.
        checked_projections(log._context, projections, is_async=False)
        for projection in projections:
            log.rebuild_projection(projection)
    run(ctx, targets, once=True, allow=allow, trust=trust)


def list_(ctx: typer.Context) -> None:
    """List the projections in the database, with their cursors and waiting events."""
    session = Session.of(ctx)
    output = session.output
    with session.open() as log:
        found = [(state, _waiting(log, state.cursor)) for state in log.projections()]
    if session.as_json:
        for state, waiting in found:
            cursor = None if state.cursor is None else str(state.cursor)
            output.document(**{**state._asdict(), "cursor": cursor, "waiting": waiting})
    elif found:
        output.table(
            {
                "projection": False,
                "version": True,
                "events": True,
                "waiting": True,
                "last applied (UTC)": False,
                "complete since": False,
                "class": False,
            },
            [
                (
                    state.name,
                    str(state.version),
                    f"{state.events:,}",
                    f"{waiting:,}",
                    when(state.applied_at),
                    when(state.caught_up_at),
                    state.source,
                )
                for state, waiting in found
            ],
        )
    else:
        output.note("No projections. To start one: eventlog project run usage")


def forget(
    ctx: typer.Context, name: Annotated[str, typer.Argument(help="The projection's name.", show_default=False)]
) -> None:
    """Delete a projection's cursor. Its tables stay: drop them yourself."""
    session = Session.of(ctx)
    with session.open() as log:
        log.forget_projection(name)
    if session.as_json:
        session.output.document(forgotten=name)
    else:
        session.output.say(f"Forgot {name}.")


def _waiting(log: EventLog, cursor: Any) -> int:
    return log.lag(cursor).waiting


def _projection(target: str, session: Session) -> Projection:
    if target == Usage.name:
        return Usage(session.schema)
    module, _, attribute = target.partition(":")
    if not module or not attribute:
        raise InvalidInputError(
            f"{target!r} is not a projection: write 'usage', or package.module:Class for one of your own"
        )
    # A command's own path has no current directory, where one's own modules are.
    if "" not in sys.path and (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = pkgutil.resolve_name(target)
    except (ImportError, AttributeError, ValueError) as exc:
        raise InvalidInputError(f"{target!r} cannot be imported: {type(exc).__name__}: {exc}") from exc
    projection: Projection = found() if isinstance(found, type) else found
    return projection
