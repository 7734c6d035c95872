"""Sealing the log, and proofs from seals: validation, and the script that waits for other sealers."""

from __future__ import annotations

from functools import partial
from typing import Any

from eventlog import seals as sealing
from eventlog.db.query import Op, Pause, Script
from eventlog.errors import LogBusyError
from eventlog.format.signature import private_key
from eventlog.seals import Proof, Seal
from eventlog.streams import Stream, storable, text_id
from langgraph.checkpoint.eventlog._arguments import actor_of, count_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog.integrity.signed import sign_seal

__all__ = ["list_seals", "prove", "seal"]

#: How often sealing is tried while another process seals, and the pauses between, in seconds.
ATTEMPTS = 60
PAUSE_SECONDS = 0.5


def seal(context: Context, actor: Any, key: Any) -> Script[Seal]:
    """Seal the log, after other sessions that are sealing it."""
    actor = actor_of(actor)
    sign = None if key is None else partial(sign_seal, key=private_key(key))
    for _ in range(ATTEMPTS):
        taken = yield partial(sealing.take_seal, context.statements, actor, sign)
        if taken is not None:
            assert isinstance(taken, Seal)
            return taken
        yield Pause(PAUSE_SECONDS)
    raise LogBusyError("other sessions have been sealing the log for half a minute: run it again")


def list_seals(context: Context, limit: Any, before: Any) -> Op[list[Seal]]:
    """Seals, the latest first."""
    before = None if before is None else count_of(before, "before")
    return (yield from sealing.read_seals(context.statements, limit=count_of(limit, "limit"), before=before))


def prove(context: Context, thread_id: Any, checkpoint_ns: Any, number: Any) -> Op[Proof]:
    """The proof that a stream is in a seal."""
    stream = Stream(text_id(thread_id, "thread_id"), storable(checkpoint_ns, "checkpoint_ns"))
    number = None if number is None else count_of(number, "seal")
    return (yield from sealing.prove(context.statements, stream, number))
