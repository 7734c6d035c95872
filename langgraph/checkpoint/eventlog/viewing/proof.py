"""Proof that a thread is unchanged: verification, seals, and the records of erasures."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from eventlog.db.query import Op, Query
from eventlog.errors import LogCorruptedError, MissingGrantError
from eventlog.records import decode_operation_record
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog import Problem, Seal, Verified
from langgraph.checkpoint.eventlog.viewing.reader import Reader
from langgraph.checkpoint.eventlog.viewing.texts import iso
from langgraph.checkpoint.eventlog.viewing.timeline import known_thread

__all__ = ["proof", "seal_document", "verify"]

#: Problems, erased ranges, and namespaces that are shown.
MOST_PROBLEMS = 200
MOST_RANGES = 500
MOST_NAMESPACES = 200


async def proof(reader: Reader, thread_id: str, *, verified: dict[str, Any] | None = None) -> dict[str, Any]:
    """The seals, erasures and verification of a thread.

    Args:
        verified: the result of `verify`, if it was called.

    Raises:
        ThreadNotFoundError: when the thread never existed.
    """
    await known_thread(reader, thread_id)
    missing: list[str] = []
    covered = latest = None
    try:
        seals: list[Seal] = await reader.run("seals", limit=1)
        latest = seal_document(seals[0]) if seals else None
        covered = await reader.ask(lambda: _covered(reader, thread_id)) if seals else None
    except MissingGrantError as exc:
        missing.append(str(exc))
    erased, receipts = await reader.ask(lambda: _erased(reader, thread_id))
    return {
        "thread_id": thread_id,
        "verified": verified,
        "covered_by_seal": covered,
        "seals": {"latest": latest},
        "erased": erased[:MOST_RANGES],
        "erased_left_out": max(0, len(erased) - MOST_RANGES),
        "receipts": receipts[:MOST_RANGES],
        "missing": missing,
    }


async def verify(reader: Reader, thread_id: str) -> dict[str, Any]:
    """Verify a thread now: compute each digest again, and account for each number.

    Raises:
        ThreadNotFoundError: when the thread left no trace.
    """
    found: Verified = await reader.run("verify", [thread_id], workers=1)
    return {
        "at": iso(datetime.now(timezone.utc)),
        "streams": found.streams,
        "events": found.events,
        "found": found.found,
        "problems": [_problem(each) for each in found.problems[:MOST_PROBLEMS]],
        "covered_by_seal": _coverage(found),
    }


def _coverage(found: Verified) -> dict[str, Any] | None:
    """The coverage of each namespace by the log's latest seal; None when it contains none of them."""
    if not any(each.seal is not None for each in found.coverage):
        return None
    return {
        "seal": found.seal,
        "ns": [
            {
                "ns": each.checkpoint_ns,
                "seal": each.seal,
                "through": each.through,
                "later": each.later,
            }
            for each in found.coverage[:MOST_NAMESPACES]
        ],
    }


def _problem(problem: Problem) -> dict[str, Any]:
    where = "the log" if not problem.thread_id else f"namespace {problem.checkpoint_ns!r}"
    event = f", event {problem.seq}" if problem.seq else ""
    return {
        "what": problem.what,
        "text": f"{where}{event}: {problem.what}",
        "ns": problem.checkpoint_ns,
        "seq": problem.seq or None,
    }


def seal_document(seal: Seal) -> dict[str, Any]:
    """A seal as JSON. Compare its digest with one that was kept elsewhere."""
    return {
        "number": seal.number,
        "time": iso(seal.sealed_at),
        "digest": seal.digest.hex(),
        "streams": seal.streams,
        "by": seal.by,
        "actor": seal.actor,
    }


def _covered(reader: Reader, thread_id: str) -> Op[dict[str, Any] | None]:
    """The coverage of each namespace by its latest seal; None when no seal contains any of them."""
    rows = yield Query(reader.statements["viewing_sealed"], {"thread_id": thread_id, "rows": MOST_NAMESPACES})
    if not any(seal is not None for _, _, seal, _ in rows):
        return None
    return {
        "seal": max(seal for _, _, seal, _ in rows if seal is not None),
        "ns": [
            {"ns": ns, "seal": seal, "through": through, "last": last, "later": last - (through or 0)}
            for ns, last, seal, through in rows
        ],
    }


def _erased(reader: Reader, thread_id: str) -> Op[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """The erased ranges of numbers, and the operations that erased them, as in a signed receipt."""
    ranges: list[dict[str, Any]] = []
    operations: list[dict[str, Any]] = []
    for ns, _, number, recorded_at, digest, body, _ in (
        yield Query(reader.statements["receipt_records"], (thread_id,))
    ):
        if body is None:
            continue
        try:
            says = decode_operation_record(body, Stream(thread_id, ns).describe_event(number)).says
            erased = [(int(first), int(last)) for first, last in says.get("erased", [])]
        except (LogCorruptedError, ValueError, TypeError) as exc:
            operations.append(
                {"ns": ns, "number": number, "time": iso(recorded_at), "digest": digest.hex(), "error": str(exc)}
            )
            continue
        about = {key: says.get(key) for key in ("operation", "by", "actor")}
        ranges += [
            {"ns": ns, "from": first, "to": last, "time": iso(recorded_at), **about, "record": number}
            for first, last in erased
        ]
        counts = {key: says.get(key) for key in ("events", "checkpoints", "bytes", "before")}
        operations.append(
            {
                "ns": ns,
                "number": number,
                "time": iso(recorded_at),
                "digest": digest.hex(),
                **about,
                **counts,
                "error": None,
            }
        )
    return ranges, operations
