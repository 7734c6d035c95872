"""Readers of the log as it grows: `tail`, `lag`, and `project`, the group for custom projections."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Callable
from typing import Annotated

from typer import Argument, Context, Option

from eventlog.errors import InvalidInputError
from eventlog.feed import COUNT_LIMIT, Holder
from langgraph.checkpoint.eventlog.cli.options import After, Allow, Trust
from langgraph.checkpoint.eventlog.cli.render.output import Columns, fields_of, plural, size, when
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.following.project import BATCH_EVENTS
from projections.custom import Applied, Projection
from projections.history import kind_name
from projections.usage import Usage

__all__ = ["PROJECT", "lag", "tail"]

Targets = Annotated[
    list[str],
    Argument(metavar="PROJECTION", help="'usage', which comes with the package, or your own: package.module:Class."),
]


def tail(
    ctx: Context,
    follow: Annotated[bool, Option("--follow", "-f", help="Wait for more events, and show them as they come.")] = False,
    after: After = None,
    from_now: Annotated[bool, Option("--from-now", help="Start at the end of the log; with -f.")] = False,
    threads: Annotated[
        list[str] | None, Option("--thread", metavar="ID", help="Show only this thread's events. May be repeated.")
    ] = None,
    limit: Annotated[int | None, Option(min=1, metavar="N", help="Show at most N events.")] = None,
) -> None:
    """Show the events of the log, oldest first, each exactly once.

    Each line ends with a cursor: --after starts behind it.
    """
    session = Session.of(ctx)
    if from_now and (after is not None or not follow):
        raise InvalidInputError("--from-now goes with -f, and not with --after")
    with session.open() as log:
        start = log.tail_position() if from_now else after
        for event in log.tail(start, follow=follow, thread_ids=threads or None, limit=limit):
            kind = kind_name(event.kind)
            session.document(
                cursor=str(event.cursor),
                **{name: getattr(event, name) for name in ("thread_id", "checkpoint_ns", "seq", "recorded_at")},
                kind=kind,
                **{name: getattr(event, name) for name in ("checkpoint_id", "base_seq", "as_of", "is_replay")},
                bytes=len(event.body),
                digest=event.digest,
            )
            stream = f"{event.thread_id}/{event.checkpoint_ns}" if event.checkpoint_ns else event.thread_id
            relocated = " (relocated)" if event.is_replay else ""
            session.say(
                f"{when(event.recorded_at)}  {stream}  #{event.seq}  {kind}{relocated}"
                f"  {event.checkpoint_id or '-'}  {size(len(event.body))}  {event.cursor}"
            )


def lag(ctx: Context, after: After = None) -> None:
    """Show how many events a reader has not read yet, and which transaction holds the feed back."""
    session = Session.of(ctx)
    with session.open() as log:
        found = log.lag(after)
        end = log.tail_position()
    session.document(**fields_of(found), end=str(end))
    age = "" if found.oldest_seconds is None else f", the first of them {found.oldest_seconds:,.1f} s old"
    session.say(f"{_count(found.waiting)} after {found.cursor}{age}. The end of the feed is {end}.")
    if found.unsettled:
        session.say(f"{_count(found.unsettled)} not settled yet: an older transaction has not ended.")
    if found.held_by is not None:
        session.say(f"The oldest transaction is {_transaction(found.held_by)}.")


def _count(events: int) -> str:
    return f"{plural(events, 'event')}{' or more' if events == COUNT_LIMIT else ''}"


def _transaction(holder: Holder) -> str:
    if holder.prepared_as is not None:
        return f"{holder.xid}, prepared as {holder.prepared_as!r} at {when(holder.started_at)}"
    if holder.pid is None:
        return f"{holder.xid}, which only the primary can name: ask there"
    process = f"{holder.xid}: process {holder.pid} of {holder.user or '-'} in {holder.database or '-'}"
    if holder.state is None:
        return f"{process}, and this user may not see its query: grant pg_read_all_stats to it"
    query = (holder.query or "-")[:200]
    return f"{process} ({holder.application or '-'}), {holder.state} since {when(holder.started_at)}: {query}"


# --- custom projections


def run(
    ctx: Context,
    targets: Targets,
    once: Annotated[bool, Option("--once", help="End when all events are applied; do not wait for more.")] = False,
    batch: Annotated[
        int, Option(min=1, max=100_000, metavar="N", help="Apply at most N events at a time.")
    ] = BATCH_EVENTS,
    poll: Annotated[float, Option(min=0.01, max=3600, metavar="SECONDS", help="Look for new events this often.")] = 1.0,
    skip_undecodable: Annotated[
        bool, Option("--skip-undecodable", help="Go on behind events that do not decode, with a warning for each.")
    ] = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Apply the log's events to projections as they arrive, until interrupted.

    Each batch commits together with the projection's cursor, so the command may be killed at any time and run again. Of
    several workers for one projection, one applies and the others stand by.
    """
    session = Session.of(ctx)
    with session.open(allow=allow, trust=trust) as log:
        projections = [_projection(target, session) for target in targets]
        with session.progress("Applying", None, "events") as update:
            waiting: set[str] = set()

            def tell(name: str, applied: Applied) -> None:
                if applied.is_standby and name not in waiting:
                    waiting.add(name)
                    session.note(f"Standing by: another worker applies {name}.")
                if applied.events:
                    session.document(projection=name, events=applied.events, cursor=str(applied.cursor))
                    update(advance=applied.events)

            counts = log.project(
                projections,
                follow=not once,
                batch_events=batch,
                poll_interval=poll,
                on_batch=tell,
                on_undecodable="skip" if skip_undecodable else "stop",
            )
    for name, events in counts.items():
        session.say(f"Applied {plural(events, 'event')} to {name}, which is up to date.")


def rebuild(ctx: Context, targets: Targets, allow: Allow = None, trust: Trust = False) -> None:
    """Empty projections and apply the whole log again, after a change of their version.

    After an interruption, 'project run' continues. Events that were erased from the log are not applied.
    """
    session = Session.of(ctx)
    with session.open() as log:
        log.rebuild_projection([_projection(target, session) for target in targets])
    run(ctx, targets, once=True, allow=allow, trust=trust)


def forget(ctx: Context, name: Annotated[str, Argument(help="The projection's name.")]) -> None:
    """Delete a projection's cursor. Its tables stay: drop them yourself."""
    session = Session.of(ctx)
    with session.open() as log:
        log.forget_projection(name)
    session.document(forgotten=name)
    session.say(f"Forgot {name}.")


def list_(ctx: Context) -> None:
    """List the projections in the database, with their cursors and waiting events."""
    session = Session.of(ctx)
    with session.open() as log:
        found = log.projections()
        waiting = {each.name: log.lag(each.cursor).waiting for each in found}
    for each in found:
        session.document(**fields_of(each), waiting=waiting[each.name])
    if not found:
        session.note("No projections. To start one: eventlog project run usage")
        return
    columns: Columns = {
        "projection": "name",
        "version": "version",
        "events": "events",
        "waiting": lambda each: waiting[each.name],
        "last applied (UTC)": "applied_at",
        "complete since": "caught_up_at",
        "class": "source",
    }
    session.table(columns, found)


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


#: The commands of `project`, by name.
PROJECT: dict[str, Callable[..., None]] = {"run": run, "rebuild": rebuild, "forget": forget, "list": list_}
