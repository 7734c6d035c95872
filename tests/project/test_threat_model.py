"""The threat model and the tests of attacks say the same: by role, and each on the PostgreSQLs that the gate tests."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.lint

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "explanation" / "threat-model.md").read_text()

#: The page's headings, and what the marker calls these roles.
ROLES = {
    "A bug of the application": "application bug",
    "A stolen writer": "stolen writer",
    "An eraser": "eraser",
    "An auditor": "auditor",
    "A DBA with superuser": "superuser",
    "A thief of backups or disks": "thief",
    "Hostile content of a thread": "hostile content",
}

_TEST = re.compile(r"`(\w+/test_\w+\.py::test_\w+)`")


def of_page() -> Iterator[tuple[str, str]]:
    """Role and test, as often as the page names it."""
    for section in PAGE.split("\n## ")[1:]:
        role = ROLES[section.splitlines()[0]]
        yield from ((role, test) for test in _TEST.findall(section))


def of_tests() -> Iterator[tuple[str, str]]:
    """Role and test, for each marker."""
    for path in TESTS.glob("*/test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            for mark in getattr(node, "decorator_list", []):
                if ast.unparse(mark).startswith("pytest.mark.attack("):
                    assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
                    yield ast.literal_eval(mark.args[0]), f"{path.parent.name}/{path.name}::{node.name}"


def test_each_line_names_a_test() -> None:
    lines = re.findall(r"^\| (?:\*\*)?(?:can|finds|is not).*$", PAGE, re.MULTILINE)
    assert len(lines) > 50
    assert [line for line in lines if not re.search(r"`\w+/test_\w+\.py::test_\w+` \|$", line)] == []


def test_the_page_lists_the_attacks_of_each_role_and_no_others() -> None:
    assert set(of_page()) == set(of_tests())
    assert {role for role, _ in of_tests()} == set(ROLES.values())


def test_there_are_at_least_35_attacks_and_all_are_portable() -> None:
    """Tests, not counting what each is parametrized with."""
    collected = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:xdist",
            "--collect-only",
            "-m",
            "attack and portable",
            "tests",
        ],
        cwd=TESTS.parent,
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout
    found = {each.split("[")[0].removeprefix("tests/") for each in collected.splitlines() if "::test_" in each}
    assert found == {test for _, test in of_tests()}
    assert len(found) >= 35
