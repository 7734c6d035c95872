"""`rebuild`: projections and snapshots from the log alone, or only compared with it."""

from __future__ import annotations

from typing import Annotated

import typer

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog._rebuild import WORKERS
from langgraph.checkpoint.eventlog.cli.commands.show import Allow, Trust
from langgraph.checkpoint.eventlog.cli.render.output import Output, plural
from langgraph.checkpoint.eventlog.cli.session import Session
from projections.compare import RowDifference
from projections.rebuild import Rebuilt

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(rebuild)


def rebuild(
    ctx: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing: compare, and exit with 1 when rows differ.")
    ] = False,
    workers: Annotated[
        int, typer.Option("--workers", min=1, metavar="N", help="Run N transactions in parallel.")
    ] = WORKERS,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Discard the rows of an interrupted rebuild, and start from the beginning."),
    ] = False,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="Only drop the tables that earlier rebuilds replaced.")
    ] = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Rebuild projections and snapshots from the log, while readers and writers go on.

    At the end the new tables replace the live ones; the old ones stay until --drop-old. After an interruption, run the
    command again to continue.
    """
    if drop_old and (check or restart):
        raise InvalidInputError("--drop-old only drops tables: leave out --check and --restart")
    session = Session.of(ctx)
    output = session.output
    # A connection for each worker.
    with session.open_to_apply(allow or (), trust=trust, connections=workers) as log:
        if drop_old:
            _say_dropped(output, log.drop_old())
            return

        def tell(difference: RowDifference) -> None:
            if session.as_json:
                output.document(**difference._asdict())

        with output.measure("Comparing" if check else "Rebuilding", "events") as update:
            done = log.rebuild(
                check=check,
                workers=workers,
                restart=restart,
                on_progress=lambda at: update(at.events, at.total, at.rate, at.seconds_left),
                on_difference=tell,
            )
    _report(output, done, check=check)
    if check and any(done.differing.values()):
        raise typer.Exit(1)


def _say_dropped(output: Output, names: list[str]) -> None:
    if output.as_json:
        output.document(dropped=names)
    elif names:
        output.say(f"Dropped {', '.join(names)}.")
    else:
        output.say("No old tables to drop.")


def _report(output: Output, done: Rebuilt, *, check: bool) -> None:
    if output.as_json:
        rows = {"streams": done.streams, "checkpoints": done.checkpoints}
        if not check:
            rows |= {"snapshots": done.snapshots}
        locked = {} if check else {"locked_seconds": round(done.locked_seconds, 6)}
        output.document(**rows, events=done.events, differing=done.differing, **locked)
        return
    count = sum(done.differing.values())
    if done.differences:
        output.table(
            {"thread": False, "namespace": False, "table": False, "row": False, "what": False, "difference": False},
            [_cells(each) for each in done.differences],
        )
    if len(done.differences) < count:
        output.note(f"{plural(count - len(done.differences), 'row')} more.")
    if count:
        tables = ", ".join(f"{table} {differing:,}" for table, differing in done.differing.items() if differing)
        was = ("is" if count == 1 else "are") if check else ("was" if count == 1 else "were")
        output.note(f"{plural(count, 'row')} {was} different from the log: {tables}.", "red" if check else "")
    if not check:
        output.say(
            f"Rebuilt {plural(done.streams, 'stream')}, {plural(done.checkpoints, 'checkpoint')} and "
            f"{plural(done.snapshots, 'snapshot')}. Writers waited for {done.locked_seconds * 1000:,.0f} ms."
        )
    elif not count:
        output.say(f"Compared {plural(done.streams, 'stream')} with {plural(done.events, 'event')}: no row differs.")


def _cells(difference: RowDifference) -> tuple[str, ...]:
    columns = zip(difference.columns, difference.live, difference.derived, strict=True)
    return (
        *difference[:5],
        "; ".join(f"{name}: {_value(live)}, not {_value(derived)}" for name, live, derived in columns),
    )


def _value(value: str | None) -> str:
    return "null" if value is None else value
