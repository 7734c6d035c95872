"""What tests put and what they look at: configs, checkpoints, the tables behind a saver."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import resources
from typing import Any, cast

import psycopg
import zstandard
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.checkpoint.serde.base import CipherProtocol
from psycopg import sql
from typing_extensions import LiteralString

from eventlog.format.codec import Codec
from eventlog.settings import Settings
from tests.support.pooler import direct

#: All tables that hold what savers wrote.
TABLES = ("events", "streams", "checkpoints", "snapshots")

#: Texts that do not compress, large enough that what has them is worth a difference.
TEXTS = [random.Random(number).randbytes(100).hex() for number in range(30)]

#: A checkpoint: thread, namespace and id.
Key = tuple[str, str, str]


def config_of(thread_id: Any = "1", checkpoint_id: Any = None, ns: str | None = "", **more: Any) -> RunnableConfig:
    """A config; `ns` None leaves the namespace out, `more` is added to `configurable`."""
    configurable: dict[str, Any] = {"thread_id": thread_id, **more}
    if ns is not None:
        configurable["checkpoint_ns"] = ns
    if checkpoint_id is not None:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


def key_of(config: RunnableConfig) -> tuple[str, str, str]:
    """The thread, namespace and checkpoint that a config names."""
    configurable = config["configurable"]
    return configurable["thread_id"], configurable["checkpoint_ns"], configurable["checkpoint_id"]


def checkpoint_of(
    checkpoint_id: Any, values: Mapping[str, Any], versions: Mapping[str, Any], **fields: Any
) -> Checkpoint:
    """A checkpoint as LangGraph makes them; `fields` replace or add keys."""
    return cast(
        Checkpoint,
        {
            "v": 4,
            "id": checkpoint_id,
            "ts": "2025-11-22T06:30:00.000000+00:00",
            "channel_values": dict(values),
            "channel_versions": dict(versions),
            "versions_seen": {},
            "updated_channels": None,
            **fields,
        },
    )


def codec_of(settings: Settings, cipher: CipherProtocol | None = None) -> Codec:
    """The codec of a saver with these settings."""
    return Codec(settings.max_body_bytes, settings.compression_level, cipher)


def uncompressed(body: bytes) -> bytes:
    """What is in the body of an event or a snapshot that is not encrypted."""
    if not body[0] & 0x10:
        return body
    content = resources.files("eventlog.format").joinpath("bodies.dict").read_bytes() if body[0] & 0x40 else b""
    dictionary = zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT) if content else None
    return zstandard.ZstdDecompressor(dict_data=dictionary).decompress(body[1:])


async def put(
    saver: Any,
    config: RunnableConfig,
    checkpoint_id: Any,
    values: Mapping[str, Any] | None = None,
    *,
    versions: Mapping[str, Any] | None = None,
    new: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **fields: Any,
) -> RunnableConfig:
    """Put a child of what `config` names.

    Without `versions` every channel has the checkpoint's id as its version; without `new` all
    channels are new.
    """
    values = {} if values is None else values
    versions = dict.fromkeys(values, str(checkpoint_id)) if versions is None else versions
    stored = await saver.aput(
        config,
        checkpoint_of(checkpoint_id, values, versions, **fields),
        {} if metadata is None else metadata,
        versions if new is None else new,
    )
    return cast(RunnableConfig, stored)


async def converse(
    saver: Any, thread_id: str = "1", ns: str = "", ids: str = "abcdefgh", *, mark: Any = "", **metadata: Any
) -> None:
    """A line of checkpoints that build on each other, each with a write of its own and one that repeats its state."""
    config, texts = config_of(thread_id, ns=ns), list(TEXTS)
    for id_ in ids:
        texts = [*texts, f"{mark}{id_}"]
        versions = {"x": id_, "y": ids[0]}
        config = await put(
            saver,
            config,
            id_,
            {"x": texts, "y": f"{mark} of the first"} if id_ == ids[0] else {"x": texts},
            versions=versions,
            new=versions if id_ == ids[0] else {"x": id_},
            metadata={"at": f"{mark}{id_}", **metadata},
        )
        await saver.aput_writes(config, [("z", f"write {mark}{id_}")], "task 1")
        await saver.aput_writes(config, [("x", [*texts, "repeated"]), ("z", 2)], "task 2", "path")


async def tangle(saver: Any, thread_id: str = "1") -> None:
    """A line, a fork, checkpoints that were put twice between two children, and writes of one that is not there yet."""
    await converse(saver, thread_id)
    for id_, values in (("d", {"x": [*TEXTS, "again"]}), ("h", {"x": [*TEXTS, "h again"], "y": 1})):
        await put(saver, config_of(thread_id, chr(ord(id_) - 1)), id_, values, metadata={"again": id_})
    config = config_of(thread_id, "d")
    for id_ in ("d1", "d2"):
        config = await put(saver, config, id_, {"x": [*TEXTS, "again", id_]}, metadata={"fork": id_})
    await saver.aput_writes(config_of(thread_id, "d1"), [("x", [*TEXTS, "again", "d1", "write"])], "task")
    await saver.aput_writes(config_of(thread_id, "i"), [("x", TEXTS)], "of a run that goes on")


def keys(ids: str, thread_id: str = "1", ns: str = "") -> set[Key]:
    return {(thread_id, ns, id_) for id_ in ids.split()}


async def values_of(saver: Any, config: RunnableConfig) -> dict[str, Any]:
    """The channel values of the checkpoint that `config` names, which must be there."""
    found = await saver.aget_tuple(config)
    assert found is not None, f"{config} is not there"
    return cast("dict[str, Any]", found.checkpoint["channel_values"])


async def listed(saver: Any, config: RunnableConfig | None, **criteria: Any) -> list[CheckpointTuple]:
    """What `alist` yields."""
    return [found async for found in saver.alist(config, **criteria)]


async def listed_ids(saver: Any, config: RunnableConfig | None, **criteria: Any) -> list[str]:
    """The ids of what `alist` yields, in its order."""
    return [found.checkpoint["id"] for found in await listed(saver, config, **criteria)]


async def everything(saver: Any) -> dict[Key, CheckpointTuple]:
    """All checkpoints of all threads, by thread, namespace and id."""
    return {key_of(found.config): found for found in await listed(saver, None)}


def everywhere(saver: Any, config: Any) -> Iterator[Awaitable[Any]]:
    """Every method that takes a config, called with this one when its turn comes."""
    yield saver.aget_tuple(config)
    yield listed(saver, config)
    yield put(saver, config, "2")
    yield saver.aput_writes(config, [("x", 1)], "task")
    yield saver.aget_delta_channel_history(config=config, channels=["x"])


def exactly(one: Any, other: Any) -> bool:
    """Whether two values are the same for a user: of the same types all the way down, NaN too."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        # Tells 0.0 from -0.0, and all NaN are one.
        return (one == other and math.copysign(1, one) == math.copysign(1, other)) or (
            math.isnan(one) and math.isnan(other)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(exactly(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(exactly, one, other))
    return bool(one == other)


#: Whether `Tables.drop_checks` was called in a database, or in the one that it is a copy of.
CHECKS_ARE_DROPPED = b"select to_regclass('public.checks_are_dropped') is not null"


class Tables:
    """The tables behind a saver, seen through a connection of their own, as the superuser, without any pooler.

    Each call opens one, and sees what a new session would. Those that ask very often do so in a `with` statement,
    within which all calls share one.
    """

    def __init__(self, uri: str, schema: str = "eventlog") -> None:
        self._uri = direct(uri)
        self._schema = sql.Identifier(schema)
        self._shared: psycopg.Connection[Any] | None = None

    def __enter__(self) -> Tables:
        self._shared = psycopg.connect(self._uri, autocommit=True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._shared is not None
        self._shared.close()
        self._shared = None

    def _connected(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        return psycopg.connect(self._uri, autocommit=True) if self._shared is None else nullcontext(self._shared)

    def rows(self, query: LiteralString, *params: Any) -> list[tuple[Any, ...]]:
        """The rows of a query in which `{schema}` stands for the schema."""
        with self._connected() as conn:
            return conn.execute(sql.SQL(query).format(schema=self._schema), params).fetchall()

    def one(self, query: LiteralString, *params: Any) -> Any:
        """The only value of a query."""
        ((value,),) = self.rows(query, *params)
        return value

    def waiting(self) -> int:
        """How many sessions wait for a lock; on a cluster, on all its nodes."""
        waits: LiteralString = "select count(*) from pg_locks where not granted"
        if self.one("select to_regproc('pg_catalog.run_command_on_all_nodes')") is None:
            return int(self.one(waits))
        return int(self.one("select sum(result::bigint) from run_command_on_all_nodes(%s)", waits))

    def run(self, *statements: LiteralString) -> None:
        """Run statements in one session, each in a transaction of its own."""
        with self._connected() as conn:
            for statement in statements:
                conn.execute(sql.SQL(statement).format(schema=self._schema))

    def drop_checks(self) -> None:
        """Drop the check constraints, as an owner does before writing what they refuse.

        `verify` names that: not in this database, so that a test sees what else it names (`tests.conftest`).
        """
        self.run(
            "create table if not exists public.checks_are_dropped ()",
            """
            do $$
            declare v_check record;
            begin
                for v_check in
                    select
                        case
                            when c.contypid <> 0 then 'domain ' || c.contypid::regtype
                            else 'table ' || c.conrelid::regclass
                        end as owner,
                        c.conname
                    from pg_constraint as c
                    where c.connamespace = '{schema}'::regnamespace and c.contype = 'c' and c.coninhcount = 0
                loop
                    execute format('alter %s drop constraint if exists %I', v_check.owner, v_check.conname);
                end loop;
            end $$
            """,
        )

    def events(self, thread_id: Any = None) -> int:
        """How many events the log holds, of one thread or in all."""
        count = self.one(
            "select count(*) from {schema}.events where thread_id = coalesce(%s, thread_id)",
            None if thread_id is None else str(thread_id),
        )
        return int(count)

    def records(self, thread_id: str, ns: str = "") -> list[dict[str, Any]]:
        """What the log says was done to a stream, oldest first."""
        return [
            says
            for (says,) in self.rows(
                "select {schema}.record_details_v1(body) from {schema}.events"
                " where thread_id = %s and checkpoint_ns = %s and kind > 2 order by seq",
                thread_id,
                ns,
            )
        ]

    def holders(self, text: str) -> set[str]:
        """The tables that hold a text anywhere, in bodies too (those are decompressed; not encrypted ones)."""
        found = set()
        for table, rows in self.contents().items():
            if any(text in row for row in rows):
                found.add(table)
        bodies = {
            "events": self.rows("select body from {schema}.events"),
            "snapshots": self.rows("select body from {schema}.snapshots"),
        }
        for table, rows in bodies.items():
            for (body,) in rows:
                if text.encode() in uncompressed(body):
                    found.add(table)
        return found

    def contents(self) -> dict[str, list[str]]:
        """Every row of every table, to compare before and after."""
        with self._connected() as conn:
            return {
                table: [
                    row
                    for (row,) in conn.execute(
                        sql.SQL("select t::text from {}.{} as t order by 1").format(self._schema, sql.Identifier(table))
                    )
                ]
                for table in TABLES
            }

    def replace_body(self, table: str, thread_id: str, seq: int, body: bytes) -> None:
        """Overwrite a stored body, as a broken disk would: the guard trigger sleeps."""
        with psycopg.connect(self._uri) as conn:
            conn.execute("set local session_replication_role = replica")
            done = conn.execute(
                sql.SQL("update {}.{} set body = %s where thread_id = %s and seq = %s").format(
                    self._schema, sql.Identifier(table)
                ),
                (body, thread_id, seq),
            )
            assert done.rowcount == 1

    def drop_partitions(self) -> None:
        """Leave the log without any partition, as if their time were over."""
        for (name,) in self.rows("select name from {schema}.partitions"):
            with psycopg.connect(self._uri) as conn:
                conn.execute(sql.SQL("drop table {}.{}").format(self._schema, sql.Identifier(name)))
        self.run("delete from {schema}.partitions")
