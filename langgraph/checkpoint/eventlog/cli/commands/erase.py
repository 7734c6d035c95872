"""Commands that erase: `delete`, `prune`, `delete-runs`, `expire`, `retain`.

All go the same way: a dry run shows the threads, a question is asked, and they are erased, thread by thread. With
``--yes`` they are erased at once; without it and without a terminal nothing is.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Context, Exit, Option

from eventlog.records import Erased
from langgraph.checkpoint.eventlog import EventLog
from langgraph.checkpoint.eventlog.cli.commands.log import show_partitions
from langgraph.checkpoint.eventlog.cli.options import DryRun, Threads, Yes
from langgraph.checkpoint.eventlog.cli.parsing import duration
from langgraph.checkpoint.eventlog.cli.render.output import (
    Columns,
    Output,
    fields_of,
    is_interactive,
    plural,
    size,
    when,
)
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.lifecycle.retain import Retained
from langgraph.checkpoint.eventlog.lifecycle.threads import STRATEGIES, OnThread

__all__ = ["delete", "delete_runs", "expire", "prune", "retain"]

#: Rows of a table of erased threads; the rest is counted.
MOST_ROWS = 30

COLUMNS = {"thread": "thread_id", "checkpoints": "checkpoints", "events": "events", "size": "bytes"}

#: What a second is enough for, on the machine that it was measured on (docs/performance.md).
RATE = "100 MB"

#: A method of the log that erases, but for `dry_run`, `actor` and `on_thread`.
Erase = Callable[..., Any]


def delete(
    ctx: Context,
    thread_ids: Threads,
    purge: Annotated[
        bool,
        Option("--purge", help="Then remove their bytes from the database's files, which locks table after table."),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Erase threads: events, snapshots and projections. Tombstones without content stay in the log."""
    _carry_out(ctx, lambda log: partial(_delete, log, thread_ids), dry_run, yes, total=len(set(thread_ids)))
    if purge:
        _purge(Session.of(ctx), list(thread_ids), dry=dry_run)


def _purge(session: Session, thread_ids: list[str], *, dry: bool) -> None:
    with session.open() as log, session.progress("Looking" if dry else "Purging", None, "tables") as update:
        done = log.purge(thread_ids, dry_run=dry, on_table=lambda _: update(advance=1))
    for each in done.tables:
        session.document(purged=each.name, **each._asdict())
    session.document(left=done.left, held_by=done.held_by)
    locked = {} if dry else {"locked for": lambda each: f"{each.seconds:,.2f} s"}
    columns: Columns = {
        "table": "name",
        "size before": "bytes_before",
        **({} if dry else {"size after": "bytes_after"}),
    }
    session.table({**columns, **locked}, done.tables)
    total = sum(each.bytes_before for each in done.tables)
    session.say(
        f"This would write {plural(len(done.tables), 'table')} again, {size(total)}: each is locked meanwhile, about a "
        f"second for {RATE}."
        if dry
        else f"Wrote {plural(len(done.tables), 'table')} again: their files have nothing of what was erased. WAL, "
        "backups, replicas and freed blocks of the disk may."
    )
    for statement, owner in done.left.items():
        session.note(f"Not done, as only {owner} may: {statement}")
    for holder in done.held_by:
        session.note(f"Erased rows stay for {holder}: end it, and run this again.")
    if (done.left or done.held_by) and not dry:
        raise Exit(1)


def _delete(log: EventLog, thread_ids: list[str], *, dry_run: bool, actor: str | None, on_thread: OnThread) -> None:
    for thread_id in dict.fromkeys(thread_ids):
        found = log.threads([thread_id])
        if not dry_run:
            log.delete_thread(thread_id, actor=actor)
        counts = (found[0].events, found[0].checkpoints, found[0].bytes) if found else (0, 0, 0)
        on_thread(Erased(thread_id, *counts))


def prune(
    ctx: Context,
    thread_ids: Threads,
    strategy: Annotated[
        str, Option(metavar="|".join(STRATEGIES), help="Keep the latest checkpoint of each namespace, or delete all.")
    ] = STRATEGIES[0],
    keep_last: Annotated[
        int | None,
        Option(min=1, metavar="N", help="Keep N of each namespace, and the ends of branches and pending interrupts."),
    ] = None,
    older_than: Annotated[
        timedelta | None,
        Option(
            parser=duration,
            metavar="DURATION",
            help="Erase older checkpoints, except the ends of branches and pending interrupts. Such as 30d.",
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Erase the history of threads; their latest state stays."""
    options: dict[str, Any] = {"strategy": strategy, "keep_last": keep_last, "older_than": older_than}
    _carry_out(ctx, lambda log: partial(log.prune, thread_ids, **options), dry_run, yes, total=len(set(thread_ids)))


def delete_runs(
    ctx: Context,
    run_ids: Annotated[list[str], Argument(metavar="RUN", help="The runs' ids.")],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Erase the events of runs, in every thread."""
    _carry_out(ctx, lambda log: partial(log.delete_for_runs, run_ids), dry_run, yes)


def expire(
    ctx: Context,
    idle: Annotated[
        timedelta,
        Option(parser=duration, metavar="DURATION", help="Erase threads without an append for this long, such as 90d."),
    ],
    limit: Annotated[int | None, Option(min=1, metavar="N", help="Erase at most N threads.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Erase idle threads."""
    _carry_out(ctx, lambda log: partial(log.expire, idle, limit=limit), dry_run, yes)


def retain(
    ctx: Context,
    history: Annotated[
        timedelta,
        Option(parser=duration, metavar="DURATION", help="Keep partitions with events younger than this, such as 90d."),
    ],
    drop_idle: Annotated[bool, Option("--drop-idle", help="Also erase threads without an append since then.")] = False,
    archive: Annotated[
        Path | None,
        Option(metavar="DIR", help="Write each partition to a Parquet file in this folder first (extra 'archive')."),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Drop the partitions of the log that are older than --history.

    The latest state of every thread survives.
    """
    _carry_out(ctx, lambda log: partial(log.retain, history, drop_idle=drop_idle, archive=archive), dry_run, yes)


# --- the way that all of them go


def _carry_out(
    ctx: Context, erase_in: Callable[[EventLog], Erase], dry_run: bool, yes: bool, total: int | None = None
) -> None:
    session = Session.of(ctx)
    if not (dry_run or yes or is_interactive()):
        session.note(
            "Error: this command asks before it erases, and there is no terminal: give --yes, or --dry-run to look."
        )
        raise Exit(2)
    # A dry run writes nothing, and needs no partition to write it to.
    with session.open() as log:
        erase = partial(erase_in(log), actor=session.on_behalf_of)
        if not (dry_run or yes):
            total, is_any = _run(session.aside(), erase, total, dry=True)
            if not is_any:
                return
            session.confirm("Erase this for good?")
        _run(session, erase, total, dry=dry_run)


def _run(output: Output, erase: Erase, total: int | None, *, dry: bool) -> tuple[int, bool]:
    """Erase, or look; returns how many threads that concerns, and whether there is anything to erase."""
    erased: list[Erased] = []
    with output.progress("Looking" if dry else "Erasing", total, "threads") as update:

        def tell(each: Erased) -> None:
            erased.append(each)
            output.documents([each])
            update(advance=1)

        done = erase(dry_run=dry, on_thread=tell)
    if isinstance(done, Retained):
        _show_retained(output, done, dry=dry)
        return len(erased), bool(done.partitions)
    some = [each for each in erased if each.events]
    _show_erased(output, some, dry=dry)
    return len(erased), bool(some)


def _show_retained(output: Output, retained: Retained, *, dry: bool) -> None:
    output.documents(retained.partitions)
    output.document(**{**fields_of(retained), "partitions": [each.name for each in retained.partitions]})
    if not retained.partitions:
        output.say("Nothing to erase.")
        return
    show_partitions(output, retained.partitions, exact=not dry)
    would, begins, cut = ("This would drop", "would begin", "would be ") if dry else ("Dropped", "begins", "")
    output.say(
        f"{would} {plural(len(retained.partitions), 'partition')}, "
        f"{size(sum(each.bytes for each in retained.partitions))}. The log {begins} at {when(retained.before)} UTC."
    )
    output.say(
        f"{plural(retained.relocated_threads, 'thread')} {cut}cut: the latest state stays. "
        f"{plural(retained.dropped_threads, 'idle thread')} {cut}erased."
    )
    for path in retained.archives:
        output.say(f"Archived to {path}")


def _show_erased(output: Output, erased: list[Erased], *, dry: bool) -> None:
    if not erased:
        output.say("Nothing to erase.")
        return
    output.table(COLUMNS, sorted(erased, key=lambda each: each.bytes, reverse=True)[:MOST_ROWS])
    if len(erased) > MOST_ROWS:
        output.say(f"… the {MOST_ROWS} largest of {plural(len(erased), 'thread')}")
    checkpoints, events = sum(each.checkpoints for each in erased), sum(each.events for each in erased)
    output.say(
        f"{'This would erase' if dry else 'Erased'} {plural(checkpoints, 'checkpoint')}, {plural(events, 'event')}, "
        f"{size(sum(each.bytes for each in erased))} from {plural(len(erased), 'thread')}."
    )
