"""The part of the event log that reads: history, states, the feed, seals and proofs, figures."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple

from eventlog.archive import VerifiedArchive, verify_archive
from eventlog.events import Cursor, StoredEvent
from eventlog.feed import Lag, cursor_of, read_end, read_lag
from eventlog.partitions import Partitions, read_partitions
from eventlog.read import CheckpointName, latest_of_thread
from eventlog.seals import Proof, Seal
from eventlog.statistics import Stats, ThreadSummary
from eventlog.streams import text_id
from langgraph.checkpoint.eventlog._rebuild import WORKERS
from langgraph.checkpoint.eventlog._setup import Connected
from langgraph.checkpoint.eventlog.audit.diff import diff, state_at
from langgraph.checkpoint.eventlog.audit.history import Reading
from langgraph.checkpoint.eventlog.audit.inspect import Inspected, find, inspect, stats
from langgraph.checkpoint.eventlog.following.project import decode
from langgraph.checkpoint.eventlog.following.tail import tail
from langgraph.checkpoint.eventlog.integrity import seal as _sealing
from langgraph.checkpoint.eventlog.integrity.receipts import make_receipt
from langgraph.checkpoint.eventlog.integrity.verify import OnStream, Verified, verify
from langgraph.checkpoint.eventlog.integrity.verify_seals import anchor_of
from langgraph.checkpoint.eventlog.lifecycle.threads import list_threads
from projections.custom import ProjectionState, read_states
from projections.diff import Difference
from projections.event import Event
from projections.history import Change, HistoryEntry

__all__ = ["LogReader"]


class LogReader(Connected):
    """The methods of `EventLog` for which the right to read is enough."""

    # --- threads and their history

    def threads(
        self,
        thread_ids: Sequence[str] | None = None,
        *,
        limit: int = 100,
        before: datetime | ThreadSummary | None = None,
    ) -> list[ThreadSummary]:
        """Threads with their sizes, the last active first.

        Args:
            thread_ids: these, in this order, instead; those that never were are left out.
            limit: at most so many.
            before: only those that were last active before a time, or, for the next page, the last one of this.
        """
        return self._driver.run(lambda: list_threads(self._context, thread_ids, limit, before))

    def namespaces(self, thread_id: str) -> dict[str, str | None]:
        """A thread's namespaces, each with the id of its latest checkpoint, None where it has none (any more).

        Empty when there never was such a thread.
        """
        return self._driver.run(lambda: latest_of_thread(self._context.statements, text_id(thread_id, "thread_id")))

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
        """The events of a thread, one entry for each, read in pages as they are asked for.

        States are not decoded, and no values: what happened in a channel is told from the event alone. The order is by
        the time when events were appended first, then by namespace and number.

        Args:
            thread_id: one that was deleted has a history too.
            checkpoint_ns: only this namespace; None: all.
            after: go on behind this record, or its `cursor`, in the direction of the reading.
            limit: at most so many.
            newest_first: the last event first.
            kinds: only records of these kinds.
            on_undecodable: ``"stop"`` at an event that does not decode, or ``"show"`` an entry that has its `error`.

        Raises:
            ThreadNotFoundError: when the thread never was.
            LogCorruptedError: naming the event that does not decode, for which the key may be missing; unless such are
                shown.
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
        """As `history`, with the values: of a list that grew its new items, of other changes the new value.

        Only what changed is decoded, with the log's serializer. Writes have the values that tasks wrote. Arguments and
        errors as for `history`.
        """
        arguments = thread_id, checkpoint_ns, after, limit, newest_first, kinds, on_undecodable
        return self._driver.stream(Reading(self._context, self.serde, *arguments, with_values=True).steps())

    def diff(self, thread_id: str, before: str, after: str, *, checkpoint_ns: str = "") -> Difference:
        """The differences between two checkpoints of a thread, by channel, and their nearest common ancestor.

        They may be on different branches, and either may be the older one. A channel whose value is the same is not
        decoded. Of two lists, the items at both ends that are the same are left out, messages are matched by their ids;
        of mappings, models and dataclasses, the keys or fields that differ are named.

        Args:
            before, after: ids of checkpoints.
            checkpoint_ns: the namespace of both.

        Raises:
            ThreadNotFoundError: when one of them is not there.
        """
        return self._driver.run(lambda: diff(self._context, self.serde, thread_id, before, after, checkpoint_ns))

    def state_at(self, thread_id: str, time: datetime, *, checkpoint_ns: str = "") -> CheckpointTuple | None:
        """The checkpoint that `get_tuple` would have returned at a time; None when there was none.

        That is the greatest id that was saved by then, as it was then: if it was put again since, in its earlier form,
        and without the writes that came later. A parent that was erased since is not named any more.

        Args:
            time: with a time zone; not in the future, by the database's clock.

        Raises:
            ThreadNotFoundError: when the thread never was.
            HistoryErasedError: when deleting, pruning or retention may have erased that state since.
        """
        return self._driver.run(lambda: state_at(self._context, self.serde, thread_id, time, checkpoint_ns))

    # --- checkpoints as they are stored, and figures

    def inspect(self, config: RunnableConfig) -> Inspected | None:
        """The checkpoint that the config names, or the latest of its thread and namespace, as it is stored.

        Nothing is decoded but the log's own bodies: each value has its type tag, its bytes and so its size, and
        `Inspected.load` decodes it, if it is wanted.

        Raises:
            LogCorruptedError: naming the event that does not decode.
        """
        return self._driver.run(lambda: inspect(self._context, self.serde, config))

    def find(
        self, checkpoint_id: str, *, thread_id: str | None = None, checkpoint_ns: str | None = None, limit: int = 10
    ) -> list[CheckpointName]:
        """Checkpoints by the beginning of their ids, in the order of thread, namespace and id.

        Copies of a thread have the same ids as their source.

        Args:
            thread_id, checkpoint_ns: only there. Without a thread, every stream that was active since is looked into.
            limit: at most so many.
        """
        return self._driver.run(lambda: find(self._context, checkpoint_id, thread_id, checkpoint_ns, limit))

    def stats(self, *, exact: bool = False) -> Stats:
        """The log in numbers: sizes, counts, growth, how far reads replay, and the cache of this log or its saver.

        Args:
            exact: count and sum all rows, which reads the whole log, instead of the server's estimates and a sample.
        """
        return self._driver.run(lambda: stats(self._context, exact))

    def partitions(self, *, exact: bool = False) -> Partitions:
        """The partitions of the log, oldest first, and how long they last. Logs a warning when that is short.

        Args:
            exact: count the rows, which reads the whole log, instead of the server's estimate.
        """
        return self._driver.run(lambda: read_partitions(self._context.statements, exact=exact))

    def projections(self) -> list[ProjectionState]:
        """The custom projections that were set up, and how far each has come, by name."""
        return self._driver.run(lambda: read_states(self._context.statements))

    # --- the feed

    def tail(
        self,
        after: Cursor | str | None = None,
        *,
        follow: bool = False,
        poll_interval: float = 1.0,
        thread_ids: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> Generator[StoredEvent, None, None]:
        """Every event of the log once, in an order that does not change, none missed that commits late.

        Bodies are as they are stored. Each event has its `cursor`: keep the last one's with what was made of it, and
        read on after it another time. What was erased or is void is left out; the records of that are events too. No
        connection is in use between two pages.

        Args:
            after: a cursor or its text; None: from the first event on.
            follow: at the end of what is settled, wait for more, for ever.
            poll_interval: the longest pause between two looks, in seconds. While there are events, pauses are shorter.
            thread_ids: only events of these threads.
            limit: at most so many.

        Raises:
            CursorError: when the cursor is not one of this log, or of a time that a restore undid.
            NotSetUpError: when the log was restored from another cluster and this user cannot write that down.
        """
        steps = tail(self._context.statements, after, follow, poll_interval, thread_ids, limit)
        return self._driver.stream(steps)

    def decode(self, event: StoredEvent) -> Event:
        """The content of an event of `tail`: metadata, writes, an operation's record; decoded when it is asked for.

        Looks something up only for writes that are stored as a difference from the state that they were made on. An
        event that does not decode is returned too: its `error` says why, and what does not decode raises
        LogCorruptedError.

        Raises:
            LogBusyError: when the event was erased since it was read.
        """
        return self._driver.run(lambda: decode(self._context, self.serde, event))

    def tail_position(self) -> Cursor:
        """The cursor of now: what is settled is before it. Raises NotSetUpError as `tail`."""
        return self._driver.run(lambda: read_end(self._context.statements))

    def lag(self, after: Cursor | str | None = None) -> Lag:
        """How far a reader with this cursor is behind, and which transaction holds the feed back. Raises as `tail`."""
        return self._driver.run(lambda: read_lag(self._context.statements, cursor_of(after)))

    # --- integrity

    def verify(
        self,
        thread_ids: Sequence[str] | None = None,
        *,
        after: tuple[str, str] | None = None,
        workers: int = WORKERS,
        seal: str | Mapping[str, Any] | None = None,
        public_key: Any = None,
        states: bool = False,
        on_stream: OnStream | None = None,
    ) -> Verified:
        """Compute every digest again and account for every number. It needs no key, unless `states` is true.

        Finds events that were altered, taken out, put in or moved, relocated or erased events for which there is no
        record, streams that were sealed and are gone, and projections that disagree with the log. A user with all
        rights could compute all digests and seals again: to notice that, keep a seal's digest elsewhere and give it
        as `seal`.

        Args:
            thread_ids: only these threads, and of the seals what they say of them.
            after: go on after this thread and namespace, where an earlier call was interrupted.
            workers: so many operations side by side, and not more than the pool has connections.
            seal: a seal's digest in hex, or its number, a colon and its digest, or a signed seal (`Seal.document`): it
                must be one of the log's.
            public_key: of the signed seal: a path to a PEM file, its content, or a key of `cryptography`.
            states: decode every state and all writes too, and compare them with their digests, and with snapshots and
                projections, metadata included. An encrypted log needs its key. Otherwise these are compared as far as
                can be told without decoding.
            on_stream: told of each thread and namespace when it and all before it are done, and what does not fit.

        Raises:
            ProofError: when the signed seal was altered, or is of another key or another log.
            ThreadNotFoundError: when one of `thread_ids` left no trace.
        """
        rebuilder = self._context.reader(self.serde).rebuilder() if states else None
        anchor = None if seal is None and public_key is None else anchor_of(seal, public_key)
        return self._driver.run_script(verify(self._context, thread_ids, after, workers, anchor, rebuilder, on_stream))

    def seals(self, *, limit: int = 100, before: int | None = None) -> list[Seal]:
        """The seals, the latest first.

        Args:
            limit: at most so many.
            before: only those before this number.
        """
        return self._driver.run(lambda: _sealing.list_seals(self._context, limit, before))

    def prove(self, thread_id: str, checkpoint_ns: str = "", *, seal: int | None = None) -> Proof:
        """Prove that a thread's namespace had come to a certain event when a seal was taken.

        `verify_proof` checks it without a database. It shows nothing of other threads but hashes.

        Args:
            seal: the seal's number; the latest by default.

        Raises:
            SealNotFoundError: when there is no such seal.
            ThreadNotFoundError: when the seal does not have the thread's namespace.
        """
        return self._driver.run(lambda: _sealing.prove(self._context, thread_id, checkpoint_ns, seal))

    def receipt(self, thread_id: str, *, key: Any, reason: str | None = None, since: datetime | None = None) -> str:
        """A signed receipt of what was erased from a thread, one line of JSON, made of the records in the log.

        It has of each erasure who did it and when, by which operation, and of each erased event number, time and a
        hash; nothing of content, and not the thread's id. `verify_receipt` checks it. It says what the log says, and
        `verify` shows whether that is so. Make it before retention drops the records.

        Args:
            key: an Ed25519 private key, another one than that of seals: a path to a PEM file, its content, or a key of
                `cryptography` (extra ``seal``).
            reason: why it was erased: the receipt says it, the log does not know it.
            since: only what was erased since.

        Raises:
            InvalidInputError: when the key is none.
            LogCorruptedError: naming a record that does not decode.
            ThreadNotFoundError: when the thread never was, its records are gone, or nothing was erased from it.
        """
        return self._driver.run(lambda: make_receipt(self._context.statements, thread_id, key, reason, since))

    def verify_archive(self, file: str | Path) -> VerifiedArchive:
        """Compare a file that `retain(archive=…)` wrote with the record of the drop of its partition, by its sha256.

        Raises:
            InvalidInputError: when it is no file, or not named for a partition of this log.
            ProofError: when it is another file than was written, or its partition was not dropped, or not archived.
        """
        return self._driver.run(lambda: verify_archive(self._context.statements, file))
