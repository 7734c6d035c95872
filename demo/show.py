"""What the demo prints, and the queries behind its last table."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import psycopg
from langchain_core.messages import AIMessage
from langgraph.types import StateSnapshot
from psycopg import sql
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from ways import Told

__all__ = ["Held", "held", "history", "holdings", "say", "section", "server_version", "six_ways"]

# Not narrower than the tables need, and not wider than is good to read.
_console = Console(width=max(80, min(100, shutil.get_terminal_size().columns)), highlight=False)


def say(text: str) -> None:
    """A paragraph. Text from models goes through `rich.markup.escape` first."""
    _console.print(text)
    # Another process may print next.
    _console.file.flush()


def section(number: int, title: str) -> None:
    """A heading."""
    _console.print(f"\n[bold]{number}. {title}[/bold]")


def six_ways(told: Iterable[Told]) -> None:
    """One row per way."""
    table = _table("thread", "saver on a", "read with", "returned", "the agent's answer")
    for way in told:
        table.add_row(way.thread_id, way.saver, way.read_with, way.returned, escape(_cut(way.answer, 26)))
    _console.print(table)


def history(states: Sequence[StateSnapshot]) -> None:
    """A thread's checkpoints, as given."""
    table = _table("checkpoint", "step", "last message", "next")
    for state in states:
        messages = state.values.get("messages", [])
        table.add_row(
            f"…{state.config['configurable']['checkpoint_id'][-6:]}",
            str((state.metadata or {}).get("step")),
            escape(_shown(messages[-1])) if messages else "",
            ", ".join(state.next) or "(the end)",
        )
    _console.print(table)


def _shown(message: Any) -> str:
    calls = message.tool_calls if isinstance(message, AIMessage) else ()
    text = ", ".join(f"{call['name']}({call['args']})" for call in calls) or str(message.content)
    return f"{message.type}: {_cut(text, 44)}"


def _cut(text: str, size: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= size else text[: size - 1] + "…"


class Held(NamedTuple):
    """What the log holds of some threads. Sizes are in bytes."""

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
    """Ask the log. Reading its tables is fine; only the saver writes them."""
    with psycopg.connect(uri) as conn:
        query = sql.SQL(_HELD).format(schema=sql.Identifier(schema))
        row = conn.execute(query, {"threads": list(threads)}).fetchone()
    assert row is not None
    return Held(*row)


def holdings(rows: Sequence[tuple[str, Held]]) -> None:
    """One column per group of threads."""
    table = _table("", *(name for name, _ in rows))
    for column in table.columns[1:]:
        column.justify = "right"

    def add(label: str, *values: str) -> None:
        table.add_row(label, *values)

    add("checkpoints", *(f"{each.checkpoints:,}" for _, each in rows))
    add(
        "events: checkpoints saved",
        *(f"{each.checkpoint_events:,} · {_kb(each.checkpoint_bytes)}" for _, each in rows),
    )
    add(
        "events: tasks' writes",
        *(f"{each.writes_events:,} · {_kb(each.writes_bytes)}" for _, each in rows),
    )
    add("snapshots", *(f"{each.snapshots:,} · {_kb(each.snapshot_bytes)}" for _, each in rows))
    add(
        "[bold]log and snapshots together[/bold]",
        *(f"[bold]{_kb(each.checkpoint_bytes + each.writes_bytes + each.snapshot_bytes)}[/bold]" for _, each in rows),
    )
    add(
        "[bold]state, rewritten at each step[/bold]",
        *(f"[bold]{_kb(each.rewritten_bytes)}[/bold]" for _, each in rows),
    )
    _console.print(table)


def server_version(uri: str) -> str:
    """The server's version, as PostgreSQL names it."""
    with psycopg.connect(uri) as conn:
        return str(conn.info.parameter_status("server_version"))


def _kb(size: int) -> str:
    return f"{size / 1000:,.1f} kB"


def _table(*columns: str) -> Table:
    table = Table(
        *columns,
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        collapse_padding=True,
        header_style="dim",
    )
    for column in table.columns:
        column.no_wrap = True
        column.overflow = "ellipsis"
    return table
