"""Receipts of erasures from a thread: made from the records in the log, signed, and without content.

    {"type": "eventlog receipt 1", "log": log id, "made_at": …, "reason": text or null, "erasures": [erasure, …],
     "partitions": [[name, dropped at or null], …], "key": …, "signature": …}

    erasure    {"stream": name, "number": …, "recorded_at": …, "digest": …, "operation": …, "arguments": {…}, "by": …,
                "actor": text or null, "before": time or null, "events": …, "checkpoints": …, "bytes": …,
                "erased": [[number, time, leaf], …]}

An erasure is a record: an event of the stream, with its number, time and digest. `erased` has the stubs of the erased
events, each under the operation that erased it. If a record went with its partition, a later record has a copy of its
content. The leaf is a hash with a random salt: it reveals nothing about the thread or the erased events. With `before`,
all earlier events are void. They went with the partitions that are listed, or go when these are dropped; listed are
those that ended between the thread's first event, as far as it is known, and `before`. A receipt has the random names
of the streams, not the thread's id, which may be personal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
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

#: Fields of a record beside the arguments of its operation; the runs' ids stay in the log.
_BESIDE = (
    *("operation", "by", "actor", "before", "events", "checkpoints", "bytes", "runs"),
    *(
        "erased",
        "cut",
        "anchor",
        "relocated",
        "records",
        "previous",
        "salt",
        "earlier",
        "number",
        "recorded_at",
        "digest",
    ),
)

_Stub: TypeAlias = "tuple[int, datetime, bytes]"
#: Time, as PostgreSQL sends it, and leaf.
_RawStub: TypeAlias = "tuple[bytes, bytes]"


class Erasure(NamedTuple):
    """An erasure in one stream, as a signed receipt states it."""

    stream: bytes
    """The stream's random name, 16 bytes."""
    number: int
    """The number of the record in the stream."""
    recorded_at: datetime
    """The time of the record."""
    digest: bytes
    """The digest of the record in the stream's chain."""
    operation: str
    """The operation, such as `delete_thread`."""
    arguments: dict[str, Any]
    """Its arguments."""
    by: str
    """The database user."""
    actor: str | None
    """The person or service that the caller named."""
    before: datetime | None
    """All events recorded before this time are void, if set."""
    events: int
    """Erased events."""
    checkpoints: int
    """Erased checkpoints."""
    bytes: int
    """Bytes of erased bodies and snapshots."""
    erased: tuple[_Stub, ...]
    """Number, time and leaf hash of each erased event with a stub."""


class Receipt(NamedTuple):
    """The content of a signed receipt of erasures."""

    log_id: bytes
    """The log's random id."""
    made_at: datetime
    """The time of the receipt."""
    reason: str | None
    """The signer's reason; None without one."""
    erasures: tuple[Erasure, ...]
    """The erasures."""
    partitions: tuple[tuple[str, datetime | None], ...]
    """Names of the partitions that held the void events, each with the time of its drop, or None."""


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
    erasures: list[dict[str, Any]] = []
    begins: list[datetime | None] = []
    for ns, records in groupby(rows, key=itemgetter(0)):
        found = _Stream(Stream(thread_id, ns))
        for _, name, number, recorded_at, digest, body, first_at in records:
            found.name, found.first_at = name.hex(), first_at
            if body is not None:  # A stream may have no records.
                found.read(number, recorded_at, digest.hex(), body)
        erasures += [each for at, each in found.erasures if since is None or at >= since]
        begins.append(found.first_at)
    if not erasures:
        since_then = "" if since is None else f" since {since}"
        raise ThreadNotFoundError(
            f"nothing was erased from thread {thread_id!r}{since_then}: there is no receipt of it"
        )
    ((log_id, now),) = yield Query(statements["receipt_log"])
    before = max((each["before"] for each in erasures if each["before"]), default=None)
    begun = None if None in begins else min(each for each in begins if each is not None)
    partitions = yield Query(statements["receipt_partitions"], {"before": before, "since": begun})
    document = {
        "type": TYPE,
        "log": log_id.hex(),
        "made_at": instant(now),
        "reason": reason,
        "erasures": erasures,
        "partitions": [[each, None if at is None else instant(at)] for each, at in partitions],
    }
    return sign(document, key)


class _Stream:
    """The erasures in the records of one stream, read in their order."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.name = ""
        self.first_at: datetime | None = None
        """The time of its first event, present or erased."""
        self.erasures: list[tuple[datetime, dict[str, Any]]] = []
        """Each with its time."""
        self._numbers: set[int] = set()
        self._known: set[int] = set()

    def read(self, number: int, recorded_at: datetime, digest: str, body: bytes) -> None:
        """Take in a record. Raises LogCorruptedError."""
        context = self._stream.describe_event(number)
        says, stubs = decode_operation_record(body, context)
        try:
            ranges = stub_ranges(says, stubs)
            left = {seq: each.stub(seq) for each in ranges for seq in range(each.first, each.last + 1)}
            if 1 in left and self.first_at is None:
                self.first_at = instant_of(left[1][0])
            for each in says.get("earlier", ()):
                # A record that is present itself was read already.
                if each["number"] not in self._numbers:
                    at = datetime.fromisoformat(each["recorded_at"])
                    numbers = [seq for first, last in each["erased"] for seq in left if first <= seq <= last]
                    self._add(each["number"], at, each["digest"], each, {seq: left[seq] for seq in numbers})
            self._add(number, recorded_at, digest, says, left)
        except (TypeError, KeyError, ValueError, OverflowError) as exc:
            raise LogCorruptedError(f"{context} does not decode: {exc}") from exc

    def _add(
        self, number: int, recorded_at: datetime, digest: str, says: Mapping[str, Any], left: Mapping[int, _RawStub]
    ) -> None:
        before = says.get("before")
        erased = [(seq, *stub) for seq, stub in sorted(left.items()) if seq not in self._known]
        self._known.update(left)
        self._numbers.add(number)
        erasure = {
            "stream": self.name,
            "number": number,
            "recorded_at": instant(recorded_at),
            "digest": digest,
            "operation": says.get("operation"),
            "arguments": {key: value for key, value in says.items() if key not in _BESIDE},
            "by": says.get("by"),
            "actor": says.get("actor"),
            "before": None if before is None else instant(datetime.fromisoformat(before)),
            **{count: says.get(count, 0) for count in ("events", "checkpoints", "bytes")},
            "erased": [[seq, instant(instant_of(at)), leaf.hex()] for seq, at, leaf in erased],
        }
        self.erasures.append((recorded_at, erasure))


def verify_receipt(document: str | bytes | Mapping[str, Any], public_key: Any) -> Receipt:
    """Check the signature of a receipt, and return its content, without a database.

    Args:
        document: The receipt as `EventLog.receipt` made it.
        public_key: The signer's Ed25519 public key: the path of a PEM file, its content, or a key object.

    Returns:
        The content.

    Raises:
        InvalidInputError: The document is not a receipt, or the key is not a public key.
        ProofError: The receipt was altered, or belongs to another key.
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
