"""Signed seals: what a verifier needs who has the documents and the public key, and no database.

    {"type": "eventlog seal 1", "log": log id, "number": …, "sealed_at": …, "streams": …, "root": …, "previous": …,
     "digest": …, "key": …, "signature": …}

`digest` is the seal's own, `previous` that of the seal before: documents with successive numbers are a chain
(`eventlog.format.signature` has the format). That a stream only grew between two seals is in no document: `verify`
shows it, on the database or on a backup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any

from eventlog.errors import InvalidInputError, ProofError
from eventlog.format.signature import instant, json_object, public_key, read_signed, sign
from eventlog.seals import NO_DIGEST, Proof, Seal, SignedSeal

__all__ = ["read_proof", "read_signed_seal", "sign_seal", "verify_signed_seals"]

TYPE = "eventlog seal 1"


def sign_seal(seal: Seal, log_id: bytes, key: Any) -> str:
    """A seal's document; `key` as `private_key` returns it."""
    document = {
        "type": TYPE,
        "log": log_id.hex(),
        "number": seal.number,
        "sealed_at": instant(seal.sealed_at),
        "streams": seal.streams,
        "root": seal.root.hex(),
        "previous": seal.previous.hex(),
        "digest": seal.digest.hex(),
    }
    return sign(document, key)


def read_signed_seal(document: Any, key: Any) -> SignedSeal:
    """What a document says; `key` as the caller gave it. Raises InvalidInputError, ProofError."""
    says = read_signed(document, TYPE, "seal", public_key(key))
    try:
        hashes = (bytes.fromhex(says[name]) for name in ("root", "previous", "digest"))
        at = datetime.fromisoformat(says["sealed_at"])
        return SignedSeal(bytes.fromhex(says["log"]), int(says["number"]), at, int(says["streams"]), *hashes)
    except (KeyError, TypeError, ValueError) as exc:
        raise InvalidInputError(f"seal lacks a field, or has one of another kind: {exc}") from exc


def verify_signed_seals(documents: Iterable[str | bytes | Mapping[str, Any]], public_key: Any) -> list[SignedSeal]:
    """Check signed seals without a database: signatures, numbers, times, and that each names the one before it.

    Where a number is missing between two of them, only that number and time rise is checked. It says nothing of what
    the log has today: `EventLog.verify` does.

    Args:
        documents: JSON, as `EventLog.seal` made it, in any order; at least one.
        public_key: an Ed25519 public key: a path to a PEM file, its content, or a key of `cryptography`.

    Returns: what they say, by number.

    Raises:
        InvalidInputError: when one is no signed seal, or the key is none.
        ProofError: when one was altered, is of another key or another log, or does not fit the others.
    """
    if isinstance(documents, (str, bytes, Mapping)) or not isinstance(documents, Iterable):
        raise InvalidInputError("documents must be a list of signed seals")
    seals = sorted(
        dict.fromkeys(read_signed_seal(each, public_key) for each in documents), key=lambda each: each.number
    )
    if not seals:
        raise InvalidInputError("documents must have one signed seal at least")
    first = seals[0]
    if first.number < 1 or (first.number == 1) != (first.previous == NO_DIGEST):
        raise ProofError(f"seal {first.number} names a seal before it that cannot be: it was not made by `seal`")
    for before, after in pairwise(seals):
        what = f"seals {before.number} and {after.number}"
        if before.log_id != after.log_id:
            raise ProofError(f"{what} are of two logs, {before.log_id.hex()} and {after.log_id.hex()}")
        if before.number == after.number:
            raise ProofError(
                f"there are two seals {before.number} of this log: it went on in two copies, or its seals were replaced"
            )
        if before.sealed_at > after.sealed_at:
            raise ProofError(f"{what} are not in the order of their times")
        if before.number + 1 == after.number and before.digest != after.previous:
            raise ProofError(f"seal {after.number} does not follow seal {before.number}: it names another one")
    return seals


def read_proof(document: str | bytes | Mapping[str, Any]) -> tuple[Proof, Seal]:
    """A proof and its seal, from what ``eventlog prove --json`` writes; `verify_proof` checks it.

    Raises:
        InvalidInputError: when it is something else.
    """
    says = json_object(document, "proof")
    try:
        sealed = {name: says["sealed"][name] for name in Seal._fields if name != "document"}
        for name in ("root", "changes", "previous", "digest"):
            sealed[name] = bytes.fromhex(sealed[name])
        sealed["sealed_at"] = datetime.fromisoformat(sealed["sealed_at"])
        for name in ("streams", "number", "changed"):
            sealed[name] = _number(sealed[name])
        for name in ("partitions", "by", "actor"):
            if name != "actor" or sealed[name] is not None:
                sealed[name].encode()
        if sealed["sealed_at"].tzinfo is None:
            raise ValueError("sealed_at has no time zone")
        proven: dict[str, Any] = {name: _number(says[name]) for name in ("seal", "seq", "index", "size")}
        proven |= {name: bytes.fromhex(says[name]) for name in ("stream", "digest")}
        return Proof(**proven, path=tuple(bytes.fromhex(each) for each in says["path"])), Seal(**sealed)
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise InvalidInputError(f"not a proof as `eventlog prove --json` writes it: {exc}") from exc


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"{value!r} is not a number")
    return value
