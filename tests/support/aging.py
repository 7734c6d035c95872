"""A log that grows while time passes, for tests of what is done with what is old."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from langgraph.checkpoint.base import CheckpointTuple

from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, key_of, listed, put
from tests.support.clock import Clock
from tests.support.soundness import assert_keyframes, assert_sound, projected

__all__ = ["DAY", "TEXTS", "Log", "log"]

DAY = timedelta(days=1)
#: Long enough to be stored as differences.
TEXTS = [f"{number} " * 30 for number in range(40)]

Key = tuple[str, str, str]


class Log:
    """A saver with daily partitions on a database with a settable time, and one without a cache that reads."""

    def __init__(self, uri: str, kind: str, clock: Clock, saver: Any, reader: Any) -> None:
        self.uri, self.kind, self.clock, self.saver, self.reader = uri, kind, clock, saver, reader
        self.tables = Tables(uri)
        self._last: dict[tuple[str, str], Any] = {}

    async def grow(self, thread_id: str, *ids: str, ns: str = "", days: float = 0) -> None:
        """Checkpoints one after the other, each with writes, with so much time between."""
        for id_ in ids:
            parent = self._last.get((thread_id, ns), config_of(thread_id, ns=ns))
            number = int("".join(filter(str.isdigit, id_)) or 0)
            config = await put(self.saver, parent, id_, {"x": [*TEXTS, number], "n": number}, metadata={"step": number})
            await self.saver.aput_writes(config, [("x", [*TEXTS, number]), ("y", id_)], f"task of {id_}")
            self._last[thread_id, ns] = config
            self.clock.advance(days * DAY)

    async def everything(self) -> dict[Key, CheckpointTuple]:
        return {self.key(each): each for each in await listed(self.reader, None)}

    @staticmethod
    def key(found: CheckpointTuple) -> Key:
        return key_of(found.config)

    async def check(self, before: dict[Key, CheckpointTuple], survivors: set[Key]) -> None:
        """These survive and read as before, but for a parent that went; the log is sound and rebuilds to the same."""
        after = await self.everything()
        assert after.keys() == survivors
        for key, found in after.items():
            parent = before[key].parent_config
            if parent is not None and (*key[:2], parent["configurable"]["checkpoint_id"]) not in survivors:
                parent = None
            assert found == before[key]._replace(parent_config=parent)
            assert await self.reader.aget_tuple(found.config) == found
            assert await self.saver.aget_tuple(found.config) == found
        assert_sound(self.tables)
        assert_keyframes(self.tables)
        assert (await self.saver.log.verify()).problems == []
        rows = projected(self.tables, keyframes=False)
        await self.saver.log.rebuild()
        assert projected(self.tables, keyframes=False) == rows
        assert await self.everything() == after

    def partitions(self) -> list[str]:
        attached = self.tables.rows(
            "select inhrelid::regclass::text from pg_inherits where inhparent = '{schema}.events'::regclass order by 1"
        )
        listed = self.tables.rows(
            "select 'eventlog.' || name from {schema}.partitions where dropped_at is null order by 1"
        )
        assert attached == listed
        return [name for (name,) in attached]


@pytest.fixture
async def log(kind: str, timed_uri: str) -> AsyncIterator[Log]:
    uri = timed_uri
    clock = Clock(uri, behind=100 * DAY)
    settings = {"partition_interval": "day", "partitions_ahead": 1}
    async with (
        open_saver(kind, uri, snapshot_floor_bytes=4000, **settings) as saver,
        open_saver(kind, uri, state_cache_bytes=0, **settings) as reader,
    ):
        await saver.setup()
        yield Log(uri, kind, clock, saver, reader)
