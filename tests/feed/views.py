"""Custom projections for tests, and for workers in processes of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from projections.event import Event

__all__ = ["AsyncSeen", "Kinds", "Point", "Seen", "Slow"]

SCHEMA = "create table if not exists seen (number bigint generated always as identity, event text primary key)"


def line(event: Event) -> str:
    return f"{event.thread_id}/{event.checkpoint_ns}/{event.seq}/{event.cursor}"


class Seen:
    """Every event, in the order in which it came; one that comes twice is an error of the view."""

    name = "seen"

    def __init__(self, version: int = 1, fail_at: int | None = None) -> None:
        self.version = version
        self.fail_at = fail_at

    def setup(self, conn: Any) -> None:
        conn.execute("drop table if exists seen")
        conn.execute(SCHEMA)

    def apply(self, conn: Any, events: Sequence[Event]) -> None:
        for event in events:
            conn.execute("insert into seen (event) values (%s)", (line(event),))
            if event.seq == self.fail_at:
                raise ValueError("not this one")


class AsyncSeen(Seen):
    """The same, for the async saver."""

    async def setup(self, conn: Any) -> None:  # type: ignore[override]
        await conn.execute("drop table if exists seen")
        await conn.execute(SCHEMA)

    async def apply(self, conn: Any, events: Sequence[Event]) -> None:  # type: ignore[override]
        for event in events:
            await conn.execute("insert into seen (event) values (%s)", (line(event),))
            if event.seq == self.fail_at:
                raise ValueError("not this one")


class Slow(Seen):
    """Takes its time in each batch, so that a worker is killed in the middle of one."""

    def apply(self, conn: Any, events: Sequence[Event]) -> None:
        super().apply(conn, events)
        time.sleep(0.02)


@dataclass
class Point:
    """A value of the user's own."""

    x: int
    y: int


class Kinds:
    """Of what type the values of writes are."""

    name = "kinds"
    version = 1

    def setup(self, conn: Any) -> None:
        conn.execute("drop table if exists kinds")
        conn.execute("create table kinds (kind text)")

    def apply(self, conn: Any, events: Sequence[Event]) -> None:
        for event in events:
            for write in event.writes:
                conn.execute("insert into kinds values (%s)", (type(write.value).__name__,))
