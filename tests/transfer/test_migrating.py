"""MigratingSaver: a thread goes on in the log from where the old saver had it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability
from langgraph.types import Command
from psycopg import errors as pg

from eventlog.errors import (
    InvalidInputError,
    ThreadExistsError,
    ThreadNotFoundError,
    ThreadNotImportedError,
)
from langgraph.checkpoint.eventlog import _migrating_steps
from tests.database.test_rights import role
from tests.support.checkpoints import config_of, key_of, keys, listed, listed_ids, put
from tests.support.pooler import direct
from tests.support.scenarios import MODES, Mode, Run, in_context
from tests.transfer.migrating import (
    FENCED,
    KINDS,
    POOLS,
    mark_of,
    native,
    old_ids,
    open_migrating,
    prepare,
    put_up_fence,
)
from tests.transfer.old_savers import fill, latest_id, open_incumbent, open_old, set_up
from tests.transfer.test_export import fan_out

__all__ = ["in_context", "role"]  # fixtures

EVERY = {capability.value for capability in Capability}


@FENCED
@pytest.mark.parametrize("kind", ["sync-pool", "sync-connection", "async-pool", "async-connection"])
async def test_every_conformance_capability_passes(kind: str, fenced: bool, new_database: Callable[..., str]) -> None:
    @checkpointer_test(name=kind)
    async def fresh() -> AsyncIterator[BaseCheckpointSaver[Any]]:
        uri = new_database()
        set_up(uri)
        if fenced:
            await put_up_fence(uri)
        async with open_migrating(kind, uri) as saver:
            yield saver

    report = await validate(fresh, capabilities=EVERY)
    failures = [line for result in report.results.values() for line in result.failures]
    assert not failures, "\n\n".join(failures)
    assert {name for name, result in report.results.items() if result.detected} == EVERY
    assert all(result.tests_passed for result in report.results.values())


@pytest.mark.portable
@FENCED
@KINDS
async def test_a_thread_is_read_and_goes_on_in_the_log(kind: str, fenced: bool, uri: str) -> None:
    await prepare(kind, uri, fenced, "1", "2")
    async with open_migrating(kind, uri) as saver:
        expected = await saver.old_face.aget_tuple(config_of("1"))
        found = await saver.aget_tuple(config_of("1"))
        assert found == expected
        config = await put(saver, found.config, "d", {"list": ["d"]})
        await saver.aput_writes(config, [("list", [1])], "task")
        assert await listed_ids(saver, config_of("1")) == ["d", "c", "b", "a"]
        assert await listed_ids(saver.new_face, config_of("2")) == [], "what was not asked for stays where it is"
        if fenced:
            assert mark_of(uri, "1") == "moved"
            assert mark_of(uri, "2") is None
        assert (await saver.log.verify()).problems == []


@FENCED
@POOLS
@pytest.mark.parametrize("call", ["put", "put_writes", "list", "delta", "by id"])
async def test_each_call_brings_the_thread_first(kind: str, fenced: bool, call: str, uri: str) -> None:
    await prepare(kind, uri, fenced, "1")
    async with open_migrating(kind, uri) as saver:
        if call == "put":
            await put(saver, config_of("1", "c"), "d", {"list": ["d"]})
        elif call == "put_writes":
            await saver.aput_writes(config_of("1", "c"), [("list", 1)], "another task")
            assert len((await saver.aget_tuple(config_of("1"))).pending_writes) == 3
        elif call == "list":
            assert await listed_ids(saver, config_of("1"), limit=2) == ["c", "b"]
        elif call == "delta":
            history = await saver.aget_delta_channel_history(config=config_of("1"), channels=["list"])
            assert history["list"]["seed"] == ["b"]
        else:
            assert (await saver.aget_tuple(config_of("1", "b"))).checkpoint["id"] == "b"
        assert (await listed_ids(saver.new_face, config_of("1")))[-3:] == ["c", "b", "a"]


@pytest.mark.usefixtures("in_context")
@FENCED
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
async def test_a_graph_goes_on_from_where_postgres_saver_left_it(mode: Mode, fenced: bool, stop: int, uri: str) -> None:
    """Between Sends and their tasks, at an interrupt, and at one in a subgraph."""
    builder = fan_out()
    steps: list[Any] = [{"items": ["start"]}, None, Command(resume="one"), Command(resume="two")]
    if fenced:
        await put_up_fence(uri)

    async def run_steps(saver: Any, some: list[Any]) -> Any:
        run = Run(builder.compile(checkpointer=native(saver), interrupt_before=["work"]), mode)
        for each in some:
            await run.invoke(each)
        return await run.state()

    async with open_migrating(f"{mode}-pool", uri) as saver:
        before = await run_steps(saver.old_face, steps[:stop])
        after = await run_steps(saver, [])
        assert (after.values, after.next, after.config) == (before.values, before.next, before.config)
        assert after.interrupts == before.interrupts
        ended = await run_steps(saver, steps[stop:])
        if fenced:
            with pytest.raises(psycopg.Error, match="was moved to the event log in schema 'eventlog' of database"):
                await run_steps(saver.old_face, [{"items": ["of an old replica"]}])
    assert ended.values["items"][-2:] == ["told one", "told two"]
    assert ended.next == ()


@POOLS
async def test_a_thread_that_was_imported_before_the_fence_gets_its_mark_when_it_is_read(kind: str, uri: str) -> None:
    await prepare(kind, uri, False, "1", "2")
    async with open_migrating(kind, uri) as importing:
        assert (await importing.log.import_from(direct(uri))).threads == {"imported": 2}
        await put(importing.new_face, config_of("new"), "a", {"x": 1})
    await put_up_fence(uri)
    async with open_migrating(kind, uri) as saver:
        assert await latest_id(saver, "1") == "c"
        assert await latest_id(saver, "new") == "a"
        await put(saver, config_of("2", "c"), "d", {"x": 1})
        for thread_id in ("1", "2", "new"):
            assert mark_of(uri, thread_id) == "moved"
            with pytest.raises(psycopg.Error, match="was moved to the event log"):
                await put(saver.old_face, config_of(thread_id, "c"), "e", {"x": 1})


@pytest.mark.parametrize("call", ["get_tuple", "put"])
@POOLS
async def test_a_thread_that_went_on_after_its_import_is_refused(kind: str, call: str, uri: str) -> None:
    """Its import was before the fence, and an old replica has written since."""
    await prepare(kind, uri, False, "1")
    async with open_migrating(kind, uri) as saver:
        assert (await saver.log.import_from(direct(uri))).threads == {"imported": 1}
        await put(saver.old_face, config_of("1", "c"), "d", {"list": ["d"]})
    await put_up_fence(uri)
    async with open_migrating(kind, uri) as saver:
        with pytest.raises(ThreadNotImportedError, match="thread '1' continued in PostgresSaver's tables"):
            await (
                saver.aget_tuple(config_of("1"))
                if call == "get_tuple"
                else put(saver, config_of("1", "c"), "e", {"list": ["e"]})
            )
        assert mark_of(uri, "1") is None
        assert await listed_ids(saver.new_face, config_of("1")) == ["c", "b", "a"]
        await put(saver.old_face, config_of("1", "d"), "e", {"list": ["e"]})
        # The way out that the error names.
        await saver.old_face.adelete_thread("1")
        await put(saver, config_of("1", "c"), "x", {"list": ["x"]})
        assert mark_of(uri, "1") == "moved"


@POOLS
async def test_a_deletion_waits_for_an_import_and_deletes_what_it_brought(kind: str, uri: str) -> None:
    await prepare(kind, uri, False, "1")
    mode = kind.split("-")[0]
    async with open_migrating(kind, uri) as saver, open_migrating(kind, uri) as importing:
        with psycopg.connect(direct(uri)) as holder:
            # An import of a thread that has not committed.
            holder.execute("select eventlog.import_lock_v1('1', false)")
            run = saver.adelete_thread("1")
            deleting = asyncio.ensure_future(run if mode == "async" else asyncio.to_thread(asyncio.run, run))
            done, _ = await asyncio.wait([deleting], timeout=0.5)
            assert done == set(), "the deletion did not wait"
            await fill(importing.new_face, "1")
        await deleting
        assert await listed_ids(saver, config_of("1")) == []
        assert await listed_ids(importing.new_face, config_of("1")) == []


@FENCED
@POOLS
async def test_what_was_deleted_is_not_imported_again(kind: str, fenced: bool, uri: str) -> None:
    """Not from the old tables, where it may be still."""
    await prepare(kind, uri, fenced, "1")
    async with open_migrating(kind, uri) as saver:
        assert await latest_id(saver, "1") == "c"
        await saver.log.delete_thread("1")
        assert await old_ids(kind, uri) == {"1"}
        assert await latest_id(saver, "1") is None
    async with open_migrating(kind, uri) as another:
        assert await latest_id(another, "1") is None
        assert await listed_ids(another, None) == []
        assert await listed_ids(another, config_of("1")) == []


@pytest.mark.portable
@FENCED
@POOLS
@pytest.mark.parametrize("is_here", [True, False])
async def test_delete_thread_acts_on_both_sides(kind: str, fenced: bool, is_here: bool, uri: str) -> None:
    await prepare(kind, uri, fenced, "1", "2")
    async with open_migrating(kind, uri) as saver:
        if is_here:
            await saver.aget_tuple(config_of("1"))
        await saver.adelete_thread("1")
        assert await old_ids(kind, uri) == {"2"}
        assert await latest_id(saver, "1") is None
        if fenced:
            with pytest.raises(pg.ObjectNotInPrerequisiteState):
                await fill(saver.old_face, "1")
            async with open_incumbent("async", uri) as incumbent:
                assert (await incumbent.fence_status()).deleted == []
        config = await put(saver, config_of("1"), "n", {"list": ["a new beginning"]})
        assert (await saver.aget_tuple(config_of("1"))).config == config


@FENCED
@POOLS
@pytest.mark.parametrize("strategy", ["keep_latest", "delete"])
async def test_prune_acts_on_both_sides(kind: str, fenced: bool, strategy: str, uri: str) -> None:
    await prepare(kind, uri, fenced, "1", "2", "3")
    async with open_migrating(kind, uri) as saver:
        await saver.aget_tuple(config_of("1"))
        await saver.aprune(["1", "2", "no such thread"], strategy=strategy)
        left = [] if strategy == "delete" else ["c"]
        for thread_id in ("1", "2"):
            assert await listed_ids(saver, config_of(thread_id)) == left
        assert await old_ids(kind, uri) == {"3"}
        with pytest.raises(InvalidInputError, match="unknown strategy"):
            await saver.aprune(["3"], strategy="nonsense")
        assert await old_ids(kind, uri) == {"3"}
        assert await listed_ids(saver.new_face, config_of("3")) == []


@FENCED
@POOLS
async def test_delete_for_runs_acts_on_both_sides(kind: str, fenced: bool, uri: str) -> None:
    async with open_old(kind, uri) as old:
        for thread_id in "12":
            await put(old, config_of(thread_id), "a", {"x": ["kept"]}, metadata={"run_id": "good"})
            await put(old, config_of(thread_id, "a"), "b", {"x": ["gone"]}, metadata={"run_id": "bad"})
        await put(old, config_of("3"), "a", {"x": ["untouched"]}, metadata={"run_id": "good"})
    if fenced:
        await put_up_fence(uri)
    async with open_migrating(kind, uri) as saver:
        await saver.aget_tuple(config_of("1"))
        await saver.adelete_for_runs(["bad", "of nobody"])
        for thread_id in "12":
            assert await listed_ids(saver, config_of(thread_id)) == ["a"]
        assert await old_ids(kind, uri) == {"3"}
        assert "gone" not in str(dump(uri))


def dump(uri: str) -> list[Any]:
    with psycopg.connect(direct(uri)) as conn:
        return [
            conn.execute(f"select t::text from {table} as t".encode()).fetchall()
            for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
        ]


@FENCED
@POOLS
async def test_copy_thread_finds_source_and_target_on_both_sides(kind: str, fenced: bool, uri: str) -> None:
    await prepare(kind, uri, fenced, "1", "2")
    async with open_migrating(kind, uri) as saver:
        with pytest.raises(ThreadExistsError):
            await saver.acopy_thread("1", "2")
        with pytest.raises(ThreadNotFoundError):
            await saver.acopy_thread("no such thread", "3")
        await saver.acopy_thread("1", "3")
        assert await listed_ids(saver, config_of("3")) == ["c", "b", "a"]
        if fenced:
            with pytest.raises(pg.ObjectNotInPrerequisiteState):
                await fill(saver.old_face, "3")


@FENCED
@POOLS
async def test_a_new_thread_is_kept_from_old_replicas(kind: str, fenced: bool, uri: str) -> None:
    await prepare(kind, uri, fenced)
    async with open_migrating(kind, uri) as saver:
        assert await latest_id(saver, "1") is None
        if fenced:
            assert mark_of(uri, "1") is None, "a look leaves nothing behind"
        await fill(saver, "1")
        if fenced:
            assert mark_of(uri, "1") == "moved"
            with pytest.raises(pg.ObjectNotInPrerequisiteState):
                await fill(saver.old_face, "1")
        assert await latest_id(saver, "1") == "c"


# --- listing all threads


@POOLS
async def test_list_merges_both_without_doubles(kind: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_migrating_steps, "PAGE", 3)
    async with open_migrating(kind, uri) as saver:
        old, new = saver.old_face, saver.new_face
        await converse_both(old, new)
        expected = sorted(
            {
                *keys("a c e g i k", "old"),
                *keys("b c d g j x", "taken over"),
                *keys("a b f g h", "new"),
                *keys("g", "alike"),
            },
            key=lambda key: (key[2], key[0]),
            reverse=True,
        )
        await saver.aget_tuple(config_of("taken over"))
        await put(saver, config_of("taken over", "j"), "x", {"x": 1}, metadata={"of": "taken over"})

        def ids(found: list[Any]) -> list[Any]:
            return [key_of(each.config) for each in found]

        assert ids(await listed(saver, None)) == expected
        for limit in (0, 1, 3, 4, 9, 100):
            assert ids(await listed(saver, None, limit=limit)) == expected[:limit]
        before = {"configurable": {"checkpoint_id": "g"}}
        assert ids(await listed(saver, None, before=before)) == [key for key in expected if key[2] < "g"]
        for of in ("old", "taken over", "new"):
            assert ids(await listed(saver, None, filter={"of": of})) == [key for key in expected if key[0] == of]
        assert ids(await listed(saver, None, filter={"of": "new"}, before=before, limit=1)) == [("new", "", "f")]
        assert not await new.aget_tuple(config_of("old")), "listing takes nothing over"
        # A reader who stops.
        listing = saver.alist(None)
        assert ids([await anext(listing), await anext(listing)]) == expected[:2]
        await listing.aclose()
        with pytest.raises(InvalidInputError):
            await listed(saver, None, limit=-1)


async def converse_both(old: Any, new: Any) -> None:
    for saver, thread_id, ids in (
        (old, "old", "acegik"),
        (old, "taken over", "bcdgj"),
        (old, "alike", "g"),
        (new, "new", "abfgh"),
    ):
        config = config_of(thread_id)
        for id_ in ids:
            config = await put(saver, config, id_, {"x": [id_]}, metadata={"of": thread_id})
