"""News for open pages: one look for all, coalesced, and what happens when the database or the client goes."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from langgraph.checkpoint.eventlog import ConnectionLostError, EventLogSaver
from langgraph.checkpoint.eventlog.ui import eventlog_ui
from langgraph.checkpoint.eventlog.ui import live as live_module
from langgraph.checkpoint.eventlog.ui.app import Viewer
from tests.support.checkpoints import config_of
from tests.viewing.world import world

__all__ = ["world"]  # fixtures

PATIENCE = 120


@asynccontextmanager
async def serving(viewer: Viewer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application on a real server: a stream without an end needs one."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(viewer, log_config=None, lifespan="off", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            yield client
    finally:
        viewer.follower.close()
        server.should_exit = True
        await asyncio.to_thread(thread.join)
        listener.close()


class Events:
    """The events of one page."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def next(self) -> tuple[str, str, str | None]:
        """Name, data and id of the next one."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            name, _, value = line.partition(": ")
            if name:
                fields[name] = value
            elif "event" in fields:
                return fields["event"], fields["data"], fields.get("id")
        raise AssertionError("the stream ended")


@asynccontextmanager
async def following(client: httpx.AsyncClient, path: str, **headers: str) -> AsyncIterator[Events]:
    async with client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.aiter_lines()
        assert await anext(lines) == ": following"
        yield Events(lines)


async def eventually(condition: Any) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), PATIENCE)


def write(saver: EventLogSaver, thread_id: str, count: int) -> None:
    config = saver.get_tuple(config_of(thread_id)).config  # type: ignore[union-attr]
    for number in range(count):
        saver.put_writes(config, [("x", number)], f"task {number}")


async def test_a_page_hears_of_what_is_appended_to_its_thread(world: str) -> None:
    with EventLogSaver.from_conn_string(world) as saver:
        async with serving(eventlog_ui(saver.log, poll_interval=0.3)) as client:
            seen = (await client.get("/threads/chat.json")).json()["head"]
            async with following(client, f"/threads/chat/live?seen={seen}") as events:
                await asyncio.to_thread(write, saver, "waiting", 1)
                await asyncio.to_thread(write, saver, "chat", 3)
                told = 0
                while told < 3:
                    name, data, id_ = await asyncio.wait_for(events.next(), PATIENCE)
                    assert name == "changed"
                    told += int(data.removeprefix('{"events": ').removesuffix("}"))
                assert told == 3
                await asyncio.to_thread(saver.delete_thread, "chat")
                name, _, id_ = await asyncio.wait_for(events.next(), PATIENCE)
                assert name == "changed"
            assert id_ != seen


async def test_what_came_while_the_page_was_made_is_told_at_once(world: str) -> None:
    with EventLogSaver.from_conn_string(world) as saver:
        async with serving(eventlog_ui(saver.log, poll_interval=0.1)) as client:
            seen = (await client.get("/threads/chat.json")).json()["head"]
            await asyncio.to_thread(write, saver, "chat", 2)
            async with following(client, f"/threads/chat/live?seen={seen}") as events:
                assert (await asyncio.wait_for(events.next(), PATIENCE))[:2] == ("changed", '{"events": 2}')
            async with following(client, "/threads/chat/live", **{"last-event-id": seen}) as events:
                assert (await asyncio.wait_for(events.next(), PATIENCE))[:2] == ("changed", '{"events": 2}')
            answer = await client.get("/threads/chat/live.json?seen=nonsense")
            assert answer.status_code == 404
            assert (await client.get("/threads/chat/live?seen=nonsense")).status_code == 400


async def test_all_pages_share_one_look_which_ends_with_them(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[list[str]] = []
    heads = live_module.heads

    async def counted(reader: Any, thread_ids: Any) -> Any:
        looks.append(list(thread_ids))
        return await heads(reader, thread_ids)

    monkeypatch.setattr(live_module, "heads", counted)
    with EventLogSaver.from_conn_string(world) as saver:
        viewer = eventlog_ui(saver.log, poll_interval=0.1)
        async with serving(viewer) as client:
            async with (
                following(client, "/threads/chat/live"),
                following(client, "/threads/chat/live"),
                following(client, "/threads/waiting/live"),
            ):
                await eventually(lambda: looks and looks[-1] == ["chat", "waiting"])
                assert viewer.follower.pages == 3
            await eventually(lambda: viewer.follower.pages == 0)
            await asyncio.sleep(0.3)
            count = len(looks)
            await asyncio.sleep(0.5)
            assert len(looks) == count


async def test_a_database_that_is_away_is_told_once_and_when_it_is_back(
    world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_away = threading.Event()
    heads = live_module.heads

    async def looked(reader: Any, thread_ids: Any) -> Any:
        if is_away.is_set():
            raise ConnectionLostError("the server is gone")
        return await heads(reader, thread_ids)

    monkeypatch.setattr(live_module, "heads", looked)
    monkeypatch.setattr(live_module, "AWAY_INTERVAL", 0.1)
    with EventLogSaver.from_conn_string(world) as saver:
        async with (
            serving(eventlog_ui(saver.log, poll_interval=0.1)) as client,
            following(client, "/threads/chat/live") as events,
        ):
            is_away.set()
            name, data, _ = await asyncio.wait_for(events.next(), PATIENCE)
            assert (name, data) == ("away", '{"message": "the server is gone"}')
            await asyncio.sleep(0.5)
            is_away.clear()
            assert (await asyncio.wait_for(events.next(), PATIENCE))[:2] == ("changed", '{"events": 0}')


async def test_a_stream_ends_and_goes_on_where_it_was(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "LONGEST_STREAM", 0.5)
    with EventLogSaver.from_conn_string(world) as saver:
        viewer = eventlog_ui(saver.log, poll_interval=0.1)
        async with serving(viewer) as client:
            answer = await client.get("/threads/chat/live")
            assert answer.text.startswith(": following\nretry: 1000\n\n")
            assert viewer.follower.pages == 0


async def test_more_pages_than_are_followed_are_refused(world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "MOST_PAGES", 1)
    with EventLogSaver.from_conn_string(world) as saver:
        async with (
            serving(eventlog_ui(saver.log)) as client,
            following(client, "/threads/chat/live"),
        ):
            assert (await client.get("/threads/chat/live")).status_code == 503
