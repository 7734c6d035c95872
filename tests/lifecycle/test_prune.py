"""Pruning: what goes, what stays, and that what stays reads as before."""

from __future__ import annotations

import operator
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from types import ModuleType
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.types import ERROR, INTERRUPT, TASKS
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Interrupt, interrupt

from eventlog.errors import EventTooLargeError, LogCorruptedError, ThreadDeletedError
from langgraph.checkpoint.eventlog import _get
from langgraph.checkpoint.eventlog.lifecycle import erase
from tests.support.adapters import POOLS, LogUnderTest, open_log_under_test, open_saver
from tests.support.checkpoints import TEXTS, Tables, config_of, converse, keys, put, tangle, values_of
from tests.support.clock import Clock
from tests.support.scenarios import MODES, Mode, Run, in_context, open_mode
from tests.support.soundness import assert_keyframes, assert_sound

__all__ = ["build", "in_context", "world"]

DAY = timedelta(days=1)


@pytest.fixture
async def world(kind: str, database_uri: str) -> AsyncIterator[LogUnderTest]:
    async with open_log_under_test(kind, database_uri) as opened:
        yield opened


# --- keep_latest


async def test_keep_latest_keeps_the_latest_of_each_namespace(world: LogUnderTest) -> None:
    """The latest of each namespace with its writes; other threads are left alone."""
    saver, done = world.saver, []
    await tangle(saver)
    await converse(saver, "1", "kept", "pq")
    await converse(saver, "2", ids="rst")
    await converse(saver, "3")
    before, others = await world.everything(), world.tables.contents()["events"]

    await saver.log.prune(iter(["1", "2", "1", "never there"]), on_thread=done.append)

    await world.check(before, keys("h") | keys("q", ns="kept") | keys("t", "2") | keys("a b c d e f g h", "3"))
    assert before[("1", "", "h")].pending_writes
    of_third = [row for row in others if row.startswith("(3,")]
    assert [row for row in world.tables.contents()["events"] if row.startswith("(3,")] == of_third
    assert [(each.thread_id, each.checkpoints) for each in done] == [("1", 10), ("2", 2), ("never there", 0)]
    # The run that had written ahead goes on, and finds what it wrote.
    stored = await put(saver, config_of("1", "h"), "i", {"x": [*TEXTS, "i"]})
    assert (await saver.aget_tuple(stored)).pending_writes == [("of a run that goes on", "x", TEXTS)]


SETTINGS: dict[str, dict[str, Any]] = {
    "without a cache": {"state_cache_bytes": 0},
    "a snapshot at every step": {"snapshot_floor_bytes": 0},
    "encrypted": {"serde": EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")},
}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("keep_last", [None, 2, 7])
@POOLS
async def test_pruning_keeps_survivors_whole_under_any_setting(
    kind: str, keep_last: int | None, settings: str, database_uri: str
) -> None:
    """However the events were written, and whatever is cut out of the middle."""
    # The ends of branches are d2 and h. What e built on is not d any more, which was put again.
    kept = {None: ("h", "4"), 2: ("d2 g h", "3 4"), 7: ("d d1 d2 e f g h", "1 2 3 4")}[keep_last]
    async with open_log_under_test(kind, database_uri, **SETTINGS[settings]) as world:
        await tangle(world.saver)
        # Small states do not build on anything.
        for number in range(4):
            await put(world.saver, config_of("2", number or None), number + 1, {"x": number})
        before = await world.everything()
        await world.saver.log.prune(["1", "2"], keep_last=keep_last)
        await world.check(before, keys(kept[0]) | keys(kept[1], "2"))


@pytest.mark.parametrize(("room", "limit", "value"), [(erase, "CHUNK", 2), (_get, "CHUNK_BYTES", 1)])
@POOLS
async def test_more_survivors_than_fit_in_memory_are_rewritten(
    world: LogUnderTest, room: ModuleType, limit: str, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More is written again than is in memory at once: each of many branches loses the checkpoint it built on."""
    monkeypatch.setattr(room, limit, value)
    await converse(world.saver, ids="abc")
    for branch in "defgh":
        config = await put(world.saver, config_of("1", "b"), branch, {"x": [*TEXTS, branch]})
        await put(world.saver, config, f"{branch}1", {"x": [*TEXTS, branch, "on"]})
    before = await world.everything()
    await world.saver.log.prune(["1"], keep_last=11)
    await world.check(before, keys("c d d1 e e1 f f1 g g1 h h1"))
    (record,) = world.tables.records("1")
    assert len(record["relocated"]) == 6


# --- which namespaces go


@POOLS
async def test_call_namespaces_go_with_the_root_checkpoint_of_their_run(world: LogUnderTest) -> None:
    """They go with the root's checkpoint that they ran under; those of a run that has not saved it yet stay."""
    saver = world.saver
    await converse(saver, ids="ab")
    await converse(saver, ns="call:1", ids="k", parents={"": "a"})
    await converse(saver, ns="call:1|inner:2", ids="l", parents={"": "a", "call:1": "k"})
    await converse(saver, ns="call:3", ids="mn", parents={"": "b"})
    await converse(saver, ns="call:3|inner:4", ids="op", parents={"": "b", "call:3": "m"})
    await converse(saver, ns="call:5", ids="q", parents={"": "c"})  # the root's c is not there yet
    await converse(saver, ns="call:6", ids="r")
    for ns in ("stateful", "stateful|inner"):
        await put(saver, config_of(ns=ns), "s", {"x": TEXTS}, metadata={"parents": {"": "a"}})
        await put(saver, config_of("1", "s", ns), "t", {"x": [*TEXTS, 1]}, metadata={"parents": {"": "a"}})
    before = await world.everything()

    await saver.aprune(["1"])

    latest = {"": "b", "call:3": "n", "call:3|inner:4": "p", "call:5": "q", "call:6": "r"}
    latest |= {"stateful": "t", "stateful|inner": "t"}
    await world.check(before, {("1", ns, id_) for ns, id_ in latest.items()})
    assert len(world.tables.records("1", "call:1")) == len(world.tables.records("1", "call:1|inner:2")) == 1
    # A call that goes on under what went is refused, also in a namespace that was never there.
    for ns in ("call:1", "call:1|inner:2", "call:1|new:7"):
        config = config_of(ns=ns, checkpoint_map={"": "a"})
        with pytest.raises(ThreadDeletedError):
            await put(saver, config, "z", {"x": 1}, metadata={"parents": {"": "a"}})


@POOLS
async def test_strategy_delete_deletes_the_threads(world: LogUnderTest) -> None:
    await tangle(world.saver)
    await converse(world.saver, "2", "call:1", "ab")
    await converse(world.saver, "3", ids="ab")
    before = await world.everything()
    await world.saver.log.prune(["1", "2"], strategy="delete", actor="me")
    await world.check(before, keys("a b", "3"))
    assert world.tables.events("1") == 1
    (record,) = world.tables.records("1")
    assert (record["operation"], record["actor"], record["checkpoints"]) == ("prune", "me", 10)


@POOLS
async def test_strategy_delete_all_of_the_agent_server_deletes_the_threads(world: LogUnderTest) -> None:
    """LangGraph's server says so where the library says `delete`."""
    await converse(world.saver, "1", ids="ab")
    await converse(world.saver, "2", ids="ab")
    before = await world.everything()
    await world.saver.aprune(["1"], strategy="delete_all")
    await world.check(before, keys("a b", "2"))


# --- keep_last and older_than


@POOLS
async def test_a_survivor_put_again_keeps_its_inherited_values(world: LogUnderTest) -> None:
    """A survivor that is put once more keeps what it had inherited from a parent that is gone."""
    parent = await put(world.saver, config_of(), "a", {"x": TEXTS, "y": 1}, versions={"x": "1", "y": "1"})
    child = {"versions": {"x": "1", "y": "2"}, "new": {"y": "2"}}
    await put(world.saver, parent, "b", {"y": 2}, **child)
    await world.saver.aprune(["1"])
    events = world.tables.events()
    for saver in (world.saver, world.reader):
        await put(saver, config_of(), "b", {"y": 2}, **child)
        assert await values_of(world.reader, config_of()) == {"x": TEXTS, "y": 2}
    assert world.tables.events() == events
    await put(world.saver, config_of(), "b", {"y": 3}, **child)
    assert await values_of(world.reader, config_of()) == {"x": TEXTS, "y": 3}


async def test_keep_last_keeps_that_many_of_each_namespace_and_branch_ends(world: LogUnderTest) -> None:
    """So many of each namespace, and the ends of branches."""
    await tangle(world.saver)
    await converse(world.saver, ns="kept", ids="pqrs")
    before = await world.everything()
    for count, root, other in ((9, "b c d d1 d2 e f g h", "p q r s"), (3, "f g h d2", "q r s"), (1, "h d2", "s")):
        await world.saver.log.prune(["1"], keep_last=count)
        await world.check(before, keys(root) | keys(other, ns="kept"))


@POOLS
async def test_older_than_deletes_by_the_first_save_and_keeps_branch_ends(kind: str, timed_uri: str) -> None:
    """What was first saved longer ago goes, but for the ends of branches; saving it again does not make it younger."""
    clock = Clock(timed_uri, behind=60 * DAY)
    async with open_log_under_test(kind, timed_uri) as world:
        await world.saver.setup()
        await converse(world.saver, ids="abc")
        await put(world.saver, config_of("1", "a"), "b1", {"x": [*TEXTS, "end of a branch"]})
        await converse(world.saver, "old", ids="ab")
        clock.advance(40 * DAY)  # over the end of a partition
        config = config_of("1", "c")
        for id_ in "de":
            config = await put(world.saver, config, id_, {"x": [*TEXTS, id_]})
        await put(world.saver, config_of("1", "b"), "c", {"x": [*TEXTS, "c", "again"]})
        before = await world.everything()
        await world.saver.log.prune(["1", "old"], older_than=41 * DAY)
        await world.check(before, before.keys())
        await world.saver.log.prune(["1", "old"], older_than=39 * DAY)
        await world.check(before, keys("d e b1") | keys("b", "old"))
        # What was relocated is as old as it was.
        clock.advance(DAY)
        await put(world.saver, config_of("1", "e"), "f", {"x": [*TEXTS, "f"]})
        before = await world.everything()
        await world.saver.log.prune(["1"], older_than=DAY / 2)
        await world.check(before, keys("f b1") | keys("b", "old"))
        await world.saver.log.prune(["1", "old"], older_than=timedelta(0))
        await world.check(before, keys("f b1") | keys("b", "old"))


async def ask(saver: Any, id_: str, ns: str = "") -> None:
    await saver.aput_writes(config_of("1", id_, ns), [(INTERRUPT, (Interrupt("go on?", id=id_),))], f"asks at {id_}")


@pytest.mark.parametrize("options", [{"keep_last": 1}, {"older_than": timedelta(0)}], ids=["keep_last", "older_than"])
@POOLS
async def test_checkpoints_with_pending_interrupts_are_kept(world: LogUnderTest, options: dict[str, Any]) -> None:
    """One that was asked after the checkpoint had a child waits for an answer; one before it has had its answer."""
    saver = world.saver
    first = await put(saver, config_of(), "a", {"x": TEXTS})
    await ask(saver, "a")
    config = first
    for id_ in "bcdef":
        config = await put(saver, config, id_, {"x": [*TEXTS, id_]})
    await saver.aput_writes(config_of("1", "b"), [("x", "no question")], "late")
    await saver.aput_writes(config_of("1", "c"), [(ERROR, "no question")], "late")
    await ask(saver, "d")
    await saver.aput_writes(config_of("1", "d"), [("x", "beside the question")], "late")
    await converse(saver, ns="call:1", ids="pqr", parents={"": "d"})
    await ask(saver, "p", "call:1")
    await converse(saver, ns="call:2", ids="s", parents={"": "c"})
    before = await world.everything()
    await saver.log.prune(["1"], **options)
    await world.check(before, keys("d f") | keys("p r", ns="call:1"))


class State(TypedDict, total=False):
    items: Annotated[list[str], operator.add]


def build(saver: Any) -> Any:
    """A node that asks, and a subgraph that does."""

    def answer(state: State) -> State:
        return {"items": [f"told {interrupt(len(state['items']))}"]}

    inner = StateGraph(State)
    inner.add_node("before", lambda state: {"items": ["within"]})
    inner.add_node("answer", answer)
    inner.add_edge(START, "before")
    inner.add_edge("before", "answer")
    builder = StateGraph(State)
    builder.add_node("note", lambda state: {"items": ["noted"]})
    builder.add_node("ask", answer)
    builder.add_node("inner", inner.compile())
    builder.add_edge(START, "note")
    builder.add_edge("note", "ask")
    builder.add_edge("ask", "inner")
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("options", [{}, {"keep_last": 1}, {"keep_last": 3}, {"older_than": timedelta(0)}])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("in_context")
async def test_a_pruned_graph_continues_as_an_unpruned_one(
    mode: Mode, options: dict[str, Any], database_uri: str
) -> None:
    """Pruned at every stop, a graph answers as one that never was, also when it went back in time."""

    async def prune(saver: Any, ids: list[str]) -> None:
        await saver.log.prune(ids, **options) if mode == "async" else saver.log.prune(ids, **options)

    async with open_mode(mode, database_uri) as saver:
        pruned, other = (Run(build(saver), mode, thread_id) for thread_id in ("pruned", "other"))
        for turn in range(2):
            for value in ({"items": [f"turn {turn}"]}, Command(resume="yes"), Command(resume="sure")):
                found = [await run.invoke(value) for run in (pruned, other)]
                questions = [[each.value for each in outcome.pop("__interrupt__", ())] for outcome in found]
                assert questions[0] == questions[1]
                assert found[0] == found[1]
                await prune(saver, ["pruned"])
                states = [await run.state(subgraphs=True) for run in (pruned, other)]
                for part in ("values", "next", "metadata"):
                    assert getattr(states[0], part) == getattr(states[1], part)
                assert [each.value for each in states[0].interrupts] == questions[0]
        if options and mode == "sync":
            await goes_on_elsewhere(prune, saver, pruned)
        tables = Tables(database_uri)
        assert_sound(tables)
        assert_keyframes(tables)


async def goes_on_elsewhere(prune: Any, saver: Any, run: Run) -> None:
    """Asks in two branches, goes on in a third, prunes, and is answered in the first two."""
    await run.invoke({"items": ["more"]})
    history = await run.history()
    asks = [history[0].config]
    await run.invoke(None, history[1].config)
    asks.append((await run.state()).config)
    assert asks[0] != asks[1]
    await run.update({"items": ["elsewhere"]}, history[1].config, as_node="note")
    await prune(saver, ["pruned"])
    for config in asks:
        assert (await run.state(config)).interrupts
        assert (await run.invoke(Command(resume="late"), config))["items"][-2:] == ["noted", "told late"]


# --- what goes on afterwards


@pytest.mark.parametrize("keep_last", [None, 2])
@pytest.mark.parametrize("settings", [{}, {"state_cache_bytes": 0}], ids=["a warm cache", "no cache"])
@POOLS
async def test_a_saver_with_a_stale_cache_continues_a_pruned_thread(
    kind: str, settings: dict[str, Any], keep_last: int | None, database_uri: str
) -> None:
    """Another saver, with a cache from before, builds on what is left; what built on what went is refused."""
    async with open_log_under_test(kind, database_uri) as world, open_saver(kind, database_uri, **settings) as other:
        await converse(world.saver)
        texts = (await values_of(other, config_of()))["x"]
        await values_of(other, config_of("1", "c"))
        await world.saver.log.prune(["1"], keep_last=keep_last)
        contents = world.tables.contents()
        with pytest.raises(ThreadDeletedError):
            await put(other, config_of("1", "c"), "late", {"x": [*TEXTS, "a"]})
        with pytest.raises(ThreadDeletedError):
            await put(other, config_of("1", "c"), "late", {"x": 1})
        with pytest.raises(ThreadDeletedError):
            await other.aput_writes(config_of("1", "c"), [("x", 1)], "late")
        assert world.tables.contents() == contents

        assert (await values_of(other, config_of("1", "h")))["x"] == texts
        await other.aput_writes(config_of("1", "h"), [("x", [*texts, "written"])], "task 3")
        child = await put(
            other, config_of("1", "h"), "i", {"x": [*texts, "i"]}, versions={"x": "i", "y": "a"}, new={"x": "i"}
        )
        assert await values_of(world.reader, child) == {"x": [*texts, "i"], "y": " of the first"}
        assert world.tables.one("select base_seq from {schema}.events where checkpoint_id = 'i'") is not None
        assert len((await world.reader.aget_tuple(config_of("1", "h"))).pending_writes) == 4
        # What it remembers of where replaying starts is from before as well.
        assert_keyframes(world.tables)
        before = await world.everything()
        await world.saver.aprune(["1"])
        await world.check(before, keys("i"))


@pytest.mark.parametrize("keep_last", [1, 2, 3, 4])
@POOLS
async def test_a_parent_with_pending_sends_before_version_four_is_kept(world: LogUnderTest, keep_last: int) -> None:
    """Before version 4, what is sent was kept with the parent's writes: a parent that sends something stays."""
    config = config_of()
    for id_ in "abcd":
        versions = {"x": "a", "y": id_}
        new = versions if id_ == "a" else {"y": id_}
        config = await put(world.saver, config, id_, {"x": TEXTS, "y": id_}, versions=versions, new=new, v=3)
        if id_ in "ac":
            await world.saver.aput_writes(config, [(TASKS, "first"), (TASKS, "second")], "task")
    before = await world.everything()
    assert [TASKS in before["1", "", id_].checkpoint["channel_values"] for id_ in "abcd"] == [False, True, False, True]
    await world.saver.log.prune(["1"], keep_last=keep_last)
    await world.check(before, keys({1: "c d", 2: "c d", 3: "a b c d", 4: "a b c d"}[keep_last]))


@POOLS
async def test_pruning_works_when_the_clock_went_back(kind: str, timed_uri: str) -> None:
    """A stream's last event is in the future: what is relocated is found all the same."""
    clock = Clock(timed_uri)
    async with open_log_under_test(kind, timed_uri) as world:
        await world.saver.setup()
        await tangle(world.saver)
        clock.advance(-timedelta(hours=1))
        before = await world.everything()
        await world.saver.log.prune(["1"], keep_last=7)
        await world.check(before, keys("d d1 d2 e f g h"))


@POOLS
async def test_pruning_is_no_activity(kind: str, timed_uri: str) -> None:
    """Pruning makes a thread neither younger nor older, also when its latest checkpoint was put again."""
    clock = Clock(timed_uri, behind=9 * DAY)
    async with open_log_under_test(kind, timed_uri) as world:
        await world.saver.setup()
        await converse(world.saver, ids="ab")
        clock.advance(8 * DAY)
        await put(world.saver, config_of("1", "a"), "b", {"x": TEXTS})
        (before,) = await world.saver.log.threads()
        clock.advance(DAY)
        await world.saver.aprune(["1"])
        (after,) = await world.saver.log.threads()
        assert after.active_at == before.active_at
        assert await world.saver.log.expire(2 * DAY) == []


# --- what it says and leaves behind

WAYS: list[dict[str, Any]] = [{}, {"keep_last": 2}, {"older_than": timedelta(0)}, {"strategy": "delete"}]


@pytest.mark.parametrize("way", WAYS, ids=str)
@POOLS
async def test_a_dry_run_predicts_the_result_and_a_second_prune_does_nothing(
    world: LogUnderTest, way: dict[str, Any]
) -> None:
    """A dry run changes nothing and counts as the real one; a second time there is nothing to do."""
    await tangle(world.saver)
    await converse(world.saver, ns="call:1", parents={"": "a"})
    await world.saver.aput_writes(config_of("1", "k", "call:2"), [("x", 1)], "only writes")
    await converse(world.saver, "2")
    contents = world.tables.contents()
    dry, real, again = [], [], []
    ids = ["1", "2", "3"]
    await world.saver.log.prune(ids, dry_run=True, on_thread=dry.append, **way)
    assert world.tables.contents() == contents
    await world.saver.log.prune(ids, on_thread=real.append, **way)
    assert dry == real
    assert all(real[0][1:])
    assert real[2] == ("3", 0, 0, 0)
    contents = world.tables.contents()
    await world.saver.log.prune(ids, on_thread=again.append, **way)
    await world.saver.log.prune(ids, dry_run=True, on_thread=again.append, **way)
    assert world.tables.contents() == contents
    assert {each[1:] for each in again} == {(0, 0, 0)}


async def test_one_record_for_each_pruned_namespace(world: LogUnderTest) -> None:
    """One event in each namespace that lost something: who, what, how much, and nothing of what was there."""
    mark = os.urandom(8).hex()
    await converse(world.saver, mark=mark)
    await converse(world.saver, ns="other", ids="a")
    (before,) = await world.saver.log.threads()
    await world.saver.log.prune(["1"], keep_last=2, actor="night job")
    (after,) = await world.saver.log.threads()

    (record,) = world.tables.records("1")
    assert world.tables.records("1", "other") == []
    assert world.tables.one("select kind from {schema}.events where kind > 2") == 4
    assert record.keys() == {
        *("operation", "by", "actor", "strategy", "keep_last"),
        *("events", "checkpoints", "bytes", "erased", "relocated", "previous", "salt"),
    }
    assert (record["operation"], record["by"], record["actor"]) == ("prune", "postgres", "night job")
    assert (record["strategy"], record["keep_last"]) == ("keep_latest", 2)
    assert (record["events"], record["checkpoints"]) == (18, 6)
    assert (before.events - after.events, before.checkpoints - after.checkpoints) == (18, 6)
    assert [seqs[:2] for seqs in record["erased"]] == [[1, 18]]
    assert [seq for seq, _ in record["relocated"]] == [19]
    assert mark not in str(record)


@pytest.mark.parametrize("settings", [{}, {"snapshot_floor_bytes": 0}, {"state_cache_bytes": 0}], ids=str)
@POOLS
async def test_no_table_keeps_a_pruned_checkpoints_values(
    kind: str, settings: dict[str, Any], database_uri: str
) -> None:
    """What was only in checkpoints that went is in no table any more, in no form."""
    gone, kept = "this goes", "this stays"
    async with open_log_under_test(kind, database_uri, **settings) as world:
        await converse(world.saver, ids="abc", mark=gone, run_id=gone)
        config = await put(world.saver, config_of("1", "c"), "d", {"x": [*TEXTS, gone]}, metadata={"at": gone})
        await world.saver.aput_writes(config, [("x", [*TEXTS, kept])], "task")
        # Put again: what it was before goes too, though writes built on it.
        config = await put(world.saver, config_of("1", "c"), "d", {"x": [*TEXTS, kept]}, metadata={"at": kept})
        await converse(world.saver, ns="call:1", mark=gone, parents={"": "a"})
        assert world.tables.holders(gone) >= {"events", "checkpoints"}
        await world.saver.aprune(["1"])
        assert world.tables.holders(gone) == set()
        assert world.tables.holders(kept) >= {"events", "checkpoints"}
        assert await values_of(world.reader, config) == {"x": [*TEXTS, kept]}
        assert (await world.reader.aget_tuple(config)).pending_writes == [("task", "x", [*TEXTS, kept])]


@POOLS
async def test_a_survivor_over_the_limit_fails_and_changes_nothing(kind: str, database_uri: str) -> None:
    """A state that may not be written in one piece any more: an error, and all is as it was."""
    async with (
        open_log_under_test(kind, database_uri) as world,
        open_saver(kind, database_uri, max_body_bytes=4000) as strict,
    ):
        config, pieces = config_of(), []
        for number in range(6):
            pieces.append(os.urandom(800))
            config = await put(world.saver, config, number, {"x": list(pieces)})
        contents = world.tables.contents()
        with pytest.raises(EventTooLargeError):
            await strict.aprune(["1"])
        assert world.tables.contents() == contents


@POOLS
async def test_pruning_without_the_key_fails_and_changes_nothing(kind: str, database_uri: str) -> None:
    """What cannot be read cannot be written again: an error, and all is as it was. Deleting needs no key."""
    async with (
        open_log_under_test(kind, database_uri, **SETTINGS["encrypted"]) as world,
        open_saver(kind, database_uri) as other,
    ):
        await converse(world.saver)
        await converse(world.saver, "2")
        contents = world.tables.contents()
        for way in ({}, {"keep_last": 2}):
            with pytest.raises(LogCorruptedError):
                await other.log.prune(["1"], **way)
        assert world.tables.contents() == contents
        before = await world.everything()
        await other.aprune(["2"], strategy="delete")
        await world.check(before, keys("a b c d e f g h"))
