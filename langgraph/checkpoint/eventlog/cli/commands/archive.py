"""Archives of dropped partitions: `archive verify`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from typer import Argument, Context

from langgraph.checkpoint.eventlog.cli.render.output import plural, when
from langgraph.checkpoint.eventlog.cli.session import Session

__all__ = ["ARCHIVE"]


def verify(ctx: Context, file: Annotated[Path, Argument(metavar="FILE", help="A file that 'retain' wrote.")]) -> None:
    """Compare an archive with the record of the drop of its partition."""
    session = Session.of(ctx)
    with session.open() as log:
        found = log.verify_archive(file)
    session.documents([found])
    session.say(
        f"The file is the archive of partition {found.partition}, with {plural(found.rows, 'event')}, which "
        f"{found.dropped_by} dropped at {when(found.dropped_at)} (UTC)."
    )


ARCHIVE: dict[str, Callable[..., None]] = {"verify": verify}
