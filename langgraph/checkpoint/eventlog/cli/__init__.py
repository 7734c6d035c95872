"""The `eventlog` command (extra ``cli``): an event log's threads and partitions, looked at and looked after.

Importing this package imports neither typer nor rich: without them, `main` says what to install.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

#: What the extra brings.
EXTRA = ("rich", "typer")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code, or raises SystemExit with it.

    Args:
        arguments: those of the process by default.
    """
    try:
        from langgraph.checkpoint.eventlog.cli.app import run
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in EXTRA:
            raise
        print("eventlog needs more packages: pip install 'langgraph-checkpoint-eventlog[cli]'", file=sys.stderr)
        return 1
    return run(arguments)
