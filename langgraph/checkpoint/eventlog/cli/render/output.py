"""The output of the command: results to stdout, for people or as JSON lines; everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import typer
from rich import box
from rich.console import Console
from rich.filesize import decimal as size
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from eventlog.events import Cursor

__all__ = ["Columns", "Output", "fields_of", "is_interactive", "plural", "printable", "size", "span", "when"]

#: Headings, and for each the attribute of a row (a size, if its name has the word bytes), or a function of the row.
Columns: TypeAlias = Mapping[str, str | Callable[[Any], Any]]

#: No terminal, no width: what reads a pipe wants whole ids.
UNBOUNDED = 100_000


class _Console(Console):
    """A console that leaves it to the command what a broken pipe means."""

    def __init__(self, *, stderr: bool) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)
        if not self.is_terminal:
            self.width = UNBOUNDED

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def is_interactive() -> bool:
    """Whether a question can be shown and answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class Output:
    """The two streams of one run. With `as_json`, `document` and `documents` write results, else the other methods."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out = _Console(stderr=False)
        self.err = _Console(stderr=True)

    def aside(self) -> Output:
        """An output for people on stderr, for results that are only asked about."""
        output = Output(as_json=False)
        output.out = self.err
        return output

    def document(self, **fields: Any) -> None:
        """Write one line of JSON, at once, so that a later failure does not lose it."""
        if self.as_json:
            sys.stdout.write(json.dumps(fields, default=_json_value) + "\n")
            sys.stdout.flush()

    def documents(self, rows: Iterable[Any]) -> None:
        """Write a line of JSON for each named tuple or dataclass."""
        for row in rows if self.as_json else ():
            self.document(**fields_of(row))

    def say(self, text: str) -> None:
        """Write a line of the result, made `printable`."""
        if not self.as_json:
            self.out.print(Text(printable(text)), soft_wrap=True)

    def note(self, text: str, style: str = "") -> None:
        """Write a line that is not part of the result, with JSON too, made `printable`."""
        self.err.print(Text(printable(text), style), soft_wrap=True)

    def lines(self, lines: Iterable[tuple[int, Text]]) -> None:
        """Write indented lines of `printable` text: (level, text)."""
        for indent, text in () if self.as_json else lines:
            if self.out.is_terminal:
                # A folded line stays under its own beginning; on a narrow terminal there must be room for it.
                self.out.print(Padding.indent(text, min(2 * indent, self.out.width // 2)), overflow="fold")
            else:
                # Not through rich, which takes a third of a millisecond for each.
                sys.stdout.write(f"{'  ' * indent}{text.plain}\n")
        sys.stdout.flush()

    def table(self, columns: Columns, rows: Iterable[Any], *, whole: Collection[str] = ()) -> None:
        """Write a table: numbers to the right, sizes and times written out, control characters escaped.

        Args:
            whole: columns that are not folded, because they are copied or read at a glance.
        """
        if self.as_json:
            return
        cells = [[_cell(row, column) for column in columns.values()] for row in rows]
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
        for index, heading in enumerate(columns):
            is_number = any(row[index][1] for row in cells)
            table.add_column(
                heading,
                justify="right" if is_number else "left",
                overflow="fold",
                no_wrap=is_number or heading in whole,
                min_width=4,
            )
        for row in cells:
            # Texts, not strings: an id may look like rich's markup.
            table.add_row(*(Text(printable(text)) for text, _ in row))
        self.out.print(table)

    def confirm(self, question: str) -> None:
        """Go on only after a yes; any other answer ends the command with 1."""
        self.err.print(Text(f"{question} [y/N] "), end="", soft_wrap=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            self.note("Declined: nothing was changed.")
            raise typer.Exit(1)

    @contextmanager
    def progress(self, doing: str, total: int | None, units: str) -> Iterator[Callable[..., None]]:
        """Show a bar on a terminal; yields rich's update: ``advance=``, or ``completed=``, ``total=``, ``units=``."""
        # Lines of JSON on the same terminal are as good a sign of life.
        if not self.err.is_terminal or (self.as_json and self.out.is_terminal):
            yield lambda **fields: None
            return
        columns = (SpinnerColumn(), "{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[units]}")
        times = (TimeElapsedColumn(), TimeRemainingColumn(compact=True))
        # Results go to stdout as they are, which rich would send through stderr's console.
        with Progress(*columns, *times, console=self.err, transient=True, redirect_stdout=False) as progress:
            task = progress.add_task(doing, total=total, units=units)
            yield lambda **fields: progress.update(task, **fields)


def fields_of(row: Any) -> dict[str, Any]:
    """The fields of a named tuple or a dataclass, with those of the named tuples in it; cursors as text."""
    fields = row._asdict() if hasattr(row, "_asdict") else asdict(row)
    return {name: _field(value) for name, value in fields.items()}


def _field(value: Any) -> Any:
    if isinstance(value, Cursor):
        return str(value)
    if isinstance(value, list):
        return [_field(each) for each in value]
    return fields_of(value) if hasattr(value, "_asdict") else value


def _cell(row: Any, column: str | Callable[[Any], Any]) -> tuple[str, bool]:
    """A cell's text, and whether it is a number."""
    value = getattr(row, column) if isinstance(column, str) else column(row)
    if isinstance(value, int):
        is_size = isinstance(column, str) and "bytes" in column.split("_")
        return size(value) if is_size else f"{value:,}", True
    return when(value) if value is None or isinstance(value, datetime) else str(value), False


def _json_value(value: object) -> object:
    """A value that JSON does not have: times in UTC, seconds, hexadecimal digits."""
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def printable(text: str) -> str:
    """A text on one line, with the characters that control a terminal escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def when(at: datetime | None) -> str:
    """A time in UTC, for people, to the millisecond: without its time of day where that is midnight."""
    if at is None:
        return "-"
    text = at.astimezone(timezone.utc).isoformat(" ", "milliseconds")
    return text.removesuffix("+00:00").removesuffix(" 00:00:00.000")


def span(length: timedelta) -> str:
    """A duration for people, in its two largest units."""
    hours, minutes = divmod(int(length.total_seconds()) // 60, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{n}{unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if n]
    return " ".join(parts[:2]) or "0m"


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
