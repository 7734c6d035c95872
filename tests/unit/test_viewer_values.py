"""Values of the viewer's pages as HTML."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langgraph.checkpoint.eventlog.ui import values

#: The elements that values consist of.
ELEMENTS = {"span", "bdi", "ul", "li", "details", "summary", "div", "pre", "code", "ins", "del"}

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(st.characters()), inner, max_size=5),
    max_leaves=40,
)


class Checked(HTMLParser):
    """Fails on any other element or attribute, and on elements that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ELEMENTS, tag
        assert {name for name, _ in attrs} <= {"class", "open"}, attrs
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def text_of(html: str) -> str:
    parser = Checked()
    parser.feed(str(html))
    parser.close()
    assert not parser.open
    return parser.text


@given(TREES)
def test_any_tree_is_well_formed(tree: Any) -> None:
    html = str(values.value(tree))
    text_of(html)
    html.encode()


def test_short_values_stand_on_one_line() -> None:
    assert text_of(values.value({"city": "SF", "days": [1, 2]})) == '{city "SF", days [1, 2]}'
    assert text_of(values.value({"$type": "app.notes.Note", "text": "asked"})) == 'Note(text "asked")'
    assert text_of(values.value(None)) == "null"
    assert text_of(values.value("3")) == '"3"'


def test_long_values_are_lists_that_fold_up() -> None:
    html = values.value({f"key {number}": "x" * 20 for number in range(40)})
    assert html.startswith("<details><summary>")
    assert "40 fields" in html
    assert html.count("<li>") == 40


def test_what_was_left_out_is_said() -> None:
    html = values.value([*(["x" * 60] * 3), {"$type": "left out", "why": "100 more items"}])
    assert '<span class="cut"><bdi>100 more items</bdi></span>' in html


def test_deep_values_end_as_json() -> None:
    tree: Any = "end"
    for level in range(100):
        tree = {"level": [level, tree, "x" * 80]}
    html = values.value(tree)
    text_of(html)
    assert html.count("<details") < 30
    assert "end" in html


def test_long_texts_fold_up_with_their_length() -> None:
    html = values.value("word " * 10_000)
    assert html.startswith('<details class="long">')
    assert "50,000 characters" in html


@pytest.mark.parametrize(
    ("path", "shown"),
    [(["messages", 2, "content"], "messages[2].content"), ([], ""), ([0, "a"], "[0].a")],
)
def test_paths_are_written_as_people_do(path: list[str | int], shown: str) -> None:
    assert values.path_text(path) == shown


def test_texts_that_are_alike_are_compared_word_by_word() -> None:
    html = str(values.TextDifferences()("the lamp is <broken>", "the lamp is <fixed>"))
    assert "<del>broken</del><ins>fixed</ins>" in html
    assert "&lt;" in html
    assert values.TextDifferences()("one thing", "quite another one") is None
    assert values.TextDifferences()("text", 3) is None


def test_previews_are_one_line() -> None:
    assert values.preview({"question": "Is it\nso?"}) == "Is it so?"
    assert values.preview({"question": "So?", "amount": 3}) == "So? …"
    assert values.preview({"a": 1, "b": "x"}) == json.dumps({"a": 1, "b": "x"})
    assert values.preview("x" * 500) == "x" * 159 + "…"


def test_a_large_value_is_shown_in_part() -> None:
    tree = {f"key {number}": [{"id": each, "text": "x" * 80} for each in range(100)] for number in range(100)}
    html = values.value(tree, 1_000)
    text_of(html)
    assert values.is_cut(html)
    assert html.count("<li>") < 1_300
    assert not values.is_cut(values.value(tree, None))
    assert values.value(tree, None).count("x" * 80) == 10_000
