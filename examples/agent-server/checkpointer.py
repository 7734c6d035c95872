"""The checkpointer of LangGraph's server, named in langgraph.json.

The server enters the context manager once in each of its event loops, uses the saver in that loop only, and exits it
when the server stops. Each event loop of each process therefore has its own pool.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver

__all__ = ["create_checkpointer"]

# Maximum per event loop. The sum over all loops and processes must stay below the database's max_connections.
POOL_SIZE = 10


@asynccontextmanager
async def create_checkpointer() -> AsyncIterator[AsyncEventLogSaver]:
    """Open the saver on the database in the environment variable EVENTLOG_DSN.

    DATABASE_URI belongs to the server, which keeps its own tables there.
    """
    dsn = os.environ.get("EVENTLOG_DSN")
    if not dsn:
        raise RuntimeError("set EVENTLOG_DSN to a connection string, such as postgresql://user:password@host:5432/app")
    async with AsyncEventLogSaver.from_conn_string(dsn, pool_max_size=POOL_SIZE) as saver:
        await saver.setup()  # Safe to call from many processes at once.
        yield saver
