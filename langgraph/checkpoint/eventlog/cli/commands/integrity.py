"""Whether the log and its projections are right: `verify`, `rebuild`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Exit, Option

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog._rebuild import WORKERS
from langgraph.checkpoint.eventlog.cli.options import Allow, Key, Trust
from langgraph.checkpoint.eventlog.cli.parsing import file_text
from langgraph.checkpoint.eventlog.cli.render.output import Columns, Output, plural
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.integrity.chain import Problem
from langgraph.checkpoint.eventlog.integrity.verify import MOST_PROBLEMS, Verified
from projections.compare import RowDifference
from projections.rebuild import Rebuilt

__all__ = ["rebuild", "verify"]


def verify(
    ctx: Context,
    thread_ids: Annotated[list[str] | None, Argument(metavar="THREAD", help="Verify only these threads.")] = None,
    workers: Annotated[int, Option(min=1, max=64, metavar="N", help="Verify N streams in parallel.")] = 4,
    after: Annotated[
        tuple[str, str] | None, Option(metavar="THREAD NAMESPACE", help="Continue after this stream.")
    ] = None,
    seal: Annotated[
        str | None,
        Option(
            metavar="SEAL",
            help="Check that the log has this seal, which you keep elsewhere: its digest, or with --key the file of "
            "the signed seal.",
        ),
    ] = None,
    key: Key = None,
    states: Annotated[
        bool,
        Option(
            "--states",
            help="Also decode all states and writes, and compare them with digests, snapshots and projections.",
        ),
    ] = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Verify the log: recompute every digest, and check that each missing event was erased by a recorded operation.

    Ends with 1 when a check fails.
    """
    session = Session.of(ctx)
    if key is not None and seal is None:
        raise InvalidInputError("--key checks a signed seal: give the seal's file with --seal")
    document = seal if key is None or seal is None else file_text(Path(seal))
    problems: list[Problem] = []
    last: tuple[str, str] | None = after

    def tell(thread_id: str, ns: str, found: list[Problem]) -> None:
        nonlocal last
        last = thread_id, ns
        session.documents(found)
        problems.extend(found[: MOST_PROBLEMS - len(problems)])
        update(advance=1)

    with (
        session.open(workers, allow=allow, trust=trust) as log,
        session.progress("Verifying", None, "streams") as update,
    ):
        try:
            # `or None`: the parser gives an empty list.
            verified = log.verify(
                thread_ids or None,
                after=after,
                workers=workers,
                seal=document,
                public_key=key,
                states=states,
                on_stream=tell,
            )
        except KeyboardInterrupt:
            if thread_ids or last is None:
                raise
            _show_problems(session, problems)
            stream = " ".join(map(_shell_quoted, last))
            session.note(f"Interrupted. To continue, run the same command with --after {stream}")
            raise Exit(130) from None
    # The problems of seals come after those of streams.
    session.documents(verified.problems[len(problems) :])
    session.document(
        streams=verified.streams,
        events=verified.events,
        seals=verified.seals,
        seal=verified.seal,
        sealed_streams=verified.sealed_streams,
        sealed_events=verified.sealed_events,
        later_events=verified.later_events,
        coverage=[each._asdict() for each in verified.coverage],
        states=verified.states,
        problems=verified.found,
    )
    _show_problems(session, verified.problems)
    if verified.found:
        session.note(f"Verification failed: {plural(verified.found, 'problem')}.", "red")
        raise Exit(1)
    sealed = f" and {plural(verified.seals, 'seal')}" if verified.seals else ""
    session.say(
        f"Verified {plural(verified.events, 'event')} in {plural(verified.streams, 'stream')}{sealed}: "
        f"no problem found. {'' if states else 'States were not decoded (--states).'}".rstrip()
    )
    for line in _coverage(verified):
        session.say(line)


def _coverage(verified: Verified) -> Iterator[str]:
    """How far the latest seal covers what was verified: of the log, or of each stream of single threads."""
    if verified.seal is None:
        yield "No seal covers them: 'eventlog seal' makes one."
        return
    if not verified.coverage:
        yield (
            f"Seal {verified.seal} covers {plural(verified.sealed_events, 'event')} in "
            f"{plural(verified.sealed_streams, 'stream')}; later: {plural(verified.later_events, 'event')}."
        )
    for thread_id, ns, seal, through, later in verified.coverage:
        stream = f"Thread {thread_id!r}" + (f", namespace {ns!r}" if ns else "")
        covered = f"covered by seal {seal} up to event {through:,}" if seal is not None else "not in the latest seal"
        yield f"{stream}: {covered}, later: {plural(later, 'event')}."


def _show_problems(output: Output, problems: Sequence[Problem]) -> None:
    columns: Columns = {
        "thread": "thread_id",
        "namespace": "checkpoint_ns",
        "number": lambda each: each.seq or None,
        "seal": "seal",
        # With the seals' name of the stream where its thread is not known.
        "problem": lambda each: (
            f"{each.what} (stream {each.stream})" if each.stream and not each.thread_id else each.what
        ),
    }
    if problems:
        output.table(columns, problems)


def _shell_quoted(text: str) -> str:
    """A word for a shell, on one line: bash and zsh read control characters from their escapes."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = (c if c.isprintable() and c not in "\\'" else f"\\U{ord(c):08x}" for c in text)
    return f"$'{''.join(escaped)}'"


# --- rebuild


def rebuild(
    ctx: Context,
    check: Annotated[bool, Option("--check", help="Change nothing: compare, and end with 1 when rows differ.")] = False,
    workers: Annotated[int, Option(min=1, metavar="N", help="Run N transactions in parallel.")] = WORKERS,
    restart: Annotated[
        bool, Option("--restart", help="Start from the beginning instead of continuing an interrupted rebuild.")
    ] = False,
    accept_loss: Annotated[
        bool,
        Option("--accept-loss", help="Record events that are missing at the end of streams as lost, and continue."),
    ] = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Rebuild projections and snapshots from the log, while readers and writers go on.

    Rows that differ are corrected in place. After an interruption, run the command again to continue.
    """
    session = Session.of(ctx)
    # A connection for each worker.
    with (
        session.open(workers, allow=allow, trust=trust) as log,
        session.progress("Comparing" if check else "Rebuilding", None, "events") as update,
    ):
        done = log.rebuild(
            check=check,
            workers=workers,
            restart=restart,
            accept_loss=accept_loss,
            on_progress=lambda at: update(completed=at.events, total=at.total, units=f"events, {at.rate:,.0f}/s"),
            on_difference=lambda difference: session.documents([difference]),
        )
    _show_rebuilt(session, done, check=check)
    if check and any(done.differing.values()):
        raise Exit(1)


def _show_rebuilt(output: Output, done: Rebuilt, *, check: bool) -> None:
    counts = {"streams": done.streams, "checkpoints": done.checkpoints, "events": done.events}
    built = {} if check else {"snapshots": done.snapshots, "locked_seconds": round(done.locked_seconds, 6)}
    output.document(**counts, differing=done.differing, **built)
    count = sum(done.differing.values())
    if done.differences:
        columns = {"thread": "thread_id", "namespace": "checkpoint_ns", "table": "table", "row": "key", "what": "what"}
        output.table({**columns, "difference": _difference}, done.differences)
    if len(done.differences) < count:
        output.note(f"{plural(count - len(done.differences), 'row')} more.")
    if count:
        tables = ", ".join(f"{table} {differing:,}" for table, differing in done.differing.items() if differing)
        output.note(f"Different from the log: {plural(count, 'row')} ({tables}).", "red" if check else "")
    if not check:
        output.say(
            f"Rebuilt {plural(done.streams, 'stream')}, {plural(done.checkpoints, 'checkpoint')} and "
            f"{plural(done.snapshots, 'snapshot')}. No writer waited longer than {done.locked_seconds * 1000:,.0f} ms."
        )
    elif not count:
        output.say(f"Compared {plural(done.streams, 'stream')} with {plural(done.events, 'event')}: no row differs.")


def _difference(row: RowDifference) -> str:
    columns = zip(row.columns, row.live, row.derived, strict=True)
    return "; ".join(f"{name}: {live}, not {derived}" for name, live, derived in columns)
