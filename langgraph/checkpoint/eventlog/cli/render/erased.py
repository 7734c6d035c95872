"""What erased threads had, in a table: of many threads the largest, and the sums."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from eventlog.records import Erased
from langgraph.checkpoint.eventlog.cli.render.output import Output, plural, size

__all__ = ["MOST_NAMED", "MOST_ROWS", "Tally", "show_erased", "show_failed"]

#: Rows of a table of erased threads; the rest is counted.
MOST_ROWS = 30

#: Threads that failed are named, so many at most; the rest is counted.
MOST_NAMED = 10

COLUMNS = {"thread": "thread_id", "checkpoints": "checkpoints", "events": "events", "size": "bytes"}


class Tally:
    """Counts of threads, in memory that does not grow with them."""

    def __init__(self) -> None:
        self.threads = self.some = self.checkpoints = self.events = self.bytes = 0
        """`some`: those of which there was anything to erase."""
        self._largest: list[tuple[int, int, Erased]] = []

    def add(self, erased: Erased) -> None:
        """Count a thread."""
        self.threads += 1
        if not erased.events:
            return
        self.some += 1
        self.checkpoints += erased.checkpoints
        self.events += erased.events
        self.bytes += erased.bytes
        push = heapq.heappush if len(self._largest) < MOST_ROWS else heapq.heappushpop
        # Of threads of one size, the first.
        push(self._largest, (erased.bytes, -self.some, erased))

    @property
    def largest(self) -> list[Erased]:
        """The largest first, at most `MOST_ROWS`."""
        return [each for _, _, each in sorted(self._largest, reverse=True)]


def show_erased(output: Output, tally: Tally, *, dry: bool) -> None:
    """Write what was erased, or would be."""
    if not tally.some:
        output.say("Nothing to erase.")
        return
    output.table(COLUMNS, tally.largest)
    if tally.some > MOST_ROWS:
        output.say(f"… the {MOST_ROWS} largest of {plural(tally.some, 'thread')}")
    output.say(
        f"{'This would erase' if dry else 'Erased'} {plural(tally.checkpoints, 'checkpoint')}, "
        f"{plural(tally.events, 'event')}, {size(tally.bytes)} from {plural(tally.some, 'thread')}."
    )


def show_failed(output: Output, failed: Mapping[str, str]) -> None:
    """Name threads that could not be erased, and why."""
    for thread_id, why in list(failed.items())[:MOST_NAMED]:
        output.note(f"Thread {thread_id!r} was left as it is: {why}", "red")
    if len(failed) > MOST_NAMED:
        output.note(f"… and {plural(len(failed) - MOST_NAMED, 'other thread')}.", "red")
