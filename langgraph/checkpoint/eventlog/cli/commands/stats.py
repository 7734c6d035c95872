"""`stats`: the log in numbers."""

from __future__ import annotations

from typing import Annotated

import typer

from langgraph.checkpoint.eventlog import Stats
from langgraph.checkpoint.eventlog.cli.commands.threads import show_partitions
from langgraph.checkpoint.eventlog.cli.render.output import Output, plural, size, when
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(stats)


def stats(
    ctx: typer.Context,
    exact: Annotated[
        bool, typer.Option("--exact", help="Count and sum all rows, which reads the whole log, instead of estimates.")
    ] = False,
) -> None:
    """Show the log's size and growth, and how many events a read replays."""
    session = Session.of(ctx)
    with session.open() as log:
        found = log.stats(exact=exact)
    if session.as_json:
        # The cache is this process's, which has just begun.
        fields = {name: each for name, each in found._asdict().items() if name != "cache"}
        session.output.document(
            **{
                **fields,
                "relations": [each._asdict() for each in found.relations],
                "partitions": [each._asdict() for each in found.partitions],
                "growth": found.growth._asdict(),
                "replay": found.replay._asdict(),
            }
        )
    else:
        _show(session.output, found)


def _show(output: Output, found: Stats) -> None:
    about = "" if found.is_exact else "about "
    counts = ("threads", "streams", "checkpoints", "events", "snapshots")
    for name in counts:
        output.say(f"{name:<12}{about}{getattr(found, name):,}")
    output.say("")
    output.table(
        {"table": False, "rows (about)": True, "size": True, "rows alone": True, "indexes": True, "large values": True},
        [
            (
                each.name,
                f"{each.rows:,}",
                *(size(part) for part in (each.bytes, each.heap_bytes, each.index_bytes, each.toast_bytes)),
            )
            for each in found.relations
        ],
    )
    if found.partitions:
        output.say("")
        show_partitions(output, found.partitions, exact=found.is_exact)
    output.say("")
    growth, replay = found.growth, found.replay
    output.say(
        f"Growth: {growth.events_per_day:,.0f} events and {size(round(growth.bytes_per_day))} a day since "
        f"{when(growth.since)} UTC."
    )
    output.say(
        f"Reading a checkpoint replays {plural(replay.median, 'event')} after its keyframe at the median, "
        f"{replay.p95:,} at the 95th percentile, {replay.max:,} at most."
    )
    of = f": {found.log_bytes / found.states_bytes:.1%} of that" if found.states_bytes else ""
    output.say(
        f"Written whole at each step, the states would take {about}{size(found.states_bytes)}, not compressed. "
        f"{'The bodies of events and snapshots take' if found.is_exact else 'The log takes'} {size(found.log_bytes)}"
        f"{'' if found.is_exact else ' on disk, with all indexes'}{of}."
    )
