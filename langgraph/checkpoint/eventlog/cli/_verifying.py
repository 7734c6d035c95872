"""`verify`: whether the log is what was appended."""

from __future__ import annotations

from typing import Annotated

import typer

from eventlog.chain import Problem
from langgraph.checkpoint.eventlog.cli._output import plural
from langgraph.checkpoint.eventlog.cli._session import Session

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(verify)


def verify(
    ctx: typer.Context,
    thread_ids: Annotated[
        list[str] | None, typer.Argument(metavar="THREAD", help="Only these threads.", show_default=False)
    ] = None,
) -> None:
    """Compute every digest anew, and account for every event that is gone.

    Ends with 1 when something does not fit.
    """
    session = Session.of(ctx)
    output = session.output
    with session.open() as saver, output.progress("Verifying", None, "streams") as advance:

        def tell(_: str, __: str, problems: list[Problem]) -> None:
            if session.as_json:
                for problem in problems:
                    output.document(**problem._asdict())
            advance()

        verified = saver.verify(thread_ids or None, on_stream=tell)
    if session.as_json:
        output.document(streams=verified.streams, events=verified.events, problems=len(verified.problems))
    elif verified.problems:
        output.table(
            {"thread": False, "namespace": False, "number": True, "problem": False},
            [(each.thread_id, each.checkpoint_ns, f"{each.seq:,}", each.what) for each in verified.problems],
        )
    if verified.problems:
        output.note(f"The log is not what was appended: {plural(len(verified.problems), 'problem')}.", "red")
        raise typer.Exit(1)
    if not session.as_json:
        output.say(f"Verified {plural(verified.events, 'event')} in {plural(verified.streams, 'stream')}: all fit.")
