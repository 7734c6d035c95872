"""`eventlog mcp`, as a process, asked by the client of the protocol's own SDK."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from mcp import Client, StdioServerParameters

from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.mcp_server import LIMITS
from langgraph.checkpoint.eventlog.viewing.values import of_value
from tests.cli.command import MODULE
from tests.support.checkpoints import checkpoint_of, config_of
from tests.viewing.world import ODD, world

__all__ = ["world"]  # fixtures


@asynccontextmanager
async def agent(uri: str) -> AsyncIterator[Any]:
    """A client of `eventlog mcp`, over its stdin and stdout."""
    command, *arguments = MODULE
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PYTHON", "PATH", "HOME"))}
    server = StdioServerParameters(command=command, args=[*arguments, "mcp"], env={**kept, "EVENTLOG_DSN": uri})
    async with Client(server) as client:
        yield client


async def called(client: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert json.loads(result.content[0].text) == result.structured_content
    assert len(result.content[0].text) < 400_000
    found: dict[str, Any] = result.structured_content
    return found


async def test_an_agent_reads_the_log(world: str) -> None:
    async with agent(world) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert tools.keys() == {"list_threads", "timeline", "checkpoint", "diff", "state_at", "verify"}
        assert all(tool.annotations.read_only_hint for tool in tools.values())
        assert all(tool.description for tool in tools.values())

        listed = await called(client, "list_threads", status="waiting", limit=5)
        assert {each["thread_id"] for each in listed["threads"]} == {"waiting", "nested"}
        timeline = await called(client, "timeline", thread_id=ODD, newest_first=False)
        first, *_, last = timeline["steps"]
        checkpoint = await called(client, "checkpoint", thread_id=ODD, checkpoint_id=last["checkpoint_id"])
        assert checkpoint["messages"]["messages"][0]["text"] == "one"
        channel = await called(
            client, "checkpoint", thread_id=ODD, checkpoint_id=last["checkpoint_id"], channel="topic"
        )
        assert channel["channel"]["value"] == "weather"
        compared = await called(
            client, "diff", thread_id=ODD, before=first["checkpoint_id"], after=last["checkpoint_id"]
        )
        assert compared["common_ancestor"] == first["checkpoint_id"]
        then = await called(client, "state_at", thread_id=ODD, time=last["time"])
        assert then["checkpoint"]["checkpoint_id"] == last["checkpoint_id"]
        assert (await called(client, "verify", thread_id=ODD))["problems"] == []


async def test_an_agent_reads_what_went_wrong(world: str) -> None:
    async with agent(world) as client:
        result = await client.call_tool("timeline", {"thread_id": "nobody"})
        assert result.is_error
        assert "thread 'nobody' does not exist" in result.content[0].text
        result = await client.call_tool("list_threads", {"limit": 100_000})
        assert result.is_error
        result = await client.call_tool("state_at", {"thread_id": "chat", "time": "yesterday"})
        assert "is not a time" in result.content[0].text


async def test_what_an_agent_gets_is_bounded(world: str) -> None:
    values = {"text": "x" * 2_000_000, "items": ["y" * 1_000] * 5_000, "broken": "\ud800"}
    with EventLogSaver.from_conn_string(world) as saver:
        versions = dict.fromkeys(values, "1")
        saver.put(config_of("huge"), checkpoint_of("1", values, versions), {}, versions)  # type: ignore[arg-type]
    async with agent(world) as client:
        document = await called(client, "checkpoint", thread_id="huge", checkpoint_id="1")
        assert len(json.dumps(document)) < 150_000
        assert all(each["cut"] for each in document["channels"] if each["name"] != "broken")
        await called(client, "checkpoint", thread_id="huge", checkpoint_id="1", channel="text")


@pytest.mark.parametrize("count", [40, 51, 60, 120, 300])
async def test_an_agent_sees_the_end_of_a_conversation(world: str, count: int) -> None:
    """However long it is, and however large the other channels are."""
    values = {
        "before": ["x" * 3_000] * 100,
        "messages": [HumanMessage(f"message {number} " + "y" * 3_000) for number in range(count)],
        "numbers": list(range(count)),
    }
    with EventLogSaver.from_conn_string(world) as saver:
        versions = dict.fromkeys(values, "1")
        saver.put(config_of("talk"), checkpoint_of("1", values, versions), {}, versions)  # type: ignore[arg-type]
    async with agent(world) as client:
        document = await called(client, "checkpoint", thread_id="talk", checkpoint_id="1")
    messages = document["messages"]
    texts = [each["text"].split()[1] for each in messages["messages"]]
    assert len(texts) >= 20
    assert texts == [str(number) for number in range(messages["left_out"], count)]


def test_the_ends_of_a_list_do_not_overlap() -> None:
    for count in (49, 50, 51, 60, 120, 199, 200, 201, 300):
        items = list(range(count))
        tree = of_value(items, LIMITS.fresh()).tree
        if count <= LIMITS.items:
            assert tree == items
        else:
            assert tree == [
                *items[:25],
                {"$type": "left out", "why": f"{count - 50} more item{'s'[: count - 51]}"},
                *items[-25:],
            ]
