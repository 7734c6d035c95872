"""Checkpoints that decode to much more than their rows claim: memory holds a few of them at once."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph.checkpoint.eventlog import EventLogSaver, _get
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, put
from tests.support.pooler import direct

MIB = 1024 * 1024

#: Each takes 2 KB in the log, and this much in memory. A chunk without a bound has all of them: it takes 240 MiB.
BOMB, BOMBS = 8 * MIB, 32

#: What may be in memory: the room for a chunk, and a few more as one is decoded.
MOST = 64 * MIB + 6 * BOMB

#: Beside these, when an eraser writes states again: events that it has decoded, and states as they are encoded. Without
#: a bound it is 270 MiB.
MOST_WRITTEN = MOST + 10 * BOMB

KEY = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")


async def plant(saver: Any, shape: str) -> None:
    config = config_of("0")
    for number in range(BOMBS):
        value = number.to_bytes(8, "big") * (BOMB // 8)
        ids = f"{number:02}"
        if shape == "threads":
            await put(saver, config_of(ids), ids, {"x": value})
        elif shape == "metadata":
            await put(saver, config_of(ids), ids, {"x": 1}, metadata={"note": f"{number:08}" * (BOMB // 8)})
        else:
            # Of a stream, each built on the one before; or each the keyframe of a small one.
            config = await put(saver, config, ids, {"x": value, "y": number})
            if shape == "keyframes":
                config = await put(saver, config, f"{ids}b", {"x": b"small"})


@contextmanager
def bounded(most: int = MOST) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak / MIB:.0f} MiB"


def claim(uri: str) -> None:
    """A stolen writer claims that its states are small."""
    with psycopg.connect(direct(uri), autocommit=True) as conn:
        conn.execute("update eventlog.checkpoints set state_bytes = 10")
        ((largest,),) = conn.execute("select max(octet_length(body)) from eventlog.events")
        assert largest < 10_000


@pytest.mark.attack("stolen writer")
@pytest.mark.parametrize("shape", ["threads", "stream", "keyframes", "metadata"])
@pytest.mark.parametrize("serde", [None, KEY], ids=["plain", "encrypted"])
async def test_listing_is_bounded_by_what_is_decoded(
    database_uri: str, shape: str, serde: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_get, "FIRST_CHUNK", 2 * BOMBS)  # as the later chunks of a longer listing
    async with open_saver("sync-pool", database_uri, serde=serde, state_cache_bytes=0) as saver:
        await plant(saver, shape)
    claim(database_uri)
    with EventLogSaver.from_conn_string(database_uri, serde=serde, state_cache_bytes=0) as reader, bounded():
        found = [each.config["configurable"]["checkpoint_id"] for each in reader.list(None)]
    assert len(found) == BOMBS * (2 if shape == "keyframes" else 1)
    assert found == sorted(found, reverse=True) or shape in ("threads", "metadata")


@pytest.mark.attack("stolen writer")
async def test_relocating_is_bounded_by_what_is_decoded(database_uri: str) -> None:
    """Runs are deleted between checkpoints that build on theirs: these are read, and written again."""
    async with open_saver("sync-pool", database_uri, state_cache_bytes=0, snapshot_floor_bytes=1 << 30) as saver:
        config = config_of("1")
        for number in range(2 * BOMBS):
            value = (number // 2).to_bytes(8, "big") * (BOMB // 8)
            run = {"run_id": "bad" if number % 2 == 0 else "good"}
            values, versions = {"x": value, "y": number}, {"x": f"{number // 2:03}", "y": f"{number:03}"}
            new = versions if number % 2 == 0 else {"y": versions["y"]}
            config = await put(saver, config, f"{number:03}", values, versions=versions, new=new, metadata=run)
    claim(database_uri)
    with EventLogSaver.from_conn_string(database_uri, state_cache_bytes=0) as eraser:
        with bounded(MOST_WRITTEN):
            eraser.delete_for_runs(["bad"])
        found = [each.checkpoint["channel_values"]["y"] for each in eraser.list(config_of("1"))]
        assert found == list(range(2 * BOMBS - 1, 0, -2))
