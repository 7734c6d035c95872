"""Texts of a log as HTML: escaped, with visible marks for characters that readers would not see.

Control characters, bidirectional controls and zero-width characters can make a text look like another one. They are
shown as marks that name them. Joiners inside of words and emoji stay as they are: scripts need them.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone
from urllib.parse import quote

from markupsafe import Markup, escape

from langgraph.checkpoint.eventlog.viewing import texts

__all__ = [
    "count",
    "duration",
    "label",
    "marked",
    "measured",
    "namespace_name",
    "plain",
    "plural",
    "segment",
    "short",
    "shortened",
    "size",
    "version",
    "visible",
    "when",
    "when_text",
]

#: C0 without tab and line feed, DEL, C1, soft hyphen, bidirectional controls, zero-width characters, separators,
#: annotations, byte order mark, lone surrogates, tags.
_HIDDEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ud800-\udfff\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f"
)
_RUN = re.compile(f"[{_HIDDEN}]+")
#: Names of C0.
_CONTROLS = (  # noqa: SIM905 (a list of them takes a line for each)
    "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC "
    "FS GS RS US"
).split()
_JOINERS = "\u200c\u200d"

#: Of one run of hidden characters, so many are marked one by one.
SHOWN_OF_RUN = 8

#: After so many marks, the others are plain text: a mark takes sixty times the bytes of its character.
MOST_MARKS = 2_000

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def visible(text: object) -> Markup:
    """A text as HTML with a mark for each hidden character, isolated from the text direction around it."""
    return Markup("<bdi>{}</bdi>").format(marked(text))


def marked(text: object) -> Markup:
    """As `visible`, without the isolation."""
    # A carriage return before a line feed ends a line, as the line feed alone does.
    escaped = str(escape(text)).replace("\r\n", "\n")
    if escaped.isascii() and escaped.isprintable():
        return Markup(escaped)
    marks = 0

    def mark(found: re.Match[str]) -> str:
        nonlocal marks
        run = found[0]
        if _is_joiner(escaped, found.start(), found.end()):
            return run
        names = [_name(char) for char in run[:SHOWN_OF_RUN]]
        if len(run) > SHOWN_OF_RUN:
            names.append(f"+{len(run) - SHOWN_OF_RUN:,}")
        marks += len(names)
        if marks > MOST_MARKS:
            return "".join(f"[{name}]" for name in names)
        return "".join(f'<span class="ctl">{name}</span>' for name in names)

    return Markup(_RUN.sub(mark, escaped))


def plain(text: object, length: int | None = None) -> str:
    """A text for attributes and titles: hidden characters as escapes, cut after `length` characters."""
    found = str(text)
    cut = length is not None and len(found) > length
    found = _RUN.sub(lambda run: "".join(map(_escape, run[0][:SHOWN_OF_RUN])), found[:length])
    return f"{found}…" if cut else found


def _is_joiner(text: str, start: int, end: int) -> bool:
    """Whether one joiner stands between two characters that it may join: letters of scripts that have it, or emoji."""
    if end - start != 1 or text[start] not in _JOINERS or start == 0 or end == len(text):
        return False
    return not text[start - 1].isascii() and not text[end].isascii() and not _RUN.match(text[end])


def _name(char: str) -> str:
    if char < " ":
        return _CONTROLS[ord(char)]
    return "DEL" if char == "\x7f" else f"U+{ord(char):04X}"


def _escape(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{{{ord(char):x}}}"


def segment(text: object) -> str:
    """One segment of a path of the viewer, percent-encoded, a slash too."""
    found = quote(str(text), safe="", errors="surrogatepass")
    # The ending of a path selects the form of the answer.
    return found.replace(".", "%2E") if found.endswith((".json", ".html", ".jsonl")) else found


def short(id_: object, length: int = 20) -> str:
    """An id, shortened but distinguishable on one page: a UUID up to its second dash, and its last six digits."""
    text = str(id_)
    if _UUID.fullmatch(text):
        return f"{text[:13]}…{text[-6:]}"
    return plain(text, length)


def count(number: int | float | None) -> str:
    """A number with its thousands apart, a fraction with one digit where it is small; a dash for None."""
    if number is None:
        return "–"
    return f"{number:,.1f}" if isinstance(number, float) and abs(number) < 10 else f"{number:,.0f}"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """A count with its noun."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def size(number: int | None) -> str:
    """Bytes in the largest unit that has one: ``465 bytes``, ``1.9 kB``."""
    return "–" if number is None else texts.size(number)


def duration(ms: float | None) -> str:
    """Milliseconds in their two largest units: ``0.4 ms``, ``12 ms``, ``1.24 s``, ``2 min 5 s``, ``3 d 4 h``."""
    if ms is None:
        return "–"
    if 0 < abs(ms) < 0.1:
        return "under 0.1 ms"
    if abs(ms) < 10:
        return f"{ms:.1f} ms"
    if abs(ms) < 1000:
        return f"{ms:.0f} ms"
    if abs(ms) < 60_000:
        return f"{ms / 1000:.2f} s" if abs(ms) < 10_000 else f"{ms / 1000:.1f} s"
    left, parts = int(abs(ms) // 1000), []
    for seconds, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        number, left = divmod(left, seconds)
        if number:
            parts.append(f"{number:,} {unit}")
    return ("-" if ms < 0 else "") + " ".join(parts[:2])


def when(time: str | None, form: str = "full") -> Markup:
    """A time of ISO 8601 as an element, in UTC: ``full`` with milliseconds, ``day``, ``clock``, ``minute``.

    Any other text is shown as it is.
    """
    if not time:
        return Markup('<span class="muted">–</span>')
    try:
        at = datetime.fromisoformat(time.replace("Z", "+00:00")).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return visible(time)
    full = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}"
    shown = {"full": full, "day": full[:10], "clock": full[11:], "minute": full[:16]}[form]
    return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(time, full, shown)


def shortened(text: object, length: int) -> str:
    """A text of at most `length` characters: a longer one is cut, and ends with an ellipsis."""
    found = str(text)
    return found if len(found) <= length else f"{found[: length - 1]}…"


def label(name: str) -> str:
    """The name of a figure for people: ``snapshot_bytes`` is ``Snapshot size``."""
    text = name.removesuffix("_seconds").replace("_bytes", "_size").replace("bytes", "size").replace("_", " ")
    return text[:1].upper() + text[1:]


def measured(number: object, name: str) -> str | Markup:
    """A figure in the unit that its name implies: bytes, seconds, times; numbers with separated thousands."""
    if isinstance(number, bool) or number is None:
        return "–" if number is None else "yes" if number else "no"
    if isinstance(number, (int, float)):
        if name.endswith("bytes"):
            return size(int(number))
        return duration(number * 1000) if name.endswith("seconds") else count(number)
    return when(str(number)) if name.endswith("_at") else visible(shortened(number, 200))


def namespace_name(ns: str) -> str:
    """The nodes of a namespace, and the beginning of its last task's id: ``billing / pay 2ab4``."""
    if ":" not in ns:
        return shortened(ns, 60)
    parts = [part.partition(":") for part in ns.split("|")]
    nodes = " / ".join(node for node, _, _ in parts)
    return f"{shortened(nodes, 60)} {parts[-1][2][:4]}".rstrip()


def when_text(time: str | None) -> str:
    """As `when`, as plain text."""
    return when(time).striptags()


def version(of: str | None) -> str:
    """A channel's version without its random part: the number in LangGraph's ``00…08.0.5412``."""
    text = "–" if of is None else of
    found = re.fullmatch(r"0*(\d+)\.[\d.e-]+", text)
    return found[1] if found else shortened(text, 40)
