"""Seals and what is proven with them: `seal`, `seals`, `prove`. With `--check` no database is asked."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Exit, Option

from eventlog.errors import InvalidInputError, ProofError
from eventlog.seals import Proof, Seal, SignedSeal, verify_proof
from langgraph.checkpoint.eventlog import read_proof, verify_signed_seals
from langgraph.checkpoint.eventlog.cli.options import Key
from langgraph.checkpoint.eventlog.cli.parsing import file_text
from langgraph.checkpoint.eventlog.cli.render.output import fields_of, plural, when
from langgraph.checkpoint.eventlog.cli.session import Session
from langgraph.checkpoint.eventlog.integrity.verify_seals import anchor_of

__all__ = ["prove", "seal", "seals"]


def seal(
    ctx: Context,
    key: Annotated[
        Path | None, Option(metavar="FILE", help="Sign the seal with this Ed25519 private key, a PEM file.")
    ] = None,
    out: Annotated[
        Path | None,
        Option(metavar="FILE", help="With --key: write the signed seal to this file too, which must be new."),
    ] = None,
    anchor_command: Annotated[
        str | None,
        Option(metavar="COMMAND", help="With --key: run this in a shell, with the signed seal on its standard input."),
    ] = None,
) -> None:
    """Seal the log: store a hash over all streams, chained to the previous seal.

    Keep the digest, or the signed seal, out of reach of the database's users. `verify --seal` compares it with the
    log.
    """
    session = Session.of(ctx)
    if key is None and (out or anchor_command):
        raise InvalidInputError("--out and --anchor-command need a signed seal: give the private key with --key")
    if out is not None and (out.exists() or not out.parent.is_dir()):
        raise InvalidInputError(f"--out must be a new file in an existing folder: {out} is not. Nothing was sealed")
    with session.open() as log:
        taken = log.seal(actor=session.on_behalf_of, key=key)
    session.documents([taken])
    session.say(
        f"Sealed {plural(taken.streams, 'stream')} at {when(taken.sealed_at)} (UTC), of which {taken.changed:,} had "
        "changed or ended since the previous seal."
    )
    session.say(f"root    {taken.root.hex()}")
    session.say(f"digest  {_numbered_digest(taken)}")
    if taken.document is not None:
        session.say(taken.document)
        _hand_on(session, taken, taken.document, out, anchor_command)


def _hand_on(session: Session, taken: Seal, document: str, out: Path | None, command: str | None) -> None:
    failed = ""
    try:
        if out is not None:
            with out.open("x", encoding="utf-8") as file:
                file.write(f"{document}\n")
    except OSError as exc:
        failed = f"{out} was not written: {exc.strerror}"
    if command is not None:
        done = subprocess.run(
            command,
            shell=True,
            input=f"{document}\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
        for line in done.stdout.splitlines():
            session.note(line)
        if done.returncode:
            failed = f"{failed}. " * bool(failed) + f"The anchor command ended with {done.returncode}"
    if failed:
        session.note(f"{failed}. Seal {taken.number} was stored: keep its document, which is printed above.", "red")
        raise Exit(1)


def seals(
    ctx: Context,
    limit: Annotated[int, Option(min=1, metavar="N", help="Show at most N seals.")] = 100,
    before: Annotated[int | None, Option(min=1, metavar="NUMBER", help="Show only seals before this one.")] = None,
    check: Annotated[
        list[Path] | None,
        Option(metavar="FILE", help="Check this signed seal instead, without the database. May be repeated."),
    ] = None,
    key: Key = None,
) -> None:
    """List the seals, the latest first, or check signed seals that were kept elsewhere."""
    session = Session.of(ctx)
    if check:
        _check_seals(session, check, key)
        return
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


def _check_seals(session: Session, files: list[Path], key: Path | None) -> None:
    if key is None:
        raise InvalidInputError("--check needs --key, the public key of the signer")
    found = verify_signed_seals([file_text(each) for each in files], key)
    session.documents(found)
    session.table({"seal": "number", "sealed at (UTC)": "sealed_at", "streams": "streams"}, found)
    session.say(f"{plural(len(found), 'signed seal')} of log {found[0].log_id.hex()}: signatures and chain hold.")
    for earlier, later in pairwise(found):
        if earlier.number + 1 < later.number:
            session.note(
                f"Seals between {earlier.number} and {later.number} are not here: the chain was not checked there."
            )


def prove(
    ctx: Context,
    thread_id: Annotated[str | None, Argument(metavar="THREAD", help="The thread's id.")] = None,
    ns: Annotated[str, Option(metavar="NAMESPACE", help="The namespace; by default the root graph's.")] = "",
    seal: Annotated[
        str | None,
        Option(
            metavar="SEAL",
            help="The seal's number; by default the latest. With --check: the seal that you keep elsewhere, its digest "
            "or with --key the file of the signed seal.",
        ),
    ] = None,
    check: Annotated[
        Path | None,
        Option(metavar="FILE", help="Check this proof instead, as --json wrote it, without the database."),
    ] = None,
    key: Key = None,
) -> None:
    """Prove which event a thread ended with when the log was sealed, or check such a proof.

    With --json it writes the whole proof: a verifier needs only this document and the seal.
    """
    session = Session.of(ctx)
    if (thread_id is None) == (check is None):
        raise InvalidInputError("give a THREAD to prove, or a proof to --check")
    if check is not None:
        _check_proof(session, check, seal, key)
        return
    if seal is not None and not seal.isdecimal():
        raise InvalidInputError(f"--seal must be the number of a seal, not {seal!r}")
    with session.open() as log:
        proof = log.prove(thread_id or "", ns, seal=None if seal is None else int(seal))
        (sealed,) = log.seals(limit=1, before=proof.seal + 1)
    session.document(**fields_of(proof), sealed=fields_of(sealed))
    session.say(
        f"Thread {thread_id!r}, namespace {ns!r}, was at event {proof.seq:,} when the log was sealed at "
        f"{when(sealed.sealed_at)} (UTC)."
    )
    _show_proof(session, proof, sealed)


def _show_proof(session: Session, proof: Proof, sealed: Seal) -> None:
    session.say(f"event   {proof.digest.hex()}")
    session.say(f"stream  {proof.stream.hex()}, {proof.index + 1:,} of {proof.size:,}")
    for each in proof.path:
        session.say(f"path    {each.hex()}")
    session.say(f"root    {sealed.root.hex()}")
    session.say(f"digest  {_numbered_digest(sealed)}")


def _check_proof(session: Session, file: Path, seal: str | None, key: Path | None) -> None:
    """That a proof leads to a seal's root, and that the seal is the one that was kept."""
    proof, sealed = read_proof(file_text(file))
    kept: Seal | SignedSeal = sealed
    if seal is not None:
        anchor = anchor_of(seal if key is None else file_text(Path(seal)), key)
        if anchor.digest != sealed.digest or anchor.number not in (None, sealed.number):
            raise ProofError(
                f"the proof is of seal {_numbered_digest(sealed)}, and the seal that was kept is another one"
            )
        kept = anchor.document or sealed
    elif key is not None:
        raise InvalidInputError("--key checks a signed seal: give the seal's file with --seal")
    if not verify_proof(proof, kept) or not verify_proof(proof, sealed):
        raise ProofError(f"the proof does not lead to the root of seal {sealed.number}: it was altered")
    session.document(**fields_of(proof), sealed=fields_of(sealed))
    session.say(
        f"The proof holds: stream {proof.stream.hex()} was at event {proof.seq:,}, digest {proof.digest.hex()}."
    )
    if seal is None:
        session.note(f"Compare the seal with the one that was kept (--seal): {_numbered_digest(sealed)}")


def _numbered_digest(taken: Seal) -> str:
    """The seal's number and digest, as `verify --seal` takes them."""
    return f"{taken.number}:{taken.digest.hex()}"
