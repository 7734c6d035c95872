"""The app: global options, all commands, and their errors as messages and exit codes."""

from __future__ import annotations

import copy
import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Annotated, Any

import typer
from typer import Option
from typer.core import TyperGroup

from eventlog.errors import EventLogError, InvalidInputError
from eventlog.settings import Settings
from langgraph.checkpoint.eventlog.cli.commands import (
    archive,
    diff,
    erase,
    exporting,
    fence,
    follow,
    history,
    importing,
    integrity,
    log,
    receipt,
    retention,
    seals,
    show,
    threads,
    viewer,
)
from langgraph.checkpoint.eventlog.cli.render.output import printable
from langgraph.checkpoint.eventlog.cli.session import Session, configure_logging
from langgraph.checkpoint.eventlog.cli.signals import SIGNALS

__all__ = ["app", "run"]

#: In the order of the help.
COMMANDS: tuple[Callable[..., None], ...] = (
    *(log.setup, log.grant, importing.import_, threads.threads, log.partitions, threads.copy, threads.fork),
    exporting.export,
    *(show.show, history.history, diff.diff, log.stats),
    *(erase.delete, erase.prune, erase.delete_runs, erase.expire, erase.retain, retention.maintain),
    *(integrity.verify, seals.seal, seals.seals, seals.prove, follow.tail, follow.lag, integrity.rebuild),
    *(viewer.ui, viewer.mcp),
)

#: Global options that may stand after the command, too: people add them at the end of a line.
ANYWHERE = ("dsn", "schema", "as_json", "actor", "telemetry")

EPILOG = """\
Exit codes:

\b
  0    done
  1    an error of the log or the database, a failed verification, or a declined question
  2    wrong usage, or a question without a terminal to ask it on
  130  interrupted (SIGINT, Ctrl-C): run the command again to continue
  143  terminated (SIGTERM): run the command again to continue; 'tail -f', 'project run', 'maintain --every' and
       'ui', which run until they are told to end, end with 0
  141  the program that reads the output closed the pipe

Global options may stand before or after the command.
"""


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
        except KeyboardInterrupt:
            SIGNALS.finished()
            _write_error("\nInterrupted. Completed work stays: run the same command again to continue.")
            raise typer.Exit(SIGNALS.exit_code) from None
        except BrokenPipeError:
            # Python flushes at exit, which would complain about the pipe once more.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (sys.stdout, sys.stderr):
                os.dup2(nowhere, stream.fileno())
            raise typer.Exit(141) from None
        except (EventLogError, OSError) as exc:
            _write_error(f"Error: {exc}")
            raise typer.Exit(2 if isinstance(exc, InvalidInputError) else 1) from exc


def _repeated(param: Any) -> Any:
    """A global option as a command's: it counts only if it is given, and help does not repeat it."""

    def override(ctx: Any, _: Any, value: Any) -> None:
        if value not in (None, False):
            setattr(Session.of(ctx), param.name, value)

    twin = copy.copy(param)
    twin.envvar, twin.default, twin.expose_value, twin.hidden = None, None, False, True
    twin.callback = override
    return twin


def _write_error(message: str) -> None:
    # The server's messages, and those of decoders, may quote stored text.
    print("\n".join(map(printable, message.expandtabs(4).split("\n"))), file=sys.stderr)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"eventlog {metadata.version('langgraph-checkpoint-eventlog')}")
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
        Option(envvar="EVENTLOG_DSN", metavar="DSN", help="The database: a PostgreSQL URI or connection string."),
    ] = None,
    schema: Annotated[
        str, Option(envvar="EVENTLOG_SCHEMA", metavar="NAME", help="The schema that holds the log.")
    ] = str(Settings.model_fields["schema_name"].default),
    as_json: Annotated[bool, Option("--json", help="Write JSON to stdout, one document per line.")] = False,
    actor: Annotated[
        str | None,
        Option(metavar="NAME", help="The actor that the log's records name. By default the operating system's user."),
    ] = None,
    telemetry: Annotated[
        bool,
        Option(
            "--telemetry",
            envvar="EVENTLOG_TELEMETRY",
            help="Report traces and metrics through OpenTelemetry's global providers (extra otel).",
        ),
    ] = False,
    version: Annotated[
        bool, Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Inspect and maintain an event log in PostgreSQL."""
    ctx.obj = Session(dsn, schema, actor, as_json=as_json, telemetry=telemetry)


for command in COMMANDS:
    app.command(command.__name__.rstrip("_").replace("_", "-"))(command)
for group, purpose, handlers in (
    ("project", "Keep custom projections of the log up to date.", follow.PROJECT),
    ("fence", "Keep PostgresSaver away from threads that were moved to the log.", fence.FENCE),
    ("archive", "Check archives of dropped partitions.", archive.ARCHIVE),
    ("retention", "Set when 'maintain' erases threads and their history.", retention.RETENTION),
    ("receipt", "Sign and check receipts of erasures.", receipt.RECEIPT),
):
    commands = typer.Typer(name=group, cls=Group, help=purpose, no_args_is_help=True, rich_markup_mode=None)
    for name, handler in handlers.items():
        commands.command(name)(handler)
    app.add_typer(commands)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command in a process of its own; returns the exit code, or raises SystemExit with it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # An id that the terminal's encoding does not have must not end the listing.
            stream.reconfigure(errors="backslashreplace")
    configure_logging()
    SIGNALS.install()
    app(None if arguments is None else list(arguments))
    return 0
