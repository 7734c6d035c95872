"""The measured savers: ours and the incumbent's, on the same server, and two others for orientation.

Each is set up as in its guide: a pool of connections with autocommit, statements prepared at once, and rows as
dictionaries. SQLite is a file, with its saver's own settings; the saver in memory has no settings.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from bench.results import EVENTLOG, POSTGRES
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver

__all__ = ["MeasuredSaver", "MeasuredSavers", "async_pool", "disagreement", "open_async", "open_savers", "pool"]

#: The settings in the guides of both.
CONNECTION: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}

Serde = Callable[[], SerializerProtocol]


@dataclass
class MeasuredSaver:
    """One saver."""

    name: str
    saver: Any
    tables: str = ""
    """The pattern of its tables' qualified names; empty if it has no tables on the server."""
    file: Path | None = None
    """Its database, if that is a file."""
    fresh: Callable[[], Any] | None = None
    """Makes a saver of the same kind on the same pool, with empty caches; None if such savers have no cache."""


@dataclass
class MeasuredSavers:
    """All of a race, by name, and the pool that floors are measured on."""

    by_name: dict[str, MeasuredSaver]
    pool: Any
    serde: SerializerProtocol

    def __iter__(self) -> Iterator[MeasuredSaver]:
        return iter(self.by_name.values())

    def __getitem__(self, name: str) -> MeasuredSaver:
        return self.by_name[name]


@contextlib.contextmanager
def pool(uri: str, size: int = 2, **connection: Any) -> Iterator[ConnectionPool[Any]]:
    """A pool of `size` connections, all of them open; keywords are added to the connections' settings."""
    kwargs = {**CONNECTION, **connection}
    with ConnectionPool(uri, min_size=size, max_size=size, kwargs=kwargs, open=True, timeout=120) as opened:
        opened.wait()
        yield opened


@contextlib.asynccontextmanager
async def async_pool(uri: str, size: int = 2, **connection: Any) -> AsyncIterator[AsyncConnectionPool[Any]]:
    """As `pool`, for the async savers."""
    kwargs = {**CONNECTION, **connection}
    opened = AsyncConnectionPool(uri, min_size=size, max_size=size, kwargs=kwargs, open=False, timeout=120)
    async with opened:
        await opened.wait()
        yield opened


@contextlib.contextmanager
def open_savers(
    uri: str, *, serde: Serde = JsonPlusSerializer, others: bool = True, size: int = 2, **connection: Any
) -> Iterator[MeasuredSavers]:
    """The savers, set up, in a database that is new.

    Args:
        uri: of the database.
        serde: makes a serializer; each saver has its own, and so have the floors.
        others: SQLite and memory too.
        size: connections of each pool.
        connection: added to the connections' settings.
    """
    with contextlib.ExitStack() as stack:
        ours, theirs, floors = (stack.enter_context(pool(uri, size, **connection)) for _ in range(3))
        savers = [
            MeasuredSaver(
                EVENTLOG,
                EventLogSaver(ours, serde=serde()),
                "eventlog.%",
                fresh=lambda: EventLogSaver(ours, serde=serde()),
            ),
            MeasuredSaver(POSTGRES, PostgresSaver(theirs, serde=serde()), "public.checkpoint%"),
        ]
        if others:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            file = Path(folder) / "checkpoints.sqlite"
            conn = stack.enter_context(contextlib.closing(sqlite3.connect(file, check_same_thread=False)))
            savers.append(MeasuredSaver("sqlite", SqliteSaver(conn, serde=serde()), file=file))
            savers.append(MeasuredSaver("memory", InMemorySaver(serde=serde())))
        for each in savers:
            if not isinstance(each.saver, InMemorySaver):
                each.saver.setup()
        yield MeasuredSavers({each.name: each for each in savers}, floors, serde())


@contextlib.asynccontextmanager
async def open_async(
    uri: str, *, serde: Serde = JsonPlusSerializer, size: int = 2, **connection: Any
) -> AsyncIterator[MeasuredSavers]:
    """Our async saver and the incumbent's, set up, each on a pool. See `open_savers`."""
    async with contextlib.AsyncExitStack() as stack:
        ours, theirs, floors = [await stack.enter_async_context(async_pool(uri, size, **connection)) for _ in range(3)]
        savers = [
            MeasuredSaver(EVENTLOG, AsyncEventLogSaver(ours, serde=serde()), "eventlog.%"),
            MeasuredSaver(POSTGRES, AsyncPostgresSaver(theirs, serde=serde()), "public.checkpoint%"),
        ]
        for each in savers:
            await each.saver.setup()
        yield MeasuredSavers({each.name: each for each in savers}, floors, serde())


def disagreement(tuples: Mapping[str, CheckpointTuple | None]) -> str | None:
    """The difference of the savers' answers to one call; None when they agree.

    Compared are the state, its versions, the parent and the pending writes. (Metadata is not compared, because each
    saver adds its own.)
    """
    told = {who: _essence(each) for who, each in tuples.items()}
    first, *rest = told
    for who in rest:
        for part, value in told[first].items():
            if told[who].get(part) != value:
                return f"{first} and {who} disagree about {part}"
    return None


def agree(tuples: Mapping[str, CheckpointTuple | None]) -> None:
    """Raises SystemExit when the savers' answers to one call differ: the measurements would be worthless."""
    if (what := disagreement(tuples)) is not None:
        raise SystemExit(what)


def _essence(found: CheckpointTuple | None) -> dict[str, Any]:
    if found is None:
        return {"checkpoint": None}
    parent = found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None
    writes: Sequence[Any] = sorted(found.pending_writes or (), key=lambda write: (write[0], write[1], repr(write[2])))
    return {
        "checkpoint": found.checkpoint["id"],
        "parent": parent,
        "versions": found.checkpoint["channel_versions"],
        "values": found.checkpoint["channel_values"],
        "writes": writes,
    }
