"""The app: global options, what errors become, and all commands."""

from __future__ import annotations

import copy
import io
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from eventlog.errors import EventLogError, InvalidInputError
from eventlog.settings import Settings
from langgraph.checkpoint.eventlog.cli import _auditing, _erasing, _looking, _showing, _stats, _verifying
from langgraph.checkpoint.eventlog.cli._output import printable
from langgraph.checkpoint.eventlog.cli._session import Session, configure_logging

__all__ = ["app", "run"]

DISTRIBUTION = "langgraph-checkpoint-eventlog"

#: Global options that may stand after the command, too: people add them at the end of a line.
ANYWHERE = ("dsn", "schema", "as_json", "actor")

EPILOG = """\
Exit codes:

\b
  0    done
  1    an error of the log or of the database, something that does not fit, or you declined
  2    wrong usage; also: to be asked, but there is no terminal
  130  interrupted: run it again to go on
  141  what reads the output has gone

Global options may stand after the command, too.
"""


class _Group(TyperGroup):
    """The commands, with the global options on each, and with errors as messages and exit codes."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is not None and not any(param.name in ANYWHERE for param in command.params):
            command.params.extend(_repeated(param) for param in self.params if param.name in ANYWHERE)
        return command

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EventLogError as exc:
            _complain(f"Error: {exc}")
            raise typer.Exit(2 if isinstance(exc, InvalidInputError) else 1) from exc
        except KeyboardInterrupt:
            _complain("\nInterrupted. What was done stays done; run the same command again to go on.")
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


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"eventlog {metadata.version(DISTRIBUTION)}")
        raise typer.Exit


app = typer.Typer(
    name="eventlog",
    cls=_Group,
    add_completion=False,
    no_args_is_help=True,
    # Plain help and plain errors: boxes break messages, and locals in a traceback would show the connection string.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(epilog=EPILOG)
def eventlog(
    ctx: typer.Context,
    dsn: Annotated[
        str | None,
        typer.Option(
            "--dsn",
            envvar="EVENTLOG_DSN",
            metavar="DSN",
            show_default=False,
            help="The database: a PostgreSQL URI or connection string.",
        ),
    ] = None,
    schema: Annotated[
        str, typer.Option("--schema", envvar="EVENTLOG_SCHEMA", metavar="NAME", help="The schema that holds the log.")
    ] = str(Settings.model_fields["schema_name"].default),
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout, one document per line.")] = False,
    actor: Annotated[
        str | None,
        typer.Option(
            "--actor",
            metavar="NAME",
            show_default=False,
            help="On whose behalf, for the log's records. By default the user of the operating system.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Look at an event log in PostgreSQL, and look after it."""
    ctx.obj = Session(dsn, schema, as_json, actor)


_showing.register(app)
_looking.register(app)
_auditing.register(app)
_stats.register(app)
_erasing.register(app)
_verifying.register(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command in a process of its own; returns the exit code, or raises SystemExit with it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An id that the terminal's encoding does not have must not end the listing.
            stream.reconfigure(errors="backslashreplace")
    configure_logging()
    app(None if arguments is None else list(arguments))
    return 0
