"""Commands that erase: `delete`, `prune`, `delete-runs`, `expire`, `retain`.

All go the same way: a dry run shows the threads, a question is asked, and they are erased, thread by thread. With
``--yes`` they are erased at once; without it and without a terminal nothing is.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from typer import Argument, Context, Exit, Option

from eventlog.errors import InvalidInputError
from eventlog.feed import COUNT_LIMIT
from eventlog.records import Erased
from eventlog.threads import ThreadSummary
from langgraph.checkpoint.eventlog import EventLog
from langgraph.checkpoint.eventlog.cli.commands.follow import end_if_stopped
from langgraph.checkpoint.eventlog.cli.commands.log import show_partitions
from langgraph.checkpoint.eventlog.cli.options import DryRun, Filters, Threads, Yes
from langgraph.checkpoint.eventlog.cli.parsing import criteria, duration, not_texts
from langgraph.checkpoint.eventlog.cli.render.erased import MOST_ROWS, Tally, show_erased, show_failed
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
from langgraph.checkpoint.eventlog.cli.signals import SIGNALS
from langgraph.checkpoint.eventlog.lifecycle.pages import OF_ONE_THREAD
from langgraph.checkpoint.eventlog.lifecycle.prune_all import Pruned
from langgraph.checkpoint.eventlog.lifecycle.retain import Retained
from langgraph.checkpoint.eventlog.lifecycle.threads import STRATEGIES, OnThread

__all__ = ["delete", "delete_runs", "expire", "prune", "retain"]

#: Threads that are looked at together.
PAGE = 200

#: What a second is enough for, on the machine that it was measured on (docs/performance.md).
RATE = "100 MB"

#: A method of the log that erases, but for `dry_run`, `actor` and `on_thread`.
Erase = Callable[..., Any]


def delete(
    ctx: Context,
    thread_ids: Threads = None,
    filters: Filters = None,
    purge: Annotated[
        bool,
        Option(
            "--purge",
            help="Then rewrite the tables, so that the database's files no longer hold the erased bytes. Locks one "
            "table at a time.",
        ),
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Erase threads: events, snapshots and projections. Tombstones without content stay in the log."""
    found, ids = criteria(filters), list(thread_ids or ())
    if (found is None) == (not ids):
        raise InvalidInputError("no threads chosen: give either their ids or --filter KEY=VALUE")
    if found is None:
        _carry_out(ctx, lambda log: partial(_delete, log, ids), dry_run, yes, total=len(set(ids)))
    else:
        _carry_out(ctx, lambda log: partial(_delete_matching, log, found, ids), dry_run, yes)
        if not ids:
            _no_match(Session.of(ctx), found, purge=purge)
    if purge and ids:
        _purge(Session.of(ctx), ids, dry=dry_run)


def _no_match(session: Session, found: Mapping[str, Any], *, purge: bool) -> None:
    if hint := not_texts(found):
        session.note(hint)
    if purge:
        session.note(
            "No thread has such metadata, so nothing was purged. If an earlier run deleted threads and was "
            "interrupted, purge "
            "them by their ids: eventlog delete THREAD… --purge"
        )
        raise Exit(1)


def _purge(session: Session, thread_ids: list[str], *, dry: bool) -> None:
    # By ids: metadata that a filter could find is gone with the threads.
    ids = " ".join(map(shlex.quote, thread_ids[:MOST_ROWS])) + (" …" if len(thread_ids) > MOST_ROWS else "")
    again = f"eventlog delete {ids} --purge"
    with session.open() as log, session.progress("Looking" if dry else "Purging", None, "tables") as update:
        done = log.purge(thread_ids, dry_run=dry, on_table=lambda _: update(advance=1))
    for each in done.tables:
        session.document(purged=each.name, **each._asdict())
    session.document(left=done.left, held_by=done.held_by, behind=done.behind, unnamed=done.unnamed)
    locked = {} if dry else {"locked for": lambda each: f"{each.seconds:,.2f} s"}
    columns: Columns = {
        "table": "name",
        "size before": "bytes_before",
        **({} if dry else {"size after": "bytes_after"}),
    }
    session.table({**columns, **locked}, done.tables)
    total = sum(each.bytes_before for each in done.tables)
    if dry:
        session.say(
            f"This would rewrite {plural(len(done.tables), 'table')}, {size(total)}, and lock each one meanwhile, for "
            f"about a second per {RATE}."
        )
    elif done.tables:
        session.say(
            f"Rewrote {plural(len(done.tables), 'table')}: their files no longer hold erased data. WAL, backups, "
            "standbys and freed disk blocks still may."
        )
    for statement, owner in done.left.items():
        session.note(f"Not done: only {owner} may run {statement}")
    for holder in done.held_by:
        session.note(
            f"Erased rows stay in the files while this transaction is open: {holder}. End it, then run {again}"
        )
    for name, events in done.behind.items():
        behind = f"{plural(events, 'event')}{' or more' if events == COUNT_LIMIT else ''} behind"
        session.note(
            f"Not done: projection {name} is {behind}, and has not applied the erasure. Run eventlog project run "
            f"--once {name} (or package.module:Class of your own projection), then {again}"
        )
    for name in done.unnamed:
        session.note(
            f"Not done: projection {name} does not name its tables. Set the attribute `tables` of its class and "
            "rebuild it, or run vacuum (full, analyze) on its tables."
        )
    if not (done.is_complete or dry):
        raise Exit(1)


def _delete(log: EventLog, thread_ids: list[str], *, dry_run: bool, actor: str | None, on_thread: OnThread) -> None:
    for thread_id in dict.fromkeys(thread_ids):
        found = log.threads([thread_id])
        if not dry_run:
            log.delete_thread(thread_id, actor=actor)
        counts = (found[0].events, found[0].checkpoints, found[0].bytes) if found else (0, 0, 0)
        on_thread(Erased(thread_id, *counts))


def _delete_matching(
    log: EventLog,
    found: Mapping[str, Any],
    ids: list[str],
    *,
    dry_run: bool,
    actor: str | None,
    on_thread: OnThread,
) -> dict[str, str]:
    """Delete the threads with such metadata. Of those that a question has shown, just these, if they still match.

    Returns those that could not be deleted, and why.

    Args:
        ids: of those that were found, to which others are added.
    """
    shown, failed = list(ids), dict[str, str]()
    pages = _known(log, found, shown) if shown else _matching(log, found)
    for page in pages:
        for each in page:
            try:
                if not dry_run:
                    log.delete_thread(each.thread_id, actor=actor)
            except OF_ONE_THREAD as exc:
                # One must not keep all others from being deleted.
                failed[each.thread_id] = str(exc)
                continue
            if not shown:
                ids.append(each.thread_id)
            on_thread(Erased(each.thread_id, each.events, each.checkpoints, each.bytes))
    return failed


def _matching(log: EventLog, found: Mapping[str, Any]) -> Iterator[list[ThreadSummary]]:
    """By their ids, so that none is missed while others are appended to."""
    last: ThreadSummary | None = None
    while True:
        page = log.threads(filter=dict(found), sort="id", limit=PAGE, before=last)
        yield page
        if len(page) < PAGE:
            return
        last = page[-1]


def _known(log: EventLog, found: Mapping[str, Any], ids: list[str]) -> Iterator[list[ThreadSummary]]:
    for start in range(0, len(ids), PAGE):
        yield log.threads(ids[start : start + PAGE], filter=dict(found))


def prune(
    ctx: Context,
    thread_ids: Threads = None,
    all_threads: Annotated[
        bool, Option("--all", help="Prune all threads, with --older-than or --keep-last. Run it again to continue.")
    ] = False,
    strategy: Annotated[
        str, Option(metavar="|".join(STRATEGIES), help="Keep the latest checkpoint of each namespace, or delete all.")
    ] = STRATEGIES[0],
    keep_last: Annotated[
        int | None,
        Option(
            min=1, metavar="N", help="Keep the newest N of each namespace, the ends of branches and pending interrupts."
        ),
    ] = None,
    older_than: Annotated[
        timedelta | None,
        Option(
            parser=duration,
            metavar="DURATION",
            help="Erase checkpoints older than this, such as 30d, except the ends of branches and pending interrupts.",
        ),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Erase the history of threads; their latest state stays."""
    options: dict[str, Any] = {"keep_last": keep_last, "older_than": older_than}
    ids = list(thread_ids or ())
    if all_threads == bool(ids):
        raise InvalidInputError("no threads chosen: give either their ids or --all")
    if not all_threads:
        options["strategy"] = strategy
        _carry_out(ctx, lambda log: partial(log.prune, ids, **options), dry_run, yes, total=len(set(ids)))
        return
    if strategy != STRATEGIES[0] or (keep_last is None and older_than is None):
        raise InvalidInputError("--all keeps some history of each thread: give --older-than or --keep-last with it")
    _carry_out(ctx, lambda log: partial(_prune_all, log, **options), dry_run, yes)


def _prune_all(log: EventLog, **options: Any) -> Pruned:
    """A signal ends it behind a thread."""
    with SIGNALS.following():
        return log.prune_all(**options, stop=SIGNALS.received)


def delete_runs(
    ctx: Context,
    run_ids: Annotated[list[str], Argument(metavar="RUN", help="The runs' ids.")],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Erase the checkpoints and writes of runs, in every thread."""
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
    drop_idle: Annotated[
        bool, Option("--drop-idle", help="Also erase threads without an append since the cut.")
    ] = False,
    archive: Annotated[
        Path | None,
        Option(metavar="DIR", help="First write each partition to a Parquet file in this folder (extra archive)."),
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
    """Look, ask and erase. Ends with exit code 1 when threads could not be erased."""
    session = Session.of(ctx)
    if not (dry_run or yes or is_interactive()):
        session.note(
            "Error: this command asks before it erases, and there is no terminal. Give --yes to erase, or --dry-run "
            "to look."
        )
        raise Exit(2)
    # A dry run writes nothing, and needs no partition to write it to.
    with session.open() as log:
        erase = partial(erase_in(log), actor=session.on_behalf_of)
        asks = not (dry_run or yes)
        ran = _run(session, session.aside() if asks else session, erase, total, dry=asks or dry_run)
        if asks and ran.is_any:
            session.confirm("Erase this for good?")
            ran = _run(session, session, erase, ran.threads, dry=False)
        if ran.has_failed:
            raise Exit(1)


class _Ran(NamedTuple):
    """What a command has done, or would do."""

    threads: int
    is_any: bool
    """Whether there is anything to erase."""
    has_failed: bool = False


def _run(session: Session, output: Output, erase: Erase, total: int | None, *, dry: bool) -> _Ran:
    """Erase, or look, and say what that concerns."""
    tally = Tally()
    with output.progress("Looking" if dry else "Erasing", total, "threads") as update:

        def tell(each: Erased) -> None:
            tally.add(each)
            output.documents([each])
            update(advance=1)

        done = erase(dry_run=dry, on_thread=tell)
    if isinstance(done, Retained):
        _show_retained(output, done, dry=dry)
        return _Ran(tally.threads, bool(done.partitions))
    show_erased(output, tally, dry=dry)
    if isinstance(done, dict):
        show_failed(output, done)
        return _Ran(tally.threads, tally.some > 0, bool(done))
    if not isinstance(done, Pruned):
        return _Ran(tally.threads, tally.some > 0)
    output.document(**fields_of(done))
    show_failed(output, done.failed)
    end_if_stopped(session, "What was done stays done: run the same command again to continue.", is_done=False)
    return _Ran(tally.threads, tally.some > 0, bool(done.failed))


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
