"""Messages: what is one, whatever form it was stored in, and what there is to read in it.

LangChain's messages, their fields (what a message class decodes to that is not on the list), and the dicts of chat APIs
(``{"role": …, "content": …}``) all come down to a `Message`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from langgraph.checkpoint.eventlog.cli.render.decoding import TYPE
from langgraph.checkpoint.eventlog.cli.render.output import size
from langgraph.checkpoint.eventlog.cli.render.plain import Tree, as_tree

__all__ = ["Message", "ToolCall", "as_conversation", "as_message"]

#: How messages name who speaks, in LangChain's and in chat APIs' words, and what they are called here.
ROLES = {
    "human": "human",
    "user": "human",
    "ai": "ai",
    "assistant": "ai",
    "system": "system",
    "developer": "developer",
    "tool": "tool",
    "function": "function",
    "chat": "chat",
    "remove": "remove",
    "HumanMessageChunk": "human",
    "AIMessageChunk": "ai",
    "SystemMessageChunk": "system",
    "ToolMessageChunk": "tool",
    "FunctionMessageChunk": "function",
    "ChatMessageChunk": "chat",
}

#: Keys under which content blocks keep what is to be read.
_TEXT_KEYS = ("text", "thinking", "reasoning", "refusal")


class ToolCall(NamedTuple):
    """A call that a model asks for."""

    name: str
    arguments: Tree
    id: str | None


@dataclass
class Message:
    """What there is to read in a message."""

    role: str
    parts: list[tuple[str, str]] = field(default_factory=list)
    """What it says, in order: ("text", text), or (the block's type, what it is)."""
    calls: list[ToolCall] = field(default_factory=list)
    about: list[str] = field(default_factory=list)
    """Beside the role: name, tool call id, model, usage, the class if it is not LangChain's own."""


def as_conversation(tree: Tree) -> list[Message] | None:
    """A list in which every item is a message; None for anything else, and for an empty list."""
    if not isinstance(tree, list) or not tree:
        return None
    found = [as_message(each) or _as_pair(each) for each in tree]
    return None if None in found else [each for each in found if each is not None]


def _as_pair(tree: Tree) -> Message | None:
    """The shorthand ``("human", "Hi")``."""
    if isinstance(tree, list) and len(tree) == 2 and isinstance(tree[0], str) and tree[0] in ROLES:
        parts = _parts(tree[1], [])
        return Message(ROLES[tree[0]], parts) if isinstance(tree[1], (str, list)) else None
    return None


def as_message(tree: Tree) -> Message | None:
    """The message that a tree is; None when it is none."""
    if not isinstance(tree, dict) or not isinstance(tree.get("content", 0), (str, list, type(None))):
        return None
    spoken = next(
        (tree[key] for key in ("type", "role") if isinstance(tree.get(key), str) and tree[key] in ROLES), None
    )
    if spoken is None:
        return None
    message = Message(ROLES[spoken])
    if message.role == "chat" and isinstance(tree.get("role"), str):
        message.role = tree["role"]
    message.calls = _calls(tree)
    message.parts = _parts(tree["content"], message.calls)
    message.about = list(_about(tree, message.role))
    return message


def _about(tree: Mapping[str, Tree], role: str) -> list[str]:
    found = []
    keys = ("name", "tool_call_id", *(["id"] if role == "remove" else []))
    found += [tree[key] for key in keys if isinstance(tree.get(key), str)]
    if tree.get("status") == "error":
        found.append("error")
    response = tree.get("response_metadata")
    response = response if isinstance(response, Mapping) else {}
    found += [response[key] for key in ("model_name", "model") if isinstance(response.get(key), str)][:1]
    if usage := _usage(tree.get("usage_metadata")) or _usage(response.get("token_usage")) or _usage(tree.get("usage")):
        found.append(usage)
    if isinstance(tree.get(TYPE), str):
        found.append(tree[TYPE])
    return found


def _usage(usage: Tree) -> str | None:
    if not isinstance(usage, Mapping):
        return None
    counts = []
    for word, names in (("in", ("input_tokens", "prompt_tokens")), ("out", ("output_tokens", "completion_tokens"))):
        count = next((usage[name] for name in names if type(usage.get(name)) is int), None)
        if count is not None and count.bit_length() < 64:
            counts.append(f"{count:,} {word}")
    return f"tokens: {', '.join(counts)}" if counts else None


def _calls(tree: Mapping[str, Tree]) -> list[ToolCall]:
    found: list[ToolCall] = []
    more = tree.get("additional_kwargs")
    for source in (tree.get("tool_calls"), more.get("tool_calls") if isinstance(more, Mapping) else None):
        if isinstance(source, list) and not found:
            found = [call for each in source if (call := _call(each)) is not None]
    invalid = tree.get("invalid_tool_calls")
    if isinstance(invalid, list):
        found += [call for each in invalid if (call := _call(each)) is not None]
    return found


def _call(tree: Tree) -> ToolCall | None:
    if not isinstance(tree, Mapping):
        return None
    function = tree.get("function")
    source = function if isinstance(function, Mapping) else tree
    arguments: Tree = next((source[key] for key in ("args", "arguments", "input") if key in source), {})
    if isinstance(arguments, str):
        # Otherwise it is what the model made up, and shown as it is.
        with suppress(ValueError, RecursionError):
            arguments = as_tree(json.loads(arguments))
    name, id_ = source.get("name"), tree.get("id")
    return ToolCall(name if isinstance(name, str) else "?", arguments, id_ if isinstance(id_, str) else None)


def _parts(content: Tree, calls: list[ToolCall]) -> list[tuple[str, str]]:
    if isinstance(content, str):
        return [("text", content)] if content else []
    return [part for block in content or () for part in _block(block, calls)]


def _block(block: Tree, calls: list[ToolCall]) -> list[tuple[str, str]]:
    if isinstance(block, str):
        return [("text", block)]
    kind = block.get("type") if isinstance(block, Mapping) else None
    if not isinstance(kind, str):
        return [("block", size(_weight(block)))]
    if kind in ("tool_use", "tool_call", "function_call"):
        # The same call as in the message's own list.
        if calls:
            return []
        call = _call(block)
        return [] if call is None else [(kind, call.name)]
    for key in _TEXT_KEYS:
        if isinstance(block.get(key), str):
            return [("text" if key == "text" else kind, block[key])]
    address = _address(block)
    return [(kind, address if address is not None else size(_weight(block)))]


def _address(block: Mapping[str, Tree]) -> str | None:
    """Where an image or a file is, if it is not in the block."""
    for each in (block, *block.values()):
        url = each.get("url") if isinstance(each, Mapping) else None
        if isinstance(url, str) and not url.startswith("data:"):
            return url
    return next((block[key] for key in ("image_url", "file_id", "id") if _is_short(block.get(key))), None)


def _is_short(value: Tree) -> bool:
    return isinstance(value, str) and not value.startswith("data:") and len(value) < 500


def _weight(tree: Tree) -> int:
    """About how many bytes a block carries: what is base64 takes three quarters of its text."""
    if isinstance(tree, str):
        encoded = tree.partition(";base64,")[2] if tree.startswith("data:") else tree
        return (
            len(encoded) * 3 // 4 if len(encoded) > 100 and " " not in encoded else len(tree.encode("utf-8", "replace"))
        )
    if isinstance(tree, bytes):
        return len(tree)
    if isinstance(tree, Mapping):
        return sum(_weight(each) for key, each in tree.items() if key not in ("type", "mime_type", "media_type"))
    return sum(map(_weight, tree)) if isinstance(tree, list) else 0
