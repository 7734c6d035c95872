"""`verify`: whether the log is what was appended."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from langgraph.checkpoint.eventlog.cli.render.output import Output, plural
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.integrity.chain import Problem
from langgraph.checkpoint.eventlog.integrity.verify import MOST_PROBLEMS, count_streams

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(verify)


def verify(
    ctx: typer.Context,
    thread_ids: Annotated[
        list[str] | None, typer.Argument(metavar="THREAD", help="Verify only these threads.", show_default=False)
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, metavar="N", help="Verify N streams in parallel.")
    ] = 4,
    after: Annotated[
        tuple[str, str] | None,
        typer.Option("--after", metavar="THREAD NAMESPACE", show_default=False, help="Continue after this stream."),
    ] = None,
    seal: Annotated[
        str | None,
        typer.Option(
            "--seal",
            metavar="DIGEST",
            show_default=False,
            help="Check that the log has this seal, which you kept elsewhere.",
        ),
    ] = None,
) -> None:
    """Recompute every digest, and account for every event that is gone.

    Exits with 1 when a check fails.
    """
    session = Session.of(ctx)
    output = session.output
    problems: list[Problem] = []
    last: tuple[str, str] | None = after
    # `or None`: the parser gives an empty list.
    threads = thread_ids or None

    with session.open(connections=workers) as log:
        total = log._driver.run(count_streams(log._context)) if threads is None and after is None else None
        with output.progress("Verifying", total, "streams") as advance:

            def tell(thread_id: str, ns: str, found: list[Problem]) -> None:
                nonlocal last
                last = thread_id, ns
                _report(output, found)
                problems.extend(found[: MOST_PROBLEMS - len(problems)])
                advance()

            try:
                verified = log.verify(threads, after=after, workers=workers, seal=seal, on_stream=tell)
            except KeyboardInterrupt:
                if threads is not None or last is None:
                    raise
                _show(output, problems)
                output.note(
                    f"Interrupted. To continue, run the same command with --after {_quoted(last[0])} {_quoted(last[1])}"
                )
                raise typer.Exit(130) from None
    # Those of the seals come after what was told of.
    _report(output, verified.problems[len(problems) :])
    if session.as_json:
        output.document(streams=verified.streams, events=verified.events, seals=verified.seals, problems=verified.found)
    else:
        _show(output, verified.problems)
    if verified.found:
        output.note(f"Verification failed: {plural(verified.found, 'problem')}.", "red")
        raise typer.Exit(1)
    if not session.as_json:
        sealed = f" and {plural(verified.seals, 'seal')}" if verified.seals else ""
        output.say(
            f"Verified {plural(verified.events, 'event')} in {plural(verified.streams, 'stream')}{sealed}: "
            "no problem found."
        )


def _report(output: Output, problems: list[Problem]) -> None:
    """As they are found, for machines."""
    if output.as_json:
        for problem in problems:
            output.document(**problem._asdict())


def _show(output: Output, problems: list[Problem]) -> None:
    """All of them, for people."""
    if problems and not output.as_json:
        output.table(
            {"thread": False, "namespace": False, "number": True, "seal": True, "problem": False},
            [(each.thread_id, each.checkpoint_ns, *_places(each), _what(each)) for each in problems],
        )


def _places(problem: Problem) -> tuple[str, str]:
    return f"{problem.seq:,}" if problem.seq else "-", "-" if problem.seal is None else f"{problem.seal:,}"


def _what(problem: Problem) -> str:
    """Where nothing is left that names the stream, what seals call it."""
    unknown = problem.stream is not None and not problem.thread_id
    return f"{problem.what} (stream {problem.stream})" if unknown else problem.what


def _quoted(text: str) -> str:
    """For a shell, on one line: bash and zsh read what would control the terminal from its escapes."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = (c if c.isprintable() and c not in "\\'" else f"\\U{ord(c):08x}" for c in text)
    return f"$'{''.join(escaped)}'"
