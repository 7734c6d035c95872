"""The status of threads: idle, waiting for an answer, or failed. It follows from the tasks' last writes alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT

from eventlog.db.query import Op
from eventlog.errors import LogCorruptedError
from eventlog.format.codec import Codec
from eventlog.streams import Stream
from eventlog.threads import StreamEnd, read_bodies, stream_ends
from langgraph.checkpoint.eventlog._arguments import ids_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import CHUNK_BYTES

__all__ = ["PendingTask", "Status", "ThreadStatus", "thread_status"]

Status: TypeAlias = Literal["idle", "waiting", "failed", "deleted", "unknown"]


class PendingTask(NamedTuple):
    """A task that waits for an answer or failed."""

    kind: Literal["interrupt", "error"]
    """`"interrupt"` or `"error"`."""
    checkpoint_ns: str
    """The namespace; empty for the root graph."""
    checkpoint_id: str
    """The checkpoint that the task ran at."""
    task_id: str
    """The task."""
    task_path: str
    """The task's path."""
    seq: int
    """The event that holds the interrupt or the error."""


class ThreadStatus(NamedTuple):
    """The status of a thread at the latest checkpoint of its root graph.

    A thread without a checkpoint of its root graph has the status of its other namespaces. A thread that stopped at a
    breakpoint (`interrupt_before`) is idle: a breakpoint leaves no trace in a checkpoint. Only the latest checkpoint's
    branch counts here, while `maintain` spares a thread that waits on any branch.
    """

    thread_id: str
    """The thread."""
    status: Status
    """`"idle"`; `"waiting"`: a task's interrupt has no answer yet; `"failed"`: a task ended in an error; `"deleted"`;
    `"unknown"`: an event does not decode."""
    checkpoint_id: str | None
    """The latest checkpoint of the root graph; None without one."""
    step: int | None
    """Its step."""
    pending: tuple[PendingTask, ...]
    """The tasks that wait or failed, in the order of their events."""
    error: str | None
    """The reason why an event does not decode; otherwise None."""


def thread_status(context: Context, serde: SerializerProtocol, thread_ids: Any) -> Op[dict[str, ThreadStatus]]:
    """The status of threads by id; threads that never existed are omitted. Raises InvalidInputError."""
    ids = ids_of(thread_ids, "thread_ids")
    threads = {each: _Thread(each) for each in ids}
    ends = yield from stream_ends(context.statements, ids)
    for end in ends:
        threads[end.thread_id].add(end)
    codec = context.reader(serde).codec
    for chunk in _affordable([each for each in ends if each.seq is not None]):
        for end, body in (yield from read_bodies(context.statements, chunk)):
            threads[end.thread_id].add_writes(codec, end, body)
    return {id_: thread.told() for id_, thread in threads.items() if thread.is_known}


class _Thread:
    """The facts about a thread that were read so far."""

    def __init__(self, thread_id: str) -> None:
        self.thread_id = thread_id
        self.is_known = self.has_data = False
        self.root: StreamEnd | None = None
        self.outcomes: dict[tuple[str, str], PendingTask | None] = {}
        """Outcomes by namespace and task; None: the task finished."""
        self.error: str | None = None

    def add(self, end: StreamEnd) -> None:
        self.is_known = True
        self.has_data |= end.has_data
        if end.checkpoint_ns == "":
            self.root = end

    def add_writes(self, codec: Codec, end: StreamEnd, body: bytes) -> None:
        """Take in an event of writes. Call it in their order: a task that runs again has another outcome."""
        assert end.seq is not None
        assert end.checkpoint_id is not None
        try:
            saved = codec.decode_writes(body, Stream(end.thread_id, end.checkpoint_ns).describe_event(end.seq))
        except LogCorruptedError as exc:
            # An error in one thread must not hide the status of others.
            self.error = self.error or str(exc)
            return
        channels = {write.channel for write in saved.writes}
        kind: Literal["interrupt", "error"] | None = (
            "interrupt" if INTERRUPT in channels else "error" if ERROR in channels else None
        )
        key = end.checkpoint_ns, saved.task_id
        if kind is not None:
            # At the end, where the task had another outcome before.
            self.outcomes.pop(key, None)
            place = end.checkpoint_ns, end.checkpoint_id, saved.task_id, saved.task_path, end.seq
            self.outcomes[key] = PendingTask(kind, *place)
        elif any(write.idx >= 0 for write in saved.writes):
            self.outcomes[key] = None

    def told(self) -> ThreadStatus:
        pending = tuple(each for each in self.outcomes.values() if each is not None)
        checkpoint_id, step = (None, None) if self.root is None else (self.root.checkpoint_id, self.root.step)
        return ThreadStatus(
            thread_id=self.thread_id,
            status=self._status({each.kind for each in pending}),
            checkpoint_id=checkpoint_id,
            step=step if type(step) is int else None,
            pending=pending,
            error=self.error,
        )

    def _status(self, kinds: set[Literal["interrupt", "error"]]) -> Status:
        if not self.has_data:
            return "deleted"
        if "interrupt" in kinds:
            return "waiting"
        if self.error is not None:
            return "unknown"
        return "failed" if "error" in kinds else "idle"


def _affordable(ends: Sequence[StreamEnd]) -> Iterator[list[StreamEnd]]:
    """Events in chunks, each of `CHUNK_BYTES` of bodies as they are stored, or of one event."""
    chunk, total = list[StreamEnd](), 0
    for end in ends:
        total += end.body_bytes or 0
        if chunk and total > CHUNK_BYTES:
            yield chunk
            chunk, total = [], end.body_bytes or 0
        chunk.append(end)
    if chunk:
        yield chunk
