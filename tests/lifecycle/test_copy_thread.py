"""Copying threads, and the path to one checkpoint: what the copy has, and that it is on its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.types import Command

from eventlog.errors import ThreadDeletedError, ThreadExistsError, ThreadNotFoundError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.lifecycle.test_prune import build
from tests.support.adapters import POOLS, LogUnderTest, open_log_under_test, open_saver
from tests.support.checkpoints import (
    TEXTS,
    Key,
    checkpoint_of,
    config_of,
    converse,
    keys,
    listed_ids,
    put,
    tangle,
    values_of,
)
from tests.support.scenarios import MODES, Mode, Run, in_context, open_mode, rendered

__all__ = ["in_context"]  # a fixture


@pytest.fixture
async def world(kind: str, database_uri: str) -> AsyncIterator[LogUnderTest]:
    async with open_log_under_test(kind, database_uri, snapshot_floor_bytes=10_000) as opened:
        yield opened


def moved(config: Any, target: str) -> Any:
    return config and {"configurable": {**config["configurable"], "thread_id": target}}


def of(thread_id: str, found: dict[Key, CheckpointTuple]) -> dict[Key, CheckpointTuple]:
    """One thread of what was found, as if it were called "copy"."""
    return {
        ("copy", *key[1:]): each._replace(
            config=moved(each.config, "copy"), parent_config=moved(each.parent_config, "copy")
        )
        for key, each in found.items()
        if key[0] == thread_id
    }


async def grow(saver: Any) -> None:
    """A thread with all that a thread can have."""
    await tangle(saver)
    await converse(saver, ns="call:1", ids="pq", parents={"": "b"})
    await converse(saver, ns="call:1|inner:2", ids="rs", parents={"": "b", "call:1": "p"})
    await converse(saver, ns="call:3", ids="tu", parents={"": "d1"})
    await put(saver, config_of(ns="stateful"), "v", {"x": TEXTS}, metadata={"parents": {"": "a"}})
    await put(saver, config_of("1", "v", "stateful"), "w", {"x": [*TEXTS, "w"]}, metadata={"parents": {"": "c"}})
    await put(saver, config_of("1", "w", "stateful"), "x", {"x": [*TEXTS, "x"]}, metadata={"parents": {"": "g"}})
    await saver.aput_writes(config_of("1", "y", "only writes"), [("x", TEXTS)], "task")
    for number in range(20):
        await put(saver, config_of("1", number or None, "long"), number + 1, {"x": [*TEXTS, number]})


# --- all of it


async def test_a_copy_has_the_same_checkpoints_and_writes(world: LogUnderTest) -> None:
    """The same checkpoints in the same order, but for the thread's id; and writes that wait for theirs."""
    await grow(world.saver)
    before, source = await world.everything(), world.tables.contents()
    assert any(row.startswith("(1,long") for row in source["snapshots"])

    await world.saver.log.copy_thread("1", "copy", actor="me")

    after = await world.everything()
    assert of("copy", after) == of("1", after) == of("1", before)
    for key, expected in of("copy", after).items():
        for saver in (world.saver, world.reader):
            assert await saver.aget_tuple(config_of("copy", key[2], key[1])) == expected
    for ns in ("", "call:1", "long", None):
        assert await listed_ids(world.saver, config_of("copy", ns=ns)) == await listed_ids(
            world.saver, config_of("1", ns=ns)
        )
    for table, rows in world.tables.contents().items():
        assert [row for row in rows if row.startswith("(1,")] == source[table]
    stored = await put(world.saver, config_of("copy", ns="only writes"), "y", {"x": 1})
    assert (await world.saver.aget_tuple(stored)).pending_writes == [("task", "x", TEXTS)]
    (record,) = world.tables.records("copy")
    assert (record["operation"], record["by"], record["actor"]) == ("copy_thread", "postgres", "me")
    assert (record["source"], record["checkpoints"]) == ("1", 10)
    assert world.tables.records("1") == []
    await world.check_log()


@POOLS
async def test_a_copy_is_independent_of_its_source(world: LogUnderTest) -> None:
    """Either goes on and is changed without the other, and is there when the other is not."""
    await grow(world.saver)
    expected = of("1", await world.everything())
    await world.saver.acopy_thread("1", "copy")
    await world.saver.acopy_thread("copy", "3")
    await put(world.saver, config_of("1", "h"), "i", {"x": [*TEXTS, "on"]})
    await put(world.saver, config_of("1", "c"), "d", {"x": [*TEXTS, "a third time"]})
    assert of("copy", await world.everything()) == expected
    await put(world.reader, config_of("3", "h"), "i", {"x": [*TEXTS, "elsewhere"]})
    await world.saver.aprune(["3"])
    assert of("copy", await world.everything()) == expected
    await world.saver.adelete_thread("1")
    assert of("copy", await world.everything()) == expected
    assert await values_of(world.saver, config_of("3", "i")) == {"x": [*TEXTS, "elsewhere"]}
    assert (await world.saver.aget_tuple(config_of("3", "i"))).pending_writes == [("of a run that goes on", "x", TEXTS)]
    await world.check_log()
    await put(world.saver, config_of("copy", "h"), "i", {"x": [*TEXTS, "on"]})
    await world.saver.adelete_thread("copy")
    assert {key[0] for key in await world.everything()} == {"3"}
    await world.check_log()


@pytest.mark.parametrize("how", ["copy", "fork"])
@POOLS
async def test_a_target_with_data_is_refused(world: LogUnderTest, how: str) -> None:
    """One with data is refused, one that was deleted is not; the same once more is no error; a missing source is."""

    async def copy(source: str, target: str) -> Any:
        call = world.saver.acopy_thread if how == "copy" else world.saver.log.fork_thread
        return await call(source, target)

    await grow(world.saver)
    await put(world.saver, config_of("used"), "z", {"x": 1})
    await world.saver.aput_writes(config_of("only writes", "z", "ns"), [("x", 1)], "task")
    contents = world.tables.contents()
    for target in ("used", "only writes"):
        with pytest.raises(ThreadExistsError, match=f"thread '{target}' has data: delete it first, or choose another"):
            await copy("1", target)
    with pytest.raises(ThreadNotFoundError, match="'missing'"):
        await copy("missing", "new")
    assert world.tables.contents() == contents

    first = await copy("1", "copy")
    contents = world.tables.contents()
    assert await copy("1", "copy") == first
    assert world.tables.contents() == contents
    # Not the same any more: a run went on in the copy, or in the source.
    await put(world.saver, config_of("copy", "h"), "i", {"x": 1})
    with pytest.raises(ThreadExistsError):
        await copy("1", "copy")

    await converse(world.saver, "deleted", "call:1", "zz")
    await converse(world.saver, "deleted", "other", "z")
    for target in ("used", "deleted", "copy"):
        await world.saver.adelete_thread(target)
        expected = await copy("1", target)
        found = await world.everything()
        if how == "copy":
            assert of(target, found) == of("1", found)
        else:
            assert (await world.saver.aget_tuple(expected)).checkpoint == found["1", "", "h"].checkpoint
        child = await put(world.saver, config_of(target, "h"), "i", {"x": [*TEXTS, "on"]})
        assert await values_of(world.reader, child) == {"x": [*TEXTS, "on"]}
        with pytest.raises(ThreadExistsError):
            await copy("1", target)
    await put(world.saver, config_of("1", "h"), "j", {"x": 1})
    await world.saver.adelete_thread("1")
    with pytest.raises(ThreadNotFoundError):
        await copy("1", "new")
    await world.check_log()


@pytest.mark.parametrize("how", ["copy", "fork"])
@POOLS
async def test_a_target_written_meanwhile_is_refused_and_unchanged(world: LogUnderTest, how: str) -> None:
    """Its first checkpoint is committed while the copy waits for it: then it has data, and is left as it is."""
    await converse(world.saver)
    with psycopg.connect(world.uri) as conn:
        conn.execute("select 1")  # begins a transaction, in which the put is
        versions = {"y": "1"}
        EventLogSaver(conn).put(config_of("copy"), checkpoint_of("z", {"y": 1}, versions), {}, versions)
        call = world.saver.acopy_thread if how == "copy" else world.saver.log.fork_thread
        copying = asyncio.create_task(call("1", "copy"))
        while not world.tables.waiting():
            await asyncio.sleep(0.005)
        conn.commit()
    with pytest.raises(ThreadExistsError):
        await copying
    assert await listed_ids(world.reader, config_of("copy")) == ["z"]


# --- what was cut before


@pytest.mark.parametrize("way", [{}, {"keep_last": 3}, "run"], ids=str)
@POOLS
async def test_a_pruned_source_is_copied_without_what_went(world: LogUnderTest, way: Any) -> None:
    await tangle(world.saver)
    await converse(world.saver, ns="call:9", ids="AB", mark="this goes", run_id="run", parents={"": "a"})
    await (world.saver.adelete_for_runs(["run"]) if way == "run" else world.saver.log.prune(["1"], **way))
    before = await world.everything()
    await world.saver.acopy_thread("1", "copy")
    await world.saver.log.fork_thread("1", "fork")
    after = await world.everything()
    assert of("copy", after) == of("1", before)
    assert of("fork", after).items() <= of("1", before).items()
    await world.check_log()
    await world.saver.adelete_thread("1")
    assert world.tables.holders("this goes") == set()
    survivors = {key for key in after if key[0] != "1"}
    await world.check(after, survivors)
    # Cutting the copy, too.
    await world.saver.aprune(["copy", "fork"])
    await world.check(after, keys("h", "copy") | keys("h", "fork"))


@pytest.mark.parametrize("how", ["copy", "fork"])
@POOLS
async def test_a_saver_with_a_stale_cache_continues_a_copied_source(kind: str, how: str, database_uri: str) -> None:
    """It was pruned by one saver, and another remembers the state, but not where replaying starts now."""
    async with open_log_under_test(kind, database_uri) as world, open_saver(kind, database_uri) as other:
        await converse(other)
        await world.saver.log.prune(["1"], keep_last=2)
        texts = (await values_of(other, config_of()))["x"]
        for parent, id_ in ("hi", "ij"):
            texts = [*texts, id_]
            versions = {"x": id_, "y": "a"}
            await put(other, config_of("1", parent), id_, {"x": texts}, versions=versions, new={"x": id_})
        before = await world.everything()
        assert before.keys() == keys("g h i j")
        await (world.saver.acopy_thread if how == "copy" else world.saver.log.fork_thread)("1", "copy")
        assert of("copy", await world.everything()) == of("1", before)
        await world.check_log()


# --- one path


FORKS: dict[str | None, dict[str, str]] = {
    # The latest, by default; x of the stateful subgraph ran under g.
    None: {"": "a b c d e f g h", "call:1": "p q", "call:1|inner:2": "r s", "stateful": "v w x"},
    "h": {"": "a b c d e f g h", "call:1": "p q", "call:1|inner:2": "r s", "stateful": "v w x"},
    "d2": {"": "a b c d d1 d2", "call:1": "p q", "call:1|inner:2": "r s", "call:3": "t u", "stateful": "v w"},
    "b": {"": "a b", "call:1": "p q", "call:1|inner:2": "r s", "stateful": "v"},
    "a": {"": "a", "stateful": "v"},
}


@pytest.mark.parametrize("at", FORKS)
@POOLS
async def test_a_fork_has_the_checkpoints_ancestors_and_no_branches(world: LogUnderTest, at: str | None) -> None:
    """The checkpoint and its ancestors with their writes, and what subgraphs saved under them; no branches."""
    await grow(world.saver)
    before = await world.everything()

    config = await world.saver.log.fork_thread("1", "copy", at, actor="me")

    assert config == config_of("copy", at or "h")
    after = await world.everything()
    chosen = {("copy", ns, id_) for ns, ids in FORKS[at].items() for id_ in ids.split()}
    assert of("copy", after) == {key: each for key, each in of("1", before).items() if key in chosen}
    assert of("1", after) == of("1", before)
    assert (await world.saver.aget_tuple(config_of("copy"))).checkpoint["id"] == (at or "h")
    (record,) = world.tables.records("copy")
    assert (record["operation"], record["actor"], record["checkpoint_id"]) == ("fork_thread", "me", at or "h")
    await world.check_log()
    child = await put(world.saver, config, "z", {"x": [*TEXTS, "on"]})
    assert await values_of(world.reader, child) == {"x": [*TEXTS, "on"]}
    await world.saver.adelete_thread("1")
    survivors = {key for key in after if key[0] == "copy"}
    await world.check(await world.everything(), survivors | {("copy", "", "z")})


@POOLS
async def test_a_fork_of_an_unknown_checkpoint_is_refused(world: LogUnderTest) -> None:
    """Neither a checkpoint of another thread or namespace, nor one that went, nor a thread without a root graph."""
    await converse(world.saver)
    await converse(world.saver, ns="call:1", ids="z")
    await converse(world.saver, "no root", "call:1", "a")
    await converse(world.saver, "2", ids="x")
    await world.saver.log.prune(["1"], keep_last=4)
    contents = world.tables.contents()
    for at in ("i", "z", "x", "d"):
        with pytest.raises(ThreadNotFoundError, match=f"thread '1' has no checkpoint '{at}' in its root graph"):
            await world.saver.log.fork_thread("1", "new", at)
    with pytest.raises(ThreadNotFoundError, match="'no root' has no checkpoint in its root graph"):
        await world.saver.log.fork_thread("no root", "new")
    assert world.tables.contents() == contents


@POOLS
async def test_a_fork_keeps_the_state_before_its_ancestor_was_replaced(world: LogUnderTest) -> None:
    """Put again under another parent, after a child was saved: the child still needs what it was before."""
    for id_, parent in (("a", None), ("b", "a"), ("c", "b"), ("d", "c")):
        await put(world.saver, config_of("1", parent), id_, {"x": [*TEXTS, id_]})
    await put(world.saver, config_of("1", "a"), "c", {"x": [*TEXTS, "elsewhere"]})
    before = await world.everything()
    await world.saver.log.fork_thread("1", "copy", "d")
    found = of("copy", await world.everything())
    assert found.items() <= of("1", before).items()
    assert {key[2] for key in found} >= {"a", "c", "d"}
    await world.check_log()


# --- graphs


@pytest.mark.parametrize("how", ["copy", "fork"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("in_context")
async def test_a_graph_continues_in_the_copy(mode: Mode, how: str, database_uri: str) -> None:
    """From wherever it was copied, and its questions can be answered there, whatever the original does."""

    async def copy(saver: Any, target: str) -> Any:
        if how == "copy":
            await saver.acopy_thread("1", target) if mode == "async" else saver.copy_thread("1", target)
            return config_of(target)
        return await saver.log.fork_thread("1", target) if mode == "async" else saver.log.fork_thread("1", target)

    async with open_mode(mode, database_uri) as saver:
        run = Run(build(saver), mode)
        values = (
            {"items": ["hi"]},
            Command(resume="one"),
            Command(resume="two"),
            {"items": ["on"]},
            Command(resume="3"),
        )
        copies: list[tuple[Run, Any]] = []
        answers: list[Any] = []
        for number, value in enumerate(values):
            answers.append(await run.invoke(value))
            target = Run(run.graph, mode, f"copy {number}")
            copies.append((target, await copy(saver, f"copy {number}")))
            assert rendered(await target.history()).replace(f"copy {number}", "1") == rendered(await run.history())
            mine, its = await target.state(subgraphs=True), await run.state(subgraphs=True)
            assert rendered(mine).replace(f"copy {number}", "1") == rendered(its)
        await (saver.adelete_thread("1") if mode == "async" else asyncio.to_thread(saver.delete_thread, "1"))
        for number, (target, config) in enumerate(copies):
            for later, value in enumerate(values[number + 1 :], number + 1):
                found = await target.invoke(value, config if later == number + 1 else None)
                assert rendered(found) == rendered(answers[later])
        with pytest.raises(ThreadDeletedError):
            await run.update({"items": ["late"]}, (await copies[0][0].history())[-1].config | config_of("1", "0"))
