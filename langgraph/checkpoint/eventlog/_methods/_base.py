"""What methods find in the saver that they are part of."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from eventlog.db.async_ import AsyncDriver
from eventlog.db.sync import Driver
from langgraph.checkpoint.eventlog._base import BaseEventLogSaver

__all__ = ["AsyncMethods", "SyncMethods"]

T = TypeVar("T")


class SyncMethods(BaseEventLogSaver):
    """Methods that block."""

    _driver: Driver


class AsyncMethods(BaseEventLogSaver):
    """Methods that are awaited, in the event loop of the first."""

    _driver: AsyncDriver
    _loop: asyncio.AbstractEventLoop | None

    async def _run(self, awaitable: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return await awaitable
