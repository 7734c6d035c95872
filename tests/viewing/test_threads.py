"""The list of threads: order, pages, filters, status."""

from __future__ import annotations

import json
from typing import Any

import pytest

from langgraph.checkpoint.eventlog import EventLogSaver, InvalidInputError
from langgraph.checkpoint.eventlog.viewing import Reader, threads
from tests.support.checkpoints import config_of
from tests.viewing.world import ODD, reader, world

__all__ = ["reader", "world"]  # fixtures

pytestmark = pytest.mark.portable

LIVING = {"chat", "waiting", "answered", "failed", "nested", "pruned", "copy", ODD}


def by_id(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["thread_id"]: each for each in document["threads"]}


async def test_each_thread_has_its_status_sizes_and_what_it_waits_for(reader: Reader) -> None:
    document = await threads(reader)
    found = by_id(document)
    assert found.keys() == LIVING
    assert document["next"] is None
    assert json.loads(json.dumps(document)) == document
    statuses = {id_: each["status"] for id_, each in found.items()}
    assert statuses == {
        **dict.fromkeys(LIVING, "idle"),
        "waiting": "waiting",
        "nested": "waiting",
        "failed": "failed",
    }
    (asked,) = found["waiting"]["interrupts"]
    assert asked["value"] == {"question": "Is it?"}
    assert isinstance(asked["id"], str)
    assert found["nested"]["interrupts"][0]["value"] == {"question": "Is it?"}
    assert found["chat"]["interrupts"] == []
    assert found["chat"]["checkpoints"] == 20
    assert found["chat"]["bytes"] > 0
    assert found["nested"]["namespaces"] == 2
    active = [each["active_at"] for each in document["threads"]]
    assert active == sorted(active, reverse=True)
    assert all(each.endswith("Z") and len(each) == 24 for each in active)


@pytest.mark.parametrize("sort", ["activity", "size", "events", "id"])
async def test_pages_have_each_thread_once(reader: Reader, sort: str) -> None:
    whole = [each["thread_id"] for each in (await threads(reader, sort=sort))["threads"]]
    seen: list[str] = []
    cursor = None
    while True:
        page = await threads(reader, sort=sort, cursor=cursor, limit=3)
        assert len(page["threads"]) <= 3
        seen += [each["thread_id"] for each in page["threads"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == whole
    assert set(seen) == LIVING


async def test_a_search_finds_threads_by_the_beginning_of_their_ids(reader: Reader) -> None:
    assert list(by_id(await threads(reader, q="c"))) == ["chat", "copy"]
    assert list(by_id(await threads(reader, q="chat"))) == ["chat"]
    assert list(by_id(await threads(reader, q=ODD[:6]))) == [ODD]
    assert (await threads(reader, q="nobody"))["threads"] == []
    first = await threads(reader, q="", limit=1)
    assert first["sort"] == "activity"
    page = await threads(reader, q="c", limit=1)
    rest = await threads(reader, q="c", limit=1, cursor=page["next"])
    assert [*by_id(page), *by_id(rest)] == ["chat", "copy"]
    assert rest["next"] is None


async def test_a_filter_finds_threads_by_their_metadata(reader: Reader) -> None:
    assert by_id(await threads(reader, filter=["user_id=wai"])).keys() == {"waiting"}
    assert by_id(await threads(reader, filter=["user_id=cha", "source=input"])).keys() == {"chat", "copy"}
    assert by_id(await threads(reader, filter=["user_id=cha"], q="co")).keys() == {"copy"}
    assert (await threads(reader, filter=["user_id=nobody"]))["threads"] == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("waiting", {"waiting", "nested"}),
        ("failed", {"failed"}),
        ("idle", LIVING - {"waiting", "nested", "failed"}),
        ("deleted", {"deleted"}),
        ("unknown", set()),
    ],
)
async def test_a_status_selects_threads(reader: Reader, status: str, expected: set[str]) -> None:
    document = await threads(reader, status=status)
    assert by_id(document).keys() == expected
    assert {each["status"] for each in document["threads"]} <= {status}
    assert document["next"] is None


async def test_deleted_threads_have_pages_too(world: str) -> None:
    with EventLogSaver.from_conn_string(world) as saver:
        for number in range(5):
            thread_id = f"gone {number}"
            saver.put(config_of(thread_id), {**_checkpoint(), "id": "1"}, {}, {})  # type: ignore[typeddict-item]
            saver.delete_thread(thread_id)
        found: list[str] = []
        cursor = None
        reader = Reader(saver.log)
        while True:
            page = await threads(reader, status="deleted", cursor=cursor, limit=2)
            found += by_id(page)
            cursor = page["next"]
            if cursor is None:
                break
        assert found == [f"gone {number}" for number in reversed(range(5))] + ["deleted"]
        assert by_id(await threads(reader, status="deleted", q="gone 3")).keys() == {"gone 3"}


def _checkpoint() -> dict[str, Any]:
    return {
        "v": 4,
        "ts": "2026-01-01T00:00:00+00:00",
        "channel_values": {},
        "channel_versions": {},
        "versions_seen": {},
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"status": "busy"}, "status: 'busy' is not one of idle, waiting"),
        ({"sort": "random"}, "sort: 'random' is not one of"),
        ({"sort": "size", "q": "a"}, "in the order of their ids"),
        ({"filter": ["user"]}, "'user' is not key=value"),
        ({"cursor": "nonsense"}, "is not a cursor"),
        ({"cursor": "WzFd"}, "is not a cursor"),
        ({"q": "a\0b"}, "NUL"),
        ({"status": "deleted", "filter": ["a=b"]}, "leave out filter"),
    ],
)
async def test_wrong_questions_are_refused(reader: Reader, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        await threads(reader, **arguments)


async def test_a_cursor_of_another_list_is_refused(reader: Reader) -> None:
    cursor = (await threads(reader, limit=1))["next"]
    with pytest.raises(InvalidInputError, match="another list"):
        await threads(reader, sort="id", cursor=cursor)


def test_the_documents_refuse_what_is_no_log() -> None:
    with pytest.raises(InvalidInputError, match="log must be an EventLog"):
        Reader("postgresql://")  # type: ignore[arg-type]
