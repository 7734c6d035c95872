"""Encrypting savers: what is stored, and which savers read what."""

from __future__ import annotations

import os
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.types import TASKS
from langgraph.types import Send

from eventlog.errors import LogCorruptedError
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, listed, put, values_of

pytestmark = pytest.mark.portable

ENCRYPTED = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
OTHER_KEY = EncryptedSerializer.from_pycryptodome_aes(key=b"fedcba9876543210")

# Random, so that no compression could hide it; in one piece longer than what chance repeats.
SECRET, OTHER_SECRET = os.urandom(3000), os.urandom(2000)
NEEDLES = (
    SECRET[:32],
    SECRET[1500:1532],
    OTHER_SECRET[:32],
    b"channel_name",
    b"secret task",
    b"secret path",
    b"HumanMessage",
)

# Every state pays for a snapshot, so that there are some.
SNAPSHOTS = {"snapshot_floor_bytes": 0}


async def conversation(saver: Any, start: Any) -> list[Any]:
    """Puts and writes with secrets; returns the configs of the checkpoints."""
    configs = [start]
    for number in range(1, 13):
        config = await put(
            saver,
            configs[-1],
            f"{number:02}",
            {"channel_name": [HumanMessage("hi", id="1"), SECRET, number], "bytes": OTHER_SECRET},
            versions={"channel_name": f"{number:02}", "bytes": "1"},
            new={"channel_name": f"{number:02}"} | ({"bytes": "1"} if number == 1 else {}),
            metadata={"step": number},
        )
        await saver.aput_writes(config, [("channel_name", [SECRET, number])], "secret task", "secret path")
        configs.append(config)
    return configs[1:]


async def check(saver: Any, configs: list[Any]) -> None:
    """All of the conversation is there."""
    found = await listed(saver, config_of())
    for number, config in enumerate(configs, 1):
        one = await saver.aget_tuple(config)
        assert one == found[-number]
        assert one.checkpoint["channel_values"] == {
            "channel_name": [HumanMessage("hi", id="1"), SECRET, number],
            "bytes": OTHER_SECRET,
        }
        assert one.pending_writes == [("secret task", "channel_name", [SECRET, number])]
        assert one.metadata == {"step": number}


def leaks(tables: Tables) -> set[tuple[str, bytes]]:
    """Which of the needles is in the bodies of which table."""
    return {
        (table, needle)
        for table, bodies in (
            ("events", tables.rows("select body from {schema}.events")),
            ("snapshots", tables.rows("select body from {schema}.snapshots")),
        )
        for (body,) in bodies
        for needle in NEEDLES
        if needle in body
    }


@pytest.mark.attack("thief")
async def test_no_value_name_or_write_is_stored_in_plaintext(kind: str, database_uri: str) -> None:
    """Neither values nor names nor writes are in the log or the snapshots; reading works."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri, serde=ENCRYPTED, **SNAPSHOTS) as saver:
        configs = await conversation(saver, config_of())
        await check(saver, configs)
    async with open_saver(kind, database_uri, serde=ENCRYPTED, state_cache_bytes=0) as other:
        await check(other, configs)

    assert leaks(tables) == set()
    assert tables.one("select count(*) from {schema}.snapshots") >= 2
    # Differences are taken below the encryption: what did not change is not stored again.
    sizes = [size for (size,) in tables.rows("select length(body) from {schema}.events where kind = 1 order by seq")]
    assert sizes[0] > len(SECRET + OTHER_SECRET)
    assert max(sizes[1:]) < len(SECRET) / 4


async def test_an_unencrypted_log_stores_values_in_plaintext(database_uri: str) -> None:
    """The test above would see them: in a log that is not encrypted they are all there."""
    async with open_saver("sync-pool", database_uri, **SNAPSHOTS) as saver:
        await conversation(saver, config_of())

    found = leaks(Tables(database_uri))

    assert {needle for table, needle in found if table == "events"} == set(NEEDLES)
    assert ("snapshots", SECRET[:32]) in found


async def test_an_unencrypted_log_is_continued_with_encryption(kind: str, database_uri: str) -> None:
    """It is read on, and what is added is encrypted: in a snapshot the old values too."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as saver:
        configs = await conversation(saver, config_of())
        old = leaks(tables)
        old_seq = tables.one("select max(seq) from {schema}.events")

    async with open_saver(kind, database_uri, serde=ENCRYPTED, **SNAPSHOTS) as saver:
        await check(saver, configs)
        config = configs[-1]
        for number in ("13", "14", "15", "16", "17", "18"):
            versions = {"channel_name": number, "bytes": "1"}
            config = await put(
                saver,
                config,
                number,
                {"channel_name": [SECRET, number]},
                versions=versions,
                new={"channel_name": number},
            )
        assert await values_of(saver, config) == {"channel_name": [SECRET, "18"], "bytes": OTHER_SECRET}

    assert leaks(tables) == old
    new = tables.rows("select body from {schema}.events where seq > %s", old_seq)
    assert len(new) == 6
    assert not any(needle in body for (body,) in new for needle in NEEDLES)
    assert tables.one("select count(*) from {schema}.snapshots") >= 1


@pytest.mark.parametrize(
    ("serde", "says"),
    [(None, "give the saver the EncryptedSerializer"), (OTHER_KEY, "decryption failed")],
    ids=["without a key", "with another key"],
)
@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_an_encrypted_log_without_its_key_is_refused(kind: str, serde: Any, says: str, database_uri: str) -> None:
    """An error that names the event and what is missing; nothing is written on top of it."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri, serde=ENCRYPTED) as saver:
        configs = await conversation(saver, config_of())
        await put(saver, config_of("other"), "1", {"x": 1})
    before = tables.contents()
    where = "event 1 of thread '1', namespace '',.*"

    async with open_saver(kind, database_uri, serde=serde) as saver:
        with pytest.raises(LogCorruptedError, match=where + says):
            await saver.aget_tuple(configs[0])
        with pytest.raises(LogCorruptedError, match=where + says):
            await listed(saver, configs[0])
        with pytest.raises(LogCorruptedError, match=f"event 1 of thread 'other', namespace '',.*{says}"):
            await saver.aget_tuple(config_of("other"))
        # A child that inherits needs to read its parent.
        with pytest.raises(LogCorruptedError, match=says):
            await put(saver, configs[0], "99", {}, versions={"bytes": "1"}, new={})
        assert tables.contents() == before
        # A thread of its own is no matter of the key.
        stored = await put(saver, config_of("new"), "1", {"x": 1})
        assert await values_of(saver, stored) == {"x": 1}


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_pending_sends_delta_histories_and_copies_are_encrypted(kind: str, database_uri: str) -> None:
    """Pending sends of old versions, delta histories and copies of the saver are encrypted too."""
    async with open_saver(kind, database_uri, serde=ENCRYPTED) as saver:
        root = await put(saver, config_of(), "1", {"x": SECRET}, v=3)
        await saver.aput_writes(root, [(TASKS, Send("node", SECRET)), ("x", SECRET)], "task")
        child = await put(saver, root, "2", {}, v=3)

        allowed = saver.with_allowlist([("some.module", "Thing")])
        for reader in (saver, allowed):
            assert (await values_of(reader, child))[TASKS] == [Send("node", SECRET)]
            history = await reader.aget_delta_channel_history(config=child, channels=["x"])
            assert history["x"] == {"writes": [("task", "x", SECRET)], "seed": SECRET}
        await put(allowed, child, "3", {"x": SECRET})

    assert leaks(Tables(database_uri)) == set()
