"""LangGraph's guide "how to use Postgres checkpointer for persistence", with `EventLogSaver` for `PostgresSaver`.

Six ways to connect a saver and to read stored checkpoints back, on the threads "1" to "6". `Connect` holds the
connection settings: the guide's, or none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from agent import weather_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint
from psycopg import AsyncConnection, Connection
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver

__all__ = ["ASYNC_WAYS", "GUIDE", "PLAIN", "SYNC_WAYS", "Connect", "Told", "ask", "thread"]

SF = "what's the weather in sf"
NYC = "what's the weather in nyc"


@dataclass(frozen=True)
class Connect:
    """Settings of connections and pools."""

    schema: str
    """The log's schema. Each `Connect` has its own log, so that both can use the same thread ids."""
    connection: dict[str, Any] = field(default_factory=dict)
    pool: dict[str, Any] = field(default_factory=dict)


_SETTINGS = {"autocommit": True, "prepare_threshold": 0}
GUIDE = Connect("eventlog", _SETTINGS, {"max_size": 20, "kwargs": _SETTINGS})
PLAIN = Connect("eventlog_plain")


class Told(NamedTuple):
    """The result of one way."""

    saver: str
    read_with: str
    thread_id: str
    answer: str
    returned: str


class NotAsStoredError(Exception):
    """The stored messages differ from the messages that the agent returned."""


def ask(question: str) -> dict[str, Any]:
    """Return a graph's input."""
    return {"messages": [("human", question)]}


def thread(thread_id: str) -> RunnableConfig:
    """Return the config of a thread."""
    return {"configurable": {"thread_id": thread_id}}


# --- sync


def sync_pool(uri: str, model: BaseChatModel, connect: Connect) -> Told:
    with ConnectionPool(uri, **connect.pool) as pool:
        checkpointer = EventLogSaver(pool, schema=connect.schema)
        checkpointer.setup()  # once per database; safe to repeat

        graph = weather_agent(model, checkpointer)
        config = thread("1")
        result = graph.invoke(ask(SF), config)

        checkpoint = checkpointer.get(config)

    return _told("ConnectionPool", "get", "1", result, checkpoint, "checkpoint")


def sync_connection(uri: str, model: BaseChatModel, connect: Connect) -> Told:
    with Connection.connect(uri, **connect.connection) as conn:
        checkpointer = EventLogSaver(conn, schema=connect.schema)

        graph = weather_agent(model, checkpointer)
        config = thread("2")
        result = graph.invoke(ask(SF), config)

        found = checkpointer.get_tuple(config)

    return _told("Connection", "get_tuple", "2", result, found and found.checkpoint, "tuple")


def sync_string(uri: str, model: BaseChatModel, connect: Connect) -> Told:
    with EventLogSaver.from_conn_string(uri, schema=connect.schema) as checkpointer:
        graph = weather_agent(model, checkpointer)
        config = thread("3")
        result = graph.invoke(ask(SF), config)

        found = list(checkpointer.list(config))

    returned = f"{len(found)} tuples"
    return _told("connection string", "list", "3", result, found[0].checkpoint, returned)


# --- async


async def async_pool(uri: str, model: BaseChatModel, connect: Connect) -> Told:
    async with AsyncConnectionPool(uri, **connect.pool) as pool:
        checkpointer = AsyncEventLogSaver(pool, schema=connect.schema)
        await checkpointer.setup()

        graph = weather_agent(model, checkpointer)
        config = thread("4")
        result = await graph.ainvoke(ask(NYC), config)

        checkpoint = await checkpointer.aget(config)

    return _told("AsyncConnectionPool", "aget", "4", result, checkpoint, "checkpoint")


async def async_connection(uri: str, model: BaseChatModel, connect: Connect) -> Told:
    async with await AsyncConnection.connect(uri, **connect.connection) as conn:
        checkpointer = AsyncEventLogSaver(conn, schema=connect.schema)

        graph = weather_agent(model, checkpointer)
        config = thread("5")
        result = await graph.ainvoke(ask(NYC), config)

        found = await checkpointer.aget_tuple(config)

    returned = "tuple"
    return _told("AsyncConnection", "aget_tuple", "5", result, found and found.checkpoint, returned)


async def async_string(uri: str, model: BaseChatModel, connect: Connect) -> Told:
    async with AsyncEventLogSaver.from_conn_string(uri, schema=connect.schema) as checkpointer:
        graph = weather_agent(model, checkpointer)
        config = thread("6")
        result = await graph.ainvoke(ask(NYC), config)

        found = [c async for c in checkpointer.alist(config)]

    returned = f"{len(found)} tuples"
    return _told("connection string", "alist", "6", result, found[0].checkpoint, returned)


SYNC_WAYS: tuple[Callable[..., Told], ...] = (sync_pool, sync_connection, sync_string)
ASYNC_WAYS: tuple[Callable[..., Any], ...] = (async_pool, async_connection, async_string)


def _told(
    saver: str,
    read_with: str,
    thread_id: str,
    result: dict[str, Any],
    checkpoint: Checkpoint | None,
    returned: str,
) -> Told:
    """Return a row of the table. Raises NotAsStoredError if the saver returned other messages than the agent."""
    messages: list[BaseMessage] = result["messages"]
    stored = checkpoint["channel_values"].get("messages") if checkpoint else None
    if stored != messages:
        raise NotAsStoredError(f"thread {thread_id}: {read_with} returned {stored!r}, not {messages!r}")
    return Told(saver, read_with, thread_id, str(messages[-1].content), returned)
