"""Commands that erase nothing: `setup`, `threads`, `partitions`, `copy`, `fork`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from eventlog.partitions import Partition, Partitions
from eventlog.threads import ThreadSummary
from langgraph.checkpoint.eventlog import EventLog
from langgraph.checkpoint.eventlog.cli.parsing import time
from langgraph.checkpoint.eventlog.cli.render.output import Output, plural, printable, size, span, when
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["register", "show_partitions"]


Interval = Annotated[
    str | None,
    typer.Option(
        "--interval",
        metavar="day|week|month",
        show_default=False,
        help="The time span of a new partition. By default that of the newest partition; at first, a month.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (setup, threads, partitions, copy, fork):
        app.command()(command)


def setup(ctx: typer.Context, interval: Interval = None) -> None:
    """Create the missing objects in the database: schema, tables, functions, partitions ahead.

    Run it before the first use and again at every deployment.
    """
    session = Session.of(ctx)
    output = session.output
    with session.open_to_write(interval) as log:
        log.setup()
        there = log.partitions()
    if session.as_json:
        output.document(schema=session.schema, partitions=len(there.partitions), **_runway(there))
    else:
        output.say(
            f"The event log in schema {printable(session.schema)!r} is set up. Its partitions last "
            f"{_lasting(there.runway)}."
        )
    _warn_if_short(output, there)


def threads(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show at most N threads.")] = 100,
    before: Annotated[
        str | None,
        typer.Option(
            "--before",
            metavar="TIME",
            show_default=False,
            help="Show only threads last active before this time, such as 2026-11-22T10:30:00Z.",
        ),
    ] = None,
) -> None:
    """List threads with their sizes, the last active first."""
    session = Session.of(ctx)
    output = session.output
    until = None if before is None else time(before, "--before")
    with session.open() as log:
        found = log.threads(limit=limit, before=until)
    if session.as_json:
        for thread in found:
            output.document(**thread._asdict())
        return
    if not found:
        output.note("No threads.")
        return
    _show_threads(output, found)
    last = found[-1].active_at
    if len(found) == limit and last is not None:
        output.note(f"For earlier threads: --before {last.isoformat().replace('+00:00', 'Z')}")


def _show_threads(output: Output, found: list[ThreadSummary]) -> None:
    output.table(
        {
            "thread": False,
            "last active (UTC)": False,
            "namespaces": True,
            "checkpoints": True,
            "events": True,
            "size": True,
        },
        [
            (
                each.thread_id,
                when(each.active_at),
                f"{each.namespaces:,}",
                f"{each.checkpoints:,}",
                f"{each.events:,}",
                size(each.bytes),
            )
            for each in found
        ],
    )


def partitions(
    ctx: typer.Context,
    exact: Annotated[
        bool, typer.Option("--exact", help="Count the rows instead of estimating them, which reads the whole log.")
    ] = False,
    make: Annotated[
        int | None,
        typer.Option(
            "--make",
            min=0,
            max=1000,
            metavar="N",
            show_default=False,
            help="First create the current partition and N after it, where they are missing.",
        ),
    ] = None,
    interval: Interval = None,
) -> None:
    """List the partitions of the log, oldest first, and the time until they run out."""
    session = Session.of(ctx)
    output = session.output
    with session.open() if make is None else session.open_to_write(interval) as log:
        made = None if make is None else log.make_partitions(make)
        there = log.partitions(exact=exact)
    if session.as_json:
        for partition in there.partitions:
            output.document(**partition._asdict())
        output.document(**_runway(there), **({} if made is None else {"made": made}))
    else:
        if there.partitions:
            show_partitions(output, there.partitions, exact=exact)
        output.say(f"They last {_lasting(there.runway)}.")
        if made is not None:
            output.say(f"Made {plural(len(made), 'partition')}{': ' if made else ''}{', '.join(made)}.")
    _warn_if_short(output, there)


def show_partitions(output: Output, found: list[Partition], *, exact: bool, aside: bool = False) -> None:
    """A table of partitions, for people; where rows are estimates, it says so."""
    output.table(
        {"partition": False, "from (UTC)": False, "to": False, "rows" if exact else "rows (about)": True, "size": True},
        [(each.name, when(each.starts_at), when(each.ends_at), f"{each.rows:,}", size(each.bytes)) for each in found],
        aside=aside,
    )


def _runway(there: Partitions) -> dict[str, object]:
    return {"runway": there.runway, "is_short": there.is_short}


def _lasting(runway: timedelta) -> str:
    return f"for {span(runway)}" if runway > timedelta(0) else "for no time: the present has no partition"


def _warn_if_short(output: Output, there: Partitions) -> None:
    if there.is_short:
        output.note(
            f"Warning: the partitions last {_lasting(there.runway)}. Create more as the owner of the log: "
            "eventlog partitions --make 3",
            "yellow",
        )


def copy(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="The thread to copy.", show_default=False)],
    target: Annotated[str, typer.Argument(help="The new thread's id.", show_default=False)],
) -> None:
    """Copy a thread with all its checkpoints and writes."""
    session = Session.of(ctx)
    with session.open_to_write() as log:
        log.copy_thread(source, target, actor=session.on_behalf_of)
        _show_copy(session, log, "Copied", source, target)


def fork(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(help="The thread to copy from.", show_default=False)],
    target: Annotated[str, typer.Argument(help="The new thread's id.", show_default=False)],
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="ID",
            show_default=False,
            help="The root graph's checkpoint that the new thread ends with. By default the latest.",
        ),
    ] = None,
) -> None:
    """Copy only the path to one checkpoint of a thread."""
    session = Session.of(ctx)
    with session.open_to_write() as log:
        config = log.fork_thread(source, target, checkpoint, actor=session.on_behalf_of)
        _show_copy(session, log, "Forked", source, target, checkpoint_id=config["configurable"]["checkpoint_id"])


def _show_copy(
    session: Session, log: EventLog, done: str, source: str, target: str, checkpoint_id: str | None = None
) -> None:
    (made,) = log.threads([target])
    if session.as_json:
        at = {} if checkpoint_id is None else {"checkpoint_id": checkpoint_id}
        session.output.document(source_thread_id=source, **at, **made._asdict())
        return
    where = "" if checkpoint_id is None else f", at checkpoint {printable(checkpoint_id)}"
    session.output.say(
        f"{done} {printable(source)} to {printable(target)}{where}: {plural(made.checkpoints, 'checkpoint')}, "
        f"{size(made.bytes)}."
    )
