"""Listing checkpoints that decode to much more than their rows claim: memory holds a few of them at once."""

from __future__ import annotations

import tracemalloc
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, put
from tests.support.pooler import direct

MIB = 1024 * 1024

#: Each takes 2 KB in the log, and this much in memory.
BOMB, BOMBS = 8 * MIB, 24

#: What may be in memory: the room for a chunk, and a few more as one is decoded.
MOST = 64 * MIB + 6 * BOMB

KEY = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")


async def plant(saver: Any, shape: str) -> None:
    config = config_of("0")
    for number in range(BOMBS):
        value = number.to_bytes(8, "big") * (BOMB // 8)
        ids = f"{number:02}"
        if shape == "threads":
            await put(saver, config_of(ids), ids, {"x": value})
        else:
            # Of a stream, each built on the one before; or each the keyframe of a small one.
            config = await put(saver, config, ids, {"x": value, "y": number})
            if shape == "keyframes":
                config = await put(saver, config, f"{ids}b", {"x": b"small"})


@pytest.mark.parametrize("shape", ["threads", "stream", "keyframes"])
@pytest.mark.parametrize("serde", [None, KEY], ids=["plain", "encrypted"])
async def test_listing_is_bounded_by_what_is_decoded(database_uri: str, shape: str, serde: Any) -> None:
    """A stolen writer claims that its states are small."""
    async with open_saver("sync-pool", database_uri, serde=serde, state_cache_bytes=0) as saver:
        await plant(saver, shape)
    with psycopg.connect(direct(database_uri), autocommit=True) as conn:
        conn.execute("update eventlog.checkpoints set state_bytes = 10")
        ((largest,),) = conn.execute("select max(octet_length(body)) from eventlog.events")
        assert largest < 10_000
    with EventLogSaver.from_conn_string(database_uri, serde=serde, state_cache_bytes=0) as reader:
        tracemalloc.start()
        try:
            found = [each.config["configurable"]["checkpoint_id"] for each in reader.list(None)]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert len(found) == BOMBS * (2 if shape == "keyframes" else 1)
    assert found == sorted(found, reverse=True) or shape == "threads"
    assert peak < MOST, f"{peak / MIB:.0f} MiB"
