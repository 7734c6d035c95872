"""Whether the log and its projections are right: `verify`, `seal`, `seals`, `prove`, `rebuild`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Annotated

from typer import Argument, Context, Exit, Option

from eventlog.seals import Seal
from langgraph.checkpoint.eventlog._rebuild import WORKERS
from langgraph.checkpoint.eventlog.cli.options import Allow, Thread, Trust
from langgraph.checkpoint.eventlog.cli.render.output import Columns, Output, fields_of, plural, when
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.integrity.chain import Problem
from langgraph.checkpoint.eventlog.integrity.verify import MOST_PROBLEMS
from projections.compare import RowDifference
from projections.rebuild import Rebuilt

__all__ = ["prove", "rebuild", "seal", "seals", "verify"]


def verify(
    ctx: Context,
    thread_ids: Annotated[list[str] | None, Argument(metavar="THREAD", help="Verify only these threads.")] = None,
    workers: Annotated[int, Option(min=1, max=64, metavar="N", help="Verify N streams in parallel.")] = 4,
    after: Annotated[
        tuple[str, str] | None, Option(metavar="THREAD NAMESPACE", help="Continue after this stream.")
    ] = None,
    seal: Annotated[
        str | None, Option(metavar="DIGEST", help="Check that the log has this seal, which you kept elsewhere.")
    ] = None,
    states: Annotated[
        bool, Option("--states", help="Decode all states, and compare them with digests, snapshots and projections.")
    ] = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Recompute every digest, and account for every event that is gone.

    Exits with 1 when a check fails.
    """
    session = Session.of(ctx)
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
                thread_ids or None, after=after, workers=workers, seal=seal, states=states, on_stream=tell
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


# --- seals


def seal(ctx: Context) -> None:
    """Seal the log: store a hash over all streams, chained to the previous seal.

    Keep the digest out of reach of the database's users. `verify --seal` compares it with the log.
    """
    session = Session.of(ctx)
    with session.open() as log:
        taken = log.seal(actor=session.on_behalf_of)
    session.documents([taken])
    session.say(
        f"Sealed {plural(taken.streams, 'stream')} at {when(taken.sealed_at)} (UTC), of which {taken.changed:,} had "
        "changed or ended since the previous seal."
    )
    session.say(f"root    {taken.root.hex()}")
    session.say(f"digest  {_numbered_digest(taken)}")


def seals(
    ctx: Context,
    limit: Annotated[int, Option(min=1, metavar="N", help="Show at most N seals.")] = 100,
    before: Annotated[int | None, Option(min=1, metavar="NUMBER", help="Show only seals before this one.")] = None,
) -> None:
    """List the seals, the latest first."""
    session = Session.of(ctx)
    with session.open() as log:
        found = log.seals(limit=limit, before=before)
    session.documents(found)
    columns = {"sealed at (UTC)": "sealed_at", "streams": "streams", "changed": "changed", "by": "by", "actor": "actor"}
    if session.out.is_terminal:
        # Folded in a column, a digest could not be copied.
        session.table({"seal": "number", **columns}, found)
        for each in found:
            session.say(f"digest  {_numbered_digest(each)}")
    else:
        session.table({**columns, "digest": _numbered_digest}, found)


def prove(
    ctx: Context,
    thread_id: Thread,
    ns: Annotated[str, Option(metavar="NAMESPACE", help="The namespace; by default the root graph's.")] = "",
    number: Annotated[
        int | None, Option("--seal", min=1, metavar="NUMBER", help="The seal's number; by default the latest.")
    ] = None,
) -> None:
    """Prove which event a thread ended with when the log was sealed.

    With --json, the arguments of `verify_proof`, for a verifier that has only the seal's digest.
    """
    session = Session.of(ctx)
    with session.open() as log:
        proof = log.prove(thread_id, ns, seal=number)
        (sealed,) = log.seals(limit=1, before=proof.seal + 1)
    session.document(**fields_of(proof), sealed=fields_of(sealed))
    at = f"at event {proof.seq:,} when the log was sealed at {when(sealed.sealed_at)} (UTC)"
    lines = (
        f"Thread {thread_id!r}, namespace {ns!r}, was {at}.",
        f"event   {proof.digest.hex()}",
        f"stream  {proof.stream.hex()}, {proof.index + 1:,} of {proof.size:,}",
        *(f"path    {each.hex()}" for each in proof.path),
        f"root    {sealed.root.hex()}",
        f"digest  {_numbered_digest(sealed)}",
    )
    for line in lines:
        session.say(line)


def _numbered_digest(taken: Seal) -> str:
    """The seal's number and digest, as `verify --seal` takes them."""
    return f"{taken.number}:{taken.digest.hex()}"


# --- rebuild


def rebuild(
    ctx: Context,
    check: Annotated[bool, Option("--check", help="Only compare, and exit with 1 when rows differ.")] = False,
    workers: Annotated[int, Option(min=1, metavar="N", help="Run N transactions in parallel.")] = WORKERS,
    restart: Annotated[
        bool, Option("--restart", help="Start from the beginning, whatever an interrupted rebuild has done.")
    ] = False,
    accept_loss: Annotated[
        bool, Option("--accept-loss", help="Record events that are missing at the end of streams, and go on.")
    ] = False,
    allow: Allow = None,
    trust: Trust = False,
) -> None:
    """Rebuild projections and snapshots from the log, while readers and writers go on.

    Rows that differ are put right in place. After an interruption, run the command again to continue.
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
