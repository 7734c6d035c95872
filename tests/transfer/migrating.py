"""A saver that takes threads over, on the real savers, with async methods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from langgraph.checkpoint.eventlog import MigratingSaver
from langgraph.checkpoint.eventlog.aio import AsyncMigratingSaver
from tests.support.adapters import AsyncFace, open_saver
from tests.support.checkpoints import listed
from tests.support.pooler import direct
from tests.transfer.old_savers import OLD_KINDS, fill, open_incumbent, open_old

__all__ = [
    "FENCED",
    "KINDS",
    "POOLS",
    "at_once",
    "mark_of",
    "migrating",
    "moved_to",
    "native",
    "old_ids",
    "open_migrating",
    "prepare",
    "put_up_fence",
]


KINDS = pytest.mark.parametrize("kind", OLD_KINDS)
POOLS = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
FENCED = pytest.mark.parametrize("fenced", [True, False], ids=["fence", "no fence"])


def native(saver: Any) -> Any:
    """The saver itself, without async methods on top."""
    return saver.sync if isinstance(saver, AsyncFace) else saver


def migrating(mode: str, old: Any, new: Any, **given: Any) -> Any:
    if mode == "async":
        return AsyncMigratingSaver(native(old), native(new), **given)
    return AsyncFace(MigratingSaver(native(old), native(new), **given))


@asynccontextmanager
async def open_migrating(kind: str, uri: str, *, schema: str | None = None, **given: Any) -> AsyncIterator[Any]:
    """One with its old saver opened in this way (`OLD_KINDS`), both on the same database.

    Its `.old_face` has the old saver with async methods.
    """
    mode = kind.split("-")[0]
    new = f"{mode}-connection" if kind.endswith("connection") else f"{mode}-pool"
    async with open_old(kind, uri, **given) as old, open_saver(new, uri, **given) as log_saver:
        saver = migrating(mode, old, log_saver, **({} if schema is None else {"schema": schema}))
        saver.old_face, saver.new_face = old, log_saver
        yield saver


async def put_up_fence(uri: str) -> None:
    async with open_incumbent("async", uri) as incumbent:
        await incumbent.install_fence()


async def prepare(kind: str, uri: str, fenced: bool, *thread_ids: str) -> None:
    """Threads of the old saver, and a fence."""
    async with open_old(f"{kind.split('-')[0]}-pool", uri) as old:
        for thread_id in thread_ids:
            await fill(old, thread_id)
    if fenced:
        await put_up_fence(uri)


async def old_ids(kind: str, uri: str) -> set[str]:
    """The threads that the old tables have."""
    async with open_old(f"{kind.split('-')[0]}-pool", uri) as old:
        return {each.config["configurable"]["thread_id"] for each in await listed(old, None)}


def mark_of(uri: str, thread_id: str) -> str | None:
    """The fence's mark of a thread."""
    with psycopg.connect(direct(uri)) as conn:
        found = conn.execute("select state from moved where thread_id = %s", (thread_id,)).fetchone()
    return None if found is None else str(found[0])


def moved_to(uri: str, thread_id: str) -> str:
    """Where the fence says that a thread is moved to; "" without a mark."""
    with psycopg.connect(direct(uri)) as conn:
        found = conn.execute("select moved_to from moved where thread_id = %s", (thread_id,)).fetchone()
    return "" if found is None else str(found[0])


async def at_once(mode: str, *calls: Any) -> list[Any]:
    """The results of coroutine functions that run at the same time."""
    if mode == "async":
        return list(await asyncio.gather(*(call() for call in calls)))
    return list(await asyncio.gather(*(asyncio.to_thread(asyncio.run, call()) for call in calls)))
