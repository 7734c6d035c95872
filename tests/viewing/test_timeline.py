"""A thread's timeline: steps, tasks, forks, subgraphs, records, pages."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest
from langgraph.types import Command

from langgraph.checkpoint.eventlog import EventLogSaver, InvalidInputError, ThreadNotFoundError
from langgraph.checkpoint.eventlog.viewing import Reader, thread
from langgraph.checkpoint.eventlog.viewing.branches import Node, descent_of
from tests.support.checkpoints import config_of, put
from tests.viewing.world import ODD, ask, config, confirm, line, opened, reader, world

__all__ = ["reader", "world"]  # fixtures

pytestmark = pytest.mark.portable


def steps(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in document["steps"] if each["kind"] == "step"]


async def test_a_run_is_a_line_of_steps_with_the_writes_of_their_tasks(reader: Reader) -> None:
    document = await thread(reader, "waiting")
    assert json.loads(json.dumps(document)) == document
    first, second, third = document["steps"]
    assert [each["step"] for each in document["steps"]] == [-1, 0, 1]
    assert [each["source"] for each in document["steps"]] == ["input", "loop", "loop"]
    assert first["parent_id"] is None
    assert second["parent_id"] == first["checkpoint_id"]
    assert first["saved_ms_after_parent"] is None
    assert second["saved_ms_after_parent"] >= 0
    assert {each["actor"] for each in document["steps"]} == {"ada"}
    (asked,) = second["tasks"]
    assert (asked["node"], asked["channels"], asked["finished"]) == ("ask", ["messages", "topic"], True)
    assert asked["actor"] == "ada"
    assert asked["ms_after_checkpoint"] is None or asked["ms_after_checkpoint"] >= 0
    (confirmed,) = third["tasks"]
    assert (confirmed["node"], confirmed["interrupt"], confirmed["finished"]) == ("confirm", True, False)
    changed = {each["channel"]: each for each in third["changes"]}
    assert changed["messages"]["what"] == "appended"
    assert changed["messages"]["items"] == 1
    assert changed["topic"]["what"] == "set"
    assert document["status"] == "waiting"
    assert document["summary"]["interrupts"][0]["value"] == {"question": "Is it?"}
    assert document["branches"] == [{"number": 0, "tip": third["checkpoint_id"], "starts_at": None}]
    assert [each["is_tip"] for each in document["steps"]] == [False, False, True]
    assert document["next"] is None


async def test_an_answer_shows_at_the_task_that_had_asked(reader: Reader) -> None:
    document = await thread(reader, "answered")
    task = next(task for step in steps(document) for task in step["tasks"] if task["node"] == "confirm")
    assert (task["interrupt"], task["answered"], task["finished"]) == (True, True, True)
    assert task["channels"] == ["seen"]
    assert task["actor"] == "bob"


async def test_a_failed_task_is_marked(reader: Reader) -> None:
    document = await thread(reader, "failed")
    assert document["status"] == "failed"
    assert [task["error"] for task in document["steps"][-1]["tasks"]] == [True]


async def test_a_fork_is_a_branch_with_its_tip(reader: Reader) -> None:
    document = await thread(reader, "chat")
    line_, branch = document["branches"]
    assert branch["starts_at"] in {each["checkpoint_id"] for each in document["steps"]}
    (fork,) = [each for each in document["steps"] if each["fork"]]
    assert fork["parent_id"] == branch["starts_at"]
    assert {each["branch"] for each in document["steps"]} == {0, 1}
    tips = [each["checkpoint_id"] for each in document["steps"] if each["is_tip"]]
    assert tips == [line_["tip"], branch["tip"]]


async def test_a_subgraph_is_named_at_the_step_that_it_ran_in(reader: Reader) -> None:
    document = await thread(reader, "nested")
    root, inner = document["namespaces"]
    assert root["ns"] == ""
    assert inner["ns"].startswith("inner:")
    assert inner["latest"]
    assert document["steps"][-1]["subgraphs"] == [{"ns": inner["ns"], "node": "inner"}]
    below = await thread(reader, "nested", ns=inner["ns"])
    assert [each["kind"] for each in below["steps"]] == ["step"] * len(below["steps"])
    assert below["ns"] == inner["ns"]
    assert any(task["interrupt"] for task in below["steps"][-1]["tasks"])


@pytest.mark.parametrize(
    ("thread_id", "what", "text"),
    [
        ("pruned", "erased", "prune by postgres for an operator: erased "),
        ("copy", "copied", "copy_thread by postgres for an operator: copied from chat: "),
        ("deleted", "deleted", "delete_thread by postgres for an operator: erased "),
    ],
)
async def test_what_was_done_to_a_thread_stands_where_it_happened(
    reader: Reader, thread_id: str, what: str, text: str
) -> None:
    document = await thread(reader, thread_id)
    (record,) = [each for each in document["steps"] if each["kind"] == "record"]
    assert record["what"] == what
    assert record["text"].startswith(text)
    assert record["operation"]["actor"] == "an operator"
    assert (document["deleted"] is not None) == (thread_id == "deleted")


async def test_a_deleted_thread_says_when_and_by_whom(reader: Reader) -> None:
    document = await thread(reader, "deleted")
    assert document["status"] == "deleted"
    assert document["deleted"]["actor"] == "an operator"
    assert document["deleted"]["operation"] == "delete_thread"
    assert document["deleted"]["time"] == document["steps"][-1]["time"]
    assert document["branches"] == []


@pytest.mark.parametrize("newest", [False, True])
async def test_pages_have_each_step_once_and_whole(reader: Reader, newest: bool) -> None:
    whole = await thread(reader, "chat", newest=newest)
    assert whole["next"] is None
    assert whole["newest"] == newest
    found: list[Any] = []
    cursor = None
    while True:
        page = await thread(reader, "chat", newest=newest, cursor=cursor, limit=3)
        assert 0 < len(page["steps"]) <= 3
        assert page["branches"] == whole["branches"]
        found += page["steps"]
        cursor = page["next"]
        if cursor is None:
            break
    assert found == whole["steps"]


async def test_newest_first_is_the_same_in_reverse(reader: Reader) -> None:
    ids = [each["checkpoint_id"] for each in steps(await thread(reader, "chat"))]
    assert [each["checkpoint_id"] for each in steps(await thread(reader, "chat", newest=True))] == ids[::-1]


async def test_an_odd_id_has_a_timeline(reader: Reader) -> None:
    assert len((await thread(reader, ODD))["steps"]) == 15


async def test_unknown_threads_and_namespaces_are_not_found(reader: Reader) -> None:
    with pytest.raises(ThreadNotFoundError, match="thread 'nobody' does not exist"):
        await thread(reader, "nobody")
    with pytest.raises(ThreadNotFoundError, match="no namespace 'a:b'"):
        await thread(reader, "chat", ns="a:b")
    with pytest.raises(InvalidInputError, match="cursor"):
        await thread(reader, "chat", cursor="nonsense")
    with pytest.raises(InvalidInputError, match="must not be empty"):
        await thread(reader, "")


async def test_a_step_of_many_tasks_is_one_step(world: str) -> None:
    """More than are read at a time."""
    with EventLogSaver.from_conn_string(world) as saver:
        stored = await put(_Async(saver), config_of("wide"), "a", {"x": 1})
        for number in range(700):
            saver.put_writes(stored, [("x", number)], f"task {number}", "~__pregel_pull, node")
        await put(_Async(saver), stored, "b", {"x": 2})
        for newest in (False, True):
            document = await thread(Reader(saver.log), "wide", newest=newest, limit=1)
            (step,) = document["steps"]
            if newest:
                document = await thread(Reader(saver.log), "wide", newest=newest, limit=1, cursor=document["next"])
                (step,) = document["steps"]
            assert step["checkpoint_id"] == "a"
            assert [task["task_id"] for task in step["tasks"]] == [f"task {number}" for number in range(700)]


async def test_writes_are_shown_with_their_checkpoint_whenever_they_came(world: str) -> None:
    """Before it, as background threads do it, and after later ones."""
    with EventLogSaver.from_conn_string(world) as saver:
        saver.put_writes(config_of("late", "a"), [("x", 1)], "early task")
        first = await put(_Async(saver), config_of("late"), "a", {"x": 1})
        second = await put(_Async(saver), first, "b", {"x": 2})
        await put(_Async(saver), second, "c", {"x": 3})
        saver.put_writes(first, [("x", 1)], "late task")
        for newest in (False, True):
            document = await thread(Reader(saver.log), "late", newest=newest)
            tasks = {step["checkpoint_id"]: step["tasks"] for step in document["steps"]}
            assert [task["task_id"] for task in tasks["a"]] == ["early task", "late task"]
            assert (tasks["b"], tasks["c"]) == ([], [])


async def test_writes_that_do_not_decode_hide_no_others(world: str) -> None:
    with EventLogSaver.from_conn_string(world) as saver:
        stored = await put(_Async(saver), config_of("broken"), "a", {"x": 1})
        for task_id in ("one", "two"):
            saver.put_writes(stored, [("x", 1)], task_id)
        with psycopg.connect(world) as conn:
            conn.execute("set session_replication_role = replica")
            conn.execute("update eventlog.events set body = '' where thread_id = 'broken' and seq = 2")
        (step,) = (await thread(Reader(saver.log), "broken"))["steps"]
    assert [task["task_id"] for task in step["tasks"]] == ["two"]
    assert [each["seq"] for each in step["undecodable"]] == [2]


async def test_an_event_that_does_not_decode_is_shown_as_such(world: str) -> None:
    with psycopg.connect(world) as conn:
        conn.execute("set session_replication_role = replica")
        # Writes may come before their checkpoint: the number depends on it.
        latest = "select max(seq) from eventlog.events where thread_id = 'failed' and kind = 1"
        ((seq,),) = conn.execute(latest).fetchall()
        conn.execute(
            "update eventlog.events set body = %s where thread_id = 'failed' and seq = %s", (b"\x00nonsense", seq)
        )
    async with opened(world) as log:
        document = await thread(Reader(log), "failed")
    (broken,) = [each for each in document["steps"] if each["kind"] == "undecodable"]
    assert broken["seq"] == seq
    assert f"event {seq} of thread 'failed'" in broken["error"]


async def test_a_run_that_goes_on_moves_the_head(world: str) -> None:
    with EventLogSaver.from_conn_string(world) as saver:
        reader = Reader(saver.log)
        before = (await thread(reader, "waiting"))["head"]
        assert (await thread(reader, "waiting"))["head"] == before
        line(ask, confirm).compile(checkpointer=saver).invoke(Command(resume="yes"), config("waiting"))
        assert (await thread(reader, "waiting"))["head"] != before


def test_lines_of_checkpoints_that_name_each_other_end() -> None:
    """Rows that were altered must not keep a page from being made."""
    time = datetime.now(timezone.utc)
    nodes = [Node("b", "a", time, 2, None, None), Node("a", "b", time, 1, None, None)]
    assert descent_of(nodes).branches == []
    (branch,) = descent_of([Node("c", "c", time, 1, None, None)]).branches
    assert branch == (0, "c", None)


class _Async:
    """The async method that `put` calls."""

    def __init__(self, saver: EventLogSaver) -> None:
        self._saver = saver

    async def aput(self, *arguments: Any) -> Any:
        return self._saver.put(*arguments)


@pytest.mark.parametrize(("name", "most"), [("MOST_WRITES", 3), ("MOST_WRITES_BYTES", 1)])
async def test_a_page_says_that_tasks_are_left_out(
    reader: Reader, monkeypatch: pytest.MonkeyPatch, name: str, most: int
) -> None:
    whole = await thread(reader, "chat")
    assert not whole["tasks_left_out"]
    monkeypatch.setattr(f"langgraph.checkpoint.eventlog.viewing.timeline.{name}", most)
    document = await thread(reader, "chat")
    assert document["tasks_left_out"]
    assert sum(len(each.get("tasks", ())) for each in document["steps"]) == most


def test_branches_are_told_by_when_checkpoints_were_saved_not_by_the_order_of_their_ids() -> None:
    time = datetime(2026, 1, 1, tzinfo=timezone.utc)
    nodes = [
        Node(id_, parent, time, seq, None, None)
        for seq, (id_, parent) in enumerate([("z", None), ("m", "z"), ("a", "z")])
    ]
    assert descent_of(nodes) == descent_of(nodes[::-1])
    assert [each.tip for each in descent_of(nodes).branches] == ["m", "a"]
