"""The event log itself: what audits, operates and ends it, beside what LangGraph calls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig

from eventlog.rights import Rights, check_grants, grant_rights
from eventlog.seals import Seal
from eventlog.statistics import ThreadSummary
from eventlog.subscriber import make_subscriber
from langgraph.checkpoint.eventlog._log_reader import LogReader
from langgraph.checkpoint.eventlog._rebuild import WORKERS, rebuild, take_over
from langgraph.checkpoint.eventlog.following import project as _projecting
from langgraph.checkpoint.eventlog.following.project import BATCH_EVENTS, OnBatch
from langgraph.checkpoint.eventlog.integrity.seal import seal
from langgraph.checkpoint.eventlog.lifecycle import threads
from langgraph.checkpoint.eventlog.lifecycle.purge import OnTable, Purged, purge
from langgraph.checkpoint.eventlog.lifecycle.retain import Retained, retain
from langgraph.checkpoint.eventlog.lifecycle.threads import OnThread
from projections.compare import OnDifference
from projections.custom import Projection
from projections.rebuild import OnProgress, Rebuilt

__all__ = ["EventLog"]


class EventLog(LogReader):
    """The log of a saver, `EventLogSaver.log`, or one opened alone: no graph is needed to audit or operate it.

    A saver's log shares the saver's connection, settings, caches and serializer. Arguments and errors are those of
    `EventLogSaver`. What several methods take:

    * ``actor``: on whose behalf. The record of the operation says it, beside the database user.
    * ``dry_run``: change nothing. `on_thread` is told, and the method returns, what would go.
    * ``on_thread``: told of each thread as it is done.
    """

    def grant(self, rights: Rights, role: str) -> None:
        """Grant a set of rights to a database role, as `setup(grant=…)` does; a later setup adds what is new in it.

        Args:
            rights: ``"writer"``, ``"eraser"``, ``"sealer"``, ``"auditor"``, ``"projector"`` or ``"importer"``.
            role: one that exists.

        Raises:
            MissingGrantError: when the user does not own the log.
        """
        ((rights, role),) = check_grants({rights: role})
        return self._driver.run_atomic(
            lambda: grant_rights(self._context.statements, rights, role, self._context.settings.views)
        )

    def make_partitions(self, ahead: int | None = None) -> list[str]:
        """Make the current partition and those after it, where they are missing; returns the names of those made.

        Args:
            ahead: how many beyond the current one, which the log's owner alone may choose; the stored number by
                default.
        """
        return self._driver.run(lambda: threads.make_partitions(self._context, ahead))

    # --- erasing and copying

    def delete_thread(self, thread_id: str, *, actor: str | None = None) -> None:
        """Erase a thread: events, snapshots and projections. A tombstone without content stays in the log.

        A run that is still going cannot bring it back: `ThreadDeletedError`. Starting afresh on the same id works.

        Args:
            thread_id: one that is not there is no error.
        """
        return self._driver.run(lambda: threads.delete_one(self._context, thread_id, actor))

    def purge(
        self, thread_ids: Sequence[str] | None = None, *, dry_run: bool = False, on_table: OnTable | None = None
    ) -> Purged:
        """Remove the bytes of what was erased from the database's files, as the log's owner: `vacuum (full)`.

        Each table is written again, and locked meanwhile: appends and reads of it wait. Run it on a connection in
        autocommit mode, without a pipeline. WAL, backups and replicas are not touched.

        Args:
            thread_ids: threads that were erased: only the partitions that had events of them; None: all.
            dry_run: say which tables would be written again, and how large they are.
            on_table: told of each table as it is done.

        Raises:
            LogBusyError: when a table's lock was not to be had in time, where ``lock_timeout`` is set.
        """
        return self._driver.run(lambda: purge(self._context, thread_ids, dry_run, on_table))

    def delete_for_runs(
        self,
        run_ids: Sequence[str],
        *,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> None:
        """Erase the checkpoints that runs saved, with their writes, in every thread. What survives reads as before.

        A survivor whose parent goes has no parent any more. What a survivor's `DeltaChannel` still replays stays.
        One transaction for each thread.

        Args:
            run_ids: as in the checkpoints' metadata, ``run_id``.
        """
        return self._driver.run_script(
            threads.delete_for_runs(self._context, self.serde, run_ids, dry_run, actor, on_thread)
        )

    def prune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
        older_than: timedelta | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> None:
        """Erase the history of threads. One transaction for each; what survives reads as before, but for its parent.

        What a surviving checkpoint's `DeltaChannel` still replays stays. The namespace of a subgraph's call goes with
        the root graph's checkpoint that it ran under.

        Args:
            thread_ids: those that are not there are no error.
            strategy: "keep_latest" keeps the latest checkpoint of each namespace, "delete" nothing.
            keep_last: keep so many of each namespace instead, and the ends of branches and pending interrupts.
            older_than: erase only what was saved longer ago, but not the ends of branches and pending interrupts.
        """
        return self._driver.run_script(
            threads.prune(
                self._context, self.serde, thread_ids, strategy, keep_last, older_than, dry_run, actor, on_thread
            )
        )

    def expire(
        self,
        idle: timedelta,
        *,
        limit: int | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> list[ThreadSummary]:
        """Erase threads to which nothing was appended for so long; returns them, in the order of their ids.

        One transaction for each thread, which looks again. Interrupted anywhere, run it again.

        Args:
            limit: at most so many threads.
        """
        return self._driver.run_script(threads.expire(self._context, idle, limit, dry_run, actor, on_thread))

    def retain(
        self,
        history: timedelta,
        *,
        drop_idle: bool = False,
        archive: str | Path | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> Retained:
        """Drop the partitions of the log that ended longer ago, after relocating what is still needed.

        The latest state of every thread survives; its history begins at the cut. Interrupted anywhere, run it again.
        The user must own the log.

        Args:
            history: what is younger stays as it is.
            drop_idle: let threads go to which nothing was appended since the cut.
            archive: a folder that gets each partition as a Parquet file before it is dropped (extra ``archive``).

        Raises:
            LogBusyError: when a partition could not be locked for long; nothing is lost, run it again.
            MissingGrantError: when the user does not own the log.
        """
        return self._driver.run_script(
            retain(self._context, self.serde, history, drop_idle, archive, dry_run, actor, on_thread)
        )

    def copy_thread(self, source_thread_id: str, target_thread_id: str, *, actor: str | None = None) -> None:
        """Copy a thread with all namespaces, checkpoints and writes. The copy does not depend on the source.

        Raises:
            ThreadNotFoundError: when the source has no data.
            ThreadExistsError: when the target has data, other than this very copy.
        """
        return self._driver.run_script(threads.copy_thread(self._context, source_thread_id, target_thread_id, actor))

    def fork_thread(
        self,
        source_thread_id: str,
        target_thread_id: str,
        checkpoint_id: str | None = None,
        *,
        actor: str | None = None,
    ) -> RunnableConfig:
        """Copy only the path that leads to one checkpoint; returns the config that names it in the target.

        The path is the checkpoint and its ancestors, with their writes, and what subgraphs saved under them.

        Args:
            checkpoint_id: of the root graph; the latest by default.

        Raises:
            ThreadNotFoundError: when the source or the checkpoint is not there.
            ThreadExistsError: when the target has data, other than this very copy.
        """
        return self._driver.run_script(
            threads.fork_thread(self._context, source_thread_id, target_thread_id, checkpoint_id, actor)
        )

    # --- seals, projections, replication

    def seal(self, *, actor: str | None = None, key: Any = None) -> Seal:
        """Seal the log: store a Merkle root over the latest digests of all streams, chained to the seal before.

        Keep the seal's digest out of reach of users who may change the database: `verify` with it shows whether the
        log is still what it was then, whatever they changed. A log in which nothing changed gets a new seal too: it
        says that nothing did until now. One transaction; appends do not wait for it, other seals do.

        Args:
            key: sign it with this Ed25519 private key: a path to a PEM file, its content, or a key of `cryptography`
                (extra ``seal``). `Seal.document` is then what to keep. In a transaction of the caller's, it holds once
                that is committed.

        Raises:
            InvalidInputError: when the key is none. Nothing was sealed.
            LogBusyError: when another transaction goes on sealing for half a minute.
        """
        return self._driver.run_script(seal(self._context, actor, key))

    def project(
        self,
        projections: Projection | Iterable[Projection],
        *,
        follow: bool = False,
        batch_events: int = BATCH_EVENTS,
        poll_interval: float = 1.0,
        on_batch: OnBatch | None = None,
        on_undecodable: Literal["stop", "skip"] = "stop",
    ) -> dict[str, int]:
        """Bring custom projections up to date; returns how many events were applied to each, by name.

        A batch and the projection's cursor are one transaction: each event is applied once, whatever happens. Several
        workers may run the same projection: one applies, the others stand by.

        Args:
            projections: one or several, of different names. One that is new is set up first.
            follow: go on when all is applied, until interrupted.
            batch_events: apply at most so many events at a time.
            poll_interval: seconds between looks for new events, when following.
            on_batch: told of each batch: the projection's name, and what was done.
            on_undecodable: ``"stop"`` at an event that does not decode, or ``"skip"`` it, with a logged warning that
                has its cursor and its position. To find that out, each event is decoded.

        Raises:
            ProjectionChangedError: when one was set up by another version or class: `rebuild_projection()` it.
            ProjectionError: when one fails on a batch; its view and its cursor stay as they were.
            LogCorruptedError: naming the event that does not decode and its position, unless such are skipped.
        """
        return self._driver.run_script(
            _projecting.project(
                self._context,
                self.serde,
                self._is_async,
                projections,
                follow,
                batch_events,
                poll_interval,
                on_batch,
                on_undecodable,
            )
        )

    def rebuild_projection(self, projections: Projection | Iterable[Projection]) -> None:
        """Empty custom projections, and let them begin again at the log's start: `project()` then applies all events.

        What was erased from the log does not come back.

        Args:
            projections: one or several, all of them validated before the first is emptied.

        Raises:
            ProjectionError: when its `setup` fails.
        """
        return self._driver.run_script(_projecting.rebuild(self._context, self.serde, self._is_async, projections))

    def forget_projection(self, name: str) -> None:
        """Forget how far a custom projection has come. Its view stays: drop it as it was made.

        Raises:
            InvalidInputError: when there is none of that name.
        """
        return self._driver.run_script(_projecting.forget(self._context, self.serde, name))

    def rebuild(
        self,
        *,
        check: bool = False,
        workers: int = WORKERS,
        restart: bool = False,
        accept_loss: bool = False,
        on_progress: OnProgress | None = None,
        on_difference: OnDifference | None = None,
    ) -> Rebuilt:
        """Rebuild projections and snapshots from the log alone, in place, while readers and writers go on.

        Streams are derived and compared without a lock. Where rows differ they are put right, in transactions that keep
        the writers of that one stream waiting for some milliseconds. Killed anywhere, the same call goes on where it
        was. The user must own the log.

        Args:
            check: change nothing, and compare what is there with what the log says. The right to read is enough.
            workers: streams side by side, as far as the pool has connections.
            restart: begin from the start, whatever an earlier call has done.
            accept_loss: where events are missing at the end of a stream, append a record of that and go on. `verify`
                goes on to name the loss, and the numbers are not given out again.
            on_progress: told how far it is, now and then.
            on_difference: told of rows that are not what the log says; of each stream the first 20 at most.

        Raises:
            EventsLostError: when `streams` has a number for a stream that is beyond its last event, without
                `accept_loss`. What was put right before stays so.
            LogCorruptedError: naming the event that does not decode, and its position. What was put right before stays
                so, and once it is repaired, the same call goes on.
            LogBusyError: when rows of `streams` were deleted meanwhile; run it again.
            MissingGrantError: when the user does not own the log.
            DatabaseTooNewError: when a newer version of this package has set up the database.
        """
        return self._driver.run_script(
            rebuild(self._context, self.serde, check, workers, restart, accept_loss, on_progress, on_difference)
        )

    def make_subscriber(self) -> None:
        """Have an empty log receive another one's events by logical replication, and refuse all others from now on.

        Call it after `setup()`, and before the subscription is made. The user must own the log.

        Raises:
            MissingGrantError: when the user does not own the log.
            StorageError: when the log is not empty.
        """
        return self._driver.run_atomic(lambda: make_subscriber(self._context.statements))

    def take_over(self, *, workers: int = WORKERS, on_progress: OnProgress | None = None) -> Rebuilt:
        """Take the place of the log that this one subscribes to: derive projections and snapshots, then append here.

        Drop the subscription first. What was replicated stays as it is; positions go on behind it, and the feed begins
        a new generation. Interrupted anywhere, run it again: until it is done, the log refuses to append. The user must
        own the log.

        Args:
            workers: transactions side by side, as far as the pool has connections.
            on_progress: told how far it is, now and then.

        Raises:
            InvalidInputError: when the log is no subscriber.
            EventsLostError: as `rebuild`.
            LogCorruptedError: naming an event that does not decode.
            MissingGrantError: when the user does not own the log.
            StorageError: when there still is a subscription, or a table that must be replicated was not.
        """
        return self._driver.run_script(take_over(self._context, self.serde, workers, on_progress))
