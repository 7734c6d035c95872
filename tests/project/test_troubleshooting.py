"""docs/reference/troubleshooting.md: every public error is there, with a message that the code has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from eventlog import errors
from tests.project.test_docs import CHECKOUT, REFERENCE

pytestmark = pytest.mark.lint

PAGE = (REFERENCE / "troubleshooting.md").read_text()

#: Each row: error, message, cause, remedy.
ROWS = re.findall(r"^\| `(\w+)`: (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)

#: Bases of others, which no message has to show.
BASES = {"EventLogError"}


def texts(path: Path) -> list[str]:
    """The texts of a source file, with `…` for what they format in."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.append(" ".join(node.value.split()))
        elif isinstance(node, ast.JoinedStr):
            parts = [each.value if isinstance(each, ast.Constant) else "…" for each in node.values]
            found.append(" ".join("".join(map(str, parts)).split()))
    return found


def test_every_error_is_there_with_cause_and_remedy() -> None:
    assert len(ROWS) > 30
    assert set(errors.__all__) - BASES <= {name for name, *_ in ROWS}
    assert {name for name, *_ in ROWS} <= set(errors.__all__)
    assert all(cause and remedy for _, _, cause, remedy in ROWS)


def test_messages_are_those_of_the_code() -> None:
    sources = [
        text
        for package in ("eventlog", "snapshots", "projections", "langgraph")
        for path in (CHECKOUT / package).rglob("*.py")
        for text in texts(path)
    ]
    shown = {message for _, cell, *_ in ROWS for message in re.findall(r"`([^`]+)`", cell)}
    parts = {part for message in shown for part in re.split(r"\s*…\s*", message) if part}
    assert len(parts) > 30
    assert {part for part in parts if not any(part in text for text in sources)} == set()
