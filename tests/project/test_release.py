"""The checklist of a release finds what it is to find. `make release-check` carries it out."""

from __future__ import annotations

from importlib import metadata

import pytest

from tests.project.release import CHECKS, licence_problems, read_first, version_problems
from tests.project.test_wheel import CHECKOUT

pytestmark = pytest.mark.lint

UNRELEASED = "# Changelog\n\n## [Unreleased]\n\nVersion 0.2.0 will be faster.\n\n## [0.1.0] - 2026-12-01\n"
RELEASED = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2027-01-31\n"
NOT_YET = "Version 0.2.0 is not released yet"


@pytest.mark.parametrize(
    ("changelog", "readme", "is_final", "problems"),
    [
        (UNRELEASED, NOT_YET, False, 0),
        (RELEASED, "", True, 0),
        (RELEASED, "", False, 0),
        (UNRELEASED, NOT_YET, True, 2),
        (RELEASED, NOT_YET, False, 1),
        (UNRELEASED, "Version 0.1.0 is not released yet", False, 1),
        (UNRELEASED.replace("0.2.0", "0.3.0"), NOT_YET, False, 1),
        ("# Changelog\n", NOT_YET, False, 1),
    ],
)
def test_version_changelog_and_readme_must_agree(changelog: str, readme: str, is_final: bool, problems: int) -> None:
    assert len(list(version_problems("0.2.0", changelog, readme, is_final=is_final))) == problems


def test_version_changelog_and_readme_agree_now() -> None:
    version = metadata.version("langgraph-checkpoint-eventlog")
    changelog = (CHECKOUT / "CHANGELOG.md").read_text()
    assert list(version_problems(version, changelog, read_first(), is_final=False)) == []


def test_licences_that_are_unknown_or_not_allowed_are_named() -> None:
    found = {"a": ["MIT"], "b": ["BSD-3-Clause"], "c": ["GPL-3.0-only"], "d": [], "e": ["Apache Software License"]}
    assert list(licence_problems(found)) == ["c: GPL-3.0-only", "d does not say its licence"]


def test_the_list_for_contributors_names_each_check() -> None:
    """In CONTRIBUTING.md, but for the versions of Python."""
    text = (CHECKOUT / "CONTRIBUTING.md").read_text()
    names = {check.name.partition(" on Python")[0] for check in CHECKS}
    assert {name for name in names if name not in text} == set()
