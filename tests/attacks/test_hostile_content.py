"""Content that is to harm who reads it: nesting that no encoder makes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
import pytest

from eventlog.errors import LogCorruptedError, SerializationError
from tests.audit.test_untrusted_rows import READERS
from tests.cli.command import eventlog
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import config_of, put, uncompressed
from tests.support.pooler import direct

DEPTH = 50_000
#: A text, as msgpack, and what takes its place: lists in lists, of the same length.
TEXT = b"\xda" + DEPTH.to_bytes(2, "big") + b"M" * DEPTH
NESTED = b"\x91" * (len(TEXT) - 1) + b"\xc0"


async def plant(uri: str, where: str) -> None:
    """Thread '1' has deep nesting in its second checkpoint, or the write to it; thread 'other' has none."""
    text = "M" * DEPTH
    async with open_saver("sync-string", uri, snapshot_floor_bytes=1 << 30) as saver:
        for thread_id in ("1", "other"):
            config = await put(saver, config_of(thread_id), "a", {"x": 1})
            values = {"x": text} if where == "channels" else {"x": 1}
            config = await put(saver, config, "b", values, metadata={"note": text} if where == "metadata" else {})
            await saver.aput_writes(config, [("y", text if where == "writes" else 1)], "task")
            await put(saver, config, "c", {"x": 2})
    with psycopg.connect(direct(uri)) as conn:
        conn.execute("set session_replication_role = replica")
        rows = conn.execute("select seq, body from eventlog.events where thread_id = '1'").fetchall()
        changed = [(uncompressed(body).replace(TEXT, NESTED), seq) for seq, body in rows if body[0] & 0x10]
        changed = [(b"\x01" + body, seq) for body, seq in changed if NESTED in body]
        assert len(changed) == 1
        conn.execute("update eventlog.events set body = %s where thread_id = '1' and seq = %s", changed[0])


@pytest.mark.attack("hostile content")
@POOLS
@pytest.mark.parametrize("where", ["metadata", "channels", "writes"])
@pytest.mark.parametrize("reader", ["list", *READERS])
async def test_deep_nesting_ends_no_reader_but_with_its_error(
    kind: str, database_uri: str, where: str, reader: str
) -> None:
    """The stack is not exhausted: readers that decode it name the event, and others do not meet it."""
    await plant(database_uri, where)
    async with open_saver(kind, database_uri) as saver:
        with pytest.raises(LogCorruptedError, match="thread '1'"):
            await saver.aget_tuple(config_of("1", "b"))
        with suppress(LogCorruptedError):
            if reader == "list":
                _ = [each async for each in saver.alist(None)]
            else:
                await READERS[reader](saver.log)
        assert [each async for each in saver.alist(config_of("other"))]
        await put(saver, config_of("1"), "z", {"x": 1})


@pytest.mark.attack("hostile content")
@pytest.mark.parametrize("where", ["metadata", "channels", "writes"])
async def test_the_command_shows_deep_nesting_or_says_that_it_does_not_decode(database_uri: str, where: str) -> None:
    await plant(database_uri, where)
    for command in (["history", "1", "--changes"], ["show", "1", "b"], ["diff", "1", "a", "b"], ["tail"]):
        done = eventlog(database_uri, *command)
        assert done.exit_code in (0, 1), done.stderr
        assert done.exit_code == 0 or "event" in done.stderr


@pytest.mark.attack("application bug")
@POOLS
async def test_a_state_that_its_application_nests_is_refused(kind: str, database_uri: str) -> None:
    """The serializer's error is told before anything is written."""
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    async with open_saver(kind, database_uri) as saver:
        with pytest.raises(SerializationError, match="the value of channel 'x'"):
            await put(saver, config_of("1"), "a", {"x": value})
        assert [each async for each in saver.log.tail()] == []
