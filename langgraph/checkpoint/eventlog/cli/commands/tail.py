"""`tail` and `lag`: the log as it grows, and how far a reader of it is behind."""

from __future__ import annotations

from typing import Annotated

import typer

from eventlog.errors import InvalidInputError
from eventlog.events import Kind, StoredEvent
from eventlog.lag import COUNT_LIMIT, Holder, Lag
from langgraph.checkpoint.eventlog.cli.render.output import Output, plural, printable, size, when
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["register"]

KINDS = {
    Kind.CHECKPOINT_SAVED: "checkpoint",
    Kind.WRITES_SAVED: "writes",
    Kind.THREAD_DELETED: "deleted",
    Kind.PARTLY_ERASED: "erased",
    Kind.COPIED: "copied",
}

After = Annotated[
    str | None,
    typer.Option(
        "--after",
        metavar="CURSOR",
        show_default=False,
        help="Start after this cursor, such as 1-8123-4567. By default at the beginning.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (tail, lag):
        app.command()(command)


def tail(
    ctx: typer.Context,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for more events, and show them as they come.")
    ] = False,
    after: After = None,
    from_now: Annotated[bool, typer.Option("--from-now", help="Start at the end of the log; with -f.")] = False,
    threads: Annotated[
        list[str] | None,
        typer.Option(
            "--thread", metavar="ID", show_default=False, help="Show only this thread's events. May be repeated."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", show_default=False, help="Show at most N events.")
    ] = None,
) -> None:
    """Show the events of the log, oldest first, each exactly once.

    Each line ends with a cursor: --after starts behind it.
    """
    session = Session.of(ctx)
    if from_now and (after is not None or not follow):
        raise InvalidInputError("--from-now goes with -f, and not with --after")
    output = session.output
    with session.open() as log:
        start = log.tail_position() if from_now else after
        for event in log.tail(start, follow=follow, thread_ids=threads or None, limit=limit):
            _show(output, event)


def _show(output: Output, event: StoredEvent) -> None:
    """One line, at once: somebody may be waiting for it."""
    kind = KINDS[event.kind]
    if output.as_json:
        output.document(
            cursor=str(event.cursor),
            thread_id=event.thread_id,
            checkpoint_ns=event.checkpoint_ns,
            seq=event.seq,
            recorded_at=event.recorded_at,
            kind=kind,
            checkpoint_id=event.checkpoint_id,
            base_seq=event.base_seq,
            as_of=event.as_of,
            is_replay=event.is_replay,
            bytes=len(event.body),
            digest=event.digest.hex(),
        )
        return
    where = f"{event.thread_id}/{event.checkpoint_ns}" if event.checkpoint_ns else event.thread_id
    again = " (carried forward)" if event.is_replay else ""
    output.say(
        f"{when(event.recorded_at)}  {printable(where)}  #{event.seq}  {kind}{again}"
        f"  {printable(event.checkpoint_id) or '-'}  {size(len(event.body))}  {event.cursor}"
    )


def lag(ctx: typer.Context, after: After = None) -> None:
    """Show how many events a reader has not read yet, and which transaction holds the feed back."""
    session = Session.of(ctx)
    output = session.output
    with session.open() as log:
        found = log.lag(after)
        end = log.tail_position()
    if output.as_json:
        held_by = None if found.held_by is None else found.held_by._asdict()
        output.document(**{**found._asdict(), "cursor": str(found.cursor), "held_by": held_by, "end": str(end)})
        return
    output.say(f"{_count(found.waiting)} after {found.cursor}{_age(found)}. The end of the feed is {end}.")
    if found.unsettled:
        output.say(f"{_count(found.unsettled)} not settled yet: an older transaction has not ended.")
    if found.held_by is not None:
        output.say(f"The oldest transaction is {_holder(found.held_by)}.")


def _count(events: int) -> str:
    return f"{plural(events, 'event')}{' or more' if events == COUNT_LIMIT else ''}"


def _age(found: Lag) -> str:
    return "" if found.oldest_seconds is None else f", the first of them {found.oldest_seconds:,.1f} s old"


def _holder(holder: Holder) -> str:
    if holder.prepared_as is not None:
        return f"{holder.xid}, prepared as {printable(holder.prepared_as)!r} at {when(holder.started_at)}"
    if holder.pid is None:
        return f"{holder.xid}, which only the primary can name: ask there"
    user, database = printable(holder.user or "-"), printable(holder.database or "-")
    process = f"{holder.xid}: process {holder.pid} of {user} in {database}"
    if holder.state is None:
        return f"{process}, and this user may not see its query: grant pg_read_all_stats to it"
    return (
        f"{process} ({printable(holder.application or '-')}), {holder.state} since {when(holder.started_at)}: "
        f"{printable((holder.query or '-')[:200])}"
    )
