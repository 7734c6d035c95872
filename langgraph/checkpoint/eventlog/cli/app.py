"""The app: global options, what errors become, and all commands."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Annotated

import typer

from eventlog.settings import Settings
from langgraph.checkpoint.eventlog.cli.commands import (
    erase,
    history,
    project,
    rebuild,
    seal,
    show,
    stats,
    tail,
    threads,
    verify,
)
from langgraph.checkpoint.eventlog.cli.group import Group
from langgraph.checkpoint.eventlog.cli.session import Session, configure_logging

__all__ = ["app", "run"]

DISTRIBUTION = "langgraph-checkpoint-eventlog"

EPILOG = """\
Exit codes:

\b
  0    done
  1    an error of the log or the database, a failed verification, or a declined question
  2    wrong usage, or a question without a terminal to ask it on
  130  interrupted: run the command again to continue
  141  the reader of the output closed it

Global options may stand after the command, too.
"""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"eventlog {metadata.version(DISTRIBUTION)}")
        raise typer.Exit


app = typer.Typer(
    name="eventlog",
    cls=Group,
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
            help="The actor that the log's records name. By default the user of the operating system.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Inspect and maintain an event log in PostgreSQL."""
    ctx.obj = Session(dsn, schema, as_json, actor)


threads.register(app)
show.register(app)
history.register(app)
stats.register(app)
erase.register(app)
verify.register(app)
project.register(app)
seal.register(app)
tail.register(app)
rebuild.register(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command in a process of its own; returns the exit code, or raises SystemExit with it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An id that the terminal's encoding does not have must not end the listing.
            stream.reconfigure(errors="backslashreplace")
    configure_logging()
    app(None if arguments is None else list(arguments))
    return 0
