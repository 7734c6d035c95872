"""Receipts of what was erased: `receipt sign`, `receipt verify`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Option

from langgraph.checkpoint.eventlog import verify_receipt
from langgraph.checkpoint.eventlog.cli.options import Thread
from langgraph.checkpoint.eventlog.cli.parsing import file_text, time
from langgraph.checkpoint.eventlog.cli.render.output import fields_of, plural, when
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["RECEIPT"]


def sign(
    ctx: Context,
    thread_id: Thread,
    key: Annotated[Path, Option(metavar="FILE", help="Sign with this Ed25519 private key, a PEM file.")],
    reason: Annotated[
        str | None, Option(metavar="TEXT", help="The reason of the erasure, which the receipt states.")
    ] = None,
    since: Annotated[
        datetime | None, Option(parser=time, metavar="TIME", help="Include only erasures since this time.")
    ] = None,
) -> None:
    """Write a signed receipt of the erasures of a thread: numbers, times and hashes, no content."""
    session = Session.of(ctx)
    with session.open() as log:
        print(log.receipt(thread_id, key=key, reason=reason, since=since))


def verify(
    ctx: Context,
    file: Annotated[Path, Argument(metavar="FILE", help="The receipt.")],
    key: Annotated[Path, Option(metavar="FILE", help="The signer's Ed25519 public key, a PEM file.")],
) -> None:
    """Check a receipt's signature, without the database, and show what it says."""
    session = Session.of(ctx)
    receipt = verify_receipt(file_text(file), key)
    session.document(**{**receipt._asdict(), "erasures": [fields_of(each) for each in receipt.erasures]})
    session.table(
        {
            "stream": lambda each: each.stream.hex(),
            "at (UTC)": "recorded_at",
            "operation": "operation",
            "by": "by",
            "actor": "actor",
            "checkpoints": "checkpoints",
            "events": "events",
        },
        receipt.erasures,
    )
    if receipt.reason is not None:
        session.say(f"Reason: {receipt.reason}")
    waiting = sum(dropped_at is None for _, dropped_at in receipt.partitions)
    if waiting:
        session.note(
            f"{plural(waiting, 'partition')} with erased events had not been dropped when the receipt was made."
        )
    session.say(
        f"The signature holds: {plural(len(receipt.erasures), 'erasure')} in log {receipt.log_id.hex()}, as recorded "
        f"at {when(receipt.made_at)} (UTC)."
    )


RECEIPT: dict[str, Callable[..., None]] = {"sign": sign, "verify": verify}
