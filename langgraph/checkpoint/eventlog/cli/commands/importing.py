"""Moving in from other checkpointers: `import`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from typer import Context, Exit, Option

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import Imported, ImportedThread, ImportEstimate, ImportProgress
from langgraph.checkpoint.eventlog.cli.parsing import duration
from langgraph.checkpoint.eventlog.cli.render.output import Output, fields_of, plural, size
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["import_"]

#: What became of threads that were not imported, as a sentence after their number.
NOT_IMPORTED = {
    "equal": "already imported, and equal",
    "continued": "imported before, and continued in the log since",
    "deleted": "deleted from the log, and skipped",
    "missing": "not in the source",
    "differs": "different from the thread with this id in the log",
    "refused": "refused",
}


def _part(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    if found := re.fullmatch("([0-9]{1,6})/([0-9]{1,6})", text):
        return int(found[1]), int(found[2])
    raise InvalidInputError(f"--part {text!r} is no part of the threads: write 1/2 for the first of two")


def import_(
    ctx: Context,
    source: Annotated[
        str,
        Option(
            "--from",
            envvar="EVENTLOG_FROM_DSN",
            metavar="DSN",
            help="The database with the tables of langgraph-checkpoint-postgres. It is only read.",
        ),
    ],
    from_schema: Annotated[
        str | None,
        Option(
            metavar="NAME", help="The schema of these tables. By default the first on the search path that has them."
        ),
    ] = None,
    threads: Annotated[list[str] | None, Option(metavar="ID", help="Import only this thread. May be repeated.")] = None,
    idle: Annotated[
        timedelta | None,
        Option(
            parser=duration,
            metavar="DURATION",
            help="Import only threads without a new checkpoint for this long, such as 1d.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        Option(
            "--resume",
            help="Skip threads that did not change in the source since their import, without comparing them again.",
        ),
    ] = False,
    part: Annotated[
        str | None,
        Option(
            metavar="N/M",
            help="Import only this part of the threads: 1/2 in one process, 2/2 in another.",
        ),
    ] = None,
    workers: Annotated[int, Option(min=1, max=64, metavar="N", help="Import N threads in parallel.")] = 4,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Estimate from a sample how many bytes the import would store; change nothing.")
    ] = False,
) -> None:
    """Import threads from the tables of PostgresSaver, and compare each copy.

    A thread that the log already holds is compared. A thread that was deleted from the log is skipped. After an
    interruption, run the command again with --resume.
    """
    session = Session.of(ctx)
    chosen = _part(part)
    ids = list(dict.fromkeys(threads)) if threads else None
    if dry_run:
        with session.open() as log:
            estimate = log.estimate_import(source, schema=from_schema, thread_ids=ids, idle=idle, part=chosen)
        _show_estimate(session, estimate)
        return
    with (
        session.open(connections=workers) as log,
        session.progress("Importing", None, "threads") as update,
    ):

        def tell(thread: ImportedThread, progress: ImportProgress) -> None:
            session.documents([thread])
            update(completed=progress.threads, total=progress.total, units=f"threads, {size(int(progress.rate))}/s")

        done = log.import_from(
            source,
            schema=from_schema,
            thread_ids=ids,
            idle=idle,
            resume=resume,
            part=chosen,
            workers=workers,
            actor=session.on_behalf_of,
            on_thread=tell,
        )
    _show(session, done)
    if not done.is_done or (ids is not None and "missing" in done.threads):
        raise Exit(1)


def _show(output: Output, done: Imported) -> None:
    output.document(**{name: value for name, value in fields_of(done).items() if name != "not_done"})
    counts = dict(done.threads)
    count = counts.pop("imported", 0)
    if count:
        _show_imported(output, done, count)
    elif not counts:
        output.say("There is nothing to import.")
    for status, number in counts.items():
        output.say(f"{plural(number, 'thread')}: {NOT_IMPORTED[status]}")
    for each in done.not_done:
        # With JSON, the document of the thread says it.
        output.say(f"  {each.thread_id}: {each.detail}")


def _show_imported(output: Output, done: Imported, count: int) -> None:
    rate = f"{size(int(done.source_bytes / done.seconds))}/s" if done.seconds else "at once"
    output.say(
        f"Imported {plural(count, 'thread')} with {plural(done.checkpoints, 'checkpoint')} and "
        f"{plural(done.writes, 'write')}: {size(done.source_bytes)} of values as {size(done.stored_bytes)}, in "
        f"{done.seconds:,.1f} s ({rate}). Each was read back and compared."
    )


def _show_estimate(output: Output, estimate: ImportEstimate) -> None:
    output.document(**fields_of(estimate))
    for each in estimate.refused:
        output.note(f"Would be refused: {each.detail}")
    if estimate.log_bytes is None:
        output.say(
            "There is nothing to import." if not estimate.refused else "No thread of the sample can be imported."
        )
        return
    threads = "" if estimate.threads is None else f" ({plural(estimate.threads, 'thread')})"
    if estimate.source_bytes is None:
        output.say(f"The threads in your tables{threads} would take {size(estimate.log_bytes)} in the log.")
    else:
        output.say(
            f"{size(estimate.source_bytes)} in your tables{threads} would take {size(estimate.log_bytes)} in the log"
            + (f", {estimate.log_bytes / estimate.source_bytes:.1%} of that." if estimate.source_bytes else ".")
        )
    output.say(
        f"Estimated from a sample of {plural(estimate.sample_threads, 'thread')}: "
        f"{size(estimate.sample_source_bytes)} in your "
        f"tables, {size(estimate.sample_log_bytes)} in the log with indexes."
    )
