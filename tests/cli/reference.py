"""The command's help as the reference pages have it: usage lines and rows of options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from tests.cli.command import COMMANDS, GROUP

__all__ = ["commands", "rows", "usage"]


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its name, those of groups as ``project run``; the groups themselves come first."""
    for name, command in COMMANDS.items():
        yield name, command
        for below, each in getattr(command, "commands", {}).items():
            yield f"{name} {below}", each


def usage(name: str, command: Any) -> str:
    """The usage line of its help."""
    context = click.Context(command, info_name=f"eventlog {name}", max_content_width=1_000, terminal_width=1_000)
    # Typer puts braces around what is required, from one of its versions on.
    return str(command.get_usage(context)).removeprefix("Usage: ").replace("{", "").replace("}", "")


def rows(command: Any) -> dict[str, str]:
    """Each argument and option as its row of the table names it, with what the row says in plain words."""
    found = {}
    for param in command.params:
        if getattr(param, "hidden", False):
            continue
        is_argument = param.param_type_name == "argument"
        if is_argument:
            name = param.metavar or param.name.upper()
        else:
            metavar = "" if getattr(param, "is_flag", False) else f" {param.metavar}"
            name = ", ".join([*(f"{each}{metavar}" if each.startswith("--") else each for each in param.opts)])
        text = param.help
        if param.required and not is_argument:
            text = f"{text} Required."
        elif not (param.default is None or callable(param.default) or param.default in (False, "", ())):
            text = f"{text} Default: {param.default}."
        if envvar := getattr(param, "envvar", None):
            text = f"{text} Environment: {envvar}."
        found[name] = text
    if command is GROUP:
        found["-h, --help"] = "Show the command's help and exit."
    return found
