"""The memory, connections and tables of a process and a server, sampled every few seconds, for `soak.py`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from pydantic import BaseModel

__all__ = ["Bound", "Sample", "Sampler", "Table", "judge"]

#: The first part of the time, in which caches fill and pools open what they need.
WARM_UP = 1 / 3

#: The allowed growth of the process after that: a share, or a number of bytes.
GROWTH_SHARE = 0.10
GROWTH_BYTES = 24 * 1024 * 1024

#: A row of `streams` takes about 200 bytes, and half of each page is free: more bytes per row than this are bloat.
#: Smaller tables than the other figure are not checked: they have a few nearly empty pages.
STREAM_ROW_BYTES = 2_000
SMALL_TABLE_BYTES = 512 * 1024

#: Updates of `streams` that stay within their page, of all of them.
HOT_SHARE = 0.9

MIB = 1024 * 1024


class Table(BaseModel):
    """One table; partitions of `events` count together."""

    live: int
    dead: int
    bytes: int
    """Of rows, without indexes and TOAST."""
    total_bytes: int
    updates: int
    hot: int
    """Updates that left the indexes alone."""
    vacuums: int
    """By autovacuum, since the tables were made."""
    last_vacuum: str | None


class Sample(BaseModel):
    """One sample."""

    at: float
    """Seconds since the beginning."""
    turns: int
    turn_ms: float
    """Median of the last ones."""
    rss_bytes: int
    heap_blocks: int
    """Objects of Python's own allocator."""
    files: int
    """Open file descriptors."""
    connections: dict[str, int]
    """By state, according to the server, without the sampler's own connection."""
    pooled: int
    """The open connections of the pools."""
    states_bytes: int
    messages_bytes: int
    wal_bytes: int
    """Written since the beginning."""
    tables: dict[str, Table]


class Sampler:
    """Takes samples.

    Args:
        uri: of the database.
        savers, pools: the observed ones, in the same order.
    """

    def __init__(self, uri: str, savers: Sequence[Any], pools: Sequence[Any]) -> None:
        self._conn = psycopg.connect(uri, autocommit=True, application_name="soak's sampler")
        self._savers = savers
        self._pools = pools
        self._wal = self._one("select pg_current_wal_insert_lsn()::text")

    def close(self) -> None:
        """Close its connection."""
        self._conn.close()

    def _one(self, query: Any, *params: Any) -> Any:
        row = self._conn.execute(query, params).fetchone()
        assert row is not None
        return row[0]

    def look(self, at: float, turns: int, turn_seconds: Sequence[float]) -> Sample:
        """Take one sample."""
        contexts = [saver._context for saver in self._savers]
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return Sample(
            at=at,
            turns=turns,
            turn_ms=median(turn_seconds) * 1000 if turn_seconds else 0,
            rss_bytes=pages * os.sysconf("SC_PAGE_SIZE"),
            heap_blocks=sys.getallocatedblocks(),
            files=len(os.listdir("/proc/self/fd")),
            connections=dict(
                self._conn.execute(
                    """
                    -- Between two statements of a transaction a connection is idle for a moment.
                    select
                        case
                            when state like 'idle in%' and state_change > clock_timestamp() - interval '1 second'
                            then 'active' else state
                        end,
                        count(*)
                    from pg_stat_activity
                    where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
                    group by 1
                    """
                ).fetchall()
            ),
            pooled=sum(pool.get_stats()["pool_size"] for pool in self._pools),
            states_bytes=max(context.states.size_bytes for context in contexts),
            messages_bytes=max(context.messages.size_bytes for context in contexts),
            wal_bytes=int(self._one("select pg_current_wal_insert_lsn() - %s::pg_lsn", self._wal)),
            tables=self._tables(),
        )

    def _tables(self) -> dict[str, Table]:
        rows = self._conn.execute(
            """
            select
                case when i.inhrelid is null then s.relname else 'events' end as name,
                sum(s.n_live_tup)::bigint as live, sum(s.n_dead_tup)::bigint as dead,
                sum(pg_relation_size(s.relid))::bigint as bytes,
                sum(pg_total_relation_size(s.relid))::bigint as total_bytes,
                sum(s.n_tup_upd)::bigint as updates, sum(s.n_tup_hot_upd)::bigint as hot,
                sum(s.autovacuum_count)::bigint as vacuums, max(s.last_autovacuum)::text as last_vacuum
            from pg_stat_user_tables as s
            left join pg_inherits as i on s.relid = i.inhrelid
            where s.schemaname = 'eventlog'
            group by 1
            """
        ).fetchall()
        names = list(Table.model_fields)
        return {name: Table(**dict(zip(names, rest, strict=True))) for name, *rest in rows}


class Bound(BaseModel):
    """An upper or lower bound."""

    name: str
    found: str
    bound: str
    holds: bool


def judge(samples: Sequence[Sample], connections: int, cache_bytes: int) -> list[Bound]:
    """The bounds that show whether anything grows without limit.

    Args:
        samples: of one run, in their order.
        connections: the most that all pools and followers may have.
        cache_bytes: the bound of each cache.
    """
    warm = [each for each in samples if each.at >= samples[-1].at * WARM_UP] or list(samples)
    before, after = warm[: (len(warm) + 1) // 2], warm[len(warm) // 2 :]
    last = samples[-1]
    rss_before, rss_after = (median(each.rss_bytes for each in part) for part in (before, after))
    rss_bound = max(rss_before * (1 + GROWTH_SHARE), rss_before + GROWTH_BYTES)
    files = max(each.files for each in before)
    most = max(sum(each.connections.values()) for each in samples)
    in_transaction = min(
        sum(number for state, number in each.connections.items() if state.startswith("idle in")) for each in after
    )
    streams = last.tables["streams"]
    row_bytes = streams.bytes / max(1, streams.live)
    hot = streams.hot / max(1, streams.updates)

    def bound(name: str, found: float, limit: float, form: str = "{:,.0f}") -> Bound:
        return Bound(name=name, found=form.format(found), bound=f"≤ {form.format(limit)}", holds=found <= limit)

    return [
        bound("memory, second half (MiB)", rss_after / MIB, rss_bound / MIB, "{:.1f}"),
        bound("open files", max(each.files for each in after), files + 2),
        bound("connections", most, connections),
        bound("connections left in a transaction", in_transaction, 0),
        bound("state cache (bytes)", max(each.states_bytes for each in samples), cache_bytes),
        bound("message cache (bytes)", max(each.messages_bytes for each in samples), cache_bytes),
        Bound(
            name="bytes for each row of streams",
            found=f"{row_bytes:,.0f}",
            bound=f"≤ {STREAM_ROW_BYTES:,}",
            holds=row_bytes <= STREAM_ROW_BYTES or streams.bytes <= SMALL_TABLE_BYTES,
        ),
        Bound(
            name="updates of streams within the page",
            found=f"{hot:.1%}",
            bound=f"≥ {HOT_SHARE:.0%}",
            holds=hot >= HOT_SHARE,
        ),
    ]
