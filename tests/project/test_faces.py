"""The sync and the async face say the same: names, parameters, defaults and annotations, but for what is awaited."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from langgraph.checkpoint.eventlog import EventLog, EventLogSaver, InvalidInputError
from langgraph.checkpoint.eventlog.aio import AsyncEventLog, AsyncEventLogSaver
from tests.support.checkpoints import config_of, put

#: What LangGraph calls, under these names and with an `a` before them.
CONTRACT = (
    "get_tuple",
    "list",
    "put",
    "put_writes",
    "delete_thread",
    "delete_for_runs",
    "copy_thread",
    "prune",
    "get_delta_channel_history",
)

MADE_WITH = ("__init__", "from_conn_string", "embedded")

#: What a saver has beside LangGraph's contract.
OWN = {"from_conn_string", "embedded", "setup", "log"}

#: How annotations of the async face read in the sync one.
TWINS = (
    (r"\bAsyncGenerator\[(.*), None\]", r"Generator[\1, None, None]"),
    (r"\bAsync(Iterator|Connection|Conn|Pipeline|EventLog)\b", r"\1"),
)


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def shape(function: Callable[..., Any]) -> list[Any]:
    """The parameters and the result, as the sync face spells them."""

    def spelled(annotation: Any) -> str:
        text = annotation if isinstance(annotation, str) else repr(annotation)
        for pattern, replacement in TWINS:
            text = re.sub(pattern, replacement, text)
        return text

    found = inspect.signature(function)
    parameters = [(each.name, each.kind, each.default, spelled(each.annotation)) for each in found.parameters.values()]
    return [*parameters, spelled(found.return_annotation)]


def options(function: Callable[..., Any]) -> list[str]:
    """Parameters that take any keyword."""
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]


def is_awaited(function: Callable[..., Any]) -> bool:
    """Whether it is a coroutine function, or gives an async iterator."""
    return inspect.iscoroutinefunction(function) or inspect.signature(function).return_annotation.startswith("Async")


@pytest.mark.parametrize("name", CONTRACT)
def test_savers_have_the_same_signatures(name: str) -> None:
    expected = shape(getattr(EventLogSaver, name))
    assert shape(getattr(AsyncEventLogSaver, f"a{name}")) == expected
    assert shape(getattr(AsyncEventLogSaver, name)) == expected
    assert is_awaited(getattr(AsyncEventLogSaver, f"a{name}"))
    assert not is_awaited(getattr(EventLogSaver, name))
    assert not is_awaited(getattr(AsyncEventLogSaver, name))
    assert options(getattr(EventLogSaver, name)) == []


def test_savers_have_what_langgraph_calls_and_nothing_else() -> None:
    for cls in (EventLogSaver, AsyncEventLogSaver):
        assert public(cls) - public(BaseCheckpointSaver) == OWN
    assert is_awaited(AsyncEventLogSaver.setup)
    assert shape(AsyncEventLogSaver.setup) == shape(EventLogSaver.setup)
    assert shape(AsyncEventLogSaver.get_next_version) == shape(EventLogSaver.get_next_version)


@pytest.mark.parametrize("name", sorted(public(EventLog) | {"__init__"}))
def test_logs_have_the_same_signatures(name: str) -> None:
    ours, twin = getattr(EventLog, name), getattr(AsyncEventLog, name)
    assert shape(ours) == shape(twin)
    if name not in MADE_WITH:
        assert is_awaited(twin)
        assert not is_awaited(ours)
        assert options(ours) == []


def test_logs_have_the_same_names() -> None:
    assert public(EventLog) == public(AsyncEventLog)


@pytest.mark.parametrize("name", MADE_WITH)
def test_logs_have_the_savers_constructors(name: str) -> None:
    for log, saver in ((EventLog, EventLogSaver), (AsyncEventLog, AsyncEventLogSaver)):
        assert shape(getattr(log, name)) == shape(getattr(saver, name))


@pytest.mark.parametrize("name", CONTRACT)
def test_savers_have_langgraphs_parameters(name: str) -> None:
    def parameters(cls: type) -> list[tuple[Any, ...]]:
        found = inspect.signature(getattr(cls, name)).parameters.values()
        return [(each.name, each.kind, each.default) for each in found]

    assert parameters(EventLogSaver) == parameters(BaseCheckpointSaver)


@pytest.mark.parametrize("name", [name for name in CONTRACT if name in public(EventLog)])
def test_logs_add_options_to_langgraphs_parameters(name: str) -> None:
    ours = inspect.signature(getattr(EventLog, name)).parameters
    langgraphs = inspect.signature(getattr(EventLogSaver, name)).parameters
    assert [ours[each] for each in langgraphs] == list(langgraphs.values())
    assert all(ours[each].kind is inspect.Parameter.KEYWORD_ONLY for each in ours.keys() - langgraphs.keys())


# --- a log alone


@asynccontextmanager
async def opened(kind: str, uri: str, **settings: Any) -> AsyncIterator[Any]:
    """An `EventLog` or its twin, on a connection, a pool or a string."""
    if kind == "sync-connection":
        with psycopg.connect(uri) as conn:
            yield EventLog(conn, **settings)
    elif kind == "sync-pool":
        with ConnectionPool(uri, min_size=1, open=True) as pool:
            yield EventLog(pool, **settings)
    elif kind == "sync-string":
        with EventLog.from_conn_string(uri, **settings) as log:
            yield log
    elif kind == "async-connection":
        async with await psycopg.AsyncConnection.connect(uri) as conn:
            yield AsyncEventLog(conn, **settings)
    elif kind == "async-pool":
        async with AsyncConnectionPool(uri, min_size=1, open=False) as pool:
            yield AsyncEventLog(pool, **settings)
    else:
        async with AsyncEventLog.from_conn_string(uri, **settings) as log:
            yield log


async def test_a_log_opens_without_a_graph(saver: Any, kind: str, database_uri: str) -> None:
    """It reads what a saver wrote, and erases it."""
    await put(saver, config_of(), "a", {"x": ["value"]})
    kind = kind.replace("pipeline", "string")
    async with opened(kind, database_uri) as log:
        if kind.startswith("sync"):
            assert [change.values for change in log.changes("1")] == [[["value"]]]
            log.delete_thread("1", actor="an operator")
            (record,) = log.history("1")
        else:
            assert [change.values async for change in log.changes("1")] == [[["value"]]]
            await log.delete_thread("1", actor="an operator")
            (record,) = [record async for record in log.history("1")]
    assert record.operation["actor"] == "an operator"
    assert await saver.aget_tuple(config_of()) is None


async def test_a_log_validates_what_it_is_made_with(database_uri: str) -> None:
    for make in (EventLog, AsyncEventLog):
        with pytest.raises(InvalidInputError, match="unknown setting 'no_such'"):
            make(None, no_such=1)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError, match="a connection string was given, but"):
            make(database_uri)  # type: ignore[arg-type]
