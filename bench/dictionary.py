"""Makes `eventlog/format/bodies.dict`: the common content of bodies of LangGraph's checkpoints and writes.

It was run once. Bodies that were written with the dictionary always need it, so it never changes
(`tests/unit/test_codec.py` has its digest). It holds the structures of messages, versions and channels that most graphs
have, and no user's text.

    python -m bench.dictionary FILE
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ormsgpack
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

SERDE = JsonPlusSerializer()
UUID = "11111111-2222-4333-8444-555555555555"
RUN = "lc_run--01a20419-5aad-7441-9c89-f79769bd0f45-0"

USAGE: Any = {
    "input_tokens": 0,
    "output_tokens": 0,
    "total_tokens": 0,
    "input_token_details": {"audio": 0, "cache_read": 0},
    "output_token_details": {"audio": 0, "reasoning": 0},
}
RESPONSE = {
    "token_usage": {"completion_tokens": 0, "prompt_tokens": 0, "total_tokens": 0},
    "model_name": "gpt-4o",
    "system_fingerprint": None,
    "finish_reason": "stop",
    "logprobs": None,
    "model_provider": "openai",
    "stop_reason": "end_turn",
    "service_tier": "default",
}
NAMES = """branch:to:agent agent __interrupt__ __resume__ __error__ __pregel_tasks __no_writes__ structured_response
    remaining_steps eventlog.json pickle json bytes"""

HUMAN = HumanMessage("", id=UUID)
CALL = AIMessage("", id=RUN, tool_calls=[{"name": "search", "args": {"query": ""}, "id": "call_"}])
ANSWER = AIMessage("", id=RUN, usage_metadata=USAGE, response_metadata=RESPONSE)
TOOL = ToolMessage("", name="search", id=UUID, tool_call_id="call_")
SYSTEM = SystemMessage("", id=UUID)


def _version(number: int) -> str:
    return f"{number:032}.0.7312345678901234"


def _packed(value: Any) -> bytes:
    return SERDE.dumps_typed(value)[1]


def _checkpoint(updated: Sequence[str], versions: Any, seen: Any, channels: Any, source: str = "loop") -> bytes:
    fields = {"v": 4, "ts": "2026-01-01T00:00:00.000000+00:00", "updated_channels": updated}
    metadata = {"source": source, "step": 1, "parents": {}}
    return ormsgpack.packb(
        [
            "1f1e6923-1e13-606b-80f8-11e23270d00c",
            ["msgpack", _packed(fields)],
            ["msgpack", _packed(metadata)],
            [versions, []],
            [seen, []],
            channels,
        ]
    )


def _writes(task_path: str, channel: str, value: Any, to: str) -> bytes:
    writes = [[0, channel, [0, "msgpack", _packed(value)]], [1, f"branch:to:{to}", [0, "null", b""]]]
    return ormsgpack.packb(["9e8f0f66-b5ed-7352-ebda-1814ef41d559", task_path, writes])


def _step(message: Any, source: str, target: str, seen: Any) -> bytes:
    updated = ["branch:to:tools", "messages"]
    versions = {name: _version(3) for name in ("messages", "branch:to:model", "branch:to:tools")}
    grown = [1, "msgpack", b"\xdc\x00\x10", 3, 65536, _packed([message])[1:], 0]
    channels: Any = {"messages": grown, f"branch:to:{target}": [0, "null", b""], f"branch:to:{source}": [3]}
    if source == "model":
        channels["__start__"] = [3]
    return _checkpoint(updated, versions, seen, channels)


def content() -> bytes:
    """The dictionary. The most used content is last, where references to it are shortest."""
    tools_seen = {"tools": [{"branch:to:tools": _version(2)}, []]}
    model_seen = {"model": [{"branch:to:model": _version(2)}, []], "__start__": [{"__start__": _version(1)}, []]}
    first = {"__start__": [0, "msgpack", _packed({"messages": [HUMAN]})]}
    parts = (
        _packed([SYSTEM]),
        ormsgpack.packb(dict.fromkeys(NAMES.split(), 1)),
        _packed([ANSWER]),
        _writes("~__pregel_pull, __start__", "messages", [HUMAN], "agent"),
        _checkpoint(["__start__"], {"__start__": _version(1)}, {"__input__": [{}, []]}, first, "input"),
        _writes("~__pregel_pull, tools", "messages", [TOOL], "model"),
        _step(TOOL, "tools", "model", tools_seen),
        _writes("~__pregel_pull, model", "messages", [CALL], "tools"),
        _step(CALL, "model", "tools", model_seen),
    )
    return b"".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(content())
