"""What the command writes: results to stdout, for people or as JSON lines; everything else to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich import box, filesize
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

__all__ = ["Output", "is_interactive", "plural", "printable", "size", "span", "when"]

#: Rows of a table of what was erased; the rest is counted.
MOST_ROWS = 30

#: No terminal, no width: what reads a pipe wants whole ids.
UNBOUNDED = 100_000


class _Console(Console):
    """A console that leaves it to the command what a broken pipe means."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def is_interactive() -> bool:
    """Whether somebody is there to read a question and to answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


class Output:
    """The two streams of one run.

    Args:
        as_json: write results as JSON, one document per line.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.out = _console(stderr=False)
        self.err = _console(stderr=True)

    def document(self, **fields: Any) -> None:
        """Write one line of JSON, at once: what was done is on record, whatever comes after."""
        sys.stdout.write(json.dumps(fields, default=_plain) + "\n")
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """Write a line of the result, for people."""
        _say(self.out, text)

    def note(self, text: str, style: str = "") -> None:
        """Write a line that is not part of the result."""
        _say(self.err, text, style)

    def lines(self, lines: Iterable[tuple[int, Text]]) -> None:
        """Write lines of the result: how far each is moved to the right, and its text, made `printable` already."""
        for indent, text in lines:
            if self.out.is_terminal:
                # What is folded stays under its own beginning; on a narrow terminal there must be room for it.
                self.out.print(Padding.indent(text, min(2 * indent, self.out.width // 2)), overflow="fold")
            else:
                # Not through rich, which takes a third of a millisecond for each.
                sys.stdout.write(f"{'  ' * indent}{text.plain}\n")
        sys.stdout.flush()

    def trees(self, trees: Iterable[Tree]) -> None:
        """Write trees of texts, made `printable` already."""
        for tree in trees:
            self.out.print(tree)

    def table(
        self,
        columns: Mapping[str, bool],
        rows: Sequence[Sequence[str]],
        *,
        aside: bool = False,
        whole: Collection[str] = (),
    ) -> None:
        """Write a table.

        Args:
            columns: headings, and whether the column holds numbers.
            rows: of texts, which are shown as they are but for what would control a terminal.
            aside: to stderr, as it is not the result.
            whole: columns that are not folded: what somebody copies, or what is read at a glance.
        """
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
        for heading, is_number in columns.items():
            table.add_column(
                heading,
                justify="right" if is_number else "left",
                overflow="fold",
                no_wrap=is_number or heading in whole,
                min_width=4,
            )
        for row in rows:
            # Texts, not strings: an id may look like rich's markup.
            table.add_row(*(Text(printable(cell)) for cell in row))
        (self.err if aside else self.out).print(table)

    def confirm(self, question: str) -> None:
        """Go on only if somebody says yes.

        Raises:
            typer.Exit: with 1 when the answer is another one.
        """
        self.err.print(Text(f"{question} [y/N] "), end="", soft_wrap=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            self.note("Declined: nothing was changed.")
            raise typer.Exit(1)

    @contextmanager
    def progress(self, doing: str, total: int | None, units: str = "threads") -> Iterator[Callable[[], None]]:
        """Show on a terminal how far something is; yields what to call after each.

        Args:
            doing: what is being done.
            total: how many there will be, if that is known.
            units: of what.
        """
        if not self._shows_progress:
            yield lambda: None
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        progress = Progress(
            *columns,
            TextColumn(units),
            TimeElapsedColumn(),
            console=self.err,
            transient=True,
            # Results go to stdout as they are, which rich would send through stderr's console.
            redirect_stdout=False,
        )
        with progress:
            task = progress.add_task(doing, total=total)
            yield lambda: progress.advance(task)

    @contextmanager
    def measure(self, doing: str, units: str) -> Iterator[Callable[[int, int, float, float | None], None]]:
        """As `progress`, where the rate is known: yields what to call with done, total, rate and seconds left."""
        if not self._shows_progress:
            yield lambda done, total, rate, left: None
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        progress = Progress(
            *columns, TextColumn("{task.fields[rate]}"), console=self.err, transient=True, redirect_stdout=False
        )
        with progress:
            task = progress.add_task(doing, total=None, rate=units)

            def update(done: int, total: int, rate: float, left: float | None) -> None:
                rest = "" if left is None else f", {_clock(left)} left"
                progress.update(task, completed=done, total=total, rate=f"{units}, {rate:,.0f}/s{rest}")

            yield update

    @property
    def _shows_progress(self) -> bool:
        # Lines of JSON on the same terminal are as good a sign of life.
        return self.err.is_terminal and not (self.as_json and self.out.is_terminal)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _console(*, stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = UNBOUNDED
    return console


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(text, style), soft_wrap=True)


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")


def printable(text: str) -> str:
    """A text on one line, in which what would control a terminal is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size(count: int) -> str:
    """A size in bytes, for people."""
    return filesize.decimal(count)


def when(at: datetime | None) -> str:
    """A time in UTC, for people: without its time of day where that is midnight."""
    if at is None:
        return "-"
    at = at.astimezone(timezone.utc)
    is_midnight = at == at.replace(hour=0, minute=0, second=0, microsecond=0)
    return at.strftime("%Y-%m-%d" if is_midnight else "%Y-%m-%d %H:%M:%S")


def span(length: timedelta) -> str:
    """A duration for people, in its two largest units."""
    hours, minutes = divmod(int(length.total_seconds()) // 60, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{n}{unit}" for n, unit in ((days, "d"), (hours, "h"), (minutes, "m")) if n]
    return " ".join(parts[:2]) or "0m"


def plural(count: int, noun: str) -> str:
    """A count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
