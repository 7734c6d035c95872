"""The tables of `langgraph-checkpoint-postgres` as a source: schema versions 0 to 9, and the shallow saver's.

Their content, as the saver that wrote them reads it:

* `checkpoints` has the checkpoint and the metadata in JSON. Since July 2025, values that are None, texts, numbers or
  booleans are in the checkpoint itself. All other values, and all earlier ones, are in `checkpoint_blobs`, by channel
  and version. A row there takes precedence over a value in the checkpoint, which is only `true` for a `DeltaChannel`'s
  snapshot. The type "empty", or no row, means no value.
* `checkpoint_writes` has the writes of tasks, some of them without a checkpoint: a run may save them first.
* For a checkpoint before version 4, the tasks that it sends are its parent's writes to one channel. The log reads these
  checkpoints in the same way, so nothing is converted.
* The shallow saver keeps one checkpoint for each namespace, without a column for its id, and values without versions.
"""

from __future__ import annotations

import json
import random
from collections import OrderedDict
from collections.abc import Awaitable, Sequence
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg import errors as pg
from psycopg import sql
from psycopg.rows import tuple_row

from eventlog.db.query import Op, Rows
from eventlog.db.statements import Statements
from eventlog.errors import SourceError
from eventlog.format.contents import Serialized
from langgraph.checkpoint.eventlog.transfer.source import Origin, Pages, SourceCheckpoint, SourceWrite, ask, made_at

__all__ = ["LATEST_VERSION", "PostgresTables"]

#: The latest schema version that we know: the last migration of langgraph-checkpoint-postgres 3.2.
LATEST_VERSION: Final = 9

#: The number of checkpoints that are listed together, and the bytes of values and writes that are read together (at
#: least those of one checkpoint).
PAGE_ROWS = 200
PAGE_BYTES = 8 * 1024 * 1024

#: Bytes of values that are kept for the checkpoints that follow, beside those of the last one.
KEPT_BYTES = 32 * 1024 * 1024

#: Rows of checkpoints that a sample reads for each of its threads, because rows on one page belong to few threads.
SAMPLED_ROWS = 50

#: A thread is read as of one moment.
_BEGIN: Final = b"begin transaction isolation level repeatable read, read only"

_NEEDED: Final = {
    "checkpoint_migrations": {"v"},
    "checkpoints": {"thread_id", "checkpoint_ns", "checkpoint", "metadata"},
    "checkpoint_blobs": {"thread_id", "checkpoint_ns", "channel", "type", "blob"},
    "checkpoint_writes": {"thread_id", "checkpoint_ns", "checkpoint_id", "task_id", "idx", "channel", "type", "blob"},
}

Conn = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]


class PostgresTables:
    """Threads in the tables of `langgraph-checkpoint-postgres`.

    Args:
        conn: a connection to their database, sync or async like the log's, for this source alone. In autocommit mode
            each thread is read in its own read-only transaction; in an open transaction, all are read in that.
        schema: the tables' schema; by default the first on the search path that has them.
    """

    def __init__(self, conn: Conn, schema: str | None = None) -> None:
        self._conn = conn
        self._schema = schema
        self._statements = Statements(schema or "public")
        self._composed: dict[str, bytes] = {}
        self._began = False
        self._cursor: Any = None
        self.is_shallow = False
        self._has_path = True

    @property
    def origin(self) -> Origin:
        """Host, database and schema."""
        info = self._conn.info
        return Origin("langgraph-checkpoint-postgres", info.host or None, info.dbname, self._schema)

    def check(self) -> Op[None]:
        """Look for the tables. Raises SourceError."""
        ((schema,),) = yield from self._ask("incumbent_schema", (self._schema,))
        where = f"database {self._conn.info.dbname!r}"
        if schema is None:
            raise SourceError(
                f"{where} has no table checkpoint_migrations on the search path of user {self._conn.info.user!r}: name "
                "the schema that PostgresSaver's tables are in (--from-schema), or another database"
            )
        self._schema = schema
        found: dict[str, set[str]] = {}
        for table, column in (yield from self._ask("incumbent_columns", (schema,))):
            found.setdefault(table, set()).add(column)
        for table, columns in _NEEDED.items():
            if not columns <= found.get(table, set()):
                what = f"column {min(columns - found[table])}" if table in found else f"table {table}"
                raise SourceError(
                    f"schema {schema!r} of {where} has no {what}: these are not the tables of "
                    "langgraph-checkpoint-postgres"
                )
        ((version,),) = yield from self._ask("incumbent_version", ())
        if version is None or version < 0:
            raise SourceError(f"schema {schema!r} of {where} was not set up: checkpoint_migrations is empty")
        self.is_shallow = "checkpoint_id" not in found["checkpoints"]
        self._has_path = "task_path" in found["checkpoint_writes"]
        if version > LATEST_VERSION:
            raise SourceError(
                f"the tables in schema {schema!r} of {where} have schema version {version}; this package knows "
                f"those up to {LATEST_VERSION}. Upgrade langgraph-checkpoint-eventlog"
            )

    def threads(self, after: str | None, rows: int) -> Op[list[str]]:
        """The ids of threads, in the order of the database's collation."""
        found = yield from self._ask("incumbent_threads", {"after": after or "", "rows": rows})
        ids = [thread_id for (thread_id,) in found]
        # No id is less than the empty one.
        if after is None and (yield from self._ask("incumbent_namespaces", {"thread_id": ""})):
            ids = ["", *ids][:rows]
        return ids

    def count_threads(self) -> Op[int | None]:
        """The number of threads that have a checkpoint."""
        ((count,),) = yield from self._ask("incumbent_thread_count", ())
        return int(count)

    def last_active(self, thread_ids: Sequence[str]) -> Op[dict[str, datetime]]:
        """When the latest checkpoint of each namespace was made, the latest of them."""
        name = "incumbent_shallow_last_active" if self.is_shallow else "incumbent_last_active"
        found: dict[str, datetime] = {}
        for thread_id, checkpoint_id, ts in (yield from self._ask(name, (list(thread_ids),))):
            if (at := made_at(checkpoint_id, ts)) is not None:
                found[thread_id] = max(at, found.get(thread_id, at))
        return found

    def begin(self) -> Op[None]:
        """Begin a transaction, if none of the user's is open. One that an error left open ends."""
        yield from self.end()
        if self._conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            yield from ask(lambda: self._rows(_BEGIN, None, returns=False))
            self._began = True

    def end(self) -> Op[None]:
        """End it."""
        if self._began:
            self._began = False
            if not self._conn.closed:
                yield from ask(self._conn.rollback)

    def pages(self, thread_id: str) -> Pages:
        """A thread's checkpoints."""
        return _Thread(self, thread_id).next_page

    def outline(self, thread_id: str) -> Op[str]:
        """Counts, last ids and sizes of a thread, as text."""
        ((text,),) = yield from self._ask("incumbent_outline", {"thread_id": thread_id})
        return str(text)

    def writes(
        self, thread_id: str, checkpoint_ns: str, checkpoint_ids: Sequence[str], channel: str
    ) -> Op[dict[str, list[SourceWrite]]]:
        """The writes to a channel of checkpoints."""
        writes = yield from self.writes_of(thread_id, checkpoint_ns, checkpoint_ids)
        return {id_: [write for write in some if write.channel == channel] for id_, some in writes.items()}

    def writes_of(
        self, thread_id: str, checkpoint_ns: str, checkpoint_ids: Sequence[str]
    ) -> Op[dict[str, list[SourceWrite]]]:
        """The writes of checkpoints, by their ids, each in LangGraph's order."""
        found: dict[str, list[SourceWrite]] = {}
        params = (thread_id, checkpoint_ns, list(checkpoint_ids))
        for id_, task_id, task_path, idx, channel, type_, blob in (yield from self._ask("incumbent_writes", params)):
            # A write without a type could not be read by its saver either: no serializer decodes "".
            write = SourceWrite(task_path, task_id, idx, channel, Serialized(type_ or "", blob))
            found.setdefault(id_, []).append(write)
        for writes in found.values():
            writes.sort(key=lambda each: each[:3])
        return found

    def sample(self, rows: int) -> Op[list[str]]:
        """Random threads; those with more checkpoints are more likely."""
        ((_, _, checkpoints),) = yield from self._ask("incumbent_sizes", (self._schema,))
        percent = (
            100.0
            if checkpoints is None or checkpoints <= SAMPLED_ROWS * rows
            else (100.0 * SAMPLED_ROWS * rows / checkpoints)
        )
        found = [id_ for (id_,) in (yield from self._ask("incumbent_sample", {"percent": percent}))]
        return random.sample(found, min(rows, len(found)))

    def disk_bytes(self) -> Op[tuple[int, int] | None]:
        """The size of the three tables."""
        ((total, tables, _),) = yield from self._ask("incumbent_sizes", (self._schema,))
        return int(total), int(tables)

    def thread_bytes(self, thread_ids: Sequence[str]) -> Op[int | None]:
        """The size of threads' rows as they are stored."""
        ((size,),) = yield from self._ask("incumbent_thread_bytes", {"thread_ids": list(thread_ids)})
        return int(size)

    def _ask(self, name: str, params: Any) -> Op[Rows]:
        return ask(lambda: self._rows(self._statement(name), params, returns=True))

    def rows(self, name: str, params: Any) -> Op[Rows]:
        """The rows of a query of `sql/queries/incumbent.sql`."""
        return self._ask(name, params)

    def _statement(self, name: str) -> bytes:
        if name not in self._composed:
            parts: dict[str, sql.Composable] = {
                "source": sql.Identifier(self._schema or "public"),
                "id": sql.SQL("(c.checkpoint ->> 'id')" if self.is_shallow else "c.checkpoint_id"),
                "parent": sql.SQL("null::text" if self.is_shallow else "c.parent_checkpoint_id"),
                "path": sql.SQL("w.task_path" if self._has_path else "''::text"),
            }
            self._composed[name] = self._statements.compose(self._statements.template(name), **parts)
        return self._composed[name]

    def _rows(self, statement: bytes, params: Any, *, returns: bool) -> Rows | Awaitable[Rows]:
        if isinstance(self._conn, psycopg.AsyncConnection):
            return self._await_rows(self._conn, statement, params, returns)
        try:
            with self._conn.cursor(binary=True, row_factory=tuple_row) as cursor:
                cursor.execute(statement, params)
                return cursor.fetchall() if returns else []
        except psycopg.Error as exc:
            raise self._error(exc) from exc

    async def _await_rows(
        self, conn: psycopg.AsyncConnection[Any], statement: bytes, params: Any, returns: bool
    ) -> Rows:
        try:
            async with conn.cursor(binary=True, row_factory=tuple_row) as cursor:
                await cursor.execute(statement, params)
                return await cursor.fetchall() if returns else []
        except psycopg.Error as exc:
            raise self._error(exc) from exc

    def _error(self, exc: psycopg.Error) -> SourceError:
        message = exc.diag.message_primary or str(exc).strip()
        if isinstance(exc, pg.InsufficientPrivilege):
            schema, user = (sql.Identifier(name).as_string(None) for name in (self._schema or "public", self._user()))
            return SourceError(
                f"user {self._user()!r} may not read the source: {message}. Let its owner run: grant usage on schema "
                f"{schema} to {user}; grant select on all tables in schema {schema} to {user}"
            )
        return SourceError(f"the source cannot be read: {message}")

    def _user(self) -> str:
        return self._conn.info.user


class _Thread:
    """A thread that is being read."""

    def __init__(self, tables: PostgresTables, thread_id: str) -> None:
        self._tables, self._thread_id = tables, thread_id
        self._namespaces: list[str] | None = None
        self._after = ""
        self._is_orphans = False
        self._rows: list[tuple[Any, ...]] = []
        """Checkpoints that were listed but not returned yet, with the versions and sizes of their values."""
        self._values: OrderedDict[tuple[str, str], Serialized] = OrderedDict()
        self._bytes = 0

    def next_page(self) -> Op[list[SourceCheckpoint]]:
        """The next checkpoints; none at the end."""
        if self._namespaces is None:
            found = yield from self._tables.rows("incumbent_namespaces", {"thread_id": self._thread_id})
            self._namespaces = sorted(ns for (ns,) in found)
        while self._namespaces:
            ns = self._namespaces[0]
            if not self._rows:
                yield from self._look(ns)
            if self._rows:
                return (yield from self._give(ns))
            if self._is_orphans:
                self._namespaces.pop(0)
                self._values.clear()
                self._bytes = 0
            self._is_orphans = not self._is_orphans
            self._after = ""
        return []

    def _look(self, ns: str) -> Op[None]:
        place = self._thread_id, ns
        if self._is_orphans:
            found = yield from self._tables.rows("incumbent_orphans", (*place, self._after, PAGE_ROWS))
            checkpoints: list[tuple[Any, ...]] = [(id_, None, None, {}) for (id_,) in found]
        else:
            params = (*place, self._after, PAGE_ROWS)
            checkpoints = yield from self._tables.rows("incumbent_checkpoints", params)
        if not checkpoints:
            return
        ids = [id_ for id_, *_ in checkpoints]
        self._after = ids[-1]
        values: dict[str, list[tuple[str, str, int]]] = {}
        if not self._is_orphans and not self._tables.is_shallow:
            for id_, *value in (yield from self._tables.rows("incumbent_value_sizes", (*place, ids))):
                values.setdefault(id_, []).append(tuple(value))
        sizes: dict[str, int] = dict((yield from self._tables.rows("incumbent_write_sizes", (*place, ids))))
        self._rows = [(*each, values.get(each[0], []), sizes.get(each[0])) for each in checkpoints]

    def _give(self, ns: str) -> Op[list[SourceCheckpoint]]:
        """As many of the listed checkpoints as may be in memory together."""
        place = self._thread_id, ns
        wanted: dict[tuple[str, str], int] = {}
        count = total = 0
        for *_, values, write_bytes in self._rows:
            new = {(c, v): size or 0 for c, v, size in values if (c, v) not in self._values and (c, v) not in wanted}
            total += sum(new.values()) + (write_bytes or 0)
            if count and total > PAGE_BYTES:
                break
            count += 1
            wanted.update(new)
        given, self._rows = self._rows[:count], self._rows[count:]
        if wanted:
            keys = json.dumps([{"channel": channel, "version": version} for channel, version in wanted])
            for channel, version, type_, blob in (yield from self._tables.rows("incumbent_values", (keys, *place))):
                self._keep((channel, version), Serialized(type_, blob or b""))
        sends: list[Serialized] | None = None
        if self._tables.is_shallow and not self._is_orphans:
            for channel, type_, blob in (yield from self._tables.rows("incumbent_shallow_values", place)):
                self._keep((channel, ""), Serialized(type_, blob or b""))
            found = yield from self._tables.rows("incumbent_shallow_sends", place)
            sends = [Serialized(type_ or "", blob) for type_, blob in found]
        written = [row[0] for row in given if row[-1] is not None]
        writes = (yield from self._tables.writes_of(*place, written)) if written else {}
        page = [self._checkpoint(ns, row, writes.get(row[0], []), sends) for row in given]
        self._forget({(c, v) for c, v, _ in given[-1][-2]})
        return page

    def _checkpoint(
        self, ns: str, row: tuple[Any, ...], writes: Sequence[SourceWrite], sends: Sequence[Serialized] | None
    ) -> SourceCheckpoint:
        id_, parent_id, checkpoint, metadata, values, _ = row
        if checkpoint is None:
            return SourceCheckpoint(ns, id_, None, None, {}, writes=writes)
        keys = list(self._values) if self._tables.is_shallow else [(channel, version) for channel, version, _ in values]
        stored = {}
        for key in keys:
            self._values.move_to_end(key)
            stored[key[0]] = self._values[key]
        inline = checkpoint.get("channel_values") or {}
        decoded = {channel: value for channel, value in inline.items() if channel not in stored}
        return SourceCheckpoint(ns, id_, parent_id or None, checkpoint, metadata, stored, decoded, writes, sends)

    def _keep(self, key: tuple[str, str], value: Serialized) -> None:
        self._values[key] = value
        self._bytes += len(value.data)

    def _forget(self, last: set[tuple[str, str]]) -> None:
        """Drop the least recently used values, except those of the last checkpoint."""
        while self._bytes > KEPT_BYTES and (oldest := next(iter(self._values))) not in last:
            self._bytes -= len(self._values.pop(oldest).data)
