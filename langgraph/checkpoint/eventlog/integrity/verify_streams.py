"""Verifying the log: compute every digest again in the client, and account for every number
(`langgraph.checkpoint.eventlog.integrity.chain`); then compare the projections with the log.

Nothing is decoded, so no key is needed. Nothing is locked, and a standby or subscriber will do. Appends continue
meanwhile: a stream with a problem is read once more before the problem is reported.

The log is verified in ranges of streams, each by its own operation. They can run in parallel. Every stream is in one
range, also if its row is missing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import ThreadNotFoundError
from eventlog.events import StoredEvent
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog.integrity.bounds import Bounds, ask_nodes
from langgraph.checkpoint.eventlog.integrity.chain import MOST_PROBLEMS, Chain, PartitionTimes, Problem, Tip

__all__ = ["Range", "compare_projections", "require_traces", "streams_to_verify", "successor", "verify_range"]

#: The number of events in memory, and the bytes of their bodies, for each operation.
PAGE_EVENTS = 1_000
PAGE_BYTES = 8 << 20

#: Streams that are verified at a time, for each operation.
PAGE_STREAMS = 100

#: The length of a stream's name, in bytes.
NAME_BYTES = 16


class Range(NamedTuple):
    """Streams in the order of thread and namespace: from `start`, inclusive, to `end`, exclusive; None: to the last."""

    start: Stream
    end: Stream | None

    @property
    def params(self) -> dict[str, Any]:
        """For the statements."""
        end = self.end or (None, None)
        return {
            "thread": self.start.thread_id,
            "ns": self.start.checkpoint_ns,
            "end_thread": end[0],
            "end_ns": end[1],
        }


def successor(stream: Stream) -> Stream:
    """The key directly after a stream's: no text lies between two texts that differ by a final U+0001."""
    return Stream(stream.thread_id, stream.checkpoint_ns + "\x01")


def streams_to_verify(statements: Statements, start: Stream, limit: int) -> Op[list[Stream]]:
    """The next streams in the order of thread and namespace, beginning with `start`."""
    params = {"thread": start.thread_id, "ns": start.checkpoint_ns, "rows": limit}
    rows = yield Query(statements["verify_streams"], params)
    return [Stream(*row) for row in rows]


def require_traces(statements: Statements, threads: list[str]) -> Op[None]:
    """Check that the log has a trace of each thread: data, or an entry that says that it existed.

    Raises:
        ThreadNotFoundError: naming the first thread without a trace.
    """
    rows = yield Query(statements["verify_unknown"], {"threads": threads})
    if rows:
        raise ThreadNotFoundError(
            f"thread {rows[0][0]!r} does not exist, and the log has no record of it: there is nothing to verify"
        )


def verify_range(statements: Statements, bounds: Bounds, range_: Range) -> Op[list[Chain]]:
    """Verify all streams of a range in their order, including those without a row."""
    verified: list[Chain] = []
    start: Stream | None = range_.start
    while start is not None:
        rows = yield Query(statements["verify_tips"], {**Range(start, range_.end).params, "rows": PAGE_STREAMS})
        tips = [Tip(*row) for row in rows]
        is_last = len(tips) < PAGE_STREAMS
        end = range_.end if is_last else successor(tips[-1].stream)
        for chain in (yield from _verify(statements, bounds, Range(start, end), tips)):
            verified.append((yield from _look_again(statements, bounds, chain)) if chain.found else chain)
        start = None if is_last else end
    return verified


def _look_again(statements: Statements, bounds: Bounds, chain: Chain) -> Op[Chain]:
    """Verify a stream again: it may have changed between two queries, but a real fault is still there."""
    stream = chain.tip.stream
    range_ = Range(stream, successor(stream))
    rows = yield Query(statements["verify_tips"], {**range_.params, "rows": 1})
    found = yield from _verify(statements, bounds, range_, [Tip(*row) for row in rows])
    if not found:
        # Dropped meanwhile, with its last partition.
        return Chain(chain.tip, count=chain.count, sealed_through=chain.sealed_through, covered=chain.covered)
    (again,) = found
    known = set(chain.problems)
    is_cut = len(again.problems) < again.found
    again.problems = [problem for problem in again.problems if problem in known]
    again.found = again.found if is_cut and again.problems else len(again.problems)
    return again


def _verify(statements: Statements, bounds: Bounds, range_: Range, tips: list[Tip]) -> Op[list[Chain]]:
    chains, lost = yield from _walk(statements, bounds, range_, [Chain(tip) for tip in tips])
    for stream in lost:
        rows = yield Query(statements["verify_lost"], {"thread": stream.thread_id, "ns": stream.checkpoint_ns})
        if not rows:
            continue  # Dropped meanwhile.
        *head, begins_at = rows[0]
        ((name,),) = yield Query(statements["find_stream_name"], tuple(stream))
        chain = Chain(Tip(*(*head, name, begins_at)), is_lost=True)
        chain.problem(0, "it has events, and its row in `streams` is missing")
        found, _ = yield from _walk(statements, bounds, Range(stream, successor(stream)), [chain])
        chains |= found
    return [chains[stream] for stream in sorted(chains)]


def _walk(
    statements: Statements, bounds: Bounds, range_: Range, begun: list[Chain]
) -> Op[tuple[dict[Stream, Chain], list[Stream]]]:
    """Verify a range's events; returns the chains, and the streams that have events and none of these."""
    chains = {chain.tip.stream: chain for chain in begun}
    yield from _read_seals(statements, bounds, chains)
    yield from _read_records(statements, range_, chains)
    lost: dict[Stream, None] = {}
    after: StoredEvent | None = None
    while True:
        params: dict[str, Any] = {**range_.params, "seq": -(1 << 63), "at": None}
        if after is not None:
            params |= {
                "thread": after.thread_id,
                "ns": after.checkpoint_ns,
                "seq": after.seq,
                "at": after.recorded_at,
            }
        rows = yield Query(statements["verify_events"], {**params, "rows": PAGE_EVENTS, "bytes": PAGE_BYTES})
        yield from ask_nodes(statements, bounds, [(row[8], int(row[-5])) for row in rows])
        for *event, state_digest, base_seq, body_digest, xid, _, is_ahead, as_of, first_at in rows:
            after = StoredEvent(*event)._replace(
                state_digest=state_digest, origin_base_seq=base_seq, origin_body_digest=body_digest
            )
            stream = after.stream
            chain = chains.get(stream)
            if chain is None:
                lost[stream] = None
            elif not chain.tip.is_expired(after.recorded_at):
                chain.check(after, int(xid), as_of, first_at, bounds, is_ahead=is_ahead)
        # The page is shorter if the next events are too large.
        if not rows or len(rows) == rows[-1][-4] < PAGE_EVENTS:
            break
    partitions: list[PartitionTimes] = []
    if any(chain.needs_partitions for chain in chains.values()):
        partitions = [PartitionTimes(*row) for row in (yield Query(statements["partition_times"]))]
    for chain in chains.values():
        chain.finish(partitions)
    return chains, list(lost)


def compare_projections(statements: Statements, range_: Range) -> Op[dict[Stream, tuple[int, list[Problem]]]]:
    """The differences of the projections from the log, at one moment: by stream their number, and the first ones."""
    found: dict[Stream, tuple[int, list[Problem]]] = {}
    params: dict[str, Any] = {**range_.params, "only": None, "rows": MOST_PROBLEMS}
    rows = yield Query(statements["verify_projections"], params)
    # A statement on many threads is not of one moment on Citus: what differs is looked at thread by thread.
    for thread_id in sorted({thread_id for thread_id, *_ in rows}):
        for *row, count in (yield Query(statements["verify_projections"], {**params, "only": thread_id})):
            problem = Problem(*row)
            found.setdefault(Stream(problem.thread_id, problem.checkpoint_ns), (count, []))[1].append(problem)
    return found


def _read_seals(statements: Statements, bounds: Bounds, chains: dict[Stream, Chain]) -> Op[None]:
    names: dict[bytes, list[Chain]] = {}
    for chain in chains.values():
        if chain.tip.name is not None:
            names.setdefault(chain.tip.name, []).append(chain)
        if not chain.is_lost and len(chain.tip.name or b"") != NAME_BYTES:
            chain.problem(0, "its name in `streams` is not one of 16 bytes")
    sealed: dict[bytes, list[tuple[int, int, bytes]]] = {name: [] for name in names}
    for name, *row in (yield Query(statements["verify_sealed"], {"streams": list(names)})):
        sealed[name].append((row[0], row[1], row[2]))
    for name, rows in sealed.items():
        for chain in names[name]:
            chain.read_seals(rows, bounds)


def _read_records(statements: Statements, range_: Range, chains: dict[Stream, Chain]) -> Op[None]:
    records: dict[Stream, list[tuple[int, bytes, bytes | None]]] = {}
    for thread_id, ns, recorded_at, *record in (yield Query(statements["verify_records"], range_.params)):
        stream = Stream(thread_id, ns)
        if stream in chains and not chains[stream].tip.is_expired(recorded_at):
            records.setdefault(stream, []).append((record[0], record[1], record[2]))
    for stream, rows in records.items():
        chains[stream].read_records(rows)
