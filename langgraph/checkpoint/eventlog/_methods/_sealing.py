"""Seals: what is in the log at one moment, to be kept elsewhere."""

from __future__ import annotations

from eventlog.seals import Proof, Seal
from langgraph.checkpoint.eventlog._methods._base import AsyncMethods, SyncMethods
from langgraph.checkpoint.eventlog.integrity import seal as _sealing

__all__ = ["AsyncSealing", "SyncSealing"]


class SyncSealing(SyncMethods):
    """Sealing the log, and proofs from seals."""

    def seal(self, *, actor: str | None = None) -> Seal:
        """Seal the log: store a Merkle root over the latest digests of all streams, chained to the seal before.

        Keep the seal's digest where nobody who may change the database can change it: `verify` with it shows whether
        the log is still what it was then, whoever changed it. A log in which nothing changed gets a new seal too: it
        says that nothing did until now. One transaction; appends do not wait for it, other seals do.

        Args:
            actor: on whose behalf, for the log.

        Raises:
            LogBusyError: when somebody else goes on sealing for half a minute.
        """
        return self._driver.run_script(_sealing.seal(self._context, actor))

    def seals(self, *, limit: int = 100, before: int | None = None) -> list[Seal]:
        """The seals, the latest first.

        Args:
            limit: at most so many.
            before: only those before this number.
        """
        return self._driver.run(_sealing.list_seals(self._context, limit, before))

    def prove(self, thread_id: str, checkpoint_ns: str = "", *, seal: int | None = None) -> Proof:
        """Prove that a thread's namespace had come to a certain event when a seal was taken.

        `verify_proof` checks it without a database. It shows nothing of other threads but hashes.

        Args:
            seal: the seal's number; the latest by default.

        Raises:
            SealNotFoundError: when there is no such seal.
            ThreadNotFoundError: when the seal does not have the thread's namespace.
        """
        proof, _ = self._driver.run(_sealing.prove(self._context, thread_id, checkpoint_ns, seal))
        return proof


class AsyncSealing(AsyncMethods):
    """As `SyncSealing`."""

    async def seal(self, *, actor: str | None = None) -> Seal:
        """As `EventLogSaver.seal`."""
        return await self._run(self._driver.run_script(_sealing.seal(self._context, actor)))

    async def seals(self, *, limit: int = 100, before: int | None = None) -> list[Seal]:
        """As `EventLogSaver.seals`."""
        return await self._run(self._driver.run(_sealing.list_seals(self._context, limit, before)))

    async def prove(self, thread_id: str, checkpoint_ns: str = "", *, seal: int | None = None) -> Proof:
        """As `EventLogSaver.prove`."""
        proof, _ = await self._run(self._driver.run(_sealing.prove(self._context, thread_id, checkpoint_ns, seal)))
        return proof
