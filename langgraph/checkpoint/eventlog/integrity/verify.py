"""Verifying the log, as a script: streams side by side, told of in their order; then the seals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

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

__all__ = ["MOST_PROBLEMS", "OnStream", "Verified", "verify"]

#: Told of each stream (thread and namespace) when it and all before it are done, and what does not fit in it.
OnStream = Callable[[str, str, list[Problem]], None]

#: Streams, or threads, that are looked for at a time, and how many of the streams one operation verifies.
PAGE = 1_000
BATCH = 50

#: Problems that are kept; the others are counted.
MOST_PROBLEMS = 10_000


@dataclass(slots=True)
class Verified:
    """What verifying found."""

    streams: int = 0
    events: int = 0
    seals: int = 0
    """Those that were verified: none where only threads were asked for."""
    states: bool = False
    """Whether states were decoded and compared with their digests, and with what is derived from them."""
    found: int = 0
    """How many problems there are. None: the log is whole."""
    problems: list[Problem] = field(default_factory=list)
    """By thread, namespace and number, then those of the database's code, those of the seals last: the first 10,000,
    and 1,000 of each stream."""

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
        rebuilder: derives states, where they are to be verified.
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
    verified = Verified(states=rebuilder is not None)
    lost: list[bytes] = []
    if anchor is not None:
        yield partial(check_log, statements, anchor)
    bounds: Bounds = yield partial(read_bounds, statements)
    verify_range = partial(_verify_range, statements, bounds, rebuilder)
    side_by_side = partial(_side_by_side, verify_range, count_of(workers, "workers"), on_stream, verified, lost)
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
        # Ranges without gaps between them: what has no row in `streams` is in one of them too.
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
    """A range's digests; then its projections, and with them its states."""
    chains: list[Chain] = yield partial(verify_streams.verify_range, statements, bounds, range_)
    projected: dict[Stream, tuple[int, list[Problem]]]
    projected = yield partial(verify_streams.compare_projections, statements, range_)
    # Rows of a stream that has no events and no row in `streams`.
    surplus = projected.keys() - {chain.tip.stream for chain in chains}
    chains = sorted([*chains, *map(Chain.without_row, surplus)], key=lambda chain: chain.tip.stream)
    for chain in chains:
        if rebuilder is not None:
            # Names what the projections were found to disagree in, and more.
            try:
                differences: Differences = yield partial(rebuilder.compare_stream, chain.tip.stream)
            except LogCorruptedError as exc:
                chain.problem(0, str(exc))
            else:
                # That the row of `streams` is missing was found with the digests.
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


def _side_by_side(
    verify_range: Callable[[Range], Script[list[Chain]]],
    workers: int,
    on_stream: OnStream | None,
    verified: Verified,
    lost: list[bytes],
    ranges: list[Range],
) -> Script[None]:
    """Verify ranges; of each is told when all before it are done."""
    done: dict[int, list[Chain]] = {}
    told = 0

    def tell(number: int, chains: list[Chain]) -> None:
        nonlocal told
        done[number] = chains
        while told in done:
            for chain in done.pop(told):
                verified.streams += 1
                verified.events += chain.count
                verified.add(chain.problems, chain.found)
                if chain.is_lost and chain.tip.name is not None:
                    lost.append(chain.tip.name)
                if on_stream is not None:
                    on_stream(*chain.tip.stream, chain.problems)
            told += 1

    yield Parallel([verify_range(each) for each in ranges], workers, tell)
