"""Readers of the log as it grows: `tail`, `lag`, and `project`, the group for custom projections."""

from __future__ import annotations

from collections.abc import Callable
from signal import SIGINT
from typing import Annotated, Any

from typer import Argument, Context, Exit, Option

from eventlog.errors import InvalidInputError
from eventlog.events import StoredEvent
from eventlog.feed import COUNT_LIMIT, Holder
from langgraph.checkpoint.eventlog.cli.commands.history import change_document, change_lines
from langgraph.checkpoint.eventlog.cli.finding import named_object
from langgraph.checkpoint.eventlog.cli.options import After, Allow, Full, Trust
from langgraph.checkpoint.eventlog.cli.render.output import Columns, fields_of, plural, size, when
from langgraph.checkpoint.eventlog.cli.render.sheet import Sheet
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.cli.signals import SIGNALS
from langgraph.checkpoint.eventlog.following.project import BATCH_EVENTS
from projections.custom import Applied, Projection
from projections.history import HistoryEntry, kind_name
from projections.usage import Usage

__all__ = ["PROJECT", "end_if_stopped", "lag", "tail"]

#: Of the CSV, in this order; as in JSON.
COLUMNS = (
    *("cursor", "thread_id", "checkpoint_ns", "seq", "recorded_at", "kind", "checkpoint_id", "base_seq", "as_of"),
    *("is_replay", "bytes", "digest"),
)

Targets = Annotated[
    list[str],
    Argument(metavar="PROJECTION", help="'usage', which comes with the package, or your own: package.module:Class."),
]

SetsAside = Annotated[
    bool,
    Option(
        "--set-aside",
        help="Set aside events that a projection fails on or that do not decode, and continue. 'retry' applies them "
        "later.",
    ),
]


def tail(
    ctx: Context,
    follow: Annotated[
        bool, Option("--follow", "-f", help="Wait for more events and show them as they arrive, until Ctrl-C.")
    ] = False,
    after: After = None,
    from_now: Annotated[
        bool, Option("--from-now", help="Show only events that are appended from now on. Needs -f.")
    ] = False,
    threads: Annotated[
        list[str] | None, Option("--thread", metavar="ID", help="Show only this thread's events. May be repeated.")
    ] = None,
    limit: Annotated[int | None, Option(min=1, metavar="N", help="Show at most N events.")] = None,
    changes: Annotated[
        bool, Option("--changes", help="Show the values that were appended, set and written, as 'history' does.")
    ] = False,
    as_csv: Annotated[
        bool, Option("--csv", help=f"Write CSV for spreadsheets, with the columns {', '.join(COLUMNS)}.")
    ] = False,
    full: Full = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Show the events of the log, oldest first, each exactly once.

    Each line ends with a cursor: --after CURSOR continues there. SIGINT and SIGTERM end -f after a whole line.
    """
    session = Session.of(ctx)
    if from_now and (after is not None or not follow):
        raise InvalidInputError("--from-now needs -f, and cannot be combined with --after")
    if as_csv and (changes or session.as_json):
        raise InvalidInputError(
            "--csv has columns for what each event is, not for values: give it without --changes and --json"
        )
    opened = session.open_to_look(allow, trust=trust) if changes else session.open()
    with opened as log, SIGNALS.following():
        last = log.tail_position() if from_now else after
        wanted: dict[str, Any] = {"thread_ids": threads or None, "limit": limit, "stop": SIGNALS.received}
        sheet = Sheet(COLUMNS) if as_csv else None
        if changes:
            for event, entry, values in log.tail_changes(last, follow=follow, **wanted):
                if SIGNALS.received():
                    break
                _show_change(session, event, entry, values, full=full)
                last = event.cursor
        else:
            for event in log.tail(last, follow=follow, **wanted):
                if SIGNALS.received():
                    break
                _show_event(session, event, sheet)
                last = event.cursor
    end_if_stopped(session, "" if last is None else f"To continue, add --after {last}", is_done=follow)


def _show_event(session: Session, event: StoredEvent, sheet: Sheet | None) -> None:
    kind = kind_name(event.kind)
    about = {
        "cursor": str(event.cursor),
        **{name: getattr(event, name) for name in ("thread_id", "checkpoint_ns", "seq", "recorded_at")},
        "kind": kind,
        **{name: getattr(event, name) for name in ("checkpoint_id", "base_seq", "as_of", "is_replay")},
        "bytes": len(event.body),
        "digest": event.digest,
    }
    if sheet is not None:
        sheet.row(*about.values())
        return
    session.document(**about)
    stream = f"{event.thread_id}/{event.checkpoint_ns}" if event.checkpoint_ns else event.thread_id
    relocated = " (relocated)" if event.is_replay else ""
    session.say(
        f"{when(event.recorded_at)}  {stream}  #{event.seq}  {kind}{relocated}"
        f"  {event.checkpoint_id or '-'}  {size(len(event.body))}  {event.cursor}"
    )


def _show_change(session: Session, event: StoredEvent, entry: HistoryEntry, values: list[Any], *, full: bool) -> None:
    document = change_document(entry, values) | {"cursor": str(event.cursor), "is_replay": event.is_replay}
    session.document(**document)
    session.lines(change_lines(entry, document["channels"], full, thread=True, cursor=str(event.cursor)))


def end_if_stopped(session: Session, advice: str, *, is_done: bool) -> None:
    """End with a signal's exit code, if one has come.

    Args:
        is_done: whether the command goes on until it is told to end, as SIGTERM does.
    """
    if SIGNALS.received():
        SIGNALS.finished()
        session.note(f"Stopped. {advice}".rstrip())
        raise Exit(0 if is_done and SIGNALS.first != SIGINT else SIGNALS.exit_code)


def lag(
    ctx: Context,
    after: Annotated[
        str | None,
        Option(metavar="CURSOR", help="The cursor of the reader's last event. By default the beginning of the log."),
    ] = None,
) -> None:
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
    poll: Annotated[
        float, Option(min=0.01, max=3600, metavar="SECONDS", help="Look for new events at this interval.")
    ] = 1.0,
    skip_undecodable: Annotated[
        bool, Option("--skip-undecodable", help="Skip events that do not decode, with a warning for each.")
    ] = False,
    set_aside: SetsAside = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Apply the log's events to projections as they arrive, until interrupted.

    Each batch commits together with the projection's cursor, so the command may be killed at any time and run again.
    SIGINT and SIGTERM end it after a batch. Of several workers for one projection, one applies and the others stand
    by.
    """
    session = Session.of(ctx)
    if set_aside and skip_undecodable:
        raise InvalidInputError("--set-aside also sets aside events that do not decode: leave out --skip-undecodable")
    aside: dict[str, int] = {}
    with session.open(allow=allow, trust=trust) as log, SIGNALS.following():
        projections = [_projection(target, session) for target in targets]
        with session.progress("Applying", None, "events") as update:
            waiting: set[str] = set()

            def tell(name: str, applied: Applied) -> None:
                if applied.is_standby and name not in waiting:
                    waiting.add(name)
                    session.note(f"Standing by: another worker applies {name}.")
                aside[name] = aside.get(name, 0) + applied.set_aside
                if applied.events or applied.set_aside:
                    session.document(
                        projection=name,
                        events=applied.events,
                        set_aside=applied.set_aside,
                        cursor=str(applied.cursor),
                    )
                    update(advance=applied.events)

            counts = log.project(
                projections,
                follow=not once,
                batch_events=batch,
                poll_interval=poll,
                on_batch=tell,
                on_undecodable="skip" if skip_undecodable else "stop",
                on_error="set_aside" if set_aside else "stop",
                stop=SIGNALS.received,
            )
    for name, events in aside.items():
        if events:
            session.note(
                f"Set aside {plural(events, 'event')} of {name}: 'eventlog project set-aside {name}' lists them."
            )
    applied = ", ".join(f"{plural(events, 'event')} to {name}" for name, events in counts.items())
    end_if_stopped(session, f"Applied {applied}; the next run continues.", is_done=not once)
    for name, events in counts.items():
        session.say(f"Applied {plural(events, 'event')} to {name}, which is up to date.")


def rebuild(
    ctx: Context, targets: Targets, set_aside: SetsAside = False, allow: Allow = None, trust: Trust = False
) -> None:
    """Empty projections and apply the whole log again, after a change of their version.

    After an interruption, 'project run' continues. Events that were erased from the log are not applied.
    """
    session = Session.of(ctx)
    with session.open() as log:
        log.rebuild_projection([_projection(target, session) for target in targets])
    run(ctx, targets, once=True, set_aside=set_aside, allow=allow, trust=trust)


def retry(ctx: Context, targets: Targets, allow: Allow = None, trust: Trust = False) -> None:
    """Apply events again that projections have set aside. Ends with 1 if some fail again.

    They are applied in the order of the log, after the events that the projection has applied since.
    """
    session = Session.of(ctx)
    with session.open(allow=allow, trust=trust) as log:
        found = log.retry_set_aside([_projection(target, session) for target in targets])
    for name, (applied, failed, gone) in found.items():
        session.document(projection=name, applied=applied, failed=failed, gone=gone)
        session.say(
            f"Applied {plural(applied, 'event')} to {name}; {failed:,} failed again and stay aside, {gone:,} were "
            "erased from the log."
        )
    if any(each.failed for each in found.values()):
        raise Exit(1)


def list_set_aside(
    ctx: Context,
    name: Annotated[str | None, Argument(metavar="NAME", help="The projection's name. By default all.")] = None,
    limit: Annotated[int, Option(min=1, metavar="N", help="Show at most N events.")] = 100,
) -> None:
    """List the events that projections have set aside, with the errors."""
    session = Session.of(ctx)
    with session.open() as log:
        found = log.set_aside_events(name, limit=limit)
    session.documents(found)
    if not found:
        session.note("No events were set aside.")
        return
    columns: Columns = {
        "projection": "projection",
        "thread": "thread_id",
        "namespace": "checkpoint_ns",
        "event": "seq",
        "cursor": "cursor",
        "at (UTC)": "set_aside_at",
        "error": "error",
    }
    session.table(columns, found)
    if len(found) == limit:
        session.note("There may be more: --limit shows them.")


def forget(ctx: Context, name: Annotated[str, Argument(metavar="NAME", help="The projection's name.")]) -> None:
    """Delete a projection's cursor. Its tables stay until you drop them."""
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
        "set aside": "set_aside",
        "last applied (UTC)": "applied_at",
        "complete since": "caught_up_at",
        "class": "source",
    }
    session.table(columns, found)


def _projection(target: str, session: Session) -> Projection:
    if target == Usage.name:
        return Usage(session.schema)
    found = named_object(target, "a projection: write 'usage', or")
    projection: Projection = found() if isinstance(found, type) else found
    return projection


#: The commands of `project`, by name.
PROJECT: dict[str, Callable[..., None]] = {
    "run": run,
    "rebuild": rebuild,
    "set-aside": list_set_aside,
    "retry": retry,
    "forget": forget,
    "list": list_,
}
