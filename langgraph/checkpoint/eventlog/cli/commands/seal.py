"""`seal`, `seals`, `prove`: what is in the log at one moment, to be kept elsewhere."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from eventlog.seals import Proof, Seal
from langgraph.checkpoint.eventlog.cli.render.output import plural, printable, when
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    for command in (seal, seals, prove):
        app.command()(command)


def seal(ctx: typer.Context) -> None:
    """Seal the log: store a hash over all streams, chained to the previous seal.

    Keep the digest out of reach of the database's users. `verify --seal` compares it with the log.
    """
    session = Session.of(ctx)
    output = session.output
    with session.open() as log:
        taken = log.seal(actor=session.on_behalf_of)
    if session.as_json:
        output.document(**_fields(taken))
        return
    output.say(
        f"Sealed {plural(taken.streams, 'stream')} at {when(taken.sealed_at)} (UTC), of which {taken.changed:,} had "
        "changed or ended since the previous seal."
    )
    output.say(f"root    {taken.root.hex()}")
    output.say(f"digest  {_anchor(taken)}")


def seals(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show at most N seals.")] = 100,
    before: Annotated[
        int | None,
        typer.Option("--before", min=1, metavar="NUMBER", show_default=False, help="Show only seals before this one."),
    ] = None,
) -> None:
    """List the seals, the latest first."""
    session = Session.of(ctx)
    output = session.output
    with session.open() as log:
        found = log.seals(limit=limit, before=before)
    if session.as_json:
        for each in found:
            output.document(**_fields(each))
        return
    columns = {"sealed at (UTC)": False, "streams": True, "changed": True, "by": False, "actor": False}
    rows = [(when(s.sealed_at), f"{s.streams:,}", f"{s.changed:,}", s.by, s.actor or "-") for s in found]
    anchors = [_anchor(s) for s in found]
    if not output.out.is_terminal:
        output.table({**columns, "digest": False}, [(*row, anchor) for row, anchor in zip(rows, anchors, strict=True)])
        return
    # Folded in a column, a digest could not be copied.
    output.table({"seal": True, **columns}, [(f"{s.number}", *row) for s, row in zip(found, rows, strict=True)])
    for anchor in anchors:
        output.say(f"digest  {anchor}")


def prove(
    ctx: typer.Context,
    thread_id: Annotated[str, typer.Argument(metavar="THREAD", help="The thread's id.")],
    ns: Annotated[
        str, typer.Option("--ns", metavar="NAMESPACE", help="The namespace; by default the root graph's.")
    ] = "",
    number: Annotated[
        int | None,
        typer.Option(
            "--seal", min=1, metavar="NUMBER", show_default=False, help="The seal's number; by default the latest."
        ),
    ] = None,
) -> None:
    """Prove which event a thread ended with when the log was sealed.

    With --json, the arguments of `verify_proof`, for a verifier that has only the seal's digest.
    """
    session = Session.of(ctx)
    output = session.output
    with session.open() as log:
        proof = log.prove(thread_id, ns, seal=number)
        (sealed,) = log.seals(limit=1, before=proof.seal + 1)
    if session.as_json:
        output.document(**_proof(proof), sealed=_fields(sealed))
        return
    output.say(
        f"Thread {printable(thread_id)!r}, namespace {printable(ns)!r}, was at event {proof.seq:,} when the log was "
        f"sealed at {when(sealed.sealed_at)} (UTC)."
    )
    output.say(f"event   {proof.digest.hex()}")
    output.say(f"stream  {proof.stream.hex()}, {proof.index + 1:,} of {proof.size:,}")
    for each in proof.path:
        output.say(f"path    {each.hex()}")
    output.say(f"root    {sealed.root.hex()}")
    output.say(f"digest  {_anchor(sealed)}")


def _anchor(taken: Seal) -> str:
    """The line to keep."""
    return f"{taken.number}:{taken.digest.hex()}"


def _fields(taken: Seal) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in taken._asdict().items()}


def _proof(proof: Proof) -> dict[str, Any]:
    return {
        "seal": proof.seal,
        "stream": proof.stream.hex(),
        "seq": proof.seq,
        "digest": proof.digest.hex(),
        "index": proof.index,
        "size": proof.size,
        "path": [each.hex() for each in proof.path],
    }
