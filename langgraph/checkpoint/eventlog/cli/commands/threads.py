"""Threads: `threads`, `copy`, `fork`."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Annotated

from typer import Argument, Context, Option

from eventlog.errors import InvalidInputError, ThreadNotFoundError
from eventlog.threads import SORTS, ThreadSummary
from langgraph.checkpoint.eventlog import EventLog
from langgraph.checkpoint.eventlog.cli.options import Filters
from langgraph.checkpoint.eventlog.cli.parsing import criteria, not_texts, time
from langgraph.checkpoint.eventlog.cli.render.output import Columns, Output, fields_of, plural, size
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["copy", "fork", "threads"]


def threads(
    ctx: Context,
    filters: Filters = None,
    since: Annotated[
        datetime | None,
        Option(parser=time, metavar="TIME", help="Show only threads last active at this time or later."),
    ] = None,
    sort: Annotated[
        str,
        Option(
            metavar="|".join(SORTS), help="The order: last active first, most bytes first, most events first, or by id."
        ),
    ] = SORTS[0],
    limit: Annotated[int, Option(min=1, metavar="N", help="Show at most N threads.")] = 100,
    before: Annotated[
        datetime | None,
        Option(
            parser=time, metavar="TIME", help="Show only threads last active before this time: 2026-11-22T10:30:00Z."
        ),
    ] = None,
    after: Annotated[
        str | None,
        Option(metavar="THREAD", help="Show the threads after this one in the order: the next page."),
    ] = None,
) -> None:
    """List threads with their status, last activity and size, the last active first."""
    session = Session.of(ctx)
    found_criteria = criteria(filters)
    if before is not None and (after is not None or sort != "activity"):
        raise InvalidInputError("--before goes with the order by activity, and not with --after: give --after instead")
    with session.open() as log:
        found = log.threads(
            filter=found_criteria,
            since=since,
            sort=sort,  # type: ignore[arg-type]  # validated there
            limit=limit,
            before=before if after is None else _last(log, after, sort),
        )
        statuses = log.thread_status([each.thread_id for each in found])
    stands = {id_: each.status for id_, each in statuses.items()}
    for each in found:
        # One that is gone was deleted meanwhile, and its tombstones dropped.
        session.document(**fields_of(each), status=stands.get(each.thread_id, "deleted"))
    if not found:
        session.note("No threads.")
        if hint := not_texts(criteria(filters) or {}):
            session.note(hint)
        return
    columns: Columns = {
        "thread": "thread_id",
        "status": lambda each: stands.get(each.thread_id, "deleted"),
        "last active (UTC)": "active_at",
        "namespaces": "namespaces",
        "checkpoints": "checkpoints",
        "events": "events",
        "size": "bytes",
    }
    session.table(columns, found)
    if unknown := [each for each in statuses.values() if each.status == "unknown"]:
        session.note(f"The status of {plural(len(unknown), 'thread')} is not known: {unknown[0].error}", "yellow")
    if len(found) == limit:
        _name_next_page(session, found[-1], sort)


def _last(log: EventLog, thread_id: str, sort: str) -> ThreadSummary:
    """The last thread of the page before."""
    found = log.threads([thread_id])
    if found:
        return found[0]
    if sort != "id":
        raise ThreadNotFoundError(
            f"thread {thread_id!r} is not there, so its place in the order is not known: begin at the first page, or "
            "list with --sort id, which needs no such thread"
        )
    return ThreadSummary(thread_id, None, 0, 0, 0, 0)


def _name_next_page(session: Session, last: ThreadSummary, sort: str) -> None:
    if sort == "activity":
        if last.active_at is not None:
            session.note(f"For earlier threads: --before {last.active_at.isoformat().replace('+00:00', 'Z')}")
    else:
        session.note(f"For the next threads: --after {shlex.quote(last.thread_id)}")


def copy(
    ctx: Context,
    source: Annotated[str, Argument(metavar="SOURCE", help="The thread to copy.")],
    target: Annotated[str, Argument(metavar="TARGET", help="The new thread's id.")],
) -> None:
    """Copy a thread with all its checkpoints and writes to a new thread."""
    session = Session.of(ctx)
    with session.open() as log:
        log.copy_thread(source, target, actor=session.on_behalf_of)
        _show_copy(session, log, "Copied", source, target)


def fork(
    ctx: Context,
    source: Annotated[str, Argument(metavar="SOURCE", help="The thread to copy from.")],
    target: Annotated[str, Argument(metavar="TARGET", help="The new thread's id.")],
    checkpoint: Annotated[
        str | None,
        Option(metavar="ID", help="The root graph's checkpoint that the new thread ends with. By default the latest."),
    ] = None,
) -> None:
    """Copy one checkpoint of a thread and its ancestors to a new thread."""
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
