"""Messages: finds them in trees, in any common form, and extracts the readable parts.

LangChain's messages, objects of message classes that are not loaded, the dicts of chat APIs
(``{"role": …, "content": …}``), and the shorthand ``("human", "Hi")`` all become a `Message`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from eventlog.format.strict import TYPE
from langgraph.checkpoint.eventlog.viewing.plain import Tree, as_tree

__all__ = ["Message", "ToolCall", "as_conversation"]

#: Types and roles of LangChain's messages and of chat APIs, and the names that are shown for them.
ROLES = {
    **{role: role for role in ("human", "ai", "system", "developer", "tool", "function", "chat", "remove")},
    **{f"{role.title()}MessageChunk": role for role in ("human", "system", "tool", "function", "chat")},
    "AIMessageChunk": "ai",
    "assistant": "ai",
    "user": "human",
}

#: Types of the blocks of content that are calls.
CALLS = ("tool_use", "tool_call", "function_call")


class ToolCall(NamedTuple):
    """A call that a model asks for."""

    name: str
    arguments: Tree
    id: str | None


class Message(NamedTuple):
    """The readable parts of a message."""

    role: str
    parts: list[Tree]
    """In order: texts, and other blocks of content as they are."""
    calls: list[ToolCall]
    about: list[str]
    """Beside the role: name, tool call id, model, usage, the class if it is not LangChain's own."""
    name: str | None = None
    id: str | None = None
    tool_call_id: str | None = None
    """For a tool's result: the call that it answers."""
    model: str | None = None
    tokens: dict[str, int | None] | None = None
    """The tokens used: `input`, `output`, `total`."""
    is_error: bool = False
    """Whether it is the result of a tool that failed."""


def as_conversation(tree: Tree) -> list[Message] | None:
    """The messages of a list that contains only messages, or a single message; None for any other tree."""
    found: list[Message] = []
    for each in tree if isinstance(tree, list) else [tree]:
        if isinstance(each, list) and len(each) == 2 and isinstance(each[0], str):
            each = {"role": each[0], "content": each[1]}
        message = _message(each)
        if message is None:
            return None
        found.append(message)
    return found or None


def _message(tree: Tree) -> Message | None:
    if not isinstance(tree, dict) or not isinstance(tree.get("content", 0), (str, list, type(None))):
        return None
    role = next((ROLES[tree[key]] for key in ("type", "role") if _text(tree, key) in ROLES), None)
    if role is None:
        return None
    calls = _calls(tree.get("tool_calls")) or _calls(_mapping(tree, "additional_kwargs").get("tool_calls"))
    calls += _calls(tree.get("invalid_tool_calls"))
    response = _mapping(tree, "response_metadata")
    usages = (tree.get("usage_metadata"), response.get("token_usage"), tree.get("usage"))
    about = [
        *(_text(tree, key) for key in ("name", "tool_call_id")),
        _text(tree, "id") if role == "remove" else None,
        "error" if tree.get("status") == "error" else None,
        _text(response, "model_name", "model"),
        next(filter(None, map(_usage, usages)), None),
        _text(tree, TYPE),
    ]
    shown = (_text(tree, "role") or role) if role == "chat" else role
    return Message(
        shown,
        _parts(tree["content"], calls),
        calls,
        [each for each in about if each is not None],
        name=_text(tree, "name"),
        id=_text(tree, "id"),
        tool_call_id=_text(tree, "tool_call_id"),
        model=_text(response, "model_name", "model"),
        tokens=next(filter(None, map(_tokens, usages)), None),
        is_error=tree.get("status") == "error",
    )


def _text(tree: Mapping[str, Tree], *keys: str) -> str | None:
    """The text under the first of these keys with a text."""
    return next((tree[key] for key in keys if isinstance(tree.get(key), str)), None)


def _mapping(tree: Mapping[str, Tree], key: str) -> Mapping[str, Tree]:
    return tree[key] if isinstance(tree.get(key), dict) else {}


def _usage(usage: Tree) -> str | None:
    if not isinstance(usage, dict):
        return None
    tokens = {
        "in": usage.get("input_tokens", usage.get("prompt_tokens")),
        "out": usage.get("output_tokens", usage.get("completion_tokens")),
    }
    counts = [f"{count:,} {way}" for way, count in tokens.items() if isinstance(count, int)]
    return f"tokens: {', '.join(counts)}" if counts else None


def _tokens(usage: Tree) -> dict[str, int | None] | None:
    if not isinstance(usage, dict):
        return None
    keys = {"input": "prompt_tokens", "output": "completion_tokens", "total": "total_tokens"}
    found = {name: usage.get(f"{name}_tokens", usage.get(other)) for name, other in keys.items()}
    tokens = {name: count if type(count) is int else None for name, count in found.items()}
    return tokens if any(count is not None for count in tokens.values()) else None


def _calls(tree: Tree) -> list[ToolCall]:
    return [_call(each) for each in tree if isinstance(each, dict)] if isinstance(tree, list) else []


def _call(tree: Mapping[str, Tree]) -> ToolCall:
    source = _mapping(tree, "function") or tree
    arguments: Tree = next((source[key] for key in ("args", "arguments", "input") if key in source), {})
    if isinstance(arguments, str):
        # Otherwise the model produced invalid arguments: show them as they are.
        with suppress(ValueError, RecursionError):
            arguments = as_tree(json.loads(arguments))
    return ToolCall(_text(source, "name") or "?", arguments, _text(tree, "id"))


def _parts(content: str | list[Tree] | None, calls: list[ToolCall]) -> list[Tree]:
    if isinstance(content, str):
        return [content] if content else []
    # The message's own list has the same calls.
    blocks = [each for each in content or [] if not (calls and isinstance(each, dict) and each.get("type") in CALLS)]
    return [_text(each, "text") or each if isinstance(each, dict) else each for each in blocks]
