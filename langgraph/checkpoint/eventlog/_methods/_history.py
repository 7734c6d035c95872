"""What happened in a thread, and what its states were."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from typing import TypeVar

from langgraph.checkpoint.base import CheckpointTuple

from langgraph.checkpoint.eventlog._methods._base import AsyncMethods, SyncMethods
from langgraph.checkpoint.eventlog.audit.diff import diff, state_at
from langgraph.checkpoint.eventlog.audit.history import Changes, History, Reading
from projections.changes import Change
from projections.diff import Difference
from projections.history import HistoryRecord

__all__ = ["AsyncHistory", "SyncHistory"]

T = TypeVar("T")


class SyncHistory(SyncMethods):
    """Auditing."""

    def history(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str | None = None,
        after: HistoryRecord | Change | str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        kinds: Sequence[str] | None = None,
    ) -> Iterator[HistoryRecord]:
        """What happened in a thread, one record for each event, read in pages as they are asked for.

        States are not decoded, and no values: what happened in a channel is told from the event alone. The order is by
        the time when events were appended first, then by namespace and number.

        Args:
            thread_id: one that was deleted has a history too.
            checkpoint_ns: only this namespace; None: all.
            after: go on behind this record, or its `cursor`, in the direction of the reading.
            limit: at most so many.
            newest_first: the last event first.
            kinds: only records of these kinds.

        Raises:
            ThreadNotFoundError: when the thread never was.
            LogCorruptedError: naming the event that does not decode, for which the key may be missing.
        """
        return self._pages(
            History(self._context, self.serde, thread_id, checkpoint_ns, after, limit, newest_first, kinds)
        )

    def changes(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str | None = None,
        after: HistoryRecord | Change | str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        kinds: Sequence[str] | None = None,
    ) -> Iterator[Change]:
        """As `history`, with what the events say: only what changed is decoded.

        Of what was appended to a list, these items; of other changes the new value; of writes what was written. Values
        are decoded with the saver's serializer.

        Args:
            thread_id, checkpoint_ns, after, limit, newest_first, kinds: as for `history`.

        Raises:
            ThreadNotFoundError, LogCorruptedError: as `history`.
        """
        return self._pages(
            Changes(self._context, self.serde, thread_id, checkpoint_ns, after, limit, newest_first, kinds)
        )

    def diff(self, thread_id: str, before: str, after: str, *, checkpoint_ns: str = "") -> Difference:
        """What differs between two checkpoints of a thread, by channel, and where their ways parted.

        They may be on different branches, and either may be the older one. A channel whose value is the same is not
        decoded. Of two lists, the items at both ends that are the same are left out, messages are matched by their ids;
        of mappings, models and dataclasses, the keys or fields that differ are named.

        Args:
            before, after: ids of checkpoints.
            checkpoint_ns: the namespace of both.

        Raises:
            ThreadNotFoundError: when one of them is not there.
        """
        return self._driver.run(diff(self._context, self.serde, thread_id, before, after, checkpoint_ns))

    def state_at(self, thread_id: str, time: datetime, *, checkpoint_ns: str = "") -> CheckpointTuple | None:
        """The checkpoint that `get_tuple` would have returned at a time; None when there was none.

        That is the greatest id that was saved by then, as it was then: if it was put again since, in its earlier form,
        and without the writes that came later. A parent that was erased since is not named any more.

        Args:
            time: with a time zone; not in the future, by the database's clock.

        Raises:
            ThreadNotFoundError: when the thread never was.
            HistoryErasedError: when what it was may have been erased since, by deleting, pruning or retention.
        """
        return self._driver.run(state_at(self._context, self.serde, thread_id, time, checkpoint_ns))

    def _pages(self, reading: Reading[T]) -> Iterator[T]:
        while (page := self._driver.run(reading.next_page)) is not None:
            yield from page


class AsyncHistory(AsyncMethods):
    """As `SyncHistory`."""

    def history(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str | None = None,
        after: HistoryRecord | Change | str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        kinds: Sequence[str] | None = None,
    ) -> AsyncIterator[HistoryRecord]:
        """As `EventLogSaver.history`: an async iterator."""
        return self._pages(
            History(self._context, self.serde, thread_id, checkpoint_ns, after, limit, newest_first, kinds)
        )

    def changes(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str | None = None,
        after: HistoryRecord | Change | str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        kinds: Sequence[str] | None = None,
    ) -> AsyncIterator[Change]:
        """As `EventLogSaver.changes`: an async iterator."""
        return self._pages(
            Changes(self._context, self.serde, thread_id, checkpoint_ns, after, limit, newest_first, kinds)
        )

    async def diff(self, thread_id: str, before: str, after: str, *, checkpoint_ns: str = "") -> Difference:
        """As `EventLogSaver.diff`."""
        return await self._run(
            self._driver.run(diff(self._context, self.serde, thread_id, before, after, checkpoint_ns))
        )

    async def state_at(self, thread_id: str, time: datetime, *, checkpoint_ns: str = "") -> CheckpointTuple | None:
        """As `EventLogSaver.state_at`."""
        return await self._run(self._driver.run(state_at(self._context, self.serde, thread_id, time, checkpoint_ns)))

    async def _pages(self, reading: Reading[T]) -> AsyncIterator[T]:
        while (page := await self._run(self._driver.run(reading.next_page, weight=reading.weight))) is not None:
            for each in page:
                yield each
