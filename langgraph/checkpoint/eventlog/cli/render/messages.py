"""Messages: finds them in trees, in any form that is in use, and takes out what people read.

LangChain's messages, objects of message classes that are not loaded, and the dicts of chat APIs
(``{"role": …, "content": …}``) all become a `Message`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from langgraph.checkpoint.eventlog.cli.render.decoding import TYPE
from langgraph.checkpoint.eventlog.cli.render.output import size
from langgraph.checkpoint.eventlog.cli.render.plain import Tree, as_tree

__all__ = ["Message", "ToolCall", "as_conversation"]

#: Types and roles of LangChain's messages and of chat APIs, and the names that are shown for them.
ROLES = {
    **{role: role for role in ("human", "ai", "system", "developer", "tool", "function", "chat", "remove")},
    **{f"{role.title()}MessageChunk": role for role in ("human", "system", "tool", "function", "chat")},
    "AIMessageChunk": "ai",
    "assistant": "ai",
    "user": "human",
}


class ToolCall(NamedTuple):
    """A call that a model asks for."""

    name: str
    arguments: Tree
    id: str | None


class Message(NamedTuple):
    """The readable parts of a message."""

    role: str
    parts: list[tuple[str, str]]
    """In order: ("text", text), or (a block's type, its text, address or size)."""
    calls: list[ToolCall] = []  # noqa: RUF012 -- never changed
    about: list[str] = []  # noqa: RUF012 -- never changed
    """Beside the role: name, tool call id, model, usage, the class if it is not LangChain's own."""


def as_conversation(tree: Tree) -> list[Message] | None:
    """The messages of a list of nothing else, or the one message that a tree is; None for any other tree."""
    if not isinstance(tree, list):
        return None if (message := _message(tree)) is None else [message]
    found = [message for each in tree if (message := _message(each) or _pair(each)) is not None]
    return found if found and len(found) == len(tree) else None


def _pair(tree: Tree) -> Message | None:
    """The shorthand ``("human", "Hi")``."""
    if isinstance(tree, list) and len(tree) == 2 and isinstance(tree[0], str) and isinstance(tree[1], (str, list)):
        return Message(ROLES[tree[0]], _parts(tree[1], [])) if tree[0] in ROLES else None
    return None


def _message(tree: Tree) -> Message | None:
    if not isinstance(tree, dict) or not isinstance(tree.get("content", 0), (str, list, type(None))):
        return None
    role = next((ROLES[tree[key]] for key in ("type", "role") if _text(tree, key) in ROLES), None)
    if role is None:
        return None
    role = _text(tree, "role") or role if role == "chat" else role
    calls = _calls(tree.get("tool_calls")) or _calls(_mapping(tree, "additional_kwargs").get("tool_calls"))
    calls += _calls(tree.get("invalid_tool_calls"))
    response = _mapping(tree, "response_metadata")
    usages = map(_usage, (tree.get("usage_metadata"), response.get("token_usage"), tree.get("usage")))
    about = [
        *(_text(tree, key) for key in ("name", "tool_call_id")),
        _text(tree, "id") if role == "remove" else None,
        "error" if tree.get("status") == "error" else None,
        _text(response, "model_name", "model"),
        next(filter(None, usages), None),
        _text(tree, TYPE),
    ]
    return Message(role, _parts(tree["content"], calls), calls, [each for each in about if each is not None])


def _text(tree: Mapping[str, Tree], *keys: str) -> str | None:
    """The text under the first of these keys that has one."""
    return next((tree[key] for key in keys if isinstance(tree.get(key), str)), None)


def _mapping(tree: Mapping[str, Tree], key: str) -> Mapping[str, Tree]:
    return tree[key] if isinstance(tree.get(key), dict) else {}


def _usage(usage: Tree) -> str | None:
    counts = []
    for word, names in (("in", ("input_tokens", "prompt_tokens")), ("out", ("output_tokens", "completion_tokens"))):
        found = [usage[name] for name in names if type(usage.get(name)) is int] if isinstance(usage, dict) else []
        counts += [f"{count:,} {word}" for count in found[:1]]
    return f"tokens: {', '.join(counts)}" if counts else None


def _calls(tree: Tree) -> list[ToolCall]:
    return [_call(each) for each in tree if isinstance(each, dict)] if isinstance(tree, list) else []


def _call(tree: Mapping[str, Tree]) -> ToolCall:
    source = _mapping(tree, "function") or tree
    arguments: Tree = next((source[key] for key in ("args", "arguments", "input") if key in source), {})
    if isinstance(arguments, str):
        # Otherwise it is what the model made up, and shown as it is.
        with suppress(ValueError, RecursionError):
            arguments = as_tree(json.loads(arguments))
    return ToolCall(_text(source, "name") or "?", arguments, _text(tree, "id"))


def _parts(content: Tree, calls: list[ToolCall]) -> list[tuple[str, str]]:
    if isinstance(content, str):
        return [("text", content)] if content else []
    return [part for block in content or () if (part := _part(block, calls)) is not None]


def _part(block: Tree, calls: list[ToolCall]) -> tuple[str, str] | None:
    if isinstance(block, str):
        return "text", block
    kind = _text(block, "type") if isinstance(block, dict) else None
    if kind is None:
        return "block", size(_estimate_bytes(block))
    if kind in ("tool_use", "tool_call", "function_call"):
        # The message's own list has the same call.
        return None if calls else (kind, _call(block).name)
    if (text := _text(block, "text")) is not None:
        return "text", text
    text = _text(block, "thinking", "reasoning", "refusal") or _address(block)
    return kind, size(_estimate_bytes(block)) if text is None else text


def _address(block: Mapping[str, Tree]) -> str | None:
    """The address of an image or a file that is not in the block."""
    urls = [_text(each, "url") for each in (block, *block.values()) if isinstance(each, dict)]
    addresses = (*urls, *(_text(block, key) for key in ("image_url", "file_id", "id")))
    return next((each for each in addresses if each and not each.startswith("data:") and len(each) < 500), None)


def _estimate_bytes(tree: Tree) -> int:
    """About how many bytes a block carries: base64 takes three quarters of its text."""
    if isinstance(tree, str):
        encoded = tree.partition(";base64,")[2] if tree.startswith("data:") else tree
        is_base64 = len(encoded) > 100 and " " not in encoded
        return len(encoded) * 3 // 4 if is_base64 else len(tree.encode("utf-8", "replace"))
    if isinstance(tree, dict):
        names = (TYPE, "type", "mime_type", "media_type")
        return sum(_estimate_bytes(each) for key, each in tree.items() if key not in names)
    return sum(map(_estimate_bytes, tree)) if isinstance(tree, list) else 0
