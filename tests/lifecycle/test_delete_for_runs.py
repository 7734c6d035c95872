"""Deleting what runs saved: survivors read as before, in every thread and namespace."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypedDict
from uuid import UUID, uuid4

import psycopg
import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from eventlog.errors import ThreadDeletedError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.adapters import POOLS, LogUnderTest, open_log_under_test
from tests.support.checkpoints import TEXTS, config_of, converse, keys, put, values_of
from tests.support.scenarios import MODES, Mode, Run, in_context, open_mode

__all__ = ["in_context"]  # a fixture


@pytest.fixture
async def world(kind: str, database_uri: str) -> AsyncIterator[LogUnderTest]:
    async with open_log_under_test(kind, database_uri, snapshot_floor_bytes=10_000) as opened:
        yield opened


async def runs(saver: Any, runs: str, thread_id: str = "1", ns: str = "", **metadata: Any) -> None:
    """A line of checkpoints, the first saved by the run that the first letter names, and so on; ids count from 1."""
    config, texts = config_of(thread_id, ns=ns), list(TEXTS)
    for number, run in enumerate(runs, 1):
        texts = [*texts, f"{number} by {run}"]
        own = {} if run == "-" else {"run_id": run}
        config = await put(saver, config, number, {"x": texts}, metadata={**own, **metadata})
        await saver.aput_writes(config, [("x", [*texts, "write"])], f"task of {run}")


@pytest.mark.parametrize("which", ["a", "b", "d", "ac", "bd", "abcd"])
@POOLS
async def test_any_of_several_runs_can_be_deleted(world: LogUnderTest, which: str) -> None:
    """Runs at the beginning, in the middle, at the end, two that take turns; and all of them."""
    threads = {
        ("1", ""): "aabbbcbc-dd",
        ("1", "call:1"): "abc",
        ("1", "only d"): "dd",
        ("4", "only"): "d",
        ("2", ""): "bcb",
        ("3", ""): "d",
    }
    for (thread_id, ns), line in threads.items():
        await runs(world.saver, line, thread_id, ns)
    # A branch of another run, from the middle.
    await put(world.saver, config_of("1", "3"), "branch", {"x": [*TEXTS, "branch"]}, metadata={"run_id": "d"})
    before = await world.everything()
    done: list[Any] = []

    await world.saver.log.delete_for_runs(list(which), on_thread=done.append)

    survivors = {key for key, each in before.items() if each.metadata.get("run_id", "-") not in which}
    await world.check(before, survivors)
    gone = before.keys() - survivors
    assert [(each.thread_id, each.checkpoints) for each in done] == [
        (thread_id, sum(key[0] == thread_id for key in gone)) for thread_id in sorted({key[0] for key in gone})
    ]
    assert all(
        each.events == 2 * each.checkpoints - (("1", "", "branch") in gone and each.thread_id == "1") for each in done
    )
    contents = world.tables.contents()
    await world.saver.adelete_for_runs(list(which))
    assert world.tables.contents() == contents


async def test_a_thread_continues_from_its_remaining_checkpoints_alone(world: LogUnderTest) -> None:
    """The latest is an earlier one again; going on from it works, going on from what went does not."""
    await runs(world.saver, "aabb")
    await values_of(world.reader, config_of())
    await world.saver.adelete_for_runs(["b"])
    texts = [*TEXTS, "1 by a", "2 by a"]
    for reader in (world.saver, world.reader):
        found = await reader.aget_tuple(config_of())
        assert (found.checkpoint["id"], found.checkpoint["channel_values"]) == ("2", {"x": texts})
        with pytest.raises(ThreadDeletedError):
            await put(reader, config_of("1", "4"), "5", {"x": [*texts, "late"]})
        with pytest.raises(ThreadDeletedError):
            await reader.aput_writes(config_of("1", "3"), [("x", 1)], "late")
    # The same ids again.
    third = await put(world.reader, config_of("1", "2"), "3", {"x": [*texts, "again"]}, metadata={"run_id": "c"})
    assert await values_of(world.saver, third) == {"x": [*texts, "again"]}
    assert (await world.saver.aget_tuple(third)).pending_writes == []
    with pytest.raises(ThreadDeletedError):
        await put(world.saver, config_of("1", "4"), "5", {"x": [*texts, "late"]})
    before = await world.everything()
    await world.saver.adelete_for_runs(["a"])
    await world.check(before, keys("3"))


@POOLS
async def test_deleting_the_only_run_deletes_the_thread(world: LogUnderTest) -> None:
    """Nothing of the thread is left, and it may be started afresh."""
    await runs(world.saver, "aaa")
    await runs(world.saver, "aa", ns="call:1", parents={"": "2"})
    await runs(world.saver, "b", "2")
    before = await world.everything()
    await world.saver.log.delete_for_runs(["a"], actor="support case 7")
    await world.check(before, keys("1", "2"))
    assert world.tables.rows("select kind, count(*) from {schema}.events where thread_id = '1' group by 1") == [(4, 2)]
    for ns, count in (("", 3), ("call:1", 2)):
        (record,) = world.tables.records("1", ns)
        assert (record["operation"], record["actor"], record["by"]) == ("delete_for_runs", "support case 7", "postgres")
        assert (record["events"], record["checkpoints"], record["runs"]) == (2 * count, count, ["a"])
    assert [each.thread_id for each in await world.saver.log.threads()] == ["2"]
    with pytest.raises(ThreadDeletedError):
        await put(world.saver, config_of("1", "3"), "4")
    stored = await put(world.saver, config_of(), "1", {"x": TEXTS})
    assert (await world.saver.aget_tuple(stored)).pending_writes == []
    await world.check_log()


@POOLS
async def test_unknown_runs_are_no_error(world: LogUnderTest) -> None:
    """Are no error, and nor is an empty list; ids may come in any form that ids have."""
    run = uuid4()
    await put(world.saver, config_of(), "1", {"x": 1}, metadata={"run_id": str(run)})
    await put(world.saver, config_of("1", "1"), "2", {"x": 1}, metadata={"run_id": None})
    await put(world.saver, config_of("1", "2"), "3", {"x": 1}, metadata={"run_id": 7})
    contents, before = world.tables.contents(), await world.everything()
    for ids in ([], (), ["unknown", str(uuid4())], ["None"], {str(run)[:-1]}, ["%"]):
        await world.saver.adelete_for_runs(ids)
    assert world.tables.contents() == contents
    await world.saver.adelete_for_runs(iter([UUID(str(run)), "unknown", run]))
    await world.check(before, keys("2 3"))


@POOLS
async def test_a_dry_run_changes_nothing_and_predicts_the_result(world: LogUnderTest) -> None:
    await runs(world.saver, "abab")
    await runs(world.saver, "ab", ns="call:1")
    await runs(world.saver, "b", "2")
    contents = world.tables.contents()
    dry, real = [], []
    await world.saver.log.delete_for_runs(["b"], dry_run=True, on_thread=dry.append)
    assert world.tables.contents() == contents
    await world.saver.log.delete_for_runs(["b"], on_thread=real.append)
    assert dry == real
    assert [each[:3] for each in real] == [("1", 6, 3), ("2", 2, 1)]


@POOLS
async def test_a_checkpoint_belongs_to_the_run_that_saved_it_last(world: LogUnderTest) -> None:
    """It belongs to the run that saved it last; what the other had saved goes with the next erasure."""
    await put(world.saver, config_of(), "1", {"x": [*TEXTS, "said by a"]}, metadata={"run_id": "a"})
    await world.saver.aput_writes(config_of("1", "1"), [("x", [*TEXTS, "said by a", "write"])], "task")
    await put(world.saver, config_of(), "1", {"x": TEXTS}, metadata={"run_id": "b"})
    await put(world.saver, config_of("1", "1"), "2", {"x": [*TEXTS, "2"]}, metadata={"run_id": "a"})
    before = await world.everything()
    await world.saver.adelete_for_runs(["a"])
    await world.check(before, keys("1"))
    await world.saver.adelete_for_runs(["b"])
    assert await world.everything() == {}
    assert world.tables.holders("said by a") == set()


@POOLS
async def test_checkpoints_of_copies_are_deleted_with_their_runs(world: LogUnderTest) -> None:
    """A copy's checkpoints belong to the same runs, and go with them."""
    await runs(world.saver, "aabb")
    await world.saver.acopy_thread("1", "copy")
    await world.saver.log.fork_thread("1", "fork", "3")
    before = await world.everything()
    assert len(before) == 11
    await world.saver.adelete_for_runs(["a"])
    await world.check(before, keys("3 4") | keys("3 4", "copy") | keys("3", "fork"))


@POOLS
async def test_no_table_keeps_a_deleted_runs_values(world: LogUnderTest) -> None:
    """What was only in the run's checkpoints is in no table any more."""
    await converse(world.saver, ids="abc", run_id="kept", mark="this stays")
    await converse(world.saver, ids="lmn", ns="call:1", run_id="gone", mark="this goes")
    config = await put(world.saver, config_of("1", "c"), "d", {"x": ["this goes", *TEXTS]}, metadata={"run_id": "gone"})
    await world.saver.aput_writes(config, [("x", ["this goes", *TEXTS, 1])], "task")
    await put(world.saver, config, "e", {"x": [*TEXTS, "this stays"]}, metadata={"run_id": "kept"})
    assert world.tables.holders("this goes") >= {"events", "checkpoints"}
    before = await world.everything()
    await world.saver.adelete_for_runs(["gone"])
    assert world.tables.holders("this goes") == set()
    await world.check(before, keys("a b c e"))


# --- graphs


class State(TypedDict, total=False):
    items: Annotated[list[str], operator.add]


def build(saver: Any) -> Any:
    def ask(state: State) -> State:
        return {"items": [f"told {interrupt('?')}"]}

    inner = StateGraph(State)
    inner.add_node("ask", ask)
    inner.add_edge(START, "ask")
    builder = StateGraph(State)
    builder.add_node("note", lambda state: {"items": ["noted"]})
    builder.add_node("inner", inner.compile())
    builder.add_edge(START, "note")
    builder.add_edge("note", "inner")
    return builder.compile(checkpointer=saver)


@pytest.mark.parametrize("gone", [{0}, {3}, {1, 2}])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("in_context")
async def test_a_graph_continues_after_its_runs_were_deleted(mode: Mode, gone: set[int], database_uri: str) -> None:
    """Each call is a run, subgraphs and all. What is left can be gone on from by another saver that remembers it."""
    ids = [str(uuid4()) for _ in range(4)]
    async with open_log_under_test(f"{mode}-pool", database_uri) as world, open_mode(mode, database_uri) as saver:
        run = Run(build(saver), mode)
        for id_, value in zip(
            ids, ({"items": ["a"]}, Command(resume="b"), {"items": ["c"]}, Command(resume="d")), strict=True
        ):
            await run.invoke(value, config_of("1", ns=None, run_id=id_))
        before = await world.everything()
        assert {each.metadata["run_id"] for each in before.values()} == set(ids)
        assert len({key[1] for key in before}) == 3
        names = {ids[number] for number in gone}
        survivors = {key for key, each in before.items() if each.metadata["run_id"] not in names}
        configs = [config_of("1", key[2]) for key in sorted(survivors) if key[1] == ""]
        states = [(await run.state(config)).values for config in configs]

        await world.saver.adelete_for_runs([ids[number] for number in gone])

        await world.check(before, survivors)
        assert [(await run.state(config)).values for config in configs] == states
        found = await run.invoke({"items": ["again"]}, config_of("1", ns=None, run_id="next"))
        assert found["items"][-2:] == ["again", "noted"]
        await world.check_log()


# --- how it is found


def test_the_index_on_runs_is_used(database_uri: str) -> None:
    """Neither the list of threads nor that of checkpoints is read from end to end to find a run."""
    with psycopg.connect(database_uri, autocommit=True) as conn:
        saver = EventLogSaver(conn)
        saver.setup()
        conn.execute(
            "insert into eventlog.checkpoints (thread_id, checkpoint_ns, checkpoint_id, seq, recorded_at, first_at,"
            " keyframe_seq, keyframe_at, state_bytes, run_id, metadata)"
            " select n, '', '1', 1, now(), now(), 1, now(), 1, case when n % 2 = 0 then 'run ' || n end, '{}'"
            " from generate_series(1, 5000) as n"
        )
        conn.execute("vacuum analyze eventlog.checkpoints")
        before = scans(conn)
        for _ in range(12):  # also when the server has settled on a plan of its own
            saver.log.delete_for_runs(["run 10", "run 7", "run unknown"], dry_run=True)
        after = scans(conn)
    assert after["checkpoints_run_idx"] - before["checkpoints_run_idx"] >= 12
    assert after["checkpoints"] == before["checkpoints"]


def scans(conn: psycopg.Connection[Any]) -> dict[str, int]:
    """How often each table was read from end to end, and each index was used."""
    conn.execute("select pg_stat_force_next_flush()")
    conn.execute("select 1")
    return dict(
        conn.execute(
            "select relname, seq_scan from pg_stat_user_tables where schemaname = 'eventlog'"
            " union all select indexrelname, idx_scan from pg_stat_user_indexes where schemaname = 'eventlog'"
        ).fetchall()
    )
