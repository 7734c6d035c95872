"""Event bodies and the state cache: what goes in comes out, and damage is always noticed as such."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from importlib import resources
from typing import Any

import ormsgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from zstandard import ZstdDecompressor

from eventlog.errors import EventTooLargeError, LogCorruptedError, SerializationError
from eventlog.format.codec import COMPRESSED, DICTIONARY, ENCRYPTED, VERSION, Codec, _decompressors
from eventlog.format.contents import CheckpointSaved, MapPatch, SavedWrite, Serialized, WritesSaved
from eventlog.format.delta import DROP, Cross, Full, Patch, Splice
from eventlog.format.values import dumps, loads, split_serializer
from eventlog.settings import Settings
from tests.support.checkpoints import codec_of

pytestmark = pytest.mark.portable

CI = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow],
)

SERDE = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
OTHER = EncryptedSerializer.from_pycryptodome_aes(key=b"fedcba9876543210")

CODECS = {
    "plain": codec_of(Settings()),
    "encrypted": codec_of(Settings(), SERDE.cipher),
}


# --- round trips

NAMES = st.text(max_size=12)
IDS = NAMES.filter(lambda each: "\0" not in each)
VERSIONS = st.one_of(NAMES, st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.just(float("inf")))
# Sizes on both sides of what is compressed.
DATA = st.one_of(st.binary(max_size=50), st.binary(max_size=20).map(lambda each: each * 40))
SERIALIZED = st.builds(Serialized, NAMES, DATA)
PATCHES = st.builds(MapPatch, st.dictionaries(NAMES, VERSIONS, max_size=4), st.lists(NAMES, max_size=3))
SIZES = st.integers(0, 2**40)
DIFFERENCES = st.builds(Splice, NAMES, DATA, SIZES, SIZES, DATA, SIZES) | st.builds(Patch, NAMES, DATA)
OPERATIONS = st.one_of(st.builds(Full, NAMES, DATA), DIFFERENCES, st.just(DROP), st.builds(Cross, NAMES, DIFFERENCES))
CHECKPOINTS = st.builds(
    CheckpointSaved,
    parent_id=st.none() | IDS,
    fields=SERIALIZED,
    metadata=SERIALIZED,
    versions=PATCHES,
    seen=st.builds(MapPatch, st.dictionaries(NAMES, PATCHES, max_size=3), st.lists(NAMES, max_size=2)),
    channels=st.dictionaries(NAMES, OPERATIONS, max_size=4),
    observed_latest_id=st.none() | IDS,
)
WRITES = st.builds(
    WritesSaved,
    task_id=NAMES,
    task_path=NAMES,
    writes=st.lists(st.builds(SavedWrite, st.integers(-4, 2**31), NAMES, OPERATIONS), max_size=5),
)
STATES = st.tuples(
    st.dictionaries(NAMES, VERSIONS, max_size=4),
    st.dictionaries(NAMES, st.dictionaries(NAMES, VERSIONS, max_size=3), max_size=3),
    st.dictionaries(NAMES, SERIALIZED, max_size=4),
)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
@CI
@given(checkpoint=CHECKPOINTS, writes=WRITES, state=STATES)
def test_events_and_snapshots_round_trip(
    codec: Codec, checkpoint: CheckpointSaved, writes: WritesSaved, state: tuple[Any, Any, Any]
) -> None:
    """Every event and every snapshot decodes to what was encoded, named tuples included."""
    found = codec.decode_checkpoint(codec.encode_checkpoint(checkpoint), "it")
    assert found == checkpoint
    assert type(found.fields) is type(found.metadata) is Serialized
    assert [type(op) for op in found.channels.values()] == [type(op) for op in checkpoint.channels.values()]
    assert codec.decode_writes(codec.encode_writes(writes), "it") == writes
    assert codec.decode_snapshot(codec.encode_snapshot(*state), "it") == state


def sample(data: bytes = b"a") -> CheckpointSaved:
    """A checkpoint with one of everything."""
    return CheckpointSaved(
        parent_id="1f0-parent",
        fields=Serialized("msgpack", b"\x81\xa1v\x04"),
        metadata=Serialized("msgpack", b"\x80"),
        versions=MapPatch({"a": "0001.5", "b": 2, "c": 1.5}, ["d"]),
        seen=MapPatch({"node": MapPatch({"a": "0001.4"}, ["b"])}, ["gone"]),
        channels={
            "full": Full("msgpack", data),
            "splice": Splice("msgpack", b"\x92", 1, 10, data, 2),
            "patch": Patch("msgpack", b"\x28\xb5\x2f\xfd"),
            "drop": DROP,
            "cross": Cross("full", Patch("msgpack", b"\x28\xb5\x2f\xfd")),
        },
        salt=bytes(range(16)),
    )


WRITES_SAMPLE = WritesSaved(
    "task", "~__pregel_pull", [SavedWrite(-1, "__error__", Full("null", b""))], bytes(range(16))
)


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_the_first_byte_states_version_encryption_and_compression(codec: Codec) -> None:
    encrypted = ENCRYPTED if codec is CODECS["encrypted"] else 0
    noise = SavedWrite(0, "a", Full("bytes", random.Random(1).randbytes(4000)))

    assert codec.encode_writes(WRITES_SAMPLE)[0] == VERSION | encrypted
    assert codec.encode_writes(WritesSaved("t", "p", [noise]))[0] == VERSION | encrypted
    body = codec.encode_checkpoint(sample(b"the same again " * 500))
    assert body[0] == VERSION | encrypted | COMPRESSED | DICTIONARY
    assert len(body) < 500


def test_the_bytes_of_events_do_not_change() -> None:
    """Logs that exist hold them: each operation is a list that begins with its tag."""
    value, data = ["msgpack", b"\x80"], b"\x28\xb5\x2f\xfd"
    channels = {
        "full": [0, "msgpack", b"a"],
        "splice": [1, "msgpack", b"\x92", 1, 10, b"a", 2],
        "patch": [2, "msgpack", data],
        "drop": [3],
        "cross": [4, "full", [2, "msgpack", data]],
    }
    versions, seen = [{"a": "0001.5", "b": 2, "c": 1.5}, ["d"]], [{"node": [{"a": "0001.4"}, ["b"]]}, ["gone"]]
    content = ["1f0-parent", ["msgpack", b"\x81\xa1v\x04"], value, versions, seen, channels, bytes(range(16))]
    codec = codec_of(Settings(compression_level=1))
    body = codec.encode_checkpoint(sample())
    assert body[0] == VERSION | COMPRESSED | DICTIONARY
    assert _decompressors(True).run(ZstdDecompressor.decompress, body[1:]) == ormsgpack.packb(content)
    writes = ["task", "~__pregel_pull", [[-1, "__error__", [0, "null", b""]]], bytes(range(16))]
    assert codec.encode_writes(WRITES_SAMPLE) == bytes((VERSION,)) + ormsgpack.packb(writes)


def test_encryption_covers_everything() -> None:
    """Neither values nor channel names nor task ids are in an encrypted body, and only its key opens it."""
    codec = CODECS["encrypted"]
    body = codec.encode_writes(WRITES_SAMPLE)
    assert b"__error__" in CODECS["plain"].encode_writes(WRITES_SAMPLE)
    assert b"__error__" not in body
    assert b"task" not in body

    with pytest.raises(LogCorruptedError, match=r"event 7 .*EncryptedSerializer"):
        CODECS["plain"].decode_writes(body, "event 7")
    with pytest.raises(LogCorruptedError, match=r"event 7 .*decryption failed"):
        codec_of(Settings(), OTHER.cipher).decode_writes(body, "event 7")


def test_only_langgraphs_own_encryption_wrapper_is_split() -> None:
    """Only LangGraph's own wrapper is taken apart: what a subclass does with its bytes is unknown."""

    class Special(EncryptedSerializer):
        pass

    special = Special(SERDE.cipher)
    assert split_serializer(SERDE) == (SERDE.serde, SERDE.cipher)
    assert split_serializer(special) == (special, None)
    assert split_serializer(SERDE.serde) == (SERDE.serde, None)


@pytest.mark.parametrize(
    "value",
    [
        *(2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**5000, -(10**5000), True, 0),
        *("\udcff", "a\ud800b\udc00c", "\0", "é", "", float("inf"), None, b"\0"),
    ],
    # Python refuses to write out an integer of 5,000 digits.
    ids=lambda value: hex(value)[:20] if isinstance(value, int) else ascii(value),
)
def test_large_integers_and_lone_surrogates_round_trip(value: Any) -> None:
    """Integers of any size and texts with lone surrogates, which LangGraph's serializer has no place for."""
    serde = JsonPlusSerializer()
    found = loads(serde, dumps(serde, value, "it"), "it")
    assert found == value
    assert type(found) is type(value)


def test_a_value_that_cannot_be_stored_is_named() -> None:
    with pytest.raises(SerializationError, match="the value of channel 'x'"):
        dumps(JsonPlusSerializer(), lambda: None, "the value of channel 'x'")


@pytest.mark.parametrize("version", [2**64, 1j, object()])
def test_values_without_a_msgpack_form_are_refused(version: Any) -> None:
    """A clear error; what msgpack could hold and readers would refuse is refused at the saver's door."""
    event = sample()
    event.seen.changed["node"].changed["a"] = version
    with pytest.raises(SerializationError, match="names and versions"):
        CODECS["plain"].encode_checkpoint(event)
    with pytest.raises(SerializationError, match="names and versions"):
        CODECS["plain"].encode_snapshot({"a": version}, {}, {})


# --- damage

BODIES: dict[str, tuple[Codec, bytes, Callable[[Codec], Callable[[bytes, str], Any]]]] = {
    "checkpoint": (
        CODECS["plain"],
        CODECS["plain"].encode_checkpoint(sample(random.Random(1).randbytes(90).hex().encode())),
        lambda codec: codec.decode_checkpoint,
    ),
    "compressed checkpoint": (
        CODECS["plain"],
        CODECS["plain"].encode_checkpoint(sample(b"again " * 100)),
        lambda codec: codec.decode_checkpoint,
    ),
    "encrypted checkpoint": (
        CODECS["encrypted"],
        CODECS["encrypted"].encode_checkpoint(sample()),
        lambda codec: codec.decode_checkpoint,
    ),
    "writes": (
        CODECS["plain"],
        CODECS["plain"].encode_writes(WRITES_SAMPLE),
        lambda codec: codec.decode_writes,
    ),
    "snapshot": (
        CODECS["plain"],
        CODECS["plain"].encode_snapshot({"a": "1"}, {"n": {"a": 1}}, {"a": Serialized("msgpack", b"\x01")}),
        lambda codec: codec.decode_snapshot,
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_truncated_body_is_refused(name: str) -> None:
    codec, body, decode = BODIES[name]
    for size in range(len(body)):
        with pytest.raises(LogCorruptedError, match="event 7 does not decode"):
            decode(codec)(body[:size], "event 7")


@pytest.mark.parametrize("name", BODIES)
def test_an_altered_body_raises_log_corrupted_error_at_most(name: str) -> None:
    """A changed byte may go unnoticed where it is text, but nothing except LogCorruptedError comes out."""
    codec, body, decode = BODIES[name]
    noticed = total = 0
    # Decryption takes long, and notices everything: a few changes will do.
    for flip in (0x01, 0x80, 0xFF) if codec is CODECS["encrypted"] else range(1, 256):
        for position in range(len(body)):
            altered = bytearray(body)
            altered[position] ^= flip
            total += 1
            try:
                decode(codec)(bytes(altered), "event 7")
            except LogCorruptedError:
                noticed += 1
    assert noticed == total if codec is CODECS["encrypted"] else noticed > total // 10


@CI
@given(st.binary(max_size=60), st.sampled_from([0, VERSION, VERSION | COMPRESSED, 0x0F, 0x80]))
def test_random_bytes_are_refused(noise: bytes, flags: int) -> None:
    """Bytes that never were a body."""
    for decode in (
        CODECS["plain"].decode_checkpoint,
        CODECS["plain"].decode_writes,
        CODECS["plain"].decode_snapshot,
    ):
        with pytest.raises(LogCorruptedError):
            decode(bytes((flags,)) + noise, "event 7")


# Anything that msgpack can say, in the place where the shapes are looked at.
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), NAMES, DATA),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=20,
)


@CI
@given(ANYTHING, ANYTHING)
def test_msgpack_of_another_shape_is_refused(content: Any, write: Any) -> None:
    """Well-formed msgpack with another content than a body's."""
    writes = ["task", "path", [write]]
    for shape in (content, writes, ["task", "path", [[write, "a", [0, "null", b""]]]]):
        body = bytes((VERSION,)) + ormsgpack.packb(shape, option=ormsgpack.OPT_NON_STR_KEYS)
        for decode in (CODECS["plain"].decode_checkpoint, CODECS["plain"].decode_writes):
            try:
                found = decode(body, "event 7")
            except LogCorruptedError:
                continue
            assert isinstance(found, WritesSaved)
            assert all(type(each.idx) is int for each in found.writes)


@pytest.mark.parametrize("idx", [float("inf"), float("nan"), 1.5, "1", None, True, b"1"])
def test_a_writes_place_is_a_whole_number(idx: Any) -> None:
    """The index decides which of a task's repeated writes counts: it must not be guessed."""
    content = ["task", "path", [[idx, "channel", [0, "null", b""]]]]
    body = bytes((VERSION,)) + ormsgpack.packb(content)
    with pytest.raises(LogCorruptedError, match="event 7 does not decode"):
        CODECS["plain"].decode_writes(body, "event 7")


@pytest.mark.parametrize(
    "op",
    [
        *([], [5], [True, "bytes", b""], b"\x03", {}, None, "", ["a"], [[]]),
        *([0, "bytes"], [0, "bytes", "text"], [0, 1, b""], [0, "bytes", b"", 1]),
        *([1, "bytes", b"", 0, 0, b""], [1, "bytes", b"", 0.0, 0, b"", 0], [1, "bytes", b"", True, 0, b"", 0]),
        *([1, "bytes", b"", -1, 0, b"", 0], [1, "bytes", b"", 0, -1, b"", 0], [1, "bytes", b"", 0, 0, b"", -1]),
        *([2, "bytes"], [2, "bytes", "text"], [3, 1]),
        *([4, "other"], [4, "other", [0, "bytes", b""]], [4, "other", [3]], [4, 1, [2, "bytes", b""]]),
        [4, "other", [4, "other", [2, "bytes", b""]]],
    ],
)
def test_a_list_that_is_no_operation_is_refused(op: Any) -> None:
    """Stored bytes may have been altered: no operation is guessed."""
    value = ["null", b""]
    checkpoint = [None, value, value, [{}, []], [{}, []], {"a": op}, bytes(16)]
    for content, decode in (
        (checkpoint, CODECS["plain"].decode_checkpoint),
        (["task", "path", [[0, "a", op]], bytes(16)], CODECS["plain"].decode_writes),
    ):
        with pytest.raises(LogCorruptedError, match="event 7 does not decode"):
            decode(bytes((VERSION,)) + ormsgpack.packb(content), "event 7")


@pytest.mark.parametrize(("parent_id", "more"), [("\0", []), ("a\0b", []), (None, ["\0"])])
def test_ids_are_what_the_database_can_hold(parent_id: str | None, more: list[str]) -> None:
    """Rows are derived from them: it must not be PostgreSQL that finds out."""
    value = ["null", b""]
    body = bytes((VERSION,)) + ormsgpack.packb([parent_id, value, value, [{}, []], [{}, []], {}, bytes(16), *more])
    with pytest.raises(LogCorruptedError, match=r"event 7 does not decode: .* NUL"):
        CODECS["plain"].decode_checkpoint(body, "event 7")


@pytest.mark.parametrize(
    "more",
    [[], [bytes(15)], ["a text of 16 byt"], [bytes(16), None], [bytes(16), None, False], [bytes(16), None, 1]],
    ids=str,
)
def test_what_follows_the_channels_is_a_salt_and_whether_the_parent_was_erased(more: list[Any]) -> None:
    """An altered body is refused where it is read."""
    value = ["null", b""]
    body = bytes((VERSION,)) + ormsgpack.packb(["1f0", value, value, [{}, []], [{}, []], {}, *more])
    with pytest.raises(LogCorruptedError, match="event 7 does not decode"):
        CODECS["plain"].decode_checkpoint(body, "event 7")


def test_an_erased_parent_stays_in_the_body_and_is_no_parent() -> None:
    """The state digest covers the parent as it was saved."""
    event = replace(sample(), parent_id=None, erased_parent_id="1f0-parent")
    codec = CODECS["plain"]
    assert codec.decode_checkpoint(codec.encode_checkpoint(event), "it") == event


def test_bodies_over_the_limit_are_neither_written_nor_unpacked() -> None:
    """What is too large is refused before it is written, and never unpacked beyond the limit."""
    small = codec_of(Settings(max_body_bytes=2000))
    with pytest.raises(EventTooLargeError, match="max_body_bytes is 2000"):
        small.encode_checkpoint(sample(b"x" * 3000))
    # The limit is on what it unpacks to, not on what it compresses to.
    body = CODECS["plain"].encode_checkpoint(sample(b"x" * 3000))
    assert len(body) < 1000
    with pytest.raises(LogCorruptedError, match="the limit is 2000"):
        small.decode_checkpoint(body, "event 7")


def test_a_decompression_bomb_takes_no_memory() -> None:
    """A stored kilobyte that says it is a gigabyte, in a process that has no gigabyte."""
    script = """
import resource
import zstandard
from eventlog.format.codec import COMPRESSED, VERSION, Codec
from eventlog.errors import LogCorruptedError
from eventlog.settings import Settings

compressor = zstandard.ZstdCompressor(level=1).compressobj(size=1 << 30)
parts = [compressor.compress(bytes(1 << 20)) for _ in range(1 << 10)]
bomb = bytes((VERSION | COMPRESSED,)) + b"".join(parts) + compressor.flush()
assert len(bomb) < 200_000, len(bomb)
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
promises = [b"\\xdd" + b"\\xff" * 4, b"\\xdf" + b"\\xff" * 4, b"\\xc6" + b"\\xff" * 4, b"\\x91" * 100_000]
# Each of these is possible by itself, and there is no room for all.
for piece in (b"\\xdd\\x00\\x0f\\x00\\x00", b"\\xdf\\x00\\x07\\x00\\x00\\xa1a"):
    promises.append(piece * 1000 + bytes(0xF0000))
promises += [b"\\x93\\x01" + each + b"\\x02" for each in promises]
for body in (bomb, *(bytes((VERSION,)) + each for each in promises)):
    try:
        Codec(2**28, 3).decode_checkpoint(body, "event 7")
    except LogCorruptedError as exc:
        print(exc)
    else:
        raise AssertionError("it decoded")
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used
assert grown < 50_000, f"{grown} KB"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "decompresses to 1073741824 bytes" in done.stdout


def test_threads_have_their_own_compressors() -> None:
    """zstd's contexts crash or corrupt when two threads share one: 16 of them encode and decode at once."""
    barrier = threading.Barrier(16)

    def work(number: int) -> None:
        codec = codec_of(Settings(compression_level=1 + number % 3))
        rng = random.Random(number)
        barrier.wait()
        for _ in range(60):
            event = sample(rng.randbytes(5000).hex().encode())
            assert codec.decode_checkpoint(codec.encode_checkpoint(event), "it") == event

    with ThreadPoolExecutor(16) as threads:
        assert len(list(threads.map(work, range(16)))) == 16


@pytest.mark.parametrize(
    "value",
    [
        ("eventlog.int", b"zz"),
        ("eventlog.int", b"\xff"),
        ("eventlog.int", b""),
        ("eventlog.str", b"\xff"),
        ("eventlog.json", b"{"),
        ("eventlog.json", b"[" * 100_000),
    ],
)
def test_damaged_values_under_our_own_tags_are_refused(value: tuple[str, bytes]) -> None:
    """Under our own tags there can be damage, too."""
    with pytest.raises(LogCorruptedError, match=f"event 7 does not decode.*{value[0]}"):
        loads(JsonPlusSerializer(), Serialized(*value), "event 7")


def test_the_dictionary_does_not_change() -> None:
    """Bodies that were written with it need it for ever. A better one would be another file, with another flag."""
    content = resources.files("eventlog.format").joinpath("bodies.dict").read_bytes()
    assert sha256(content).hexdigest() == "5ff56df98628600baffe1274cb468957d14e3db2f3943ba7c290bc7b2d9789ae"


def test_small_bodies_use_the_dictionary() -> None:
    """What LangGraph's bodies have in common is not stored with each."""
    event = CheckpointSaved(
        "1f1e6923-1e13-606b-80f8-11e23270d00d",
        Serialized("msgpack", ormsgpack.packb({"v": 4, "ts": "2026-11-22T00:00:00.000000+00:00"})),
        Serialized("msgpack", ormsgpack.packb({"source": "loop", "step": 7, "parents": {}})),
        MapPatch({"branch:to:model": f"{7:032}.0.1234567890123456"}, []),
        MapPatch({}, []),
        {"branch:to:model": Full("null", b"")},
    )
    body = codec_of(Settings()).encode_checkpoint(event)
    assert body[0] == 1 | COMPRESSED | DICTIONARY
    assert len(body) < 120
    assert codec_of(Settings()).decode_checkpoint(body, "it") == event
    with pytest.raises(LogCorruptedError):
        codec_of(Settings()).decode_checkpoint(bytes((1 | COMPRESSED,)) + body[1:], "it")
