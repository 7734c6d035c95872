"""What a checkpointer promises to LangGraph: pending writes, and what old versions made of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import ERROR, INTERRUPT, RESUME, SCHEDULED
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.types import TASKS
from langgraph.types import Send
from psycopg.rows import dict_row

from tests.support.adapters import AsyncFace
from tests.support.checkpoints import Tables, config_of, listed, put, values_of

pytestmark = pytest.mark.portable


async def writes_of(saver: Any, config: Any) -> list[tuple[str, str, Any]]:
    """The pending writes of a checkpoint; get and list must agree on them."""
    found = await saver.aget_tuple(config)
    assert await listed(saver, config) == [found]
    writes: list[tuple[str, str, Any]] = found.pending_writes
    return writes


async def test_writes_before_their_checkpoint_are_returned_with_it(saver: Any, database_uri: str) -> None:
    """LangGraph sends both at once: the writes may well be committed first."""
    config = config_of("1", "1")
    await saver.aput_writes(config, [("x", 1), ("y", 2)], "task")

    assert await saver.aget_tuple(config) is None
    assert await listed(saver, config_of()) == []
    assert Tables(database_uri).events() == 1

    await put(saver, config_of(), "1", {"x": 0})
    assert await writes_of(saver, config) == [("task", "x", 1), ("task", "y", 2)]
    assert await values_of(saver, config) == {"x": 0}


async def test_each_checkpoint_has_its_own_writes(saver: Any) -> None:
    """Neither a child nor a fork nor another namespace has another one's writes."""
    first = await put(saver, config_of(), "1")
    second = await put(saver, first, "2")
    fork = await put(saver, first, "3")
    elsewhere = await put(saver, config_of(ns="child"), "1")
    for number, config in enumerate((second, first, elsewhere)):
        await saver.aput_writes(config, [("x", number)], "task")

    assert await writes_of(saver, first) == [("task", "x", 1)]
    assert await writes_of(saver, second) == [("task", "x", 0)]
    assert await writes_of(saver, fork) == []
    assert await writes_of(saver, elsewhere) == [("task", "x", 2)]
    found = await listed(saver, None)
    assert sorted(len(each.pending_writes) for each in found) == [0, 1, 1, 1]


async def test_the_first_ordinary_write_wins(saver: Any) -> None:
    """The first write of a task at a place counts, one call or many; other tasks have theirs."""
    config = await put(saver, config_of(), "1")
    await saver.aput_writes(config, [("x", "first"), ("x", "second")], "task")
    await saver.aput_writes(config, [("x", "other")], "other task")
    await saver.aput_writes(config, [("y", "late"), ("y", "late"), ("y", "third")], "task")
    await saver.aput_writes(config, [], "task")

    assert await writes_of(saver, config) == [
        ("other task", "x", "other"),
        ("task", "x", "first"),
        ("task", "x", "second"),
        ("task", "y", "third"),
    ]


async def test_the_last_special_write_wins(saver: Any) -> None:
    """Of errors, interrupts, resumes and schedules the last one counts: a task fails again."""
    config = await put(saver, config_of(), "1")
    for attempt in ("first", "last"):
        for channel in (RESUME, ERROR, SCHEDULED, INTERRUPT):
            await saver.aput_writes(config, [(channel, f"{channel} {attempt}")], "task")
    await saver.aput_writes(config, [(INTERRUPT, "other")], "task 0")

    assert await writes_of(saver, config) == [
        ("task", RESUME, f"{RESUME} last"),
        ("task", INTERRUPT, f"{INTERRUPT} last"),
        ("task", SCHEDULED, f"{SCHEDULED} last"),
        ("task", ERROR, f"{ERROR} last"),
        ("task 0", INTERRUPT, "other"),
    ]


async def test_special_and_ordinary_writes_in_one_call_are_kept_apart(saver: Any) -> None:
    """Their places do not meet: special writes have negative ones."""
    config = await put(saver, config_of(), "1")
    await saver.aput_writes(config, [("x", 1), (ERROR, "e1"), ("y", 2)], "task")
    await saver.aput_writes(config, [("x", "late"), (ERROR, "e2"), ("y", "late")], "task")

    assert await writes_of(saver, config) == [("task", ERROR, "e2"), ("task", "x", 1), ("task", "y", 2)]


async def test_writes_are_ordered_by_path_task_and_index(saver: Any) -> None:
    """By path, then task, then place, whenever they came: the order of live execution."""
    config = await put(saver, config_of(), "1")
    for task_id, path, count in (
        ("b", "~2", 1),
        ("c", "", 1),
        ("a", "~2", 12),
        ("z", "~1", 2),
        ("B", "~2", 1),
    ):
        await saver.aput_writes(config, [("x", (task_id, n)) for n in range(count)], task_id, path)

    assert [value for _, _, value in await writes_of(saver, config)] == [
        ["c", 0],
        ["z", 0],
        ["z", 1],
        ["B", 0],
        *(["a", n] for n in range(12)),
        ["b", 0],
    ]


async def test_a_task_without_writes_appends_nothing(saver: Any, database_uri: str) -> None:
    """A task without writes leaves nothing in the log."""
    config = await put(saver, config_of(), "1")
    tables = Tables(database_uri)
    before = tables.contents()

    await saver.aput_writes(config, [], "task")

    assert tables.contents() == before
    assert await writes_of(saver, config) == []


async def test_a_repeated_put_writes_is_returned_once(saver: Any) -> None:
    """An append is sent again after its answer was lost: readers do not see it twice."""
    config = await put(saver, config_of(), "1")
    for _ in range(2):
        await saver.aput_writes(config, [("x", [1]), (INTERRUPT, "i"), ("x", [2])], "task", "path")

    assert await writes_of(saver, config) == [
        ("task", INTERRUPT, "i"),
        ("task", "x", [1]),
        ("task", "x", [2]),
    ]


# --- before version 4


@asynccontextmanager
async def incumbent(kind: str, uri: str) -> AsyncIterator[Any]:
    """`PostgresSaver` or its async twin, in the same database, with the async methods."""
    if kind.startswith("sync"):
        with psycopg.connect(uri, autocommit=True, row_factory=dict_row) as conn:
            saver = PostgresSaver(conn)
            saver.setup()
            yield AsyncFace(saver)
    else:
        connecting = psycopg.AsyncConnection.connect(uri, autocommit=True, row_factory=dict_row)
        async with await connecting as aconn:
            asaver = AsyncPostgresSaver(aconn)
            await asaver.setup()
            yield asaver


async def old_thread(saver: Any) -> list[Any]:
    """A thread as versions before 4 wrote it; returns the configs of its checkpoints."""

    async def old(parent: Any, checkpoint_id: str, values: dict[str, Any], **options: Any) -> Any:
        versions = dict.fromkeys(values, f"{int(checkpoint_id):032}.5")
        options = {"v": 1, "pending_sends": [], "versions": versions, **options}
        return await put(saver, parent, checkpoint_id, values, **options)

    root = await old(config_of(), "1", {"x": [1]})
    sends = [Send("node", {"n": number}) for number in range(5)]
    # Order of path, task and place; repeats; other channels and special writes are no sends.
    await saver.aput_writes(root, [("x", [0]), (TASKS, sends[0]), (TASKS, sends[1])], "b", "~2")
    await saver.aput_writes(root, [(TASKS, sends[2])], "a", "~2")
    await saver.aput_writes(root, [(TASKS, sends[3])], "c", "~1")
    await saver.aput_writes(root, [(TASKS, sends[4])], "a", "~2")
    await saver.aput_writes(root, [(ERROR, "failed")], "d")
    child = await old(root, "2", {"x": [2], "y": "y"})
    # A fork gets them too; a value of its own gives way.
    fork = await old(root, "3", {TASKS: ["stale"], "x": [3]}, v=3)
    # The parent has no sends, only other writes.
    await saver.aput_writes(child, [("x", [9])], "a")
    grandchild = await old(child, "4", {"x": [4]})
    # From version 4 on, what to send is a channel's value.
    modern = await old(root, "5", {"x": [5]}, v=4)
    # Without versions there is none to take the greatest of.
    bare = await old(root, "6", {}, v=2)
    orphan = await old(config_of("1", "0"), "7", {"x": [7]})
    return [root, child, fork, grandchild, modern, bare, orphan]


def by_task(found: list[Any]) -> list[Any]:
    """The same, with the pending writes by task alone."""
    return [one._replace(pending_writes=sorted(one.pending_writes, key=lambda write: write[0])) for one in found]


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_pending_sends_before_version_four_equal_the_incumbents(kind: str, saver: Any, database_uri: str) -> None:
    """Before version 4 the parent's writes to the tasks channel are the child's value of it."""
    configs = await old_thread(saver)
    async with incumbent(kind, database_uri) as other:
        assert await old_thread(other) == configs
        theirs = [await other.aget_tuple(config) for config in configs]
        their_list = await listed(other, config_of())
    ours = [await saver.aget_tuple(config) for config in configs]
    our_list = await listed(saver, config_of())

    # The version of the bare one is new, and half of it chance.
    for found in (ours, theirs, our_list[::-1], their_list[::-1]):
        version = found[5].checkpoint["channel_versions"].pop(TASKS)
        assert version.startswith(f"{1:032}.")
    assert our_list == ours[::-1]
    # Older versions of the incumbent do not look at task paths when they sort pending writes.
    assert by_task(ours) == by_task(theirs)
    assert by_task(our_list) == by_task(their_list)
    # Not that both have nothing.
    sends = [send.arg["n"] for send in ours[1].checkpoint["channel_values"][TASKS]]
    assert sends == [3, 2, 0, 1]
    assert [TASKS in found.checkpoint["channel_values"] for found in ours] == [
        *(False, True, True, False, False, True, False)
    ]


async def test_pending_sends_stay_in_their_namespace(saver: Any) -> None:
    """The incumbent looks them up by thread and checkpoint id alone; we do not."""
    parents = {ns: await put(saver, config_of(ns=ns), "1", v=3) for ns in ("", "child")}
    for ns, parent in parents.items():
        await saver.aput_writes(parent, [(TASKS, Send("node", f"to {ns}"))], "task")
    await put(saver, config_of("2"), "1", v=3)

    for ns, parent in parents.items():
        child = await put(saver, parent, "2", {"x": 1}, v=3)
        values = {"x": 1, TASKS: [Send("node", f"to {ns}")]}
        assert await values_of(saver, child) == values
        (found,) = await listed(saver, child)
        assert found.checkpoint["channel_values"] == values
        assert found.checkpoint["channel_versions"] == {"x": "2", TASKS: "2"}
    other = await put(saver, config_of("2", "1"), "2", {"x": 1}, v=3)
    assert await values_of(saver, other) == {"x": 1}


async def test_children_of_old_checkpoints_do_not_inherit_sends(saver: Any) -> None:
    """The added value is the reader's: it is neither a base for children nor put again."""
    root = await put(saver, config_of(), "1", {"x": ["x"] * 1000}, v=3)
    await saver.aput_writes(root, [(TASKS, Send("node", 1))], "task")
    old = await put(saver, root, "2", {}, versions={"x": "1"}, new={}, v=3)
    assert TASKS in await values_of(saver, old)

    child = await put(saver, old, "3", {"y": 1}, versions={"x": "1", "y": "3"}, new={"y": "3"})

    assert await values_of(saver, child) == {"x": ["x"] * 1000, "y": 1}
