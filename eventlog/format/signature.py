"""JSON documents signed with Ed25519 (RFC 8032): seals and receipts, to be kept outside the database.

    document   one JSON object of texts, integers, nulls, lists and objects
    "type"     what it is, and the version of its format: "eventlog seal 1", "eventlog receipt 1"
    "key"      the key's id: the first 16 bytes of sha256(public key, 32 bytes), in hex
    signature  Ed25519 over the canonical bytes of the document without "signature", in hex
    canonical  JSON as RFC 8785 has it: UTF-8, the names in order, no space between, control characters escaped

Times are ISO 8601 in UTC with microseconds and "+00:00", hashes and names are in hex. Needs `cryptography` (extra
``seal``), which is imported when a key is first used.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from eventlog.errors import EventLogError, InvalidInputError, ProofError

__all__ = ["instant", "json_object", "private_key", "public_key", "read_signed", "sign"]

#: A larger file or document is not read as one.
MOST_KEY_BYTES = 64 * 1024


def private_key(value: Any) -> Any:
    """An Ed25519 private key from a PEM file (a path), its text or bytes, or a key object of `cryptography`.

    Raises InvalidInputError for anything else, EventLogError if `cryptography` is not installed.
    """
    return _key(value, "key", "Private", lambda pem: _module("serialization").load_pem_private_key(pem, None))


def public_key(value: Any) -> Any:
    """Like `private_key`, for a public key."""
    return _key(value, "public_key", "Public", lambda pem: _module("serialization").load_pem_public_key(pem))


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"cryptography.hazmat.primitives.{name}")
    except ImportError as exc:
        raise EventLogError("signatures need cryptography: pip install 'langgraph-checkpoint-eventlog[seal]'") from exc


def _key(value: Any, what: str, half: str, load: Any) -> Any:
    kind = getattr(_module("asymmetric.ed25519"), f"Ed25519{half}Key")
    if isinstance(value, kind):
        return value
    source = what
    if isinstance(value, Path) or (isinstance(value, str) and "-----BEGIN" not in value):
        # A text that is not a path may be the key itself without its first line: do not quote it.
        source = f"{what} {value}" if len(str(value)) <= 200 and Path(value).parent.is_dir() else f"{what}'s file"
        try:
            with open(value, "rb") as file:
                value = file.read(MOST_KEY_BYTES)
        except (OSError, ValueError) as exc:
            raise InvalidInputError(f"{source} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    pem = value.encode() if isinstance(value, str) else value
    try:
        key = load(pem) if isinstance(pem, bytes) else None
    except Exception as exc:
        # Do not chain the error: its message may quote the key. An encrypted key raises TypeError, another algorithm an
        # error of its own.
        raise _not_a_key(source, half) from (None if half == "Private" else exc)
    if not isinstance(key, kind):
        raise _not_a_key(source, half)
    return key


def _not_a_key(source: str, half: str) -> InvalidInputError:
    make = (
        "genpkey -algorithm ed25519 -out seal.key" if half == "Private" else "pkey -in seal.key -pubout -out seal.pub"
    )
    return InvalidInputError(
        f"{source} is not an Ed25519 {half.lower()} key in PEM without a passphrase: make one with `openssl {make}`"
    )


def _id(key: Any) -> str:
    return sha256(key.public_bytes_raw()).hexdigest()[:32]


def _canonical(document: Mapping[str, Any]) -> bytes:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def sign(document: Mapping[str, Any], key: Any) -> str:
    """The document with the key's id and the signature, as one line; `key` as `private_key` returns it."""
    signed = {**document, "key": _id(key.public_key())}
    return json.dumps({**signed, "signature": key.sign(_canonical(signed)).hex()}, ensure_ascii=False)


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses an object with a repeated name: a reader might take one value, and the signature cover the other."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is repeated in an object")
    return found


def json_object(document: Any, what: str) -> dict[str, Any]:
    """A document from its text, its bytes or a mapping. Raises InvalidInputError."""
    if isinstance(document, (str, bytes)):
        try:
            document = json.loads(document, object_pairs_hook=_unrepeated)
        except (ValueError, RecursionError) as exc:
            raise InvalidInputError(f"{what} is not JSON: {exc}") from exc
    if not isinstance(document, Mapping):
        raise InvalidInputError(f"{what} must be a JSON object, as text or as a mapping")
    return dict(document)


def read_signed(document: Any, type_: str, what: str, key: Any) -> dict[str, Any]:
    """The content of a document signed with the key, without the signature; `key` as returned by `public_key`.

    Raises InvalidInputError if it is no such document, ProofError if another key signed it or it was altered.
    """
    found = json_object(document, what)
    if found.get("type") != type_ or not isinstance(found.get("key"), str):
        raise InvalidInputError(f"{what} must be a document of type {type_!r}, not {found.get('type')!r}")
    if found["key"] != _id(key):
        raise ProofError(
            f"{what} was signed with key {found['key']!r}, and the given key is {_id(key)!r}: give the public key of "
            "its signer"
        )
    try:
        signature = bytes.fromhex(found.pop("signature"))
        key.verify(signature, _canonical(found))
    except (KeyError, TypeError, ValueError, RecursionError) as exc:
        raise ProofError(f"{what} has no signature that can be read") from exc
    except importlib.import_module("cryptography.exceptions").InvalidSignature as exc:
        raise ProofError(f"{what} was altered after it was signed: its signature does not hold") from exc
    return found


def instant(at: datetime) -> str:
    """A time in the format of documents."""
    return at.astimezone(timezone.utc).isoformat(timespec="microseconds")
