"""Values for people: trees of plain data as lines of text, messages as conversations.

Nothing that controls a terminal gets into a line, and a line has no line breaks. What is long is folded, and says how
much was left out, unless all is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.text import Text

from langgraph.checkpoint.eventlog.cli.render.decoding import TYPE
from langgraph.checkpoint.eventlog.cli.render.messages import Message, ToolCall, as_conversation, as_message
from langgraph.checkpoint.eventlog.cli.render.output import plural, printable, size
from langgraph.checkpoint.eventlog.cli.render.plain import Tree, number

__all__ = ["Line", "conversation", "inline", "lines_of", "shown"]

#: What is shown of a text, of a list or mapping, of a conversation, unless all is asked for.
MAX_LINES = 12
MAX_CHARS = 1_000
MAX_ITEMS = 20
MAX_MESSAGES = 20

#: What is not longer goes on one line.
SHORT = 76

#: Bytes of which something is shown.
FIRST_BYTES = 12

STYLES = {"human": "bold green", "ai": "bold cyan", "system": "bold magenta", "tool": "bold yellow"}
FAINT = "dim"


class Line(NamedTuple):
    """A line, and how far it is moved to the right."""

    indent: int
    text: Text


def shown(text: str) -> str:
    """A text on one line, as `printable`, in which spaces of all kinds are spaces."""
    return printable("".join(" " if char.isspace() and char not in "\x1c\x1d\x1e\x1f\x85" else char for char in text))


def lines_of(tree: Tree, *, full: bool = False, indent: int = 0) -> Iterator[Line]:
    """A tree for people.

    Args:
        full: leave nothing out.
        indent: of all of it.
    """
    if (messages := as_conversation(tree)) is not None:
        yield from conversation(messages, full=full, indent=indent)
    elif (message := as_message(tree)) is not None:
        yield from conversation([message], full=full, indent=indent)
    elif (text := inline(tree)) is not None:
        yield Line(indent, Text(text))
    elif isinstance(tree, str):
        yield from _paragraphs(tree, full, indent)
    elif isinstance(tree, dict):
        yield from _mapping(tree, full, indent)
    elif isinstance(tree, list):
        yield from _items(tree, full, indent)
    else:
        yield Line(indent, Text(_scalar(tree)))


def conversation(messages: list[Message], *, full: bool = False, indent: int = 0) -> Iterator[Line]:
    """Messages, one after the other; of a long conversation the end. Arguments as for `lines_of`."""
    left_out = 0 if full else max(0, len(messages) - MAX_MESSAGES)
    if left_out:
        yield _note(indent, f"… {plural(left_out, 'earlier message')} (--full shows all)")
    for message in messages[left_out:]:
        yield from _message(message, full, indent)


def _message(message: Message, full: bool, indent: int) -> Iterator[Line]:
    heading = Text(shown(message.role), STYLES.get(message.role, "bold"))
    for each in message.about:
        heading.append(f"  {shown(each)}", FAINT)
    yield Line(indent, heading)
    for kind, content in message.parts:
        if kind == "text":
            yield from _paragraphs(content, full, indent + 1)
        else:
            first, *more = _paragraphs(content, full, 0)
            yield Line(indent + 1, Text.assemble((f"[{shown(kind)}] ", FAINT), first.text))
            yield from (Line(indent + 2, line.text) for line in more)
    for call in message.calls:
        yield from _call(call, full, indent + 1)


def _call(call: ToolCall, full: bool, indent: int) -> Iterator[Line]:
    name = Text.assemble(("→ ", "bold"), (shown(call.name), "bold"))
    id_ = Text(f"  {shown(call.id)}" if call.id else "", FAINT)
    arguments = call.arguments
    if isinstance(arguments, dict) and TYPE not in arguments:
        parts = [(shown(str(key)), inline(each)) for key, each in arguments.items() if isinstance(key, str)]
        texts = [f"{key}={text}" for key, text in parts if text is not None]
        if len(texts) == len(arguments) and sum(map(len, texts)) <= SHORT:
            yield Line(indent, Text.assemble(name, f"({', '.join(texts)})", id_))
            return
    yield Line(indent, Text.assemble(name, id_))
    yield from lines_of(arguments, full=full, indent=indent + 1)


def _paragraphs(text: str, full: bool, indent: int) -> Iterator[Line]:
    """A text with its line breaks."""
    kept = text if full else text[:MAX_CHARS]
    lines = kept.replace("\r\n", "\n").expandtabs(4).split("\n")
    if not full and len(lines) > MAX_LINES:
        lines = lines[:MAX_LINES]
        kept = "\n".join(lines)
    for line in lines:
        yield Line(indent, Text(shown(line)))
    if (left_out := len(text) - len(kept)) > 0:
        yield _note(indent, f"… {plural(left_out, 'more character')} (--full shows all)")


def _mapping(tree: dict[Tree, Tree], full: bool, indent: int) -> Iterator[Line]:
    entries = list(tree.items())
    if isinstance(tree.get(TYPE), str):
        yield Line(indent, Text(_type_name(tree), "italic"))
        indent += 1
        entries = [(key, each) for key, each in entries if key != TYPE and (full or each is not None)]
    for key, each in entries if full else entries[:MAX_ITEMS]:
        name = Text(f"{shown(key) if isinstance(key, str) else _scalar(key)}:", "bold")
        if (text := inline(each)) is not None:
            yield Line(indent, Text.assemble(name, " ", text))
        else:
            yield Line(indent, name)
            yield from lines_of(each, full=full, indent=indent + 1)
    yield from _rest(len(entries), full, indent)


def _items(tree: list[Tree], full: bool, indent: int) -> Iterator[Line]:
    for each in tree if full else tree[:MAX_ITEMS]:
        first, *more = lines_of(each, full=full)
        yield Line(indent, Text.assemble("- ", first.text))
        yield from (Line(indent + 1 + line.indent, line.text) for line in more)
    yield from _rest(len(tree), full, indent)


def _rest(count: int, full: bool, indent: int) -> Iterator[Line]:
    if not full and count > MAX_ITEMS:
        yield _note(indent, f"… {count - MAX_ITEMS:,} more (--full shows all)")


def _note(indent: int, text: str) -> Line:
    return Line(indent, Text(text, FAINT))


# --- on one line


def inline(tree: Tree, limit: int = SHORT) -> str | None:
    """A tree on one line, None when it is longer than that. Messages and texts with line breaks are not for one."""
    if isinstance(tree, (list, dict)):
        if len(tree) * 2 > limit or as_conversation(tree) is not None or as_message(tree) is not None:
            return None
        return _joined(tree, limit)
    if isinstance(tree, str) and (len(tree) > limit or "\n" in tree):
        return None
    text = _scalar(tree)
    return text if len(text) <= limit or not isinstance(tree, str) else None


def _joined(tree: list[Tree] | dict[Tree, Tree], limit: int) -> str | None:
    name = _type_name(tree) if isinstance(tree, dict) and isinstance(tree.get(TYPE), str) else ""
    left, texts = limit - len(name) - 2, []
    for key, each in _entries(tree, bool(name)):
        text = inline(each, left - len(key))
        if text is None:
            return None
        if isinstance(each, str) and not text.startswith('"') and any(char in ",()[]{}" for char in text):
            text = f'"{text}"'
        texts.append(key + text)
        left -= len(key) + len(text) + 2
        if left < 0:
            return None
    opening, closing = "()" if name else "[]" if isinstance(tree, list) else "{}"
    return f"{name}{opening}{', '.join(texts)}{closing}"


def _entries(tree: list[Tree] | dict[Tree, Tree], is_object: bool) -> Iterable[tuple[str, Tree]]:
    if isinstance(tree, list):
        return [("", each) for each in tree]
    between = "=" if is_object else ": "
    return [
        ((shown(key) if isinstance(key, str) else _scalar(key)) + between, each)
        for key, each in tree.items()
        if not (is_object and (key == TYPE or each is None))
    ]


def _type_name(tree: dict[Tree, Tree]) -> str:
    return shown(tree[TYPE].removeprefix("langgraph.types."))


def _scalar(value: Tree) -> str:
    """A scalar. Texts that would be taken for something else are in quotes."""
    if isinstance(value, bytes):
        some = value[:FIRST_BYTES].hex(" ")
        return f"<{size(len(value))}{': ' if some else ''}{some}{' …' if len(value) > FIRST_BYTES else ''}>"
    if isinstance(value, int) and not isinstance(value, bool):
        return number(value)
    if isinstance(value, str):
        text = shown(value)
        return f'"{text}"' if _looks_like_another(text) else text
    return str(value)


def _looks_like_another(text: str) -> bool:
    if not text.strip() or text != text.strip() or text in ("None", "True", "False") or text[0] in "<[{\"'":
        return True
    try:
        return not math.isnan(float(text)) or True
    except ValueError:
        return False
