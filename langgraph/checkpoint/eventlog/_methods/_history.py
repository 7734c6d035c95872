"""What happened in a thread, and what its states were."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TypeVar

from langgraph.checkpoint.eventlog._history import Changes, History, Reading
from langgraph.checkpoint.eventlog._methods._base import AsyncMethods, SyncMethods
from projections.changing import Change
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

    async def _pages(self, reading: Reading[T]) -> AsyncIterator[T]:
        while (page := await self._run(self._driver.run(reading.next_page, weight=reading.weight))) is not None:
            for each in page:
                yield each
