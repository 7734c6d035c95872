"""The threat model names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "explanation" / "threat-model.md"
NAMED = sorted(set(re.findall(r"`(\w+/test_\w+\.py)(?:::(test_\w+))?`", PAGE.read_text())))


def test_each_line_names_a_test() -> None:
    lines = re.findall(r"^\| (?:\*\*)?(?:can|finds).*$", PAGE.read_text(), re.MULTILINE)
    assert len(lines) > 35
    assert [line for line in lines if not re.search(r"`\w+/test_\w+\.py(::test_\w+)?` \|$", line)] == []


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_each_test_of_the_page_is_there(file: str, name: str) -> None:
    assert f"def {name}" in (TESTS / file).read_text()
