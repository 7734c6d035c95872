"""`relaxed_writes`: writes wait for the next checkpoint's commit, and nothing else is lost with the server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.private import PrivateServer
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, put

pytestmark = pytest.mark.faults


@pytest.fixture
def uri(victim: PrivateServer) -> str:
    """A server that keeps what no commit waits for in memory for longer than a test takes."""
    victim.run("alter system set wal_writer_delay = '10s'")
    victim.run("select pg_reload_conf()")
    return victim.create("app")


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_a_crash_loses_relaxed_writes_and_no_checkpoint(kind: str, uri: str, victim: PrivateServer) -> None:
    async with open_saver(kind, uri, relaxed_writes=True) as saver:
        config = await put(saver, config_of(), "1", {"x": 1})
        await saver.aput_writes(config, [("x", 2)], "task")
        assert (await _writes(saver)) == [("task", "x", 2)]
        victim.kill()
        victim.start()
        assert (await _writes(saver)) == []
        # LangGraph runs the task again.
        await saver.aput_writes(config, [("x", 3)], "task")
        await put(saver, config, "2", {"x": 3})
        assert (await saver.log.verify()).problems == []


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_a_checkpoint_makes_the_writes_before_it_durable(kind: str, uri: str, victim: PrivateServer) -> None:
    async with open_saver(kind, uri, relaxed_writes=True) as saver:
        config = await put(saver, config_of(), "1", {"x": 1})
        await saver.aput_writes(config, [("x", 2)], "task")
        await put(saver, config, "2", {"x": 2})
        victim.kill()
        victim.start()
        found = await saver.aget_tuple(config_of("1", "1"))
        assert found.pending_writes == [("task", "x", 2)]
        assert (await saver.aget_tuple(config_of())).checkpoint["id"] == "2"


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_writes_survive_a_crash_without_the_setting(kind: str, uri: str, victim: PrivateServer) -> None:
    async with open_saver(kind, uri) as saver:
        config = await put(saver, config_of(), "1", {"x": 1})
        await saver.aput_writes(config, [("x", 2)], "task")
        victim.kill()
        victim.start()
        assert (await _writes(saver)) == [("task", "x", 2)]


async def _writes(saver: Any) -> Any:
    return (await saver.aget_tuple(config_of())).pending_writes
