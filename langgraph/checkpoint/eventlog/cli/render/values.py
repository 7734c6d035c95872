"""Trees of plain data as lines of text for people, messages in them as conversations.

No line has characters that control a terminal, nor line breaks. Long values are folded, with a count of what was left
out, unless all is asked for.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from rich.text import Text

from langgraph.checkpoint.eventlog.cli.render.decoding import TYPE
from langgraph.checkpoint.eventlog.cli.render.messages import Message, ToolCall, as_conversation
from langgraph.checkpoint.eventlog.cli.render.output import plural, printable, size
from langgraph.checkpoint.eventlog.cli.render.plain import Tree

__all__ = ["Line", "inline", "lines_of", "named_lines", "one_line"]

#: Of a text, of a list or mapping, of a conversation, unless all is asked for.
MAX_LINES = 12
MAX_CHARS = 1_000
MAX_ITEMS = 20
MAX_MESSAGES = 20

#: Characters on one line, and bytes of a value, at most.
SHORT = 76
FIRST_BYTES = 12

STYLES = {"human": "bold green", "ai": "bold cyan", "system": "bold magenta", "tool": "bold yellow"}
FAINT = "dim"


class Line(NamedTuple):
    """A line, and its level of indentation."""

    indent: int
    text: Text


def one_line(text: str) -> str:
    """A `printable` text in which spaces of all kinds are spaces."""
    return printable("".join(" " if char.isspace() and char not in "\x1c\x1d\x1e\x1f\x85" else char for char in text))


def lines_of(tree: Tree, *, full: bool = False, indent: int = 0) -> Iterator[Line]:
    """A tree for people; `full` leaves nothing out."""
    lines: Iterable[Line]
    if (messages := as_conversation(tree)) is not None:
        lines = _conversation(messages, full)
    elif (text := inline(tree)) is not None:
        lines = [Line(0, Text(text))]
    elif isinstance(tree, dict):
        lines = _mapping(tree, full)
    elif isinstance(tree, list):
        lines = _items(tree, full)
    else:
        lines = _paragraphs(str(tree), full)
    return (Line(indent + line.indent, line.text) for line in lines)


def named_lines(name: Text, tree: Tree, *, full: bool, indent: int, about: str = "") -> Iterator[Line]:
    """A tree on the line of its name, or beneath that: then `about` stands behind the name."""
    if (text := inline(tree)) is not None:
        yield Line(indent, Text.assemble(name, " ", text))
    else:
        yield Line(indent, name.append(about, FAINT))
        yield from lines_of(tree, full=full, indent=indent + 1)


def _conversation(messages: list[Message], full: bool) -> Iterator[Line]:
    """Messages, one after the other; the end of a long conversation."""
    left_out = 0 if full else max(0, len(messages) - MAX_MESSAGES)
    if left_out:
        yield _left_out(plural(left_out, "earlier message"))
    for message in messages[left_out:]:
        heading = Text(one_line(message.role), STYLES.get(message.role, "bold"))
        for each in message.about:
            heading.append(f"  {one_line(each)}", FAINT)
        yield Line(0, heading)
        for kind, content in message.parts:
            first, *more = _paragraphs(content, full)
            label = "" if kind == "text" else f"[{one_line(kind)}] "
            yield Line(1, Text.assemble((label, FAINT), first.text))
            yield from (Line(2 if label else 1, line.text) for line in more)
        for call in message.calls:
            yield from _call(call, full)


def _call(call: ToolCall, full: bool) -> Iterator[Line]:
    name = Text(f"→ {one_line(call.name)}", "bold")
    id_ = Text(f"  {one_line(call.id)}" if call.id else "", FAINT)
    arguments = call.arguments
    if isinstance(arguments, dict) and TYPE not in arguments and (text := inline({TYPE: "", **arguments})) is not None:
        yield Line(1, Text.assemble(name, text, id_))
    else:
        yield Line(1, Text.assemble(name, id_))
        yield from lines_of(arguments, full=full, indent=2)


def _paragraphs(text: str, full: bool) -> Iterator[Line]:
    """A text with its line breaks."""
    kept = text if full else text[:MAX_CHARS]
    lines = kept.replace("\r\n", "\n").expandtabs(4).split("\n")
    if not full and len(lines) > MAX_LINES:
        lines = lines[:MAX_LINES]
        kept = "\n".join(lines)
    for line in lines:
        yield Line(0, Text(one_line(line)))
    if (left_out := len(text) - len(kept)) > 0:
        yield _left_out(plural(left_out, "more character"))


def _mapping(tree: dict[str, Tree], full: bool) -> Iterator[Line]:
    name = _type_name(tree)
    if name is not None:
        yield Line(0, Text(name, "italic"))
    entries = _entries(tree, full)
    for key, each in entries if full else entries[:MAX_ITEMS]:
        label = Text(f"{one_line(key)}:", "bold")
        yield from named_lines(label, each, full=full, indent=0 if name is None else 1)
    yield from _rest(len(entries), full)


def _items(tree: list[Tree], full: bool) -> Iterator[Line]:
    for each in tree if full else tree[:MAX_ITEMS]:
        first, *more = lines_of(each, full=full)
        yield Line(0, Text.assemble("- ", first.text))
        yield from (Line(1 + line.indent, line.text) for line in more)
    yield from _rest(len(tree), full)


def _rest(count: int, full: bool) -> Iterator[Line]:
    if not full and count > MAX_ITEMS:
        yield _left_out(f"{count - MAX_ITEMS:,} more")


def _left_out(what: str) -> Line:
    return Line(0, Text(f"… {what} (--full shows all)", FAINT))


# --- on one line


def inline(tree: Tree, room: int = SHORT) -> str | None:
    """A tree on one line; None when it is longer than that, a message, or a text with line breaks."""
    if isinstance(tree, str):
        return None if len(tree) > room or "\n" in tree else _scalar(tree)
    if not isinstance(tree, (list, dict)):
        return str(tree) if len(str(tree)) <= SHORT else None
    if (text := _bytes(tree)) is not None:
        return text
    if len(tree) * 2 > room or as_conversation(tree) is not None:
        return None
    name = _type_name(tree) if isinstance(tree, dict) else None
    room -= len(name or "") + 2
    texts: list[str] = []
    for key, each in _entries(tree, full=False) if isinstance(tree, dict) else (("", each) for each in tree):
        label = one_line(key) + ("=" if name is not None else ": ") if isinstance(tree, dict) else ""
        text = inline(each, room - len(label))
        if text is None:
            return None
        if isinstance(each, str) and not text.startswith('"') and any(char in ",()[]{}" for char in text):
            text = f'"{text}"'
        texts.append(label + text)
        room -= len(label) + len(text) + 2
        if room < 0:
            return None
    opening, closing = "()" if name is not None else "[]" if isinstance(tree, list) else "{}"
    return f"{name or ''}{opening}{', '.join(texts)}{closing}"


def _entries(tree: dict[str, Tree], full: bool) -> list[tuple[str, Tree]]:
    """The entries of a mapping; of an object without its type, and as a rule without fields that are None."""
    if not isinstance(tree.get(TYPE), str):
        return list(tree.items())
    return [(key, each) for key, each in tree.items() if key != TYPE and (full or each is not None or not tree[TYPE])]


def _type_name(tree: dict[str, Tree]) -> str | None:
    name = tree.get(TYPE)
    return one_line(name.removeprefix("langgraph.types.")) if isinstance(name, str) else None


def _bytes(tree: Tree) -> str | None:
    """How bytes begin, and how many there are; None for a tree of anything else."""
    if not isinstance(tree, dict) or tree.get(TYPE) != "bytes" or not isinstance(encoded := tree.get("base64"), str):
        return None
    with suppress(ValueError):
        # A stored mapping may only look like bytes.
        content = base64.b64decode(encoded, validate=True)
        some = content[:FIRST_BYTES].hex(" ")
        return f"<{size(len(content))}{': ' if some else ''}{some}{' …' if len(content) > FIRST_BYTES else ''}>"
    return None


def _scalar(text: str) -> str:
    """A text on one line, in quotes where it would be taken for something else."""
    text = one_line(text)
    is_ambiguous = not text.strip() or text != text.strip() or text in ("None", "True", "False") or text[0] in "<[{\"'"
    with suppress(ValueError):
        float(text)
        is_ambiguous = True
    return f'"{text}"' if is_ambiguous else text
