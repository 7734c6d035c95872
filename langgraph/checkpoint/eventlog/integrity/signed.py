"""Signed seals: they can be verified with the documents and the public key, without a database.

    {"type": "eventlog seal 1", "log": log id, "number": …, "sealed_at": …, "streams": …, "root": …, "previous": …,
     "digest": …, "key": …, "signature": …}

`digest` is the seal's own, `previous` that of the seal before: documents with successive numbers are a chain
(`eventlog.format.signature` has the format). No document proves that a stream only grew between two seals: `verify`
does, on the database or on a backup.
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
    """The content of a document; `key` as the caller gave it. Raises InvalidInputError, ProofError."""
    says = read_signed(document, TYPE, "seal", public_key(key))
    try:
        hashes = (bytes.fromhex(says[name]) for name in ("root", "previous", "digest"))
        at = datetime.fromisoformat(says["sealed_at"])
        return SignedSeal(bytes.fromhex(says["log"]), int(says["number"]), at, int(says["streams"]), *hashes)
    except (KeyError, TypeError, ValueError) as exc:
        raise InvalidInputError(f"seal lacks a field, or has one of another kind: {exc}") from exc


def verify_signed_seals(documents: Iterable[str | bytes | Mapping[str, Any]], public_key: Any) -> list[SignedSeal]:
    """Check signed seals without a database: signatures, numbers, times, and the chain between them.

    Across a gap in the numbers, the call checks only that numbers and times rise. It does not read the log:
    `EventLog.verify` does.

    Args:
        documents: Signed seals as `EventLog.seal` made them, at least one, in any order.
        public_key: The signer's Ed25519 public key: the path of a PEM file, its content, or a key object.

    Returns:
        The seals, by number.

    Raises:
        InvalidInputError: A document is not a signed seal, or the key is not a public key.
        ProofError: A seal was altered, belongs to another key or another log, or does not fit the others.
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
    """Read the proof and the seal that `eventlog prove --json` wrote. `verify_proof` checks them.

    Args:
        document: The JSON text, or its content as a dict.

    Returns:
        The proof and its seal.

    Raises:
        InvalidInputError: The document is not a proof.
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
