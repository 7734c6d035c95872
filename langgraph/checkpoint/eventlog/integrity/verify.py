"""Verifying the log, as a script: streams in parallel, reported in their order; then the seals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from eventlog.db.query import Parallel, Script
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError, LogCorruptedError
from eventlog.streams import Stream, storable
from langgraph.checkpoint.eventlog._arguments import count_of, ids_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog.integrity import verify_streams
from langgraph.checkpoint.eventlog.integrity.bounds import Bounds, read_bounds
from langgraph.checkpoint.eventlog.integrity.chain import Chain, Problem
from langgraph.checkpoint.eventlog.integrity.verify_code import verify_code
from langgraph.checkpoint.eventlog.integrity.verify_ends import vanished_streams
from langgraph.checkpoint.eventlog.integrity.verify_seals import Anchor, check_log, verify_names, verify_seals
from langgraph.checkpoint.eventlog.integrity.verify_streams import Range, successor
from projections.compare import Differences, RowDifference
from projections.rebuild import Rebuilder

__all__ = ["MOST_PROBLEMS", "Coverage", "OnStream", "Verified", "verify"]

#: Is called with each stream (thread and namespace) and its problems, when it and all before it are done.
OnStream = Callable[[str, str, list[Problem]], None]

#: The number of streams (or threads) that are listed at a time, and of streams that one operation verifies.
PAGE = 1_000
BATCH = 50

#: Problems that are kept; the others are counted.
MOST_PROBLEMS = 10_000


class Coverage(NamedTuple):
    """How far the latest seal covers one stream."""

    thread_id: str
    """The thread."""
    checkpoint_ns: str
    """The namespace; empty for the root graph."""
    seal: int | None
    """The number of the latest seal; None when it does not cover the stream."""
    through: int
    """The number of the last covered event; 0 without one."""
    later: int
    """Events after that."""


@dataclass(slots=True)
class Verified:
    """The result of a verification."""

    streams: int = 0
    """Verified streams."""
    events: int = 0
    """Verified events."""
    seals: int = 0
    """Verified seals; 0 when only threads were verified."""
    seal: int | None = None
    """The latest seal when the call began; None without a seal."""
    sealed_streams: int = 0
    """Streams that this seal covers."""
    sealed_events: int = 0
    """Events that this seal covers. Later events are covered by their own chains only."""
    coverage: list[Coverage] = field(default_factory=list)
    """With `thread_ids`, the coverage of each of their streams."""
    states: bool = False
    """Whether states were decoded and compared."""
    found: int = 0
    """Problems in all."""
    problems: list[Problem] = field(default_factory=list)
    """The first 10,000 problems, and the first 1,000 of each stream, by thread, namespace and number; those of the
    seals come last."""

    @property
    def later_events(self) -> int:
        """Events that the latest seal does not cover."""
        return self.events - self.sealed_events

    def add(self, problems: Iterable[Problem], found: int) -> None:
        """More of them."""
        self.found += found
        self.problems += list(problems)[: MOST_PROBLEMS - len(self.problems)]


def verify(
    context: Context,
    thread_ids: Any,
    after: Any,
    workers: Any,
    anchor: Anchor | None,
    rebuilder: Rebuilder | None,
    on_stream: OnStream | None,
) -> Script[Verified]:
    """Verify threads, or all of them.

    Args:
        anchor: a seal that was kept elsewhere.
        rebuilder: derives states, if they are to be verified.
    """
    statements = context.statements
    threads = None if thread_ids is None else sorted(ids_of(thread_ids, "thread_ids"))
    if threads == []:
        raise InvalidInputError("thread_ids must not be empty: give None to verify all threads")
    if after is not None:
        if threads is not None:
            raise InvalidInputError("give thread_ids or after, not both")
        if not isinstance(after, tuple) or len(after) != 2:
            raise InvalidInputError("after must be a tuple of thread id and namespace, as `on_stream` is told them")
        after = Stream(*(storable(each, "each of after") for each in after))
    lost: list[bytes] = []
    if anchor is not None:
        yield partial(check_log, statements, anchor)
    bounds: Bounds = yield partial(read_bounds, statements)
    verified = Verified(states=rebuilder is not None, seal=bounds.seals[-1] if bounds.seals else None)
    tells = threads is not None
    verify_range = partial(_verify_range, statements, bounds, rebuilder)
    side_by_side = partial(_side_by_side, verify_range, count_of(workers, "workers"), on_stream, verified, lost, tells)
    if threads is None:
        yield from _verify_all(statements, after, side_by_side)
    else:
        pages = [threads[start : start + PAGE] for start in range(0, len(threads), PAGE)]
        for page in pages:
            yield partial(verify_streams.require_traces, statements, page)
        for page in pages:
            yield from side_by_side([Range(Stream(each, ""), Stream(each + "\x01", "")) for each in page])
    problems: list[Problem] = yield partial(verify_code, statements)
    verified.add(problems, len(problems))
    problems = yield partial(verify_names, statements, threads)
    verified.add(problems, len(problems))
    if threads is None:
        problems = yield partial(vanished_streams, statements, lost)
        verified.add(problems, len(problems))
    if threads is None or anchor is not None:
        verified.seals, problems = yield partial(verify_seals, statements, anchor)
        verified.add(problems, len(problems))
    return verified


def _verify_all(
    statements: Statements, after: Stream | None, side_by_side: Callable[[list[Range]], Script[None]]
) -> Script[None]:
    start = Stream("", "") if after is None else successor(after)
    while True:
        page = yield partial(verify_streams.streams_to_verify, statements, start, PAGE)
        # Ranges without gaps between them, so that streams without a row in `streams` are in one of them too.
        ranges = []
        for number in range(0, len(page), BATCH):
            end = successor(page[min(number + BATCH, len(page)) - 1])
            ranges.append(Range(start, end))
            start = end
        if len(page) < PAGE:
            ranges.append(Range(start, None))
        yield from side_by_side(ranges)
        if len(page) < PAGE:
            return


def _verify_range(
    statements: Statements, bounds: Bounds, rebuilder: Rebuilder | None, range_: Range
) -> Script[list[Chain]]:
    """Verify a range's digests, then its projections and states."""
    chains: list[Chain] = yield partial(verify_streams.verify_range, statements, bounds, range_)
    projected: dict[Stream, tuple[int, list[Problem]]]
    projected = yield partial(verify_streams.compare_projections, statements, range_)
    # Rows of a stream that has no events and no row in `streams`.
    surplus = projected.keys() - {chain.tip.stream for chain in chains}
    chains = sorted([*chains, *map(Chain.without_row, surplus)], key=lambda chain: chain.tip.stream)
    for chain in chains:
        if rebuilder is not None:
            # It reports everything that `projected` has, and more.
            try:
                differences: Differences = yield partial(rebuilder.compare_stream, chain.tip.stream)
            except LogCorruptedError as exc:
                chain.problem(0, str(exc))
            else:
                # A missing row of `streams` was reported with the digests.
                rows = [each for each in differences.examples if each[2:5] != ("streams", "", "missing")]
                rest = sum(differences.counts.values()) - len(differences.examples)
                chain.add(len(rows) + rest, list(map(_problem, rows)))
                continue
        chain.add(*projected.get(chain.tip.stream, (0, [])))
    return chains


def _problem(row: RowDifference) -> Problem:
    words = [row.what, ", ".join(row.columns), f"of {row.key}" if row.table == "checkpoints" else ""]
    what = f"`{row.table}` disagrees with the log: {' '.join(filter(None, words))}"
    return Problem(row.thread_id, row.checkpoint_ns, int(row.key) if row.table == "snapshots" else 0, what)


def _coverage(chain: Chain, seal: int | None) -> Coverage:
    through = chain.sealed_through
    return Coverage(*chain.tip.stream, seal if through else None, through, chain.count - chain.covered)


def _side_by_side(
    verify_range: Callable[[Range], Script[list[Chain]]],
    workers: int,
    on_stream: OnStream | None,
    verified: Verified,
    lost: list[bytes],
    tells: bool,
    ranges: list[Range],
) -> Script[None]:
    """Verify ranges; each is reported when all before it are done.

    Args:
        tells: whether to report the coverage of each stream by seals.
    """
    done: dict[int, list[Chain]] = {}
    told = 0

    def tell(number: int, chains: list[Chain]) -> None:
        nonlocal told
        done[number] = chains
        while told in done:
            for chain in done.pop(told):
                verified.streams += 1
                verified.events += chain.count
                verified.sealed_streams += chain.sealed_through > 0
                verified.sealed_events += chain.covered
                if tells:
                    verified.coverage.append(_coverage(chain, verified.seal))
                verified.add(chain.problems, chain.found)
                if chain.is_lost and chain.tip.name is not None:
                    lost.append(chain.tip.name)
                if on_stream is not None:
                    on_stream(*chain.tip.stream, chain.problems)
            told += 1

    yield Parallel([verify_range(each) for each in ranges], workers, tell)
