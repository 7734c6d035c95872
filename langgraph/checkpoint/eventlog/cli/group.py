"""What all commands have in common: the global options on each, and what errors become."""

from __future__ import annotations

import copy
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from eventlog.errors import EventLogError, InvalidInputError
from langgraph.checkpoint.eventlog.cli.render.output import printable
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["Group"]

#: Global options that may stand after the command, too: people add them at the end of a line.
ANYWHERE = ("dsn", "schema", "as_json", "actor")


class Group(TyperGroup):
    """The commands, with the global options on each, and with errors as messages and exit codes."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None and not any(param.name in ANYWHERE for param in command.params):
            everywhere = ctx.find_root().command.params
            command.params.extend(_repeated(param) for param in everywhere if param.name in ANYWHERE)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EventLogError as exc:
            _complain(f"Error: {exc}")
            raise typer.Exit(2 if isinstance(exc, InvalidInputError) else 1) from exc
        except KeyboardInterrupt:
            _complain("\nInterrupted. Completed work stays: run the same command again to continue.")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            _give_up_on_output()
            raise typer.Exit(141) from None
        except OSError as exc:
            _complain(f"Error: {exc}")
            raise typer.Exit(1) from exc


def _repeated(param: Any) -> Any:
    """A global option as a command's: it says something only if it is given, and help does not repeat it."""

    def override(ctx: Any, _: Any, value: Any) -> None:
        if value not in (None, False):
            setattr(Session.of(ctx), param.name, value)

    twin = copy.copy(param)
    twin.envvar, twin.default, twin.expose_value, twin.hidden = None, None, False, True
    twin.callback = override
    return twin


def _complain(message: str) -> None:
    # The server's messages, and those of decoders, may quote what somebody stored.
    print("\n".join(map(printable, message.split("\n"))), file=sys.stderr)


def _give_up_on_output() -> None:
    """Python flushes at exit, which would complain about the pipe once more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
