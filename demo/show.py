"""Print the demo's output, and query the sizes for its last table."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import psycopg
from langchain_core.messages import AIMessage
from langgraph.types import StateSnapshot
from psycopg import sql
from ways import Told

__all__ = ["Held", "held", "history", "holdings", "say", "section", "server_version", "six_ways"]

WIDTH = 80


def say(text: str) -> None:
    """Print a paragraph, flushed because another process may print next."""
    print(textwrap.fill(text, WIDTH), flush=True)


def section(number: int, title: str) -> None:
    """Print a heading."""
    print(f"\n{number}. {title}\n{'-' * (len(title) + 3)}")


def six_ways(told: Iterable[Told]) -> None:
    """Print a table with a row for each way."""
    rows = [(way.thread_id, way.saver, way.read_with, way.returned, _cut(way.answer, 26)) for way in told]
    _table([("thread", "saver on a", "read with", "returned", "the agent's answer"), *rows])


def history(states: Sequence[StateSnapshot]) -> None:
    """Print a thread's checkpoints in the given order."""
    rows = [("checkpoint", "step", "last message", "next")]
    for state in states:
        messages = state.values.get("messages", [])
        rows.append(
            (
                f"…{state.config['configurable']['checkpoint_id'][-6:]}",
                str((state.metadata or {}).get("step")),
                _shown(messages[-1]) if messages else "",
                ", ".join(state.next) or "(the end)",
            )
        )
    _table(rows)


def _table(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> None:
    """Print rows below a header. With `numbers`, all columns except the first are right-aligned."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if numbers and column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def _shown(message: Any) -> str:
    calls = message.tool_calls if isinstance(message, AIMessage) else ()
    text = ", ".join(f"{call['name']}({call['args']})" for call in calls) or str(message.content)
    return f"{message.type}: {_cut(text, 44)}"


def _cut(text: str, size: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= size else text[: size - 1] + "…"


class Held(NamedTuple):
    """Counts and sizes (bytes) of some threads in the log."""

    checkpoints: int
    checkpoint_events: int
    checkpoint_bytes: int
    writes_events: int
    writes_bytes: int
    snapshots: int
    snapshot_bytes: int
    rewritten_bytes: int


_HELD = """
    select
        (select count(*) from {schema}.checkpoints where thread_id = any(%(threads)s)),
        count(*) filter (where kind = 1),
        coalesce(sum(octet_length(body)) filter (where kind = 1), 0)::bigint,
        count(*) filter (where kind = 2),
        coalesce(sum(octet_length(body)) filter (where kind = 2), 0)::bigint,
        (select count(*) from {schema}.snapshots where thread_id = any(%(threads)s)),
        (select coalesce(sum(octet_length(body)), 0)::bigint from {schema}.snapshots
         where thread_id = any(%(threads)s)),
        (select coalesce(sum(state_bytes), 0)::bigint from {schema}.checkpoints
         where thread_id = any(%(threads)s))
    from {schema}.events
    where thread_id = any(%(threads)s)
"""


def held(uri: str, schema: str, threads: Sequence[str]) -> Held:
    """Query the log's tables. Any client may read them; only the saver writes."""
    with psycopg.connect(uri) as conn:
        query = sql.SQL(_HELD).format(schema=sql.Identifier(schema))
        row = conn.execute(query, {"threads": list(threads)}).fetchone()
    assert row is not None
    return Held(*row)


def holdings(groups: Sequence[tuple[str, Held]]) -> None:
    """Print a table with a column for each group of threads."""
    rows = [
        ("", *(name for name, _ in groups)),
        ("checkpoints", *(f"{each.checkpoints:,}" for _, each in groups)),
        (
            "events: checkpoints saved",
            *(f"{each.checkpoint_events:,} · {_kb(each.checkpoint_bytes)}" for _, each in groups),
        ),
        ("events: tasks' writes", *(f"{each.writes_events:,} · {_kb(each.writes_bytes)}" for _, each in groups)),
        ("snapshots", *(f"{each.snapshots:,} · {_kb(each.snapshot_bytes)}" for _, each in groups)),
        (
            "log and snapshots together",
            *(_kb(each.checkpoint_bytes + each.writes_bytes + each.snapshot_bytes) for _, each in groups),
        ),
        ("state, rewritten at each step", *(_kb(each.rewritten_bytes) for _, each in groups)),
    ]
    _table(rows, numbers=True)


def server_version(uri: str) -> str:
    """Return the server's version as PostgreSQL reports it."""
    with psycopg.connect(uri) as conn:
        return str(conn.info.parameter_status("server_version"))


def _kb(size: int) -> str:
    return f"{size / 1000:,.1f} kB"
