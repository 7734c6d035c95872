"""The `eventlog` command (extra ``cli``): an event log's threads and partitions, looked at and looked after.

Importing this package imports neither typer nor rich: without them, `main` says what to install.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with the process's arguments, or these; returns the exit code, or raises SystemExit with it."""
    try:
        from langgraph.checkpoint.eventlog.cli.app import run
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in ("rich", "typer"):
            raise
        print("eventlog needs more packages: pip install 'langgraph-checkpoint-eventlog[cli]'", file=sys.stderr)
        return 1
    return run(arguments)
