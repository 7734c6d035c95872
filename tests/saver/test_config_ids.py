"""The ids in configs are plain strings, and configs have no further key, whatever the setting `concurrency`."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Any
from uuid import UUID

import orjson
import ormsgpack
import psycopg
import pytest
import yaml  # type: ignore[import-untyped]
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel, ConfigDict

from tests.saver.test_graphs import line_of
from tests.support.adapters import open_saver
from tests.support.checkpoints import checkpoint_of, config_of, exactly, listed, put
from tests.support.scenarios import MODES, Mode, Run, open_mode

FIRST, SECOND, THIRD = (f"1ef4f797-8335-6428-8001-8a1503f9b87{digit}" for digit in range(3))


@pytest.fixture(params=["branch", "strict"])
def concurrency(request: pytest.FixtureRequest) -> str:
    setting: str = request.param
    return setting


@pytest.fixture
async def saver(kind: str, database_uri: str, concurrency: str) -> AsyncIterator[Any]:
    """Three checkpoints, of which the latest has writes."""
    async with open_saver(kind, database_uri, concurrency=concurrency) as opened:
        config = config_of("1")
        for id_ in (FIRST, SECOND, THIRD):
            config = await put(opened, config, id_, {"x": id_})
            assert exactly(config, config_of("1", id_))
        await opened.aput_writes(config, [("x", 1)], "task")
        yield opened


async def test_configs_have_plain_ids_and_no_further_key(saver: Any) -> None:
    latest = await saver.aget_tuple(config_of("1"))
    for found in (
        latest,
        await saver.aget_tuple(latest.config),
        await saver.log.state_at("1", datetime.now(timezone.utc)),
    ):
        assert exactly(found.config, config_of("1", THIRD))
        assert exactly(found.parent_config, config_of("1", SECOND))
        assert exactly(found.checkpoint["id"], THIRD)
    older = await saver.aget_tuple(latest.parent_config)
    assert exactly(older.config, config_of("1", SECOND))
    assert exactly(older.parent_config, config_of("1", FIRST))
    # LangGraph lists in order to replay a subgraph.
    for config in (config_of("1"), latest.config, config_of("1", __pregel_replay_state=object())):
        for found in await listed(saver, config):
            parent_id = {THIRD: SECOND, SECOND: FIRST}.get(found.checkpoint["id"])
            assert exactly(found.config, config_of("1", found.checkpoint["id"]))
            assert exactly(found.parent_config, parent_id and config_of("1", parent_id))
    assert exactly(await put(saver, older.config, SECOND, {"x": 2}), config_of("1", SECOND))
    assert exactly(await saver.log.fork_thread("1", "2", SECOND), config_of("2", SECOND))
    assert exactly((await saver.aget_tuple(config_of("2", FIRST))).config, config_of("2", FIRST))


@pytest.mark.parametrize("mode", MODES)
async def test_graphs_show_plain_ids(mode: Mode, database_uri: str, concurrency: str) -> None:
    async with open_mode(mode, database_uri, concurrency=concurrency) as saver:
        run = Run(line_of("a", "b").compile(checkpointer=saver), mode)
        await run.invoke({"items": ["said"]})
        states = await run.history()
        ids = [state.config["configurable"]["checkpoint_id"] for state in states]
        updated = await run.update({"items": ["changed"]}, states[1].config)
        for state in (await run.state(), await run.state(states[1].config), *states):
            for config in (state.config, state.parent_config):
                if config is not None:
                    assert set(config["configurable"]) == {"thread_id", "checkpoint_ns", "checkpoint_id"}
                    assert exactly(config, config_of("1", str(config["configurable"]["checkpoint_id"])))
        assert [exactly(state.config, config_of("1", id_)) for state, id_ in zip(states, ids, strict=True)]
        assert type(updated["configurable"]["checkpoint_id"]) is str


class Compared(str):
    """A string that is asked what it equals, as in LangGraph's own tests."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)

    __hash__ = str.__hash__


async def test_configs_are_serialized_copied_and_compared_as_plain_ones(saver: Any) -> None:
    for id_ in (FIRST, THIRD):
        config = (await saver.aget_tuple(config_of("1", id_))).config
        plain = config_of("1", id_)
        assert json.dumps(config) == json.dumps(plain)
        assert repr(config) == repr(plain)
        assert yaml.safe_load(yaml.safe_dump(config)) == plain
        assert orjson.dumps(config, option=orjson.OPT_PASSTHROUGH_SUBCLASS) == orjson.dumps(plain)
        assert ormsgpack.packb(config, option=ormsgpack.OPT_PASSTHROUGH_SUBCLASS) == ormsgpack.packb(plain)
        for again in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
            assert exactly(again, plain)
        assert config == config_of("1", Compared("another"))
        assert saver.serde.loads_typed(saver.serde.dumps_typed(config)) == plain


async def test_savers_take_the_id_in_configs_metadata_and_filters(saver: Any) -> None:
    found = await saver.aget_tuple(config_of("1", SECOND))
    id_ = found.config["configurable"]["checkpoint_id"]
    assert await listed(saver, found.config) == [found]
    await saver.aput_writes(found.config, [("x", 1)], "task")
    assert (await saver.aget_tuple(found.config)).pending_writes == [("task", "x", 1)]
    stored = await put(saver, found.config, "2", {"x": 1}, metadata={"parents": {"": id_}})
    assert (await saver.aget_tuple(stored)).metadata["parents"] == {"": SECOND}
    assert [each.checkpoint["id"] for each in await listed(saver, None, filter={"parents": {"": id_}})] == ["2"]


async def test_other_libraries_take_the_id(saver: Any, database_uri: str) -> None:
    """As a parameter of psycopg, in a strict pydantic model, as a UUID, in LangGraph's own saver."""

    class Strict(BaseModel):
        model_config = ConfigDict(strict=True)
        id: str

    config = (await saver.aget_tuple(config_of("1", FIRST))).config
    id_ = config["configurable"]["checkpoint_id"]
    assert Strict(id=id_).model_dump_json() == json.dumps({"id": FIRST}, separators=(",", ":"))
    assert str(UUID(id_)) == FIRST
    with psycopg.connect(database_uri) as conn:
        query = "select %s::text, %b::text, %s = checkpoint_id from eventlog.events order by seq limit 1"
        assert conn.execute(query, (id_, id_, id_)).fetchone() == (FIRST, FIRST, True)
    memory: BaseCheckpointSaver[Any] = InMemorySaver()
    memory.put(config, checkpoint_of("z", {}, {}), {}, {})
    assert memory.get_tuple(config_of("1")).parent_config == config_of("1", FIRST)  # type: ignore[union-attr]
