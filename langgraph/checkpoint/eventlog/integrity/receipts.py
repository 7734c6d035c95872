"""Receipts of what was erased from a thread: made of the records in the log, signed, and without content.

    {"type": "eventlog receipt 1", "log": log id, "made_at": …, "reason": text or null, "erasures": [erasure, …],
     "partitions": [[name, dropped at or null], …], "key": …, "signature": …}

    erasure    {"stream": name, "number": …, "recorded_at": …, "digest": …, "operation": …, "arguments": {…}, "by": …,
                "actor": text or null, "before": time or null, "events": …, "checkpoints": …, "bytes": …,
                "erased": [[number, time, leaf], …]}

An erasure is a record: an event of the stream, with its number, time and digest. `erased` are the stubs that it left,
each under the first record that has it. The leaf is a hash with a random salt in it: it tells nothing of the thread or
of what was erased. With `before`, all that was recorded earlier is void, and went with the partitions that are listed,
or goes when they are dropped. A thread has no name here but that of its streams: its id may be personal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeAlias

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError, LogCorruptedError, ThreadNotFoundError
from eventlog.format.digest import instant_of
from eventlog.format.signature import instant, private_key, public_key, read_signed, sign
from eventlog.records import decode_operation_record
from eventlog.streams import Stream, storable, text_id
from langgraph.checkpoint.eventlog.integrity.stubs import stub_ranges

__all__ = ["Erasure", "Receipt", "make_receipt", "verify_receipt"]

TYPE = "eventlog receipt 1"

#: What a record says beside the arguments of its operation; the runs' ids stay in the log.
_BESIDE = (
    *("operation", "by", "actor", "before", "events", "checkpoints", "bytes", "runs"),
    *("erased", "cut", "anchor", "relocated", "records", "previous", "salt"),
)

_Stub: TypeAlias = "tuple[int, datetime, bytes]"


class Erasure(NamedTuple):
    """One operation that erased something of one stream."""

    stream: bytes
    """The stream's random name."""
    number: int
    """Of the record, in the stream."""
    recorded_at: datetime
    digest: bytes
    """Of the record: it is in the stream's chain."""
    operation: str
    arguments: dict[str, Any]
    by: str
    """The database user."""
    actor: str | None
    before: datetime | None
    """All that was recorded earlier is void."""
    events: int
    checkpoints: int
    bytes: int
    erased: tuple[_Stub, ...]
    """Number, time and leaf of each event that it left a stub of."""


class Receipt(NamedTuple):
    """What a signed receipt says."""

    log_id: bytes
    made_at: datetime
    reason: str | None
    erasures: tuple[Erasure, ...]
    partitions: tuple[tuple[str, datetime | None], ...]
    """Those that held what is void, and when each was dropped."""


def make_receipt(statements: Statements, thread_id: Any, key: Any, reason: Any, since: Any) -> Op[str]:
    """The signed receipt of a thread. Raises InvalidInputError, ThreadNotFoundError."""
    thread_id, key = text_id(thread_id, "thread_id"), private_key(key)
    reason = None if reason is None else storable(reason, "reason")
    if since is not None and not (isinstance(since, datetime) and since.tzinfo is not None):
        raise InvalidInputError("since must be a datetime with a time zone")
    rows = yield Query(statements["receipt_records"], (thread_id,))
    if not rows:
        raise ThreadNotFoundError(
            f"thread {thread_id!r} does not exist, or its last record went with its partition: no receipt can be made. "
            "Make receipts before retention drops the records"
        )
    erasures, known = [], set[tuple[bytes, int]]()
    for ns, name, number, recorded_at, digest, body in rows:
        if body is None:
            continue  # A stream without records.
        erasure = _erasure(Stream(thread_id, ns), bytes(name), number, recorded_at, bytes(digest), body, known)
        if since is None or recorded_at >= since:
            erasures.append(erasure)
    if not erasures:
        since_then = "" if since is None else f" since {since}"
        raise ThreadNotFoundError(
            f"nothing was erased from thread {thread_id!r}{since_then}: there is no receipt of it"
        )
    ((log_id, now),) = yield Query(statements["receipt_log"])
    before = max((each["before"] for each in erasures if each["before"]), default=None)
    partitions = yield Query(statements["receipt_partitions"], (before,))
    document = {
        "type": TYPE,
        "log": log_id.hex(),
        "made_at": instant(now),
        "reason": reason,
        "erasures": erasures,
        "partitions": [[each, None if at is None else instant(at)] for each, at in partitions],
    }
    return sign(document, key)


def _erasure(
    stream: Stream,
    name: bytes,
    number: int,
    recorded_at: datetime,
    digest: bytes,
    body: bytes,
    known: set[tuple[bytes, int]],
) -> dict[str, Any]:
    context = stream.describe_event(number)
    says, stubs = decode_operation_record(body, context)
    before = says.get("before")
    try:
        before = None if before is None else instant(datetime.fromisoformat(before))
        erased = []
        for each in stub_ranges(says, stubs):
            for seq in range(each.first, each.last + 1):
                if (name, seq) not in known:
                    known.add((name, seq))
                    at, leaf = each.stub(seq)
                    erased.append([seq, instant(instant_of(at)), leaf.hex()])
    except (TypeError, ValueError, OverflowError) as exc:
        raise LogCorruptedError(f"{context} does not decode: {exc}") from exc
    return {
        "stream": name.hex(),
        "number": number,
        "recorded_at": instant(recorded_at),
        "digest": digest.hex(),
        "operation": says.get("operation"),
        "arguments": {key: value for key, value in says.items() if key not in _BESIDE},
        "by": says.get("by"),
        "actor": says.get("actor"),
        "before": before,
        **{count: says.get(count, 0) for count in ("events", "checkpoints", "bytes")},
        "erased": erased,
    }


def verify_receipt(document: str | bytes | Mapping[str, Any], public_key: Any) -> Receipt:
    """What a receipt says, which is as the key's holder signed it. Asks no database.

    Args:
        document: JSON, as `EventLog.receipt` made it.
        public_key: an Ed25519 public key: a path to a PEM file, its content, or a key of `cryptography`.

    Raises:
        InvalidInputError: when it is no receipt, or the key is none.
        ProofError: when it was altered, or is of another key.
    """
    says = read_signed(document, TYPE, "receipt", _public_key(public_key))
    try:
        return Receipt(
            bytes.fromhex(says["log"]),
            datetime.fromisoformat(says["made_at"]),
            says["reason"],
            tuple([_read_erasure(each) for each in says["erasures"]]),
            tuple([(name, _time(at)) for name, at in says["partitions"]]),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise InvalidInputError(f"receipt lacks a field, or has one of another kind: {exc}") from exc


#: The parameter has its name.
_public_key = public_key


def _read_erasure(says: Mapping[str, Any]) -> Erasure:
    stubs: Sequence[Sequence[Any]] = says["erased"]
    read: dict[str, Any] = {
        "stream": bytes.fromhex(says["stream"]),
        "recorded_at": datetime.fromisoformat(says["recorded_at"]),
        "digest": bytes.fromhex(says["digest"]),
        "before": _time(says["before"]),
        "erased": tuple([(seq, datetime.fromisoformat(at), bytes.fromhex(leaf)) for seq, at, leaf in stubs]),
    }
    return Erasure(**{name: read[name] if name in read else says[name] for name in Erasure._fields})


def _time(value: str | None) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
