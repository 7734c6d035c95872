"""Values of a log as HTML: the trees of plain data that documents hold.

A short value takes one line. Others are lists of names and values, which are folded if they are deep or long. The HTML
is made here and not in a template, because a state may have a hundred thousand values, nested 150 deep.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

from markupsafe import Markup, escape

from eventlog.format.strict import TYPE
from langgraph.checkpoint.eventlog.ui.text import marked, plural, shortened, visible

__all__ = ["TextDifferences", "changed_fields", "is_cut", "path_text", "preview", "said", "value"]

#: Characters of a value on one line.
LINE = 72

#: Levels that are shown unfolded, unless they have more entries than this.
OPEN_LEVELS = 2
OPEN_ENTRIES = 30

#: Deeper levels are JSON: browsers nest elements at most about 500 deep, and no screen is as wide.
DEEPEST = 12

#: A text of so many lines or characters folds up.
LONG_LINES = 24
LONG_TEXT = 2_000

#: Limits for comparing word by word: characters of both texts together, words of each text, and words on one page. The
#: time grows with the square of the words.
COMPARED = 20_000
MOST_WORDS = 1_000
MOST_WORDS_OF_PAGE = 20_000

#: Values that are shown of one tree.
MOST = 2_000

_LEFT_OUT = '<span class="cut left-out">'

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


def value(tree: Any, most: int | None = MOST) -> Markup:
    """A tree of plain data as HTML, with a note on the number of omitted values.

    Args:
        most: the largest number of values: a page with more would take seconds to load; None: all.
    """
    return Markup("".join(_shown(tree, 0, _Room(most))))


def is_cut(html: str) -> bool:
    """Whether `value` has left something out."""
    return _LEFT_OUT in html


def path_text(path: Any) -> str:
    """The keys, fields and indexes that lead to a value, as people write them: ``messages[2].content``."""
    if isinstance(path, str):
        return path
    text = ""
    for each in path or ():
        text += f"[{each}]" if isinstance(each, int) else f".{each}" if text else str(each)
    return text


class TextDifferences:
    """Two texts as one, with removed and added parts marked; None if they are easier to read separately.

    One object compares the texts of one page, and stops when its limit of words is reached.
    """

    def __init__(self) -> None:
        self._left = MOST_WORDS_OF_PAGE

    def __call__(self, before: Any, after: Any) -> Markup | None:
        """Compare two values."""
        if not isinstance(before, str) or not isinstance(after, str) or not 0 < len(before) + len(after) <= COMPARED:
            return None
        old, new = _WORDS.findall(before), _WORDS.findall(after)
        if max(len(old), len(new)) > MOST_WORDS or len(old) + len(new) > self._left:
            return None
        self._left -= len(old) + len(new)
        matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
        if matcher.quick_ratio() < 0.4 or matcher.ratio() < 0.4:
            return None
        parts = []
        for what, old_from, old_to, new_from, new_to in matcher.get_opcodes():
            kept, gone, come = "", "".join(old[old_from:old_to]), "".join(new[new_from:new_to])
            if what == "equal":
                kept, gone, come = gone, "", ""
            parts.append(marked(kept))
            parts += [Markup("<del>{}</del>").format(marked(gone))] if gone else []
            parts += [Markup("<ins>{}</ins>").format(marked(come))] if come else []
        return Markup('<div class="text"><bdi>{}</bdi></div>').format(Markup("").join(parts))


class _Room:
    """The number of values that may still be shown."""

    __slots__ = ("left",)

    def __init__(self, most: int | None) -> None:
        self.left = float("inf") if most is None else most


def _shown(tree: Any, depth: int, room: _Room) -> Iterator[str]:
    if isinstance(tree, str):
        yield from _text(tree)
    elif not isinstance(tree, (dict, list)):
        yield _token(tree)
    elif (line := _on_one_line(tree)) is not None:
        yield line
    elif depth >= DEEPEST:
        yield _code(tree)
    elif isinstance(tree, list):
        yield from _folding(((None, each) for each in tree), len(tree), plural(len(tree), "item"), depth, room)
    elif tree.get(TYPE) == "left out":
        yield f'<span class="cut">{visible(tree.get("why", "left out"))}</span>'
    elif tree.get(TYPE) == "bytes" and isinstance(tree.get("base64"), str):
        yield f'<span class="type">bytes</span> <code class="b64">{escape(tree["base64"])}</code>'
    else:
        fields = {key: each for key, each in tree.items() if key != TYPE or not isinstance(each, str)}
        name = tree[TYPE] if len(fields) < len(tree) else ""
        yield from _folding(fields.items(), len(fields), plural(len(fields), "field"), depth, room, name)


def _folding(entries: Any, length: int, about: str, depth: int, room: _Room, name: str = "") -> Iterator[str]:
    """A list of names and values, which folds up unless it is near the top and short."""
    head = f"{_type(name)} " if name else ""
    is_open = depth < OPEN_LEVELS and length <= OPEN_ENTRIES
    if depth or not is_open:
        yield f"<details{' open' if is_open else ''}><summary>{head}<span class='muted'>{about}</span></summary>"
    else:
        yield head
    yield '<ul class="tree">'
    for index, (key, each) in enumerate(entries):
        if room.left <= 0:
            yield f"<li>{_LEFT_OUT}{length - index:,} more left out</span></li>"
            break
        room.left -= 1
        named = f'<span class="index">{index}</span>' if key is None else f'<span class="key">{visible(key)}</span>'
        yield f"<li>{named} "
        yield from _shown(each, depth + 1, room)
        yield "</li>"
    yield "</ul>"
    if depth or not is_open:
        yield "</details>"


def _text(text: str) -> Iterator[str]:
    if len(text) <= LINE and "\n" not in text:
        yield f'<span class="str">{visible(_quoted(text))}</span>'
    elif len(text) <= LONG_TEXT and text.count("\n") <= LONG_LINES:
        yield f'<div class="text">{visible(text)}</div>'
    else:
        about = f"{plural(len(text), 'character')}, {plural(text.count(chr(10)) + 1, 'line')}"
        start = visible(" ".join(text[:LINE].split()))
        yield f'<details class="long"><summary>{start}… <span class="muted">{about}</span></summary>'
        yield f'<div class="text">{visible(text)}</div></details>'


def _type(name: str) -> str:
    """The last part of a class's name, and all of it as a title."""
    return f'<span class="type">{visible(name.rsplit(".", 1)[-1])}</span>'


def _token(tree: Any) -> str:
    return f'<span class="tok">{escape(json.dumps(tree))}</span>'


def _quoted(text: str) -> str:
    return f'"{text}"'


def _code(tree: Any) -> str:
    return f'<pre class="code">{visible(json.dumps(tree, ensure_ascii=False, indent=1))}</pre>'


def _on_one_line(tree: Any) -> str | None:
    """A short value without deep nesting; None of any other."""
    parts: list[str] = []
    left = _line_of(tree, parts, LINE, 0)
    return None if left < 0 else f'<span class="line">{"".join(parts)}</span>'


def _line_of(tree: Any, parts: list[str], room: int, depth: int) -> int:
    """Appends a value's HTML, and returns the characters left of `room`: fewer than none when it is too long."""
    if isinstance(tree, str):
        if len(tree) > room or "\n" in tree:
            return -1
        parts.append(f'<span class="str">{visible(_quoted(tree))}</span>')
        return room - len(tree) - 2
    if not isinstance(tree, (dict, list)):
        text = json.dumps(tree)
        parts.append(f'<span class="tok">{escape(text)}</span>')
        return room - len(text)
    if depth > 2 or len(tree) * 3 > room:
        return -1
    opening, closing = "[]" if isinstance(tree, list) else "{}"
    entries: list[tuple[str | None, Any]]
    if isinstance(tree, list):
        entries = [(None, each) for each in tree]
    else:
        if tree.get(TYPE) in ("left out", "bytes"):
            return -1
        if isinstance(tree.get(TYPE), str):
            parts.append(_type(tree[TYPE]))
            room -= len(tree[TYPE].rsplit(".", 1)[-1])
            opening, closing = "()"
        entries = [(key, each) for key, each in tree.items() if key != TYPE or not isinstance(each, str)]
    parts.append(opening)
    for index, (key, each) in enumerate(entries):
        if index:
            parts.append(", ")
        if key is not None:
            room -= len(key) + 2
            if room < 0:
                return -1
            parts.append(f'<span class="key">{visible(key)}</span> ')
        room = _line_of(each, parts, room - 2, depth + 1)
        if room < 0:
            return -1
    parts.append(closing)
    return room - 2


def said(text: str) -> Markup:
    """The text of a message; a long one folds up."""
    if len(text) <= LONG_TEXT and text.count("\n") <= LONG_LINES:
        return Markup('<div class="text">{}</div>').format(visible(text))
    return Markup("".join(_text(text)))


def preview(tree: Any, length: int = 160) -> str:
    """A value as one line of plain text: a text, an object's first field if that is a text, else JSON."""
    if isinstance(tree, dict):
        fields = [each for key, each in tree.items() if key != TYPE]
        if fields and isinstance(fields[0], str):
            tree = fields[0] if len(fields) == 1 else f"{fields[0]} …"
    text = tree if isinstance(tree, str) else json.dumps(tree, ensure_ascii=False)
    # Only the beginning of a long text is used.
    return shortened(" ".join(text[: 4 * length].split()), length)


def changed_fields(before: Any, after: Any) -> list[dict[str, Any]]:
    """The fields in which two objects differ, as parts of a diff; empty if they are easier to read in full."""
    found: list[dict[str, Any]] = []
    if isinstance(before, dict) and isinstance(after, dict) and before.get(TYPE) == after.get(TYPE):
        _compare(before, after, [], found)
    is_most = len(found) >= len(after) if isinstance(after, dict) else True
    return [] if is_most else found


def _compare(before: dict[str, Any], after: dict[str, Any], path: list[str], found: list[dict[str, Any]]) -> None:
    for key in [*before, *(key for key in after if key not in before)]:
        old, new = before.get(key), after.get(key)
        here = [*path, key]
        if key not in before or key not in after:
            kind = "added" if key in after else "removed"
            found.append({"kind": kind, "path": here, "before": old, "after": new})
        elif old == new:
            continue
        elif isinstance(old, dict) and isinstance(new, dict) and len(path) < DEEPEST:
            _compare(old, new, here, found)
        else:
            found.append({"kind": "changed", "path": here, "before": old, "after": new})
