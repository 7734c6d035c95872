"""The part of the log that proves what it holds: verification, seals, proofs, receipts, and the rebuild of tables.

`EventLog` has these methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from eventlog.archive import VerifiedArchive, verify_archive
from eventlog.seals import Proof, Seal
from langgraph.checkpoint.eventlog._rebuild import WORKERS, rebuild
from langgraph.checkpoint.eventlog._setup import Connected
from langgraph.checkpoint.eventlog.integrity import seal as _sealing
from langgraph.checkpoint.eventlog.integrity.receipts import make_receipt
from langgraph.checkpoint.eventlog.integrity.verify import OnStream, Verified, verify
from langgraph.checkpoint.eventlog.integrity.verify_seals import anchor_of
from projections.compare import OnDifference
from projections.rebuild import OnProgress, Rebuilt

__all__ = ["LogProof"]


class LogProof(Connected):
    """The methods of `EventLog` for verification, seals and rebuilding."""

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
        """Compute every digest again, account for every event number, and check the seals.

        The call finds events that were altered, removed, inserted or moved, relocated or erased events without a
        record, sealed streams that are gone, and projections that disagree with the log. It reads everything that it
        verifies, while others append. It needs the right to read; without `states`, it needs no key.

        A user with all rights could compute all digests and seals again. To notice that, keep a seal's digest elsewhere
        and pass it as `seal`.

        Args:
            thread_ids: Verify only these threads, and their places in the seals. None verifies the whole log.
            after: Continue behind this thread id and namespace, the last pair that `on_stream` got from an interrupted
                call. It does not go with `thread_ids`.
            workers: Verify this many parts of the log at the same time, 4 by default, at most as many as the pool has
                connections.
            seal: A seal that the log must have: its digest in hex, `"number:digest"`, or a signed seal
                (`Seal.document`).
            public_key: The signer's public key for a signed seal: the path of a PEM file, its content, or a key object.
            states: Also decode every state and all writes, and compare them with their digests, snapshots and
                projections. An encrypted log needs its key.
            on_stream: Called with thread id, namespace and a list of `Problem` for each stream, in order.

        Returns:
            The numbers of streams, events and seals, and the problems.

        Raises:
            ProofError: The signed seal was altered, or belongs to another key or another log.
            ThreadNotFoundError: One of `thread_ids` never existed, or left no trace.
        """
        rebuilder = self._context.reader(self.serde).rebuilder() if states else None
        anchor = None if seal is None and public_key is None else anchor_of(seal, public_key)
        return self._driver.run_script(verify(self._context, thread_ids, after, workers, anchor, rebuilder, on_stream))

    def seal(self, *, actor: str | None = None, key: Any = None) -> Seal:
        """Seal the log: store a Merkle root over the latest digests of all streams.

        Each seal covers the seal before it. Keep its digest out of reach of users who may change the database; `verify`
        with that digest shows whether the log still holds the sealed events. A log without changes gets a new seal,
        too. Appends do not wait for a seal; other seals do.

        With a key, `Seal.document` is the signed seal to keep. Inside your own transaction, it is valid once you have
        committed.

        Args:
            actor: The person or service behind the call. The seal stores it.
            key: Sign the seal with this Ed25519 private key: the path of a PEM file, its content, or a key object
                (extra `seal`).

        Returns:
            The seal.

        Raises:
            InvalidInputError: The key is not a private key. Nothing was sealed.
            LogBusyError: Other sessions have been sealing the log for half a minute.
            MissingGrantError: The database user lacks the rights of the set `sealer`.
        """
        return self._driver.run_script(_sealing.seal(self._context, actor, key))

    def seals(self, *, limit: int = 100, before: int | None = None) -> list[Seal]:
        """List the seals, the latest first.

        Args:
            limit: Return at most this many seals, at least 1.
            before: Only seals with a smaller number.

        Returns:
            The seals. Their `document` is None: the database does not store signatures.
        """
        return self._driver.run(lambda: _sealing.list_seals(self._context, limit, before))

    def prove(self, thread_id: str, checkpoint_ns: str = "", *, seal: int | None = None) -> Proof:
        """Prove which event was the last of a thread's namespace when a seal was taken.

        `verify_proof` checks the proof without a database. The proof shows nothing of other threads but hashes.

        Args:
            thread_id: The thread.
            checkpoint_ns: The namespace; empty for the root graph.
            seal: The number of the seal; None for the latest.

        Returns:
            The proof.

        Raises:
            SealNotFoundError: The log does not have that seal.
            ThreadNotFoundError: The seal does not cover the thread's namespace.
            LogCorruptedError: The log has more or fewer sealed streams than the seal says.
        """
        return self._driver.run(lambda: _sealing.prove(self._context, thread_id, checkpoint_ns, seal))

    def receipt(self, thread_id: str, *, key: Any, reason: str | None = None, since: datetime | None = None) -> str:
        """Make a signed receipt of the erasures of a thread.

        For each erasure the receipt names the database user, the time and the operation, and for each erased event its
        number, time and a hash. It contains no content and no thread id. `verify_receipt` checks the signature. The
        receipt repeats the records of the log, which `verify` checks. Make it before retention drops the records.

        Args:
            thread_id: The thread.
            key: An Ed25519 private key, other than the key of the seals: the path of a PEM file, its content, or a key
                object (extra `seal`).
            reason: Your reason for the erasure, which the receipt states.
            since: Only erasures since this time, with a zone.

        Returns:
            The signed receipt, one line of JSON.

        Raises:
            InvalidInputError: The key is not a private key.
            LogCorruptedError: A record does not decode. The message names it.
            ThreadNotFoundError: The thread never existed, its records are gone, or nothing was erased from it.
        """
        return self._driver.run(lambda: make_receipt(self._context.statements, thread_id, key, reason, since))

    def verify_archive(self, file: str | Path) -> VerifiedArchive:
        """Check that an archive is the file that `retain` wrote before it dropped the partition.

        The call compares the file's sha256 with the record of the drop.

        Args:
            file: The Parquet file, under the name that `retain` gave it.

        Returns:
            The partition, its bounds, its number of events, and who dropped it when.

        Raises:
            InvalidInputError: The file does not exist, or its name is not that of a partition of this log.
            ProofError: The file was changed, or its partition was not dropped, or dropped without an archive.
        """
        return self._driver.run(lambda: verify_archive(self._context.statements, file))

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
        """Rebuild projections and snapshots from the log, while readers and writers continue.

        The call derives and compares streams without a lock. It corrects rows that differ in short transactions, which
        hold up the writers of one stream for some milliseconds. After an interruption, the same call continues.

        Args:
            check: Change nothing, and compare the tables with the log. The right to read is enough. It goes neither
                with `restart` nor with `accept_loss`.
            workers: Rebuild this many streams at the same time, 4 by default, at most as many as the pool has
                connections.
            restart: Begin with the first stream, also when an earlier call was interrupted.
            accept_loss: Where events are missing at the end of a stream, append a record of the loss and continue.
                `verify` goes on reporting the loss.
            on_progress: Called with a `RebuildProgress` now and then.
            on_difference: Called with a `RowDifference` for each differing row, at most the first 20 of a stream.

        Returns:
            The numbers of rows, and the differences.

        Raises:
            InvalidInputError: `check` was given with `restart` or `accept_loss`.
            EventsLostError: A stream's row counts more events than the log has. Corrections so far stay.
            LogCorruptedError: An event does not decode; the message has its position. Corrections so far stay. Repair
                the event and call again.
            LogBusyError: Rows of `streams` were deleted meanwhile: call again.
            MissingGrantError: The database user does not own the log.
            DatabaseTooNewError: A newer version of the package set up the database.
        """
        return self._driver.run_script(
            rebuild(self._context, self.serde, check, workers, restart, accept_loss, on_progress, on_difference)
        )
