"""Signed seals: documents that a verifier checks with a public key, without the database."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
import pytest
from Crypto.PublicKey import ECC
from Crypto.Signature import eddsa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from eventlog.errors import InvalidInputError, ProofError
from eventlog.format import signature
from langgraph.checkpoint.eventlog import EventLogSaver, read_proof, verify_proof, verify_signed_seals
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, put
from tests.support.signing import Keys, make_keys

POOLS = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path)


async def seal_thrice(uri: str, keys: Keys, kind: str = "sync-pool") -> list[str]:
    """The documents of three seals."""
    documents = []
    async with open_saver(kind, uri) as saver:
        for number in range(3):
            await put(saver, config_of("1"), f"{number}", {"x": number})
            sealed = await saver.log.seal(key=keys.private)
            documents.append(sealed.document)
    return documents


def test_the_signature_is_what_the_format_says(tmp_path: Path) -> None:
    """RFC 8032's first key over bytes that were written down by hand, checked by another implementation."""
    secret = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    key = ECC.construct(curve="Ed25519", seed=secret)
    pem = key.export_key(format="PEM")
    raw = key.public_key().export_key(format="raw")
    signed = json.loads(signature.sign({"type": "t", "z": [1, None], "a": 'ä"\n'}, signature.private_key(pem)))
    key_id = sha256(raw).hexdigest()[:32]
    text = '{"a":"ä\\"\\n","key":"' + key_id + '","type":"t","z":[1,null]}'
    eddsa.new(key.public_key(), "rfc8032").verify(text.encode(), bytes.fromhex(signed["signature"]))
    public = key.public_key().export_key(format="PEM")
    for given in (public, public.encode(), signature.public_key(public)):
        says = signature.read_signed(signed, "t", "it", signature.public_key(given))
        assert says == {"type": "t", "z": [1, None], "a": 'ä"\n', "key": key_id}


@POOLS
async def test_signed_seals_are_checked_with_and_without_the_database(kind: str, database_uri: str, keys: Keys) -> None:
    """The documents say what the seals say, and `verify` finds each in the log."""
    documents = await seal_thrice(database_uri, keys, kind)
    found = verify_signed_seals(reversed(documents), keys.public)
    async with open_saver(kind, database_uri) as saver:
        stored = await saver.log.seals()
        assert [each[1:] for each in reversed(found)] == [
            (each.number, each.sealed_at, each.streams, each.root, each.previous, each.digest) for each in stored
        ]
        for document in documents:
            assert (await saver.log.verify(seal=document, public_key=keys.public)).problems == []
        assert (await saver.log.verify(seal=json.loads(document), public_key=keys.public.read_text())).problems == []
        proof = await saver.log.prove("1", seal=2)
        assert verify_proof(proof, found[1])
        assert not verify_proof(proof, found[0])
        assert not verify_proof(proof, found[1]._replace(root=bytes(32)))
    assert [each.number for each in verify_signed_seals([documents[0], documents[2]], keys.public)] == [1, 3]


async def test_altered_documents_do_not_hold(database_uri: str, keys: Keys, tmp_path: Path) -> None:
    """Each field is covered; another key, or one that is none, is named."""
    documents = await seal_thrice(database_uri, keys)
    document = json.loads(documents[1])
    for name, value in document.items():
        altered = {**document, name: value + 1 if isinstance(value, int) else value[:-1] + chr(ord(value[-1]) ^ 1)}
        with pytest.raises((ProofError, InvalidInputError)):
            verify_signed_seals([altered], keys.public)
        with pytest.raises((ProofError, InvalidInputError)):
            verify_signed_seals([{key: each for key, each in document.items() if key != name}], keys.public)
    with pytest.raises(ProofError, match="altered"):
        verify_signed_seals([{**document, "more": 1}], keys.public)
    other = make_keys(tmp_path, "other")
    with pytest.raises(ProofError, match="give the public key of its signer"):
        verify_signed_seals([document], other.public)
    key_id = json.loads(signature.sign({}, signature.private_key(other.private)))["key"]
    with pytest.raises(ProofError, match="altered"):
        verify_signed_seals([{**document, "key": key_id}], other.public)


@pytest.mark.attack("superuser")
async def test_seals_that_do_not_follow_each_other_are_found(database_uri: str, keys: Keys) -> None:
    """Signed with the right key, they still must be one chain of one log."""
    documents = [json.loads(each) for each in await seal_thrice(database_uri, keys)]
    key = signature.private_key(keys.private)

    def again(number: int, **changes: Any) -> str:
        says = {name: each for name, each in documents[number].items() if name not in ("key", "signature")}
        return signature.sign({**says, **changes}, key)

    first, second, third = documents
    wrong: dict[str, list[Any]] = {
        "does not follow": [first, again(1, previous="00" * 32)],
        "two logs": [first, again(2, log="00" * 16)],
        "two seals 2": [first, second, again(1, digest="00" * 32)],
        "times": [first, again(2, sealed_at="2000-01-01T00:00:00.000000+00:00")],
        "before it that cannot be": [again(0, previous=second["digest"])],
    }
    for what, given in wrong.items():
        with pytest.raises(ProofError, match=what):
            verify_signed_seals(given, keys.public)
    assert len(verify_signed_seals([first, second, third, third], keys.public)) == 3


@pytest.mark.attack("superuser")
async def test_a_seal_of_another_log_or_of_a_replaced_one_is_named(
    database_uri: str, new_database: Callable[..., str], keys: Keys
) -> None:
    """Of another log it is an error; where the log's seals were made again, a problem."""
    documents = await seal_thrice(database_uri, keys)
    async with open_saver("sync-pool", database_uri) as saver:
        with psycopg.connect(database_uri) as conn:
            conn.execute("update eventlog.settings set log_id = decode(repeat('ab', 16), 'hex')")
        with pytest.raises(ProofError, match="this one is abababab"):
            await saver.log.verify(seal=documents[0], public_key=keys.public)
        with psycopg.connect(database_uri) as conn:
            conn.execute("update eventlog.settings set log_id = decode(%s, 'hex')", (json.loads(documents[0])["log"],))
            conn.execute("update eventlog.seals set streams = 7 where number = 3")
        found = (await saver.log.verify(seal=documents[2], public_key=keys.public)).problems
        assert any("not what its signed document says" in each.what for each in found)
        with psycopg.connect(database_uri) as conn:
            conn.execute("delete from eventlog.sealed")
            conn.execute("delete from eventlog.seals")
        await saver.log.seal()
        found = (await saver.log.verify(seal=documents[0], public_key=keys.public)).problems
        assert any("the log does not have it" in each.what for each in found)


@POOLS
async def test_bad_keys_are_refused_and_nothing_is_sealed(
    kind: str, database_uri: str, keys: Keys, tmp_path: Path
) -> None:
    """Not a key, a key of another kind, the wrong half: the message has the command that makes one."""
    other = tmp_path / "ec.pem"
    curve = ec.generate_private_key(ec.SECP256R1())
    other.write_bytes(curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    locked = load_pem_private_key(keys.private.read_bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    async with open_saver(kind, database_uri) as saver:
        for bad in (keys.public, other, tmp_path / "none", tmp_path, "", "a\0b", b"x", 1, b"", locked):
            with pytest.raises(InvalidInputError, match="key"):
                await saver.log.seal(key=bad)
        assert await saver.log.seals() == []
        document = (await saver.log.seal(key=keys.private.read_bytes())).document
        for seal, key in ((document, None), (None, keys.public), ("1:" + "0" * 64, keys.public), ("{", keys.public)):
            with pytest.raises(InvalidInputError):
                await saver.log.verify(seal=seal, public_key=key)
        for documents in ([], document, None, ["{}"], ["[1]"], [None], ["[" * 100_000]):
            with pytest.raises(InvalidInputError):
                verify_signed_seals(documents, keys.public)  # type: ignore[arg-type]
    for proof in ("", "{}", "[]", "1", {"seal": 1}, {"sealed": []}):
        with pytest.raises(InvalidInputError):
            read_proof(proof)


def test_signed_seals_roll_back_with_a_failing_signature(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seal without its document would be one that no verifier has."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the key's hardware is gone")

    monkeypatch.setattr("langgraph.checkpoint.eventlog.integrity.seal.private_key", lambda key: key)
    monkeypatch.setattr("langgraph.checkpoint.eventlog.integrity.signed.sign", fail)
    with EventLogSaver.from_conn_string(database_uri) as saver:
        with pytest.raises(RuntimeError):
            saver.log.seal(key=b"")
        assert saver.log.seals() == []


def test_cryptography_is_imported_for_signatures_alone() -> None:
    """The extra is not needed for anything else; without it the error names it."""
    program = """
import sys
sys.modules["cryptography"] = None
import langgraph.checkpoint.eventlog.aio, langgraph.checkpoint.eventlog as face
try:
    face.verify_signed_seals(["{}"], b"")
except face.EventLogError as exc:
    print(exc)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert "pip install 'langgraph-checkpoint-eventlog[seal]'" in done.stdout
