"""Texts of the viewer's pages: everything is escaped, and what readers would not see is marked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph.checkpoint.eventlog.ui import text


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("plain", "plain"),
        ("<b>\"'&", "&lt;b&gt;&#34;&#39;&amp;"),
        ("two\r\nlines\there", "two\nlines\there"),
        ("\x1b[31m", '<span class="ctl">ESC</span>[31m'),
        ("\x00\x7f", '<span class="ctl">NUL</span><span class="ctl">DEL</span>'),
        ("\u202efdp", '<span class="ctl">U+202E</span>fdp'),
        ("\ud800", '<span class="ctl">U+D800</span>'),
        ("a\u200db", 'a<span class="ctl">U+200D</span>b'),
        ("👩\u200d👧", "👩\u200d👧"),
        ("\u0646\u200c\u062e", "\u0646\u200c\u062e"),
        ("\u200b" * 10, '<span class="ctl">U+200B</span>' * 8 + '<span class="ctl">+2</span>'),
    ],
)
def test_hidden_characters_are_marked(given_text: str, shown: str) -> None:
    assert text.marked(given_text) == shown
    assert text.visible(given_text) == f"<bdi>{shown}</bdi>"


def test_a_text_of_nothing_but_hidden_characters_stays_small() -> None:
    assert len(text.marked("\u200ba" * 100_000)) < 2_000_000


@given(st.text(st.characters()))
def test_no_text_becomes_markup(given_text: str) -> None:
    shown = str(text.marked(given_text))
    left = shown.replace('<span class="ctl">', "").replace("</span>", "")
    assert "<" not in left
    assert '"' not in left
    shown.encode()
    text.plain(given_text).encode()


@pytest.mark.parametrize(
    ("id_", "segment"),
    [
        ("a/b?c#d%2F", "a%2Fb%3Fc%23d%252F"),
        ("order-1043", "order-1043"),
        ("report.json", "report%2Ejson"),
        ("é\u202e", "%C3%A9%E2%80%AE"),
    ],
)
def test_ids_are_encoded_as_one_segment_of_a_path(id_: str, segment: str) -> None:
    assert text.segment(id_) == segment


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1_900, "1.9 kB"), (999_950, "1.0 MB"), (None, "–")],
)
def test_sizes_are_in_the_largest_unit(number: int | None, shown: str) -> None:
    assert text.size(number) == shown


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (0.41, "0.4 ms"),
        (12, "12 ms"),
        (1_240, "1.24 s"),
        (12_400, "12.4 s"),
        (125_000, "2 min 5 s"),
        (3 * 86_400_000 + 4 * 3_600_000 + 60_000, "3 d 4 h"),
        (-90_000, "-1 min 30 s"),
        (None, "–"),
    ],
)
def test_durations_are_in_two_units(ms: float | None, shown: str) -> None:
    assert text.duration(ms) == shown


def test_times_are_elements_in_utc() -> None:
    time, shown = "2026-11-30T06:37:34.123+02:00", "2026-11-30 04:37:34.123"
    assert text.when(time) == f'<time datetime="{time}" title="{shown} UTC">{shown}</time>'
    assert text.when_text("2026-11-30T04:37:34Z") == "2026-11-30 04:37:34.000"
    assert text.when("<soon>") == "<bdi>&lt;soon&gt;</bdi>"


def test_uuids_are_short_and_other_ids_are_cut() -> None:
    assert text.short("1f1e6757-2d1c-6b02-8002-99d6592a4974") == "1f1e6757-2d1c…2a4974"
    assert text.short("x" * 30) == "x" * 20 + "…"


def test_namespaces_name_their_nodes() -> None:
    assert text.namespace_name("refund:1f1e6757-2d1c") == "refund 1f1e"
    assert text.namespace_name("a:1111-2|b:2222-3") == "a / b 2222"
