"""Commands that erase: `delete`, `prune`, `delete-runs`, `expire`, `retain`.

All go the same way. A dry run shows what would go; somebody says yes; then it goes, thread by thread. Whoever says
``--yes`` has it go at once; without that and without a terminal nothing goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from eventlog.records import Erased
from langgraph.checkpoint.eventlog import EventLog
from langgraph.checkpoint.eventlog.cli.commands.threads import show_partitions
from langgraph.checkpoint.eventlog.cli.parsing import duration
from langgraph.checkpoint.eventlog.cli.render.output import MOST_ROWS, Output, is_interactive, plural, size, when
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.lifecycle.retain import Retained
from langgraph.checkpoint.eventlog.lifecycle.threads import STRATEGIES, OnThread

__all__ = ["register"]

#: Runs an erasure: whether it is a dry run, and what to tell of each thread.
Erasure = Callable[[bool, OnThread], Any]

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what the command would erase; change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (delete, prune, delete_runs, expire, retain):
        app.command(command.__name__.replace("_", "-"))(command)


def delete(
    ctx: typer.Context,
    thread_ids: Annotated[list[str], typer.Argument(metavar="THREAD", help="The threads' ids.", show_default=False)],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Erase threads: events, snapshots and projections. Tombstones without content stay in the log."""
    session = Session.of(ctx)

    def erase(log: EventLog, dry: bool, tell: OnThread) -> None:
        for thread_id in dict.fromkeys(thread_ids):
            found = log.threads([thread_id])
            if not dry:
                log.delete_thread(thread_id, actor=session.on_behalf_of)
            tell(Erased(thread_id, *((found[0].events, found[0].checkpoints, found[0].bytes) if found else (0, 0, 0))))

    _carry_out(session, erase, dry_run, yes, total=len(set(thread_ids)))


def prune(
    ctx: typer.Context,
    thread_ids: Annotated[list[str], typer.Argument(metavar="THREAD", help="The threads' ids.", show_default=False)],
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy",
            metavar="|".join(STRATEGIES),
            help="Keep the latest checkpoint of each namespace, or delete all.",
        ),
    ] = STRATEGIES[0],
    keep_last: Annotated[
        int | None,
        typer.Option(
            "--keep-last",
            min=1,
            metavar="N",
            show_default=False,
            help="Keep N checkpoints of each namespace, and the ends of branches and pending interrupts.",
        ),
    ] = None,
    older_than: Annotated[
        str | None,
        typer.Option(
            "--older-than",
            metavar="DURATION",
            show_default=False,
            help="Erase checkpoints older than this, such as 30d, except the ends of branches and pending interrupts.",
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Erase the history of threads; their latest state stays."""
    session = Session.of(ctx)
    age = None if older_than is None else duration(older_than, "--older-than")

    def erase(log: EventLog, dry: bool, tell: OnThread) -> None:
        log.prune(
            thread_ids,
            strategy=strategy,
            keep_last=keep_last,
            older_than=age,
            dry_run=dry,
            actor=session.on_behalf_of,
            on_thread=tell,
        )

    _carry_out(session, erase, dry_run, yes, total=len(set(thread_ids)))


def delete_runs(
    ctx: typer.Context,
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN", help="The runs' ids.", show_default=False)],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Erase the events of runs, in every thread."""
    session = Session.of(ctx)

    def erase(log: EventLog, dry: bool, tell: OnThread) -> None:
        log.delete_for_runs(run_ids, dry_run=dry, actor=session.on_behalf_of, on_thread=tell)

    _carry_out(session, erase, dry_run, yes)


def expire(
    ctx: typer.Context,
    idle: Annotated[
        str,
        typer.Option(
            "--idle",
            metavar="DURATION",
            show_default=False,
            help="Erase threads without an append for this long, such as 90d.",
        ),
    ],
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", show_default=False, help="Erase at most N threads.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Erase idle threads."""
    session = Session.of(ctx)
    length = duration(idle, "--idle")

    def erase(log: EventLog, dry: bool, tell: OnThread) -> None:
        log.expire(length, limit=limit, dry_run=dry, actor=session.on_behalf_of, on_thread=tell)

    _carry_out(session, erase, dry_run, yes)


def retain(
    ctx: typer.Context,
    history: Annotated[
        str,
        typer.Option(
            "--history",
            metavar="DURATION",
            show_default=False,
            help="Keep partitions with events younger than this, such as 90d.",
        ),
    ],
    drop_idle: Annotated[
        bool, typer.Option("--drop-idle", help="Also erase threads without an append since then.")
    ] = False,
    archive: Annotated[
        Path | None,
        typer.Option(
            "--archive",
            metavar="DIR",
            show_default=False,
            help="Write each partition to a Parquet file in this folder first (extra 'archive').",
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Drop the partitions of the log that are older than --history.

    The latest state of every thread survives.
    """
    session = Session.of(ctx)
    length = duration(history, "--history")

    def erase(log: EventLog, dry: bool, tell: OnThread) -> Retained:
        return log.retain(
            length, drop_idle=drop_idle, archive=archive, dry_run=dry, actor=session.on_behalf_of, on_thread=tell
        )

    _carry_out(session, erase, dry_run, yes)


# --- the way that all of them go


def _carry_out(
    session: Session,
    erase: Callable[[EventLog, bool, OnThread], Retained | None],
    dry_run: bool,
    yes: bool,
    total: int | None = None,
) -> None:
    output = session.output
    if not (dry_run or yes or is_interactive()):
        output.note(
            "Error: this command asks before it erases, and there is no terminal: give --yes, or --dry-run to look."
        )
        raise typer.Exit(2)
    # A dry run writes nothing, and needs no partition to write it to.
    with session.open() if dry_run else session.open_to_write() as log:
        run = partial(erase, log)
        if not (dry_run or yes):
            total = _ask(output, run, total)
        _run(output, run, total, dry=dry_run, as_json=session.as_json)


def _ask(output: Output, run: Erasure, total: int | None) -> int:
    """Show what would go and ask; returns of how many threads."""
    erased: list[Erased] = []
    with output.progress("Looking", total) as advance:

        def tell(each: Erased) -> None:
            erased.append(each)
            advance()

        retained = run(True, tell)
    _show(output, erased, retained, dry=True, aside=True)
    if not _amounts_to_something(erased, retained):
        raise typer.Exit(0)
    output.confirm("Erase this for good?")
    return len(erased)


def _run(output: Output, run: Erasure, total: int | None, *, dry: bool, as_json: bool) -> None:
    erased: list[Erased] = []
    with output.progress("Looking" if dry else "Erasing", total) as advance:

        def tell(each: Erased) -> None:
            erased.append(each)
            if as_json:
                output.document(**each._asdict())
            advance()

        retained = run(dry, tell)
    if not as_json:
        _show(output, erased, retained, dry=dry, aside=False)
    elif retained is not None:
        _write(output, retained)


def _amounts_to_something(erased: Sequence[Erased], retained: Retained | None) -> bool:
    return bool(retained.partitions) if retained is not None else any(each.events for each in erased)


def _write(output: Output, retained: Retained) -> None:
    for partition in retained.partitions:
        output.document(**partition._asdict())
    output.document(**{**asdict(retained), "partitions": [each.name for each in retained.partitions]})


def _show(output: Output, erased: Sequence[Erased], retained: Retained | None, *, dry: bool, aside: bool) -> None:
    """Show people what went, or would go."""
    write = output.note if aside else output.say
    if not _amounts_to_something(erased, retained):
        write("Nothing to erase.")
        return
    if retained is not None:
        _show_retained(output, retained, dry=dry, aside=aside)
        return
    some = [each for each in erased if each.events]
    if len(some) > MOST_ROWS:
        some.sort(key=lambda each: -each.bytes)
    output.table(
        {"thread": False, "checkpoints": True, "events": True, "size": True},
        [(each.thread_id, f"{each.checkpoints:,}", f"{each.events:,}", size(each.bytes)) for each in some[:MOST_ROWS]],
        aside=aside,
    )
    if len(some) > MOST_ROWS:
        write(f"… the {MOST_ROWS} largest of {plural(len(some), 'thread')}")
    would = "This would erase" if dry else "Erased"
    write(
        f"{would} {plural(sum(each.checkpoints for each in some), 'checkpoint')}, "
        f"{plural(sum(each.events for each in some), 'event')}, {size(sum(each.bytes for each in some))} "
        f"from {plural(len(some), 'thread')}."
    )


def _show_retained(output: Output, retained: Retained, *, dry: bool, aside: bool) -> None:
    write = output.note if aside else output.say
    show_partitions(output, retained.partitions, exact=not dry, aside=aside)
    would, begins = ("This would drop", "would begin") if dry else ("Dropped", "begins")
    write(
        f"{would} {plural(len(retained.partitions), 'partition')}, {size(sum(p.bytes for p in retained.partitions))}. "
        f"The log {begins} at {when(retained.before)} UTC."
    )
    cut = "would be cut" if dry else "cut"
    write(
        f"{plural(retained.relocated_threads, 'thread')} {cut}: the latest state stays. "
        f"{plural(retained.dropped_threads, 'idle thread')} {'would be erased' if dry else 'erased'}."
    )
    for path in retained.archives:
        write(f"Archived to {path}")
