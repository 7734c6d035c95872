"""The log as a whole: `setup`, `grant`, `partitions`, `stats`."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from typer import Argument, Context, Option

from eventlog.distribution import MOST_SHARDS
from eventlog.partitions import Partition, Partitions
from langgraph.checkpoint.eventlog import Stats
from langgraph.checkpoint.eventlog.cli.options import Interval
from langgraph.checkpoint.eventlog.cli.render.output import Columns, Output, fields_of, plural, size, span, when
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["grant", "partitions", "setup", "show_partitions", "stats"]

Exact = Annotated[bool, Option("--exact", help="Count rows instead of estimating them. This reads the whole log.")]

RELATIONS: Columns = {
    "table": "name",
    "rows": "rows",
    "rows are": lambda each: "counted" if each.is_exact else "estimated",
    "size": "bytes",
    "rows alone": "heap_bytes",
    "indexes": "index_bytes",
    "large values": "toast_bytes",
}


def setup(
    ctx: Context,
    interval: Interval = None,
    ahead: Annotated[
        int | None,
        Option(
            min=0,
            max=1000,
            metavar="N",
            help="How many partitions to make beyond the current one. Stored in the database; 3 at first.",
        ),
    ] = None,
    citus: Annotated[
        bool,
        Option("--citus", help="Distribute the log by thread over the Citus cluster that the database belongs to."),
    ] = False,
    shards: Annotated[
        int | None,
        Option(min=1, max=MOST_SHARDS, metavar="N", help="With --citus: into how many shards; 32 at first."),
    ] = None,
) -> None:
    """Create missing objects in the database: schema, tables, functions, partitions ahead.

    Run it before the first use and again at every deployment.
    """
    session = Session.of(ctx)
    with session.open() as log:
        log.setup(
            partition_interval=interval,  # type: ignore[arg-type]  # validated there
            partitions_ahead=ahead,
            citus=citus,
            shards=shards,
        )
        there = log.partitions()
    session.document(schema=session.schema, partitions=len(there.partitions), **_runway_fields(there))
    session.say(f"The event log in schema {session.schema!r} is set up. Its partitions last {_runway(there)}.")
    _warn_if_short(session, there)


def grant(
    ctx: Context,
    rights: Annotated[
        str,
        Argument(metavar="RIGHTS", help="The set of rights: writer, eraser, sealer, auditor, projector or importer."),
    ],
    role: Annotated[str, Argument(metavar="ROLE", help="The database role; it must exist.")],
) -> None:
    """Grant a set of rights on the log to a database role.

    The log stores the grant: a later setup also grants the role any right that a new version adds to the set.
    """
    session = Session.of(ctx)
    with session.open() as log:
        log.grant(rights, role)  # type: ignore[arg-type]  # validated there
    session.document(rights=rights, role=role)
    session.say(f"Role {role!r} has the rights of {rights} on the event log in schema {session.schema!r}.")


def partitions(
    ctx: Context,
    exact: Exact = False,
    make: Annotated[
        int | None,
        Option(
            min=0,
            max=1000,
            metavar="N",
            help="First create the current partition and the N after it, if they are missing.",
        ),
    ] = None,
) -> None:
    """List the partitions of the log, oldest first, and the time until they run out."""
    session = Session.of(ctx)
    with session.open() as log:
        made = None if make is None else log.make_partitions(make)
        there = log.partitions(exact=exact)
    session.documents(there.partitions)
    session.document(**_runway_fields(there), **({} if made is None else {"made": made}))
    if there.partitions:
        show_partitions(session, there.partitions, exact=exact)
    session.say(f"They last {_runway(there)}.")
    if made is not None:
        session.say(f"Made {plural(len(made), 'partition')}{': ' if made else ''}{', '.join(made)}.")
    _warn_if_short(session, there)


def show_partitions(output: Output, found: list[Partition], *, exact: bool) -> None:
    """Write a table of partitions; its heading says whether rows are estimates."""
    rows = "rows" if exact else "rows (about)"
    columns = {"partition": "name", "from (UTC)": "starts_at", "to": "ends_at", rows: "rows", "size": "bytes"}
    output.table(columns, found)


def _runway_fields(there: Partitions) -> dict[str, Any]:
    return {"runway": there.runway, "is_short": there.is_short}


def _runway(there: Partitions) -> str:
    return f"for {span(there.runway)}" if there.runway > timedelta(0) else "for no time: the present has no partition"


def _warn_if_short(output: Output, there: Partitions) -> None:
    if there.is_short:
        how = "Create more as the owner of the log: eventlog partitions --make 3"
        output.note(f"Warning: the partitions last {_runway(there)}. {how}", "yellow")


def stats(ctx: Context, exact: Exact = False) -> None:
    """Show the log's size and growth, and how many events a read replays."""
    session = Session.of(ctx)
    with session.open() as log:
        found = log.stats(exact=exact)
    # The cache is this process's, which has just begun.
    session.document(**{name: each for name, each in fields_of(found).items() if name != "cache"})
    _show_stats(session, found)


def _show_stats(output: Output, found: Stats) -> None:
    def about(name: str) -> str:
        return "about " if name in found.estimates else ""

    for name in ("threads", "streams"):
        output.say(f"{name:<12}{about(name)}{getattr(found, name):,} with data")
    output.say("")
    output.table(RELATIONS, found.relations)
    if found.partitions:
        output.say("")
        show_partitions(output, found.partitions, exact=found.is_exact)
    output.say("")
    growth, replay = found.growth, found.replay
    sample = ", in a sample" if "replay" in found.estimates else ""
    output.say(
        f"Growth: {about('growth')}{growth.events_per_day:,.0f} events and {size(round(growth.bytes_per_day))} "
        f"{'of bodies ' if found.is_exact else ''}a day since {when(growth.since)} UTC."
    )
    output.say(
        f"Reading a checkpoint replays {plural(replay.median, 'event')} after its keyframe at the median, "
        f"{replay.p95:,} at the 95th percentile, {replay.max:,} at most{sample}."
    )
    # A small log has pages of 8 KiB that are nearly empty.
    ratio = found.log_bytes / found.states_bytes if found.states_bytes else 0
    of = f": {f'{ratio:,.0f} times' if ratio > 2 else f'{ratio:.1%} of'} that" if ratio else ""
    bodies = "" if found.body_bytes is None else f" {size(found.body_bytes)} are bodies of events and snapshots."
    output.say(
        f"Written whole at each step, the states would take {about('states_bytes')}{size(found.states_bytes)}, not "
        f"compressed. The log takes {size(found.log_bytes)} on disk, with all indexes{of}.{bodies}"
    )
