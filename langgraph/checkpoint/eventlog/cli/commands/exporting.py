"""The way back to PostgresSaver: `export`."""

from __future__ import annotations

from typing import Annotated

from typer import Context, Exit, Option

from langgraph.checkpoint.eventlog import ExportedThread
from langgraph.checkpoint.eventlog.cli.render.output import plural, size
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["export"]


def export(
    ctx: Context,
    target: Annotated[
        str,
        Option(
            "--to",
            envvar="EVENTLOG_TO_DSN",
            metavar="DSN",
            help="The database with the tables that PostgresSaver.setup() made.",
        ),
    ],
    to_schema: Annotated[
        str | None,
        Option(
            metavar="NAME", help="The schema of these tables. By default the first on the search path that has them."
        ),
    ] = None,
    threads: Annotated[list[str] | None, Option(metavar="ID", help="Export only this thread. May be repeated.")] = None,
    workers: Annotated[int, Option(min=1, max=64, metavar="N", help="Export N threads in parallel.")] = 4,
) -> None:
    """Copy threads back to the tables of PostgresSaver, and compare each copy. The log is only read.

    Stop the processes that write to the log first. A thread that the tables already hold is skipped if it is equal,
    and reported if it differs. After an interruption, run the command again.
    """
    session = Session.of(ctx)
    ids = list(dict.fromkeys(threads)) if threads else None
    with session.open(connections=workers) as log, session.progress("Exporting", None, "threads") as update:

        def tell(thread: ExportedThread) -> None:
            session.documents([thread])
            update(advance=1)

        done = log.export_to(target, schema=to_schema, thread_ids=ids, workers=workers, on_thread=tell)
    session.document(
        threads=done.threads,
        equal=done.equal,
        checkpoints=done.checkpoints,
        bytes=done.bytes,
        refused=len(done.refused),
    )
    session.say(
        f"Exported {plural(done.threads, 'thread')}, {size(done.bytes)} of values; already there: "
        f"{plural(done.equal, 'thread')}. Each of their {plural(done.checkpoints, 'checkpoint')} was read back and "
        "compared."
    )
    for each in done.refused:
        # With JSON, the document of the thread says it.
        session.say(f"  {each.thread_id}: {each.reason}")
    if done.refused:
        session.note(f"{plural(len(done.refused), 'thread')} could not be exported.")
        raise Exit(1)
