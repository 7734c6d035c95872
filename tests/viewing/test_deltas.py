"""Channels of which LangGraph stores only the writes: conversations are put together from them."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage

from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.viewing import Reader, checkpoint
from tests.support.checkpoints import checkpoint_of, config_of

pytestmark = pytest.mark.portable


async def test_a_conversation_is_put_together_from_its_writes(database_uri: str) -> None:
    counters = {"counters_since_delta_snapshot": {"messages": 1, "notes": 1}}
    with EventLogSaver.from_conn_string(database_uri) as saver:
        config: Any = config_of("1")
        written: list[list[tuple[str, Any]]] = [
            [("messages", [HumanMessage("one", id="a")]), ("notes", "x")],
            [("messages", AIMessage("two", id="b")), ("notes", "y")],
            [("messages", [AIMessage("two, again", id="b"), RemoveMessage(id="a")])],
        ]
        for number, writes in enumerate(written):
            config = saver.put(config, checkpoint_of(f"{number}", {}, {}), counters, {})  # type: ignore[arg-type]
            saver.put_writes(config, writes, f"task {number}")
        saver.put(config, checkpoint_of("9", {}, {}), counters, {})  # type: ignore[arg-type]
        document = await checkpoint(Reader(saver.log), "1", "9")
    assert document["replayed_channels"] == ["messages", "notes"]
    assert [each["text"] for each in document["messages"]["messages"]] == ["two, again"]
    (notes,) = [each for each in document["channels"] if each["name"] == "notes"]
    assert notes["value"] == {"seed": None, "writes": ["x", "y"]}
    assert notes["replayed"]
