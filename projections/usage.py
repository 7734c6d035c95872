"""Events, bytes, steps and tokens of agents by thread and run: a custom projection that comes with the package.

    log.project(Usage())          # or: eventlog project run usage

Tokens are those that models reported in the messages' ``usage_metadata``. Each message that a task wrote counts once,
by its id: repeated writes and writes that a subgraph's parent passes on do not count again. Copied threads use no
tokens. A deleted thread is removed, with its id and the ids of its runs. Pruned history stays counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from psycopg.sql import Identifier

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.events import Kind
from eventlog.settings import Settings
from projections.event import Event, is_internal

__all__ = ["Usage"]

#: How deep in a value messages are searched: a list of messages in a mapping is three levels.
DEPTH = 4


class _Message(NamedTuple):
    """A message with its token usage. In the order of the statement."""

    thread_id: str
    message: bytes
    """sha256 of its id: the id may be too long for an index, and readers of the view need not see it."""
    checkpoint_ns: str
    seq: int
    run_id: str
    input_tokens: int
    output_tokens: int
    total_tokens: int


class _Used(NamedTuple):
    """Amounts to add to a run's sums, in the order of the statement."""

    thread_id: str
    run_id: str
    events: int = 0
    bytes: int = 0
    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    at: datetime | None = None


class Usage:
    """Count events, bytes, steps and tokens by thread and run, as the projection `usage`.

    It works with `EventLog` and `AsyncEventLog`. It sets aside only events that do not decode; an error of the
    database, such as a run id that is too long for its index, raises `ProjectionError`. Rebuild it after
    `retry_set_aside` has applied events of a copied thread: messages that are applied after the record of the copy
    count as used.

    Args:
        schema: The log's schema; `eventlog` by default.
        views_schema: The schema of the tables, made when missing. None appends `_views` to the log's schema.
    """

    name = "usage"
    version = 1

    def __init__(self, schema: str | None = None, views_schema: str | None = None) -> None:
        settings = Settings.parse({"views_schema": views_schema, **({} if schema is None else {"schema": schema})})
        self.schema = settings.schema_name
        self._log = Statements(self.schema)
        self._statements = Statements(settings.views)
        self.tables = [Identifier(settings.views, name).as_string(None) for name in ("usage", "usage_messages")]

    def setup(self, conn: None) -> Op[None]:
        """Make the tables, empty."""
        if not (yield Query(self._statements["usage_schema"], (self._statements.schema,))):
            yield Query(self._statements["create_schema"], returns=False)
        made = ("usage_make", "usage_make_messages", "usage_without_statistics", "usage_messages_without_statistics")
        for name in ("usage_drop", *made):
            yield Query(self._statements[name], returns=False)

    def apply(self, conn: None, events: Sequence[Event]) -> Op[None]:
        """Count a batch."""
        begin = 0
        for end, event in enumerate(events):
            if event.kind == Kind.THREAD_DELETED:
                # Earlier events of this thread in the batch belong to the deleted thread.
                yield from self._count(events[begin:end])
                for name in ("usage_forget", "usage_forget_messages"):
                    yield Query(self._statements[name], (event.thread_id,), returns=False)
                begin = end + 1
        yield from self._count(events[begin:])

    def _count(self, events: Sequence[Event]) -> Op[None]:
        events = [event for event in events if not event.is_replay]
        runs = yield from self._runs(events)
        used: list[_Used] = []
        messages: dict[tuple[str, bytes], _Message] = {}
        for event in events:
            if event.operation is not None:
                continue
            run_id = runs.get((event.thread_id, event.checkpoint_ns, event.checkpoint_id)) or ""
            steps = int(event.metadata.get("source") == "loop")
            used.append(_Used(event.thread_id, run_id, 1, event.stored_bytes, steps, at=event.recorded_at))
            for message in _messages(event, run_id):
                messages.setdefault(message[:2], message)
        if messages:
            for key in (yield Query(self._statements["usage_put_messages"], _columns(messages.values()))):
                message = messages[key[0], key[1]]
                used.append(_Used(message.thread_id, message.run_id, 0, 0, 0, *message[5:]))
        used += yield from self._take_back(events)
        if used:
            yield Query(self._statements["usage_add"], _columns(used), returns=False)

    def _runs(self, events: Sequence[Event]) -> Op[dict[tuple[str, str, str], str | None]]:
        """The run of each checkpoint of the events: a task's writes belong to the run of its checkpoint."""
        names = {(event.thread_id, event.checkpoint_ns, event.checkpoint_id) for event in events}
        rows = (yield Query(self._log["usage_runs"], _columns(names))) if names else []
        runs: dict[tuple[str, str, str], str | None] = {row[:3]: row[3] for row in rows}
        for event in events:
            if event.kind == Kind.CHECKPOINT_SAVED:
                runs[event.thread_id, event.checkpoint_ns, event.checkpoint_id] = event.run_id
        return runs

    def _take_back(self, events: Sequence[Event]) -> Op[list[_Used]]:
        """Subtract the messages of copied events: they were not used again."""
        used: list[_Used] = []
        for event in events:
            if event.kind == Kind.COPIED and event.operation is not None:
                first = event.seq - int(event.operation.get("events", 0))
                params = (event.thread_id, event.checkpoint_ns, first, event.seq)
                for run_id, *tokens in (yield Query(self._statements["usage_take_back"], params)):
                    used.append(_Used(event.thread_id, run_id, 0, 0, 0, *(-count for count in tokens)))
        return used


def _columns(rows: Iterable[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _messages(event: Event, run_id: str) -> Iterator[_Message]:
    """The messages of a task's writes that report their token usage."""
    for write in event.writes:
        if is_internal(write.channel):
            continue
        for number, (id_, usage) in enumerate(_costs(write.value, DEPTH)):
            # A message without an id counts as the same if the same task writes it to the same checkpoint.
            message_id = id_ or f"{event.checkpoint_id}/{event.task_id}/{write.idx}/{number}"
            tokens = (_tokens(usage, name) for name in ("input_tokens", "output_tokens", "total_tokens"))
            key = sha256(message_id.encode("utf-8", "surrogatepass")).digest()
            yield _Message(event.thread_id, key, event.checkpoint_ns, event.seq, run_id, *tokens)


def _costs(value: Any, depth: int) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Ids and usages of the messages in a value. A message is recognised by its attributes, not by its class."""
    fields = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    usage, id_ = fields.get("usage_metadata"), fields.get("id")
    if isinstance(usage, dict):
        yield (id_ if isinstance(id_, str) else None), usage
    elif depth and isinstance(value, dict):
        for each in value.values():
            yield from _costs(each, depth - 1)
    elif depth and isinstance(value, (list, tuple)):
        for each in value:
            yield from _costs(each, depth - 1)


def _tokens(usage: dict[str, Any], name: str) -> int:
    count = usage.get(name, 0)
    return count if type(count) is int and 0 <= count < 1 << 40 else 0
