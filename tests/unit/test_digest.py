"""Digests, format 2: the specification in `eventlog.format.digest`, computed here by hand and from test vectors."""

from __future__ import annotations

import json
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from eventlog.format.contents import SavedWrite, WritesSaved
from eventlog.format.delta import Full, Serialized, Splice, difference
from eventlog.format.digest import (
    CHUNK_BYTES,
    channel_digest,
    content_digest,
    event_leaf,
    next_digest,
    relocation_digest,
    state_digest,
)
from snapshots.encode import digest_state, digest_writes
from snapshots.state import CheckpointState

VECTORS = json.loads(Path(__file__).with_name("digest_vectors.json").read_text())


def serialized(parts: list[Any]) -> Serialized:
    type_, data, *repeats = parts
    return Serialized(type_, bytes.fromhex(data) * int(repeats[0] if repeats else 1))


def version(value: Any) -> Any:
    """JSON does not tell 2.0 from 2 in every language."""
    return float(value["float"]) if isinstance(value, dict) else value


def versions(found: dict[str, Any]) -> dict[str, Any]:
    return {channel: version(value) for channel, value in found.items()}


@pytest.mark.parametrize("vector", VECTORS["events"], ids=lambda vector: vector["about"])
def test_each_vector_has_the_digests_that_it_says(vector: dict[str, Any]) -> None:
    """They are for other implementations: none of them may ever change."""
    salt, body = bytes.fromhex(vector["salt"]), bytes.fromhex(vector["body"])
    state: bytes | None = None
    if vector["kind"] == 1:
        channels = {name: serialized(value) for name, value in vector["channels"].items()}
        digests = {name: channel_digest(value).digest.hex() for name, value in channels.items()}
        assert digests == vector["channel_digests"]
        fields, metadata = serialized(vector["fields"]), serialized(vector["metadata"])
        seen = {node: versions(each) for node, each in vector["seen"].items()}
        state = digest_state(
            CheckpointState(
                *("", versions(vector["versions"]), seen, channels, vector["parent"], fields, metadata), salt=salt
            ),
            None,
            {},
        )
    elif vector["kind"] == 2:
        values = [serialized(value) for _, _, value in vector["writes"]]
        writes = [SavedWrite(idx, channel, Full(*serialized(value))) for idx, channel, value in vector["writes"]]
        state = digest_writes(
            WritesSaved(vector["task_id"], vector["task_path"], writes, salt, vector.get("actor")), values
        )
    assert (state.hex() if state else None) == vector["state_digest"]
    content_ = content_digest(state, sha256(body).digest())
    assert content_.hex() == vector["content_digest"]
    leaf = event_leaf(vector["kind"], vector["ids"], vector["base"], content_)
    assert leaf.hex() == vector["leaf"]
    at = struct.pack(">q", vector["microseconds"])
    assert next_digest(bytes.fromhex(vector["previous"]), vector["seq"], at, leaf).hex() == vector["digest"]


def test_the_digest_of_a_value_covers_type_length_and_chunks() -> None:
    """As the specification says it."""
    data = bytes(range(256)) * 100  # 25,600 bytes: two chunks
    chunks = sha256(data[:CHUNK_BYTES]).digest() + sha256(data[CHUNK_BYTES:]).digest()
    expected = sha256(struct.pack(">i", 7) + b"msgpack" + struct.pack(">q", len(data)) + chunks).digest()
    assert channel_digest(Serialized("msgpack", data)) == (expected, chunks)
    empty = sha256(struct.pack(">i", 4) + b"null" + struct.pack(">q", 0)).digest()
    assert channel_digest(Serialized("null", b"")) == (empty, b"")


@pytest.mark.parametrize("grown", [10, 1_000, CHUNK_BYTES - 5, CHUNK_BYTES, 3 * CHUNK_BYTES])
@pytest.mark.parametrize("size", [100, CHUNK_BYTES, 2 * CHUNK_BYTES, 5 * CHUNK_BYTES + 17])
@pytest.mark.parametrize("edit", ["append", "shorten", "replace", "header"])
def test_the_digest_after_a_splice_is_that_of_the_whole_value(size: int, grown: int, edit: str) -> None:
    """The chunks that are not hashed again are those that did not change."""
    old = Serialized("bytes", bytes(number % 251 for number in range(size)))
    added = bytes(number % 13 for number in range(grown))
    at = size // 2
    data = {
        "append": old.data + added,
        "shorten": old.data[:at] + old.data[at + min(grown, at) :],
        "replace": old.data[:at] + added[:at] + old.data[at + len(added[:at]) :],
        "header": b"\xdc\x00\x10" + old.data[1:] + added,
    }[edit]
    value = Serialized("bytes", data)
    op = difference(value, old, limit=1 << 30)
    if isinstance(op, Splice):
        assert channel_digest(value, op, channel_digest(old)) == channel_digest(value)


def test_names_are_sorted_by_code_point() -> None:
    """Whatever order a dictionary has; in UTF-16 these two would change places."""
    one = {"\uffff": 1, "\U0001f600": 2, "a": 3}
    other = dict(reversed(one.items()))
    assert state_digest(bytes(16), [one]) == state_digest(bytes(16), [other])
    packed = b"\x91\x83\xa1a\x03" + b"\xa3\xef\xbf\xbf\x01" + b"\xa4\xf0\x9f\x98\x80\x02"
    assert state_digest(bytes(16), [one]) == sha256(bytes(16) + packed).digest()


def test_a_relocation_covers_times_base_and_body() -> None:
    """Whatever is changed in the new row, its digest is another one."""
    seven, eight = struct.pack(">q", 7), struct.pack(">q", 8)
    digest = relocation_digest(3, seven, seven, None, None, bytes(32))
    others = [
        relocation_digest(4, seven, seven, None, None, bytes(32)),
        relocation_digest(3, eight, seven, None, None, bytes(32)),
        relocation_digest(3, seven, eight, seven, None, bytes(32)),
        relocation_digest(3, seven, seven, eight, None, bytes(32)),
        relocation_digest(3, seven, seven, None, 1, bytes(32)),
        relocation_digest(3, seven, seven, None, None, bytes(31) + b"\1"),
    ]
    assert digest not in others
    assert len(set(others)) == len(others)
    assert digest == sha256(struct.pack(">q", 3) + seven * 3 + struct.pack(">q", 0) + bytes(32)).digest()
