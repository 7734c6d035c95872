"""Options and arguments that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

__all__ = [
    "After",
    "Allow",
    "DryRun",
    "Filters",
    "Full",
    "Interval",
    "Key",
    "Namespace",
    "Thread",
    "Threads",
    "Trust",
    "Yes",
]

Thread = Annotated[str, Argument(metavar="THREAD", help="The thread's id.")]
Threads = Annotated[list[str] | None, Argument(metavar="THREAD", help="The threads' ids.")]
Namespace = Annotated[
    str | None, Option("--ns", metavar="NAMESPACE", help="A subgraph's namespace; '' is the root graph.")
]
After = Annotated[
    str | None, Option(metavar="CURSOR", help="Start after the event with this cursor. By default at the beginning.")
]
Filters = Annotated[
    list[str] | None,
    Option(
        "--filter",
        metavar="KEY=VALUE",
        help="Only threads with a checkpoint that has this in its metadata: user_id=ada, step=3, ok=true, or the text "
        "'id=\"3\"'. May be repeated: one checkpoint must have all.",
    ),
]
Interval = Annotated[
    str | None,
    Option(
        metavar="day|week|month",
        help="The time span of a partition. Stored in the database; month at first.",
    ),
]

Key = Annotated[Path | None, Option(metavar="FILE", help="The signer's Ed25519 public key, a PEM file.")]

# --- showing and loading values

Full = Annotated[bool, Option("--full", help="Show long values in full, and LangGraph's own channels.")]
Allow = Annotated[
    list[str] | None,
    Option(metavar="MODULE:CLASS", help="Load values of this class too, which runs its code. May be repeated."),
]
Trust = Annotated[bool, Option("--trust", help="Load values of any class that the data names, which runs its code.")]

# --- erasing

DryRun = Annotated[bool, Option("--dry-run", help="Show what the command would erase; change nothing.")]
Yes = Annotated[bool, Option("--yes", "-y", help="Do not ask for confirmation.")]
