"""Retention as a setting: `retention show|set|clear`, and `maintain`, which carries it out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from typer import Context, Exit, Option

from eventlog.records import Erased
from langgraph.checkpoint.eventlog import Maintained, Retention
from langgraph.checkpoint.eventlog.cli.commands.follow import end_if_stopped
from langgraph.checkpoint.eventlog.cli.options import DryRun
from langgraph.checkpoint.eventlog.cli.parsing import duration
from langgraph.checkpoint.eventlog.cli.render.erased import show_failed
from langgraph.checkpoint.eventlog.cli.render.output import Output, fields_of, plural, size, span
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.cli.signals import SIGNALS

__all__ = ["RETENTION", "maintain"]


def show(ctx: Context) -> None:
    """Show the log's retention."""
    session = Session.of(ctx)
    with session.open() as log:
        found = log.retention()
    _show(session, found)


def set_(
    ctx: Context,
    idle: Annotated[
        timedelta | None,
        Option(parser=duration, metavar="DURATION", help="Erase threads without an append for this long, such as 90d."),
    ] = None,
    history: Annotated[
        timedelta | None,
        Option(parser=duration, metavar="DURATION", help="Erase checkpoints older than this; the latest stays."),
    ] = None,
    keep_last: Annotated[
        int | None,
        Option(
            min=1,
            metavar="N",
            help="Erase checkpoints beyond the newest N of a namespace. With --history, a checkpoint stays if either "
            "keeps it.",
        ),
    ] = None,
    interrupted: Annotated[
        timedelta | None,
        Option(
            parser=duration,
            metavar="DURATION",
            help="Apply this retention to threads with a pending interrupt too, after this long without an append. By "
            "default they stay.",
        ),
    ] = None,
    allow_shorter: Annotated[
        bool, Option("--allow-shorter", help="Let a thread's own retention be shorter than this one.")
    ] = False,
) -> None:
    """Store the log's retention in place of the previous one. 'maintain' erases; this command does not."""
    session = Session.of(ctx)
    retention = Retention(
        idle=idle, history=history, keep_last=keep_last, interrupted=interrupted, allow_shorter=allow_shorter
    )
    with session.open() as log:
        log.set_retention(retention, actor=session.on_behalf_of)
    _show(session, retention)
    session.note("To see what 'maintain' would erase: eventlog maintain --dry-run")


def clear(ctx: Context) -> None:
    """Remove the log's retention, so that 'maintain' erases nothing."""
    session = Session.of(ctx)
    with session.open() as log:
        log.set_retention(None, actor=session.on_behalf_of)
    _show(session, None)


def _show(output: Output, retention: Retention | None) -> None:
    output.document(retention=_fields(retention))
    if retention is None:
        output.say("No retention is set: 'maintain' erases nothing.")
        return
    if retention.idle is not None:
        output.say(f"Threads without an append for {span(retention.idle)} are erased.")
    if retention.cuts:
        kept = [
            *([f"younger than {span(retention.history)}"] if retention.history is not None else []),
            *([f"among the newest {retention.keep_last:,}"] if retention.keep_last is not None else []),
        ]
        output.say(
            f"Checkpoints are erased unless they are {' or '.join(kept)}. The latest of each namespace, the ends of "
            "branches and pending interrupts stay."
        )
    output.say(
        "Threads with a pending interrupt stay as they are."
        if retention.interrupted is None
        else f"Threads with a pending interrupt stay as they are until {span(retention.interrupted)} after their last "
        "append."
    )
    shorter = "shorten or lengthen" if retention.allow_shorter else "lengthen"
    output.say(f"A thread's own retention, in its metadata, may {shorter} this.")


def _fields(retention: Retention | None) -> dict[str, Any] | None:
    return None if retention is None else retention.model_dump()


def maintain(
    ctx: Context,
    every: Annotated[
        timedelta | None,
        Option(
            parser=duration,
            metavar="DURATION",
            help="Repeat the run at this interval, such as 1h, until SIGINT or SIGTERM.",
        ),
    ] = None,
    limit: Annotated[
        int | None,
        Option(min=1, metavar="N", help="Erase or prune at most N threads in a run. The next run continues."),
    ] = None,
    seal_key: Annotated[
        Path | None,
        Option(
            metavar="FILE", help="Then seal the log, signed with this Ed25519 private key, a PEM file (extra seal)."
        ),
    ] = None,
    receipt_key: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Sign a receipt for each thread with this Ed25519 private key, a PEM file. Needs --out.",
        ),
    ] = None,
    out: Annotated[
        Path | None, Option(metavar="DIR", help="Write the signed seals and receipts to this folder.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Carry out the log's retention: erase what is due, without asking. Also make partitions ahead, and seal the log.

    Of several workers, one maintains the log and the others stand by. SIGINT and SIGTERM end it between threads.
    """
    session = Session.of(ctx)

    def tell(erased: Erased) -> None:
        session.documents([erased])

    def finish(done: Maintained) -> None:
        # The documents of seals are kept elsewhere: they are part of the result.
        session.document(**{**fields_of(done), "retention": _fields(done.retention)})
        _show_run(session, done)

    with session.open() as log, SIGNALS.following():
        done = log.maintain(
            every=every,
            limit=limit,
            seal_key=seal_key,
            receipt_key=receipt_key,
            out=out,
            dry_run=dry_run,
            actor=session.on_behalf_of,
            on_thread=tell,
            on_run=finish,
            stop=SIGNALS.received,
        )
    if every is not None or done.is_stopped:
        end_if_stopped(session, "The next run goes on.", is_done=every is not None)
    if done.failed:
        raise Exit(1)


def _show_run(session: Session, done: Maintained) -> None:
    if done.stood_by_for is not None:
        session.say(f"Standing by: another worker maintains the log ({done.stood_by_for or 'it has just begun'}).")
    if done.partitions:
        session.say(f"Made {plural(len(done.partitions), 'partition')}: {', '.join(done.partitions)}")
    if done.retention is None and done.stood_by_for is None:
        session.say("No retention is set, so nothing is erased. To set one: eventlog retention set --idle 90d")
    if done.looked_at:
        would = "Would erase" if done.is_dry_run else "Erased"
        session.say(
            f"{would} {plural(done.expired, 'idle thread')} and history of {plural(done.pruned, 'thread')}: "
            f"{plural(done.checkpoints, 'checkpoint')}, {plural(done.events, 'event')}, {size(done.bytes)}. Looked at "
            f"{plural(done.looked_at, 'thread')}."
        )
    if done.interrupted:
        session.say(f"Left {plural(done.interrupted, 'thread')} with a pending interrupt.")
    if done.active:
        session.say(f"Left {plural(done.active, 'thread')} with a run that may still be active.")
    if done.is_limited:
        session.say("The limit was reached: more threads may be due. The next run continues.")
    if done.receipts:
        session.say(f"Wrote {plural(len(done.receipts), 'receipt')}.")
    if done.seal is not None:
        session.say(f"Sealed: {done.seal.number}:{done.seal.digest.hex()}")
    show_failed(session, done.failed)


#: The commands of `retention`, by name.
RETENTION: dict[str, Callable[..., None]] = {"show": show, "set": set_, "clear": clear}
