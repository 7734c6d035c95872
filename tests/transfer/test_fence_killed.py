"""A mover that is killed between any two queries, on either database: nothing is lost, and others go on."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg
import pytest

from tests.support.checkpoints import Tables, config_of, everything, listed_ids, put
from tests.support.scenarios import MODES, Mode
from tests.transfer.migrating import mark_of, moved_to, open_migrating
from tests.transfer.mover_process import PATIENCE, Movers, movers
from tests.transfer.old_savers import fill, no, open_incumbent, open_old, yes

__all__ = ["movers"]  # a fixture

pytestmark = [pytest.mark.parametrize("mode", MODES), pytest.mark.timeout(900)]

#: More than a call has queries.
MOST = 60


@pytest.mark.parametrize("call", ["get_tuple", "import"])
async def test_a_move_that_was_killed_is_undone_or_resumed(
    mode: Mode, call: str, fenced_uri: str, movers: Movers
) -> None:
    marks: list[str | None] = []
    async with open_old(f"{mode}-pool", fenced_uri) as old:
        for number in range(MOST):
            thread_id = f"thread {number}"
            await fill(old, thread_id)
            if not movers.kill_before(number, call, mode, fenced_uri, thread_id):
                assert mark_of(fenced_uri, thread_id) == "moved"
                break
            marks.append(mark := mark_of(fenced_uri, thread_id))
            expected = ["c", "b", "a"]
            if mark is None:
                # Nothing happened: the old replica goes on, and a new one takes over what it did.
                await put(old, config_of(thread_id, "c"), "d", {"list": ["d"]})
                expected.insert(0, "d")
            else:
                with pytest.raises((psycopg.errors.ObjectInUse, psycopg.errors.ObjectNotInPrerequisiteState)):
                    await put(old, config_of(thread_id, "c"), "d", {"list": ["d"]})
            there = {key: each for key, each in (await everything(old)).items() if key[0] == thread_id}
            async with open_migrating(f"{mode}-pool", fenced_uri) as saver:
                assert await listed_ids(saver, config_of(thread_id)) == expected
                for each in there.values():
                    assert await saver.aget_tuple(each.config) == each
                await put(saver, config_of(thread_id, expected[0]), "e", {"list": ["e"]})
            # Where the log had it already, too, and the reader had no need of the old tables.
            assert mark_of(fenced_uri, thread_id) == "moved"
            with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                await put(old, config_of(thread_id, "c"), "f", {"list": ["f"]})
            assert [says["operation"] for says in Tables(fenced_uri).records(thread_id)] == ["import"]
        else:
            raise AssertionError(f"a move has more than {MOST} queries")
        assert {None, "moving"} <= set(marks), "it was not killed before and during the move"
        assert marks == sorted(marks, key=[None, "moving", "moved"].index)
        assert marks.count("moving") > 10
        async with open_migrating(f"{mode}-pool", fenced_uri) as saver:
            assert (await saver.log.verify(states=True)).problems == []


async def test_a_killed_move_is_undone_by_settling(mode: Mode, fenced_uri: str, movers: Movers) -> None:
    """Where the log does not have the thread, the old replicas go on."""
    async with open_old(f"{mode}-pool", fenced_uri) as old, open_incumbent(mode, fenced_uri) as incumbent:
        for number in range(MOST):
            thread_id = f"thread {number}"
            await fill(old, thread_id)
            if not movers.kill_before(number, "get_tuple", mode, fenced_uri, thread_id):
                break
            async with open_migrating(f"{mode}-pool", fenced_uri) as saver:
                is_in_log = bool(await saver.log.namespaces(thread_id))
                for moving in (await incumbent.fence_status()).moving:
                    assert moving == thread_id
                    await settle(fenced_uri, incumbent, thread_id, is_in_log)
                mark = mark_of(fenced_uri, thread_id)
                assert mark == ("moved" if is_in_log else None)
                if is_in_log:
                    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
                        await fill(old, thread_id, "d")
                else:
                    await fill(old, thread_id, "d")
                assert (await listed_ids(saver, config_of(thread_id)))[-3:] == ["c", "b", "a"]


async def settle(uri: str, incumbent: Any, thread_id: str, is_in_log: bool) -> None:
    """The server may take a moment to notice that the mover is dead."""
    place = moved_to(uri, thread_id)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if await incumbent.settle(thread_id, place, yes if is_in_log else no) != "busy":
            return
        if not (await incumbent.fence_status()).moving:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it cannot be settled")


async def test_a_deletion_that_was_killed_is_repeated(mode: Mode, fenced_uri: str, movers: Movers) -> None:
    async with open_old(f"{mode}-pool", fenced_uri) as old:
        for number in range(MOST):
            thread_id = f"thread {number}"
            await fill(old, thread_id)
            async with open_migrating(f"{mode}-pool", fenced_uri) as saver:
                if number % 2:
                    await saver.aget_tuple(config_of(thread_id))
                was_killed = movers.kill_before(number, "delete", mode, fenced_uri, thread_id)
                if was_killed:
                    await saver.adelete_thread(thread_id)
                for each in (old, saver, saver.new_face):
                    assert await listed_ids(each, config_of(thread_id)) == []
            if not was_killed:
                break
        else:
            raise AssertionError(f"a deletion has more than {MOST} queries")
        assert number > 10


async def test_an_export_that_was_killed_left_all_of_a_thread_or_nothing(
    mode: Mode, fenced_uri: str, movers: Movers
) -> None:
    async with open_old(f"{mode}-pool", fenced_uri) as old, open_migrating(f"{mode}-pool", fenced_uri) as saver:
        for number in range(MOST):
            thread_id = f"thread {number}"
            await fill(saver, thread_id)
            was_killed = movers.kill_before(number, "export", mode, fenced_uri, thread_id)
            there = await listed_ids(old, config_of(thread_id))
            assert there == ["c", "b", "a"] if mark_of(fenced_uri, thread_id) is None else there == []
            done = await saver.log.export_to(fenced_uri, thread_ids=[thread_id])
            assert (done.threads, done.equal, done.refused) == ((1, 0, []) if not there else (0, 1, []))
            assert await listed_ids(old, config_of(thread_id)) == ["c", "b", "a"]
            await put(old, config_of(thread_id, "c"), "d", {"list": ["d"]})
            if not was_killed:
                break
        else:
            raise AssertionError(f"an export has more than {MOST} queries")
        assert number > 10
