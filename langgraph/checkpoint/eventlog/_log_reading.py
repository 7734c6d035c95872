"""The part of the log that reads threads: lists, history, earlier states, and checkpoints as they are stored.

`EventLog` has these methods.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from eventlog.read import CheckpointName, latest_of_thread
from eventlog.streams import text_id
from eventlog.threads import ThreadSummary
from langgraph.checkpoint.eventlog._setup import Connected
from langgraph.checkpoint.eventlog.audit.diff import diff, state_at
from langgraph.checkpoint.eventlog.audit.history import Reading
from langgraph.checkpoint.eventlog.audit.inspect import Inspected, StepCheckpoint, find, find_step, inspect
from langgraph.checkpoint.eventlog.audit.status import ThreadStatus, thread_status
from langgraph.checkpoint.eventlog.lifecycle.threads import threads
from projections.diff import Difference
from projections.history import Change, HistoryEntry

__all__ = ["LogReading"]


class LogReading(Connected):
    """The methods of `EventLog` that read threads. The right to read is enough."""

    def threads(
        self,
        thread_ids: Sequence[str] | None = None,
        *,
        filter: dict[str, Any] | None = None,
        since: datetime | None = None,
        sort: Literal["activity", "size", "events", "id"] = "activity",
        limit: int = 100,
        before: datetime | ThreadSummary | None = None,
    ) -> list[ThreadSummary]:
        """List threads with their sizes, without decoding states.

        Pages: a thread that does not change while you read pages is listed once. A thread that a saver appends to
        moves to the front, so a reader may miss it; a thread that loses history moves back, so it may be listed twice.
        By `"id"` nothing moves. By size and events, each page reads all events of all matching threads, without their
        bodies.

        Args:
            thread_ids: List these threads, in this order, also deleted ones. Ids that never existed are left out.
                `filter` and `since` apply; `sort`, `limit` and `before` do not.
            filter: Metadata that a checkpoint of the thread must contain, in any namespace (JSONB containment, so
                nested dicts may match in part).
            since: List only threads to which a saver appended at this time or later. It needs a time zone.
            sort: `"activity"` lists the most recently active thread first, `"size"` and `"events"` the largest first,
                `"id"` goes by thread id.
            limit: Return at most this many threads, at least 1.
            before: The last thread of the previous page. By activity a time with a zone works too.

        Returns:
            The threads that have data; with `thread_ids`, also deleted ones.

        Raises:
            InvalidInputError: A time has no zone, or `before` does not suit the order.
        """
        return self._driver.run(lambda: threads(self._context, thread_ids, filter, since, sort, limit, before))

    def thread_status(self, thread_ids: Sequence[str]) -> dict[str, ThreadStatus]:
        """Tell which threads are idle, waiting for an answer, failed or deleted.

        The call reads the writes of tasks to the latest checkpoint of each root graph, which LangGraph's `get_state`
        shows too, and decodes no state. An encrypted log needs its key. `maintain` also looks at other branches.

        Args:
            thread_ids: The threads. Ids that never existed are left out.

        Returns:
            The status of each thread, by its id.
        """
        return self._driver.run(lambda: thread_status(self._context, self.serde, thread_ids))

    def namespaces(self, thread_id: str) -> dict[str, str | None]:
        """Return the namespaces of a thread, each with the id of its latest checkpoint.

        Args:
            thread_id: The thread.

        Returns:
            Checkpoint ids by namespace; None for a namespace without checkpoints. Empty for an unknown thread.
        """
        return self._driver.run(lambda: latest_of_thread(self._context.statements, text_id(thread_id, "thread_id")))

    def find(
        self, checkpoint_id: str, *, thread_id: str | None = None, checkpoint_ns: str | None = None, limit: int = 10
    ) -> list[CheckpointName]:
        """Find checkpoints by the beginning of their ids.

        The copies of a thread have the checkpoint ids of their source.

        Args:
            checkpoint_id: The id, or its first characters.
            thread_id: Search only this thread. Without it, the call looks into every stream that was active since the
                checkpoint's time: some microseconds for each.
            checkpoint_ns: Search only this namespace. It needs `thread_id`.
            limit: Return at most this many checkpoints, at least 1.

        Returns:
            The matching checkpoints, in the order of thread, namespace and id.

        Raises:
            InvalidInputError: `checkpoint_ns` was given without `thread_id`.
        """
        return self._driver.run(lambda: find(self._context, checkpoint_id, thread_id, checkpoint_ns, limit))

    def find_step(self, thread_id: str, step: int, *, checkpoint_ns: str = "", limit: int = 10) -> list[StepCheckpoint]:
        """Find the checkpoints of a thread by their step, without decoding them.

        Args:
            thread_id: The thread.
            step: The `step` in the checkpoint's metadata. A graph's input is step -1.
            checkpoint_ns: The namespace; empty for the root graph.
            limit: Return at most this many checkpoints, at least 1.

        Returns:
            The checkpoints on the branch of the namespace's latest checkpoint first, then the others, each the newest
                first.
        """
        return self._driver.run(lambda: find_step(self._context, thread_id, step, checkpoint_ns, limit))

    def inspect(self, config: RunnableConfig, *, at: datetime | None = None) -> Inspected | None:
        """Read a checkpoint as it is stored, without decoding values.

        Each value has its type tag and its bytes. `Inspected.load` decodes a value on demand.

        Args:
            config: The config of a checkpoint, or of a thread for its latest checkpoint.
            at: Read the checkpoint that was the latest at this time, as it was then. It needs a time zone, and a
                config without `checkpoint_id`. The call then raises as `state_at`.

        Returns:
            The checkpoint, or None when there is none.

        Raises:
            InvalidInputError: The config names a checkpoint, and `at` was given.
            LogCorruptedError: An event does not decode. The message names it.
        """
        return self._driver.run(lambda: inspect(self._context, self.serde, config, at))

    def history(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str | None = None,
        after: HistoryEntry | Change | str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        kinds: Sequence[str] | None = None,
        on_undecodable: Literal["stop", "show"] = "stop",
    ) -> Iterator[HistoryEntry]:
        """Iterate over the events of a thread, one entry each, without decoding values or states.

        Entries are ordered by the time of their first append, then by namespace and `seq`. Each page shows the events
        that were committed when it was read. Read oldest first, the iterator also reaches events that are appended
        meanwhile; continuing with `after`, it may miss an event that another namespace commits later under an earlier
        time. Within a namespace it misses nothing.

        Args:
            thread_id: The thread. A deleted thread has a history, too.
            checkpoint_ns: Only this namespace; None for all.
            after: Continue behind this entry, or its `cursor`, in the direction of reading.
            limit: Return at most this many entries. 0 returns none, None sets no limit.
            newest_first: Start with the last event.
            kinds: Only these kinds: `"checkpoint"`, `"writes"`, `"deleted"`, `"erased"`, `"copied"`, `"imported"`.
            on_undecodable: `"stop"` raises at an event that does not decode. `"show"` returns an entry with its `error`
                and continues.

        Returns:
            An iterator, which reads page by page on demand.

        Raises:
            ThreadNotFoundError: The thread never existed, or left no trace.
            LogCorruptedError: An event does not decode; the key may be missing. The message names the event.
        """
        arguments = thread_id, checkpoint_ns, after, limit, newest_first, kinds, on_undecodable
        return self._driver.stream(Reading(self._context, self.serde, *arguments, with_values=False).steps())

    def changes(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str | None = None,
        after: HistoryEntry | Change | str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        kinds: Sequence[str] | None = None,
        on_undecodable: Literal["stop", "show"] = "stop",
    ) -> Iterator[Change]:
        """Iterate over the events of a thread with the values that changed.

        A list that grew has its new items; any other change has the new value. Only these values are decoded, with the
        log's serializer. The order is that of `history`.

        Args:
            thread_id: The thread. A deleted thread has a history, too.
            checkpoint_ns: Only this namespace; None for all.
            after: Continue behind this change or entry, or its `cursor`, in the direction of reading.
            limit: Return at most this many changes. 0 returns none, None sets no limit.
            newest_first: Start with the last event.
            kinds: Only these kinds, as of `history`.
            on_undecodable: `"stop"` raises at an event that does not decode. `"show"` returns an entry with its `error`
                and continues.

        Returns:
            An iterator, which reads page by page on demand.

        Raises:
            ThreadNotFoundError: The thread never existed, or left no trace.
            LogCorruptedError: An event does not decode; the key may be missing. The message names the event.
        """
        arguments = thread_id, checkpoint_ns, after, limit, newest_first, kinds, on_undecodable
        return self._driver.stream(Reading(self._context, self.serde, *arguments, with_values=True).steps())

    def diff(
        self,
        thread_id: str,
        before: str,
        after: str,
        *,
        checkpoint_ns: str = "",
        on_undecodable: Literal["stop", "show"] = "stop",
    ) -> Difference:
        """Compare two checkpoints of a thread, channel by channel.

        The checkpoints may be on different branches. Equal channels are not decoded. Equal items at both ends of two
        lists are left out, and messages are matched by id; of mappings, models and dataclasses, the keys or fields
        that differ are named. Sets compare as in Python: `{1, 2}` equals `{True, 2}`.

        Args:
            thread_id: The thread.
            before: The id of the one checkpoint. It may be the newer one.
            after: The id of the other checkpoint.
            checkpoint_ns: The namespace of both; empty for the root graph.
            on_undecodable: `"stop"` raises at a value that does not decode. `"show"` puts an `Undecodable` in its
                place.

        Returns:
            The differences by channel, and the nearest common ancestor.

        Raises:
            ThreadNotFoundError: One of the checkpoints does not exist.
            LogCorruptedError: A value does not decode, unless it is shown; or the body of an event does not.
        """
        return self._driver.run(
            lambda: diff(self._context, self.serde, thread_id, before, after, checkpoint_ns, on_undecodable)
        )

    def state_at(self, thread_id: str, time: datetime, *, checkpoint_ns: str = "") -> CheckpointTuple | None:
        """Return the checkpoint that `get_tuple` would have returned at a time.

        That is the greatest id that was saved by then, in its form of that time, with the writes of that time. A parent
        that was erased since is not named.

        Args:
            thread_id: The thread.
            time: The time, with a zone, and not in the future by the database's clock.
            checkpoint_ns: The namespace; empty for the root graph.

        Returns:
            The checkpoint, or None when there was none.

        Raises:
            InvalidInputError: The time has no zone, or is in the future.
            ThreadNotFoundError: The thread never existed, or left no trace.
            HistoryErasedError: Deleting, pruning or retention may have erased that state since.
            LogCorruptedError: A part of the state does not decode. `inspect` shows the parts as they are stored.
        """
        return self._driver.run(lambda: state_at(self._context, self.serde, thread_id, time, checkpoint_ns))
