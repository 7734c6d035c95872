"""Threads: `threads`, `copy`, `fork`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from typer import Argument, Context, Option

from langgraph.checkpoint.eventlog import EventLog
from langgraph.checkpoint.eventlog.cli.parsing import time
from langgraph.checkpoint.eventlog.cli.render.output import Output, fields_of, plural, size
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["copy", "fork", "threads"]

COLUMNS = {
    "thread": "thread_id",
    "last active (UTC)": "active_at",
    "namespaces": "namespaces",
    "checkpoints": "checkpoints",
    "events": "events",
    "size": "bytes",
}


def threads(
    ctx: Context,
    limit: Annotated[int, Option(min=1, metavar="N", help="Show at most N threads.")] = 100,
    before: Annotated[
        datetime | None,
        Option(parser=time, metavar="TIME", help="Show only threads last active before it: 2026-11-22T10:30:00Z."),
    ] = None,
) -> None:
    """List threads with their sizes, the last active first."""
    session = Session.of(ctx)
    with session.open() as log:
        found = log.threads(limit=limit, before=before)
    session.documents(found)
    if not found:
        session.note("No threads.")
        return
    session.table(COLUMNS, found)
    if len(found) == limit and (last := found[-1].active_at) is not None:
        session.note(f"For earlier threads: --before {last.isoformat().replace('+00:00', 'Z')}")


def copy(
    ctx: Context,
    source: Annotated[str, Argument(help="The thread to copy.")],
    target: Annotated[str, Argument(help="The new thread's id.")],
) -> None:
    """Copy a thread with all its checkpoints and writes."""
    session = Session.of(ctx)
    with session.open() as log:
        log.copy_thread(source, target, actor=session.on_behalf_of)
        _show_copy(session, log, "Copied", source, target)


def fork(
    ctx: Context,
    source: Annotated[str, Argument(help="The thread to copy from.")],
    target: Annotated[str, Argument(help="The new thread's id.")],
    checkpoint: Annotated[
        str | None,
        Option(metavar="ID", help="The root graph's checkpoint that the new thread ends with. By default the latest."),
    ] = None,
) -> None:
    """Copy only the path to one checkpoint of a thread."""
    session = Session.of(ctx)
    with session.open() as log:
        config = log.fork_thread(source, target, checkpoint, actor=session.on_behalf_of)
        _show_copy(session, log, "Forked", source, target, config["configurable"]["checkpoint_id"])


def _show_copy(output: Output, log: EventLog, done: str, source: str, target: str, checkpoint_id: str = "") -> None:
    (made,) = log.threads([target])
    ends_at = {"checkpoint_id": checkpoint_id} if checkpoint_id else {}
    output.document(source_thread_id=source, **ends_at, **fields_of(made))
    at = f", at checkpoint {checkpoint_id}" if checkpoint_id else ""
    output.say(f"{done} {source} to {target}{at}: {plural(made.checkpoints, 'checkpoint')}, {size(made.bytes)}.")
