"""Trees of plain data as lines of text for people: messages as conversations, the rest as rich prints data.

No line has characters that control a terminal, nor line breaks. Long values are cut, with a count of what was left
out, unless `full` is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from rich.pretty import pretty_repr
from rich.text import Text

from eventlog.format.strict import TYPE
from langgraph.checkpoint.eventlog.cli.render.output import plural, printable
from langgraph.checkpoint.eventlog.viewing.messages import Message, as_conversation
from langgraph.checkpoint.eventlog.viewing.plain import Tree

__all__ = ["Line", "lines_of", "named_lines", "one_line", "section"]

#: Of a text, of a text in a list, of a list or mapping, of a conversation, unless `full` is asked for.
MAX_LINES = 12
MAX_CHARS = 1_000
MAX_STRING = 200
MAX_ITEMS = 20
MAX_MESSAGES = 20

#: Characters on one line.
WIDTH = 100

STYLES = {"human": "bold green", "ai": "bold cyan", "system": "bold magenta", "tool": "bold yellow"}


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
    elif isinstance(tree, str) and not _is_ambiguous(tree):
        lines = _paragraphs(tree, full)
    elif isinstance(tree, dict) and TYPE not in tree and "\n" in _pretty(tree, full):
        lines = _entries(tree, full)
    else:
        lines = _data(tree, full)
    return (Line(indent + line.indent, line.text) for line in lines)


def named_lines(name: Text, tree: Tree, *, full: bool, indent: int, about: str = "") -> Iterator[Line]:
    """A tree on the line of its name, or beneath that: then `about` stands behind the name."""
    first, *more = lines_of(tree, full=full, indent=indent + 1)
    if more:
        yield Line(indent, name.append(about, "dim"))
        yield first
        yield from more
    else:
        yield Line(indent, Text.assemble(name, " ", first.text))


def section(name: str, about: str = "") -> Iterator[Line]:
    """A blank line, and a name as a heading."""
    yield Line(0, Text())
    yield Line(0, Text.assemble((one_line(name), "bold underline"), (f"  {about}" if about else "", "dim")))


def _is_ambiguous(text: str) -> bool:
    """Whether a text needs quotes, as it may look like a number, a list or the like."""
    is_word = text[:1].isalpha() and text not in ("None", "True", "False")
    return not is_word and len(text) <= WIDTH and "\n" not in text


def _conversation(messages: list[Message], full: bool) -> Iterator[Line]:
    """Messages, one after the other; the end of a long conversation."""
    left_out = 0 if full else max(0, len(messages) - MAX_MESSAGES)
    if left_out:
        yield _left_out(plural(left_out, "earlier message"))
    for message in messages[left_out:]:
        heading = Text(one_line(message.role), STYLES.get(message.role, "bold"))
        for each in message.about:
            heading.append(f"  {one_line(each)}", "dim")
        yield Line(0, heading)
        for part in message.parts:
            lines = _paragraphs(part, full) if isinstance(part, str) else lines_of(part, full=full)
            yield from (Line(1 + line.indent, line.text) for line in lines)
        for name, arguments, id_ in message.calls:
            call = Text.assemble((f"→ {one_line(name)}", "bold"), (f" ({one_line(id_)})" if id_ else "", "dim"), ":")
            yield from named_lines(call, arguments, full=full, indent=1)


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


def _entries(tree: dict[str, Tree], full: bool) -> Iterator[Line]:
    for key, each in islice(tree.items(), None if full else MAX_ITEMS):
        yield from named_lines(Text(f"{one_line(key)}:", "bold"), each, full=full, indent=0)
    if not full and len(tree) > MAX_ITEMS:
        yield _left_out(f"{len(tree) - MAX_ITEMS:,} more")


def _data(tree: Tree, full: bool) -> Iterator[Line]:
    for line in _pretty(tree, full).split("\n"):
        text = line.lstrip(" ")
        yield Line((len(line) - len(text)) // 2, Text(one_line(text)))


def _pretty(tree: Tree, full: bool) -> str:
    length, string = (None, None) if full else (MAX_ITEMS, MAX_STRING)
    return pretty_repr(_shown(tree), max_width=WIDTH, indent_size=2, max_length=length, max_string=string)


def _shown(tree: Tree) -> Any:
    """A tree in which objects are such that rich prints them as ``type(field=value, …)``."""
    if isinstance(tree, list):
        return [_shown(each) for each in tree]
    if not isinstance(tree, dict):
        return tree
    fields = {key: _shown(each) for key, each in tree.items()}
    if not isinstance(tree.get(TYPE), str):
        return fields
    name = one_line(fields.pop(TYPE).removeprefix("langgraph.types."))
    # The third is a default: fields that are None are left out.
    arguments = [(one_line(key), value, None) for key, value in fields.items()]
    return type(name, (), {"__rich_repr__": lambda _: arguments})()


def _left_out(what: str) -> Line:
    return Line(0, Text(f"… {what} (--full shows all)", "dim"))
