"""Rows of a stolen writer: no reader of the log runs the code that they name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.errors import LogCorruptedError
from langgraph.checkpoint.eventlog import EventLog, EventLogSaver, Usage
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import TEXTS, config_of, put

Read = Callable[[Any], Awaitable[Any]]

ENCRYPTED = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")


@dataclass(frozen=True)
class Money:
    """A type of the user's own."""

    amount: int


class Values:
    """A projection that looks at all that events say."""

    name = "values"
    version = 1

    def setup(self, conn: Any) -> None:
        pass

    def apply(self, conn: Any, events: Any) -> None:
        for event in events:
            assert [event.metadata, event.run_id, event.writes]


class AsyncValues(Values):
    async def setup(self, conn: Any) -> None:  # type: ignore[override]
        pass

    async def apply(self, conn: Any, events: Any) -> None:  # type: ignore[override]
        super().apply(conn, events)


def exploit(folder: Path) -> Any:
    """A value that makes a folder when it is decoded: it names `os.mkdir`, and its argument."""
    return type("mkdir", (), {"__module__": "os", "get_secret_value": lambda self: str(folder)})()


async def plant(saver: Any, folder: Path) -> None:
    """Put what decodes to a folder into metadata, channels and writes."""
    bad = exploit(folder)
    values = {"x": [*TEXTS], "bad": bad, "within": [AIMessage("hi", additional_kwargs={"a": bad})]}
    config = await put(saver, config_of("1"), "a", values, metadata={"source": "loop", "run_id": bad, "note": [bad]})
    await saver.aput_writes(config, [("x", bad), ("y", [bad])], "task")
    more = {"x": [*TEXTS, bad], "bad": [bad], "within": []}
    config = await put(saver, config, "b", more, metadata={"source": "loop", "run_id": "run"})
    await saver.aput_writes(config, [("x", "an answer")], "task")
    await put(saver, config, "c", {**more, "bad": bad}, metadata={"note": bad})


async def _tail(log: Any) -> None:
    async for stored in log.tail():
        event = await log.decode(stored)
        assert [event.metadata, event.run_id, event.writes]


READERS: dict[str, Read] = {
    "history": lambda log: _all(log.history("1")),
    "changes": lambda log: _all(log.changes("1")),
    "diff": lambda log: log.diff("1", "a", "c"),
    "state_at": lambda log: log.state_at("1", datetime.now(timezone.utc)),
    "inspect": lambda log: _inspect(log),
    "tail": _tail,
    "project": lambda log: log.project(AsyncValues() if log._is_async else Values()),
    "usage": lambda log: log.project(Usage()),
    "check": lambda log: log.rebuild(check=True),
    "rebuild": lambda log: log.rebuild(),
    "verify": lambda log: log.verify(states=True),
    "delete_for_runs": lambda log: log.delete_for_runs(["run"]),
    "prune": lambda log: log.prune(["1"]),
    "copy_thread": lambda log: log.copy_thread("1", "2"),
}


async def _all(found: Any) -> list[Any]:
    return [each async for each in found]


async def _inspect(log: Any) -> list[Any]:
    found = await log.inspect(config_of("1", "a"))
    return [found.load(found.metadata), *(found.load(each.value) for each in found.channels.values())]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Must not be there at the end."""
    yield tmp_path / "run"
    assert not (tmp_path / "run").exists()


@pytest.mark.attack("stolen writer")
@POOLS
@pytest.mark.parametrize("serde", [None, JsonPlusSerializer(), ENCRYPTED], ids=["default", "given", "encrypted"])
@pytest.mark.parametrize("reader", READERS)
async def test_readers_run_no_code_of_a_row(
    kind: str, database_uri: str, folder: Path, reader: str, serde: Any
) -> None:
    """Whether the log is a saver's or of its own, and whatever serializer of LangGraph's it was given."""
    async with open_saver(kind, database_uri, serde=serde) as saver:
        await plant(saver, folder)
        assert not folder.exists()
        await READERS[reader](saver.log)


@pytest.mark.attack("stolen writer")
async def test_the_attack_is_one(database_uri: str, tmp_path: Path) -> None:
    """A saver with LangGraph's default runs it, and so does a log that trusts its rows."""
    async with open_saver("sync-pool", database_uri) as saver:
        await plant(saver, tmp_path / "run")
        await saver.aget_tuple(config_of("1"))
    assert (tmp_path / "run").exists()
    (tmp_path / "run").rmdir()
    with EventLog.from_conn_string(database_uri, trust_types=True) as log:
        list(log.history("1"))
    assert (tmp_path / "run").exists()


async def test_refused_objects_are_shown_with_their_types(database_uri: str, folder: Path) -> None:
    async with open_saver("sync-pool", database_uri) as saver:
        await plant(saver, folder)
        first = (await _all(saver.log.changes("1")))[0]
        values = dict(zip([each.channel for each in first.entry.channels], first.values, strict=True))
        assert values["bad"] == {"$type": "os.mkdir", "value": str(folder)}
        assert values["within"] == [AIMessage("hi", additional_kwargs={"a": values["bad"]})]
        assert (await saver.log.diff("1", "a", "b")).channels["bad"][0].after == [values["bad"]]


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("allow", [None, [Money]])
async def test_rows_with_types_of_the_users_own_stay_equal(database_uri: str, trust: bool, allow: Any) -> None:
    """Written with one list of types and read with another: a rebuild finds nothing, and verification neither."""
    serde = JsonPlusSerializer(allowed_msgpack_modules=allow) if allow else None
    metadata = {"source": "loop", "price": Money(3), "prices": {"a": [Money(4), Decimal("1.5")]}, "run_id": Money(5)}
    async with open_saver("sync-pool", database_uri, serde=serde) as saver:
        config = await put(saver, config_of("1"), "a", {"x": Money(1), "y": {Money(2)}}, metadata=metadata)
        await put(saver, config, "b", {"x": Money(1), "y": {Money(2)}}, metadata=metadata)
        found = await _all(saver.alist(None, filter={"price": {"$type": f"{__name__}.Money", "amount": 3}}))
        assert len(found) == 2
    with EventLog.from_conn_string(database_uri, trust_types=trust) as log:
        assert not any(log.rebuild(check=True).differing.values())
        assert log.verify(states=True).problems == []
        assert log.diff("1", "a", "b").channels == {}
        event = log.decode(next(log.tail()))
        shown = Money(3) if trust else {"$type": f"{__name__}.Money", "amount": 3}
        assert event.metadata["price"] == shown
    with EventLog.from_conn_string(
        database_uri, serde=serde or JsonPlusSerializer(allowed_msgpack_modules=[Money])
    ) as log:
        assert log.decode(next(log.tail())).metadata["price"] == Money(3)


async def test_pickles_are_loaded_only_where_the_serializer_loads_them(database_uri: str) -> None:
    serde = JsonPlusSerializer(pickle_fallback=True)
    with EventLogSaver.from_conn_string(database_uri, serde=serde) as saver:
        await put_pickled(saver)
        assert [change.values for change in saver.log.changes("1")] == [[print]]
    with EventLog.from_conn_string(database_uri) as log, suppress(NotImplementedError, LogCorruptedError):
        assert not list(log.changes("1"))


async def put_pickled(saver: EventLogSaver) -> None:
    """A function, which only a pickle holds."""
    checkpoint: Any = {"v": 4, "id": "a", "ts": "", "channel_values": {"x": print}, "channel_versions": {"x": "1"}}
    saver.put(config_of("1"), {**checkpoint, "versions_seen": {}}, {}, {"x": "1"})
