"""docs/reference/cli*.md: every command with its usage, its options as its help has them, and examples that run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import COMMANDS, GROUP, clean_environment, eventlog
from tests.cli.examples import NOT_RUN, make_log, make_source, masked, run
from tests.cli.reference import commands, rows, usage
from tests.project.test_docs import FENCE, REFERENCE, blocks, folder, new_roles

__all__ = ["clean_environment", "folder", "new_roles"]  # fixtures

PAGES = sorted(REFERENCE.glob("cli*.md"))
WITH_EXAMPLES = [page for page in PAGES if any(each.language == "console" for each in blocks(page))]


def sections() -> dict[str, str]:
    """The pages' text under each heading, without the headings below it."""
    found = {}
    for page in PAGES:
        # A comment of a shell is no heading.
        text = FENCE.sub(lambda match: re.sub("^#", " #", match[0], flags=re.MULTILINE), page.read_text())
        for heading, below in re.findall(r"^##+ ([^\n]+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL):
            found[heading.strip("`")] = below
    return found


def table(text: str) -> dict[str, str]:
    """The rows of a section's table in plain words: what stands between backticks, without links."""
    found = {}
    for name, meaning in re.findall(r"^\| (`-*\w.*?`) \| (.+) \|$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", meaning)
        found[name.replace("`", "").replace("\\|", "|")] = plain.replace("`", "").replace("\\|", "|")
    return found


def test_every_command_is_documented_as_its_help_has_it() -> None:
    """Each in a section of its own, with its usage, an example, and all that it takes, and nothing else."""
    text = sections()
    named = {heading for heading in text if heading.split(" ")[0] in COMMANDS}
    assert named == {name for name, _ in commands()}
    for name, command in commands():
        if hasattr(command, "commands"):
            continue
        of_group = table(text[name.split(" ")[0]])
        found = of_group | table(text[name]) if " " in name else of_group
        assert f"```text\n{usage(name, command)}\n```" in text[name], usage(name, command)
        assert f"$ eventlog {name}" in text[name], name
        for option, meaning in rows(command).items():
            assert _unquoted(found[option]).startswith(_unquoted(meaning)), f"{name}: | `{option}` | {meaning} |"
        known = _options(command) | _options(GROUP) | {"--help"}
        shown = set(re.findall(r"^\| `(--[a-z-]+)", text[name], re.MULTILINE))
        assert shown <= known, name


def _unquoted(text: str) -> str:
    """Quotes of the help are backticks on the page."""
    return text.replace("'", "")


def _options(command: Any) -> set[str]:
    return {each for param in command.params for each in param.opts}


def test_global_options_are_documented_as_the_help_has_them() -> None:
    found = table(sections()["Global options"])
    for option, meaning in rows(GROUP).items():
        assert _unquoted(found[option]).startswith(_unquoted(meaning)), f"| `{option}` | {meaning} |"


def test_every_exit_code_is_documented() -> None:
    codes = re.findall(r"^    (\d+) ", eventlog(None, "--help").stdout, re.MULTILINE)
    assert re.findall(r"^\| (\d+) \|", sections()["Exit codes"], re.MULTILINE) == codes


@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=lambda page: page.stem)
def test_examples_run(
    page: Path,
    new_roles: None,
    timed_uri: str,
    database_uri: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In order, on one log: each writes what stands beneath it. A line `…` stands for any lines."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    make_log(timed_uri, folder)
    make_source(database_uri)
    ran = 0
    for block in blocks(page):
        if block.language != "console":
            continue
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE):
            program, *arguments = shlex.split(command)
            if program != "eventlog" or arguments[0] in NOT_RUN:
                continue
            found = masked(run(command, timed_uri, database_uri))
            pattern = "".join(
                r"(?:.*\n)*?" if line == "…" else f"{re.escape(line)}\n" for line in masked(expected).split("\n")
            )
            assert re.fullmatch(pattern, f"{found}\n"), f"{page.name}:{block.line}: {command}\n{found}"
            ran += 1
    assert ran
