"""Pruning the history of all threads: what goes, page by page, and what interrupts it."""

from __future__ import annotations

from typing import Any

import pytest

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import Retention
from tests.lifecycle.test_retention_setting import ids_of, threads_of
from tests.support.adapters import POOLS
from tests.support.aging import DAY, Log, log
from tests.support.checkpoints import config_of, put

__all__ = ["log"]  # a fixture

COUNTED = ("looked_at", "pruned", "checkpoints", "events", "bytes", "failed", "is_stopped")


@pytest.mark.portable
@POOLS
async def test_older_history_of_all_threads_goes(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `prune` does it: strictly by age, over several pages; what survives reads as before, and again is nothing."""
    monkeypatch.setattr("langgraph.checkpoint.eventlog.lifecycle.pages.PAGE", 2)
    for thread_id in "abcde":
        await log.grow(thread_id, "c1", "c2", "c3")
    await put(log.saver, config_of("b", "c1"), "fork", {"x": 1})
    await log.saver.aput_writes(config_of("c", "c2"), [("__interrupt__", ["went back"])], "task")
    log.clock.advance(30 * DAY)
    for thread_id in "abc":
        await log.grow(thread_id, "c4")
    await log.grow("new", "c1")
    # It heeds no retention: this thread's own would keep it, and the log's says nothing.
    await put(log.saver, config_of("a", "c4"), "c5", {"x": 1}, metadata={"retention": str(Retention(idle=900 * DAY))})
    before, contents = await log.everything(), log.tables.contents()
    dry_told: list[Any] = []
    dry = await log.saver.log.prune_all(older_than=29 * DAY, dry_run=True, on_thread=dry_told.append)
    assert log.tables.contents() == contents
    told: list[Any] = []

    done = await log.saver.log.prune_all(older_than=29 * DAY, actor="nightly", on_thread=told.append)

    left = {"a": "c5 c4", "b": "fork c4", "c": "c4 c2", "d": "c3", "e": "c3", "new": "c1"}
    assert {each: " ".join(await ids_of(log, each)) for each in left} == left
    assert [each.thread_id for each in told] == list("abcde")
    assert told == dry_told
    assert (done.looked_at, done.pruned, done.failed, done.is_stopped) == (6, 5, {}, False)
    assert done.checkpoints == sum(each.checkpoints for each in told) == 12
    assert [getattr(dry, name) for name in COUNTED] == [getattr(done, name) for name in COUNTED]
    assert (dry.is_dry_run, done.is_dry_run) == (True, False)
    (record,) = log.tables.records("a")
    assert (record["operation"], record["actor"], record["older_than"]) == ("prune", "nightly", "29 days, 0:00:00")
    await log.check(before, {(thread_id, "", id_) for thread_id, text in left.items() for id_ in text.split()})
    contents = log.tables.contents()
    again = await log.saver.log.prune_all(older_than=29 * DAY)
    assert (again.looked_at, again.pruned, again.bytes) == (6, 0, 0)
    assert log.tables.contents() == contents


@POOLS
async def test_the_last_few_of_all_threads_stay(log: Log) -> None:
    await log.grow("a", "c1", "c2", "c3", "c4")
    await log.grow("b", "c1")
    done = await log.saver.log.prune_all(keep_last=2)
    assert (done.looked_at, done.pruned, done.checkpoints) == (2, 1, 2)
    assert await ids_of(log, "a") == ["c4", "c3"]
    assert await ids_of(log, "b") == ["c1"]


@POOLS
async def test_it_equals_pruning_each_thread(log: Log) -> None:
    """The look at a page passes over no thread that `prune` would cut."""
    for thread_id in ("one", "two"):
        await log.grow(thread_id, "c1", "c2", days=1)
        called = {"parents": {"": "c1"}}
        await put(log.saver, config_of(thread_id, ns="call:1"), "p1", {"x": 1}, metadata=called)
        await put(log.saver, config_of(thread_id, ns="kept"), "k1", {"x": 1})
        await put(log.saver, config_of(thread_id, "k1", ns="kept"), "k2", {"x": 1})
        await put(log.saver, config_of(thread_id, "c2"), "b9", {"x": 1})
    await log.saver.log.copy_thread("one", "three")
    log.clock.advance(9 * DAY)
    await log.saver.log.prune(["one"], older_than=5 * DAY)
    await log.saver.log.prune_all(older_than=5 * DAY)
    for ns in ("", "call:1", "kept"):
        assert await ids_of(log, "two", ns) == await ids_of(log, "one", ns) == await ids_of(log, "three", ns)


@POOLS
async def test_stopped_or_broken_off_it_goes_on_when_run_again(log: Log) -> None:
    for thread_id in "abcd":
        await log.grow(thread_id, "c1", "c2")
    log.clock.advance(9 * DAY)
    told: list[str] = []

    def tell(erased: Any) -> None:
        told.append(erased.thread_id)
        if erased.thread_id == "c":
            raise InterruptedError

    done = await log.saver.log.prune_all(
        older_than=5 * DAY, stop=lambda: bool(told), on_thread=lambda erased: told.append(erased.thread_id)
    )
    assert (done.pruned, done.looked_at, done.is_stopped) == (1, 1, True)
    with pytest.raises(InterruptedError):
        await log.saver.log.prune_all(older_than=5 * DAY, on_thread=tell)
    assert told == ["a", "b", "c"]
    done = await log.saver.log.prune_all(older_than=5 * DAY)
    assert (done.looked_at, done.pruned, done.is_stopped) == (4, 1, False)
    assert [await ids_of(log, each) for each in "abcd"] == [["c2"]] * 4


@POOLS
async def test_a_thread_that_does_not_decode_keeps_no_other_from_being_pruned(log: Log) -> None:
    for thread_id in "abc":
        await log.grow(thread_id, "c1", "c2", "c3")
    log.clock.advance(9 * DAY)
    await log.grow("b", "c4")
    (seq,) = log.tables.rows("select seq from {schema}.checkpoints where thread_id = 'b' and checkpoint_id = 'c1'")[0]
    log.tables.replace_body("events", "b", seq, b"\x00damaged")
    log.tables.replace_body("events", "b", seq + 2, b"\x00damaged")
    log.tables.run("delete from {schema}.snapshots where thread_id = 'b'")
    done = await log.saver.log.prune_all(older_than=5 * DAY)
    assert (done.looked_at, done.pruned) == (3, 2)
    assert done.failed.keys() == {"b"}
    assert "does not decode" in done.failed["b"]
    assert await threads_of(log) == ["a", "b", "c"]


@POOLS
async def test_bad_arguments_are_refused(log: Log) -> None:
    for options, why in (
        ({}, "give older_than or keep_last, to choose the history to erase"),
        ({"older_than": DAY, "keep_last": 1}, "keep_last and older_than contradict each other"),
        ({"older_than": 30}, "older_than must be a timedelta, not int"),
        ({"older_than": -DAY}, "older_than must not be negative"),
        ({"keep_last": 0}, "keep_last must be at least 1"),
        ({"keep_last": 1, "actor": 1}, "actor must be a str"),
        ({"keep_last": 1, "stop": 1}, "stop must be a function"),
    ):
        with pytest.raises(InvalidInputError, match=why):
            await log.saver.log.prune_all(**options)
