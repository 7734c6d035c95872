"""Lists of threads: by metadata, time, order and page; and where each thread stands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import EventLogSaver, PendingTask, ThreadSummary
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.support.adapters import POOLS, open_saver
from tests.support.aging import DAY, Log, log
from tests.support.checkpoints import Tables, config_of, put
from tests.support.scenarios import in_context as in_context

__all__ = ["log"]  # a fixture

pytestmark = pytest.mark.portable

SORTS = ("activity", "size", "events", "id")


def ids(found: list[ThreadSummary]) -> list[str]:
    return [each.thread_id for each in found]


async def fill(log: Log) -> None:
    """Threads of two users, in this order of activity, oldest first; sizes and numbers of events in others."""
    for thread_id, user, count, size in (
        ("d", "ada", 1, 5000),
        ("a", "bob", 3, 100),
        ("c", "ada", 2, 2000),
        ("b", "ada", 4, 10),
    ):
        config = config_of(thread_id)
        for number in range(count):
            metadata = {"user_id": user, "step": number, "tags": {"tier": number, "ok": True}}
            config = await put(log.saver, config, f"c{number}", {"x": list(range(size + number))}, metadata=metadata)
        log.clock.advance(DAY)


# --- lists


@POOLS
async def test_threads_are_found_by_metadata_of_any_checkpoint(log: Log) -> None:
    """As `list` finds checkpoints, and each thread once: also by one that is not its latest, or in a subgraph."""
    await fill(log)
    await put(log.saver, config_of("a", ns="call:1"), "p", {"x": 1}, metadata={"user_id": "eve", "by": ["x", "y"]})
    for criteria, expected in (
        ({"user_id": "ada"}, "bcd"),
        ({"user_id": "bob"}, "a"),
        ({"user_id": "eve"}, "a"),
        ({"step": 2}, "ab"),
        ({"step": 2, "user_id": "ada"}, "b"),
        ({"step": "2"}, ""),
        ({"tags": {"tier": 1}}, "abc"),
        ({"tags": {"tier": 1, "ok": True}}, "abc"),
        ({"by": ["y"]}, "a"),
        # Two checkpoints have one each, none has both.
        ({"user_id": "eve", "step": 2}, ""),
        ({}, "abcd"),
        (None, "abcd"),
    ):
        for sort in SORTS:
            found = await log.saver.log.threads(filter=criteria, sort=sort)
            assert sorted(ids(found)) == list(expected), (criteria, sort)
        listed = {each.config["configurable"]["thread_id"] async for each in log.reader.alist(None, filter=criteria)}
        assert listed == set(expected)
        chosen = await log.saver.log.threads(["d", "none", "b", "a"], filter=criteria)
        assert ids(chosen) == [each for each in "dba" if each in expected]
    whole = await log.saver.log.threads()
    assert await log.saver.log.threads(filter={"user_id": "ada"}) == [each for each in whole if each.thread_id != "a"]


@POOLS
async def test_threads_are_listed_in_four_orders_page_by_page(log: Log) -> None:
    """With and without criteria, and none comes twice."""
    await fill(log)
    whole = {each.thread_id: each for each in await log.saver.log.threads()}
    assert {id_: each.events for id_, each in whole.items()} == {"a": 3, "b": 4, "c": 2, "d": 1}
    by_size = sorted(whole, key=lambda id_: -whole[id_].bytes)
    orders = {"activity": list("bcad"), "size": by_size, "events": list("bacd"), "id": list("abcd")}
    for sort, order in orders.items():
        for criteria in (None, {"user_id": "ada"}):
            expected = [id_ for id_ in order if criteria is None or id_ != "a"]
            pages: list[ThreadSummary] = []
            last: ThreadSummary | None = None
            while page := await log.saver.log.threads(sort=sort, filter=criteria, limit=2, before=last):
                assert len(page) <= 2
                pages += page
                last = page[-1]
            assert ids(pages) == expected
            assert pages == [whole[id_] for id_ in expected]


@POOLS
async def test_threads_since_a_time_are_those_active_then_or_later(log: Log) -> None:
    await fill(log)
    times = {each.thread_id: each.active_at for each in await log.saver.log.threads()}
    for sort in SORTS:
        for since, expected in ((times["d"], "abcd"), (times["c"], "bc"), (times["b"] + timedelta(microseconds=1), "")):
            assert "".join(sorted(ids(await log.saver.log.threads(since=since, sort=sort)))) == expected
    assert ids(await log.saver.log.threads(["d", "c", "b"], since=times["c"], filter={"user_id": "ada"})) == ["c", "b"]
    await log.saver.adelete_thread("c")
    assert ids(await log.saver.log.threads(since=times["d"])) == ["b", "a", "d"]
    # Deleted ones are there by their ids, and have neither time nor metadata.
    assert ids(await log.saver.log.threads(["c"])) == ["c"]
    assert await log.saver.log.threads(["c"], since=times["d"]) == []
    assert await log.saver.log.threads(["c"], filter={"user_id": "ada"}) == []


@POOLS
async def test_equal_threads_are_paged_by_their_ids(log: Log) -> None:
    """A page may end between threads of the same size and number of events."""
    for thread_id in "cabfed":
        await put(log.saver, config_of(thread_id), "c1", {"x": 1}, metadata={"user_id": "ada"})
    log.tables.run("update {schema}.streams set active_at = '2026-01-01'")
    for sort in SORTS:
        found: list[str] = []
        last: ThreadSummary | None = None
        while page := await log.saver.log.threads(sort=sort, limit=2, before=last, filter={"user_id": "ada"}):
            found += ids(page)
            last = page[-1]
        assert sorted(found) == list("abcdef")
        assert len(found) == 6
        if sort != "size":
            # Salts differ, and so may sizes.
            assert found == list("abcdef")


@POOLS
async def test_by_id_no_thread_is_missed_that_others_append_to(log: Log) -> None:
    """One that was not listed yet moves to the front of the order by activity: behind the page's end it is missed."""
    for thread_id in "abcd":
        await log.grow(thread_id, "c1")
    seen: dict[str, list[str]] = {}
    for sort, moving in (("activity", "a"), ("id", "d")):
        last: ThreadSummary | None = None
        while page := await log.saver.log.threads(sort=sort, limit=2, before=last):
            seen.setdefault(sort, []).extend(ids(page))
            if last is None:
                await log.grow(moving, "c2" if sort == "activity" else "c3")
            last = page[-1]
    assert seen == {"activity": ["d", "c", "b"], "id": ["a", "b", "c", "d"]}


@POOLS
async def test_pruned_threads_take_less_in_the_orders_by_size(log: Log) -> None:
    await log.grow("big", *(f"c{number}" for number in range(9)))
    await log.grow("small", "c1", "c2")
    before = await log.saver.log.threads(sort="events")
    assert ids(before) == ["big", "small"]
    await log.saver.log.prune(["big"])
    for sort in ("events", "size"):
        found = await log.saver.log.threads(sort=sort)
        measured = [each.events if sort == "events" else each.bytes for each in found]
        assert measured == sorted(measured, reverse=True)
    assert ids(await log.saver.log.threads(sort="events")) == ["small", "big"]


@POOLS
async def test_bad_criteria_are_refused(log: Log) -> None:
    now = datetime(2026, 1, 1)
    summary = ThreadSummary("1", None, 0, 0, 0, 0)
    threads = log.saver.log.threads
    wrong: list[tuple[Callable[[], Awaitable[Any]], str]] = [
        (lambda: threads(filter="user_id=ada"), "filter must be a dict of metadata, not str"),
        (lambda: threads(filter={"a": float("nan")}), "filter must be JSON"),
        (lambda: threads(filter={"a": "\0"}), "filter must be valid JSONB"),
        (lambda: threads(since=now), "since must be a datetime with a time zone"),
        (lambda: threads(since="2026-01-01"), "since must be a datetime with a time zone"),
        (lambda: threads(sort="name"), "sort must be 'activity' or 'size' or 'events' or 'id', not 'name'"),
        (lambda: threads(sort=None), "sort must be"),
        (lambda: threads(sort="size", before=now), "before must be a thread of the page before where the order is by"),
        (lambda: threads(before=summary), "before must be a datetime with a time zone, or a thread of the page"),
        (lambda: log.saver.log.thread_status("1"), "thread_ids must be a sequence of ids, not str"),
        (lambda: log.saver.log.thread_status(None), "thread_ids must be a sequence of ids, not NoneType"),
    ]
    for call, why in wrong:
        with pytest.raises(InvalidInputError, match=why):
            await call()


# --- where threads stand


class State(TypedDict, total=False):
    answer: str


def ask(state: State) -> State:
    return {"answer": interrupt("go on?")}


def fail(state: State) -> State:
    raise ValueError("no luck")


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.usefixtures("in_context")
async def test_the_status_of_real_graphs(mode: str, database_uri: str) -> None:
    """Idle, waiting in the root graph or a subgraph, failed, deleted; and idle again once it is answered."""
    asking = StateGraph(State).add_node("ask", ask).add_edge(START, "ask")
    nested = StateGraph(State).add_node("inner", asking.compile()).add_edge(START, "inner")
    failing = StateGraph(State).add_node("fail", fail).add_edge(START, "fail")
    both = StateGraph(State).add_node("ask", ask).add_node("more", ask)
    both.add_edge(START, "ask").add_edge(START, "more")
    idle = StateGraph(State).add_node("idle", lambda state: {"answer": "42"}).add_edge(START, "idle")
    runs: list[tuple[str, Any]] = [
        *(("waiting", asking), ("answered", asking), ("inside", nested), ("failed", failing), ("two", both)),
        *(("idle", idle), ("deleted", idle), ("breakpoint", idle)),
    ]
    names = [name for name, _ in runs]
    if mode == "sync":
        with EventLogSaver.from_conn_string(database_uri) as saver:
            for name, graph in runs:
                before = ["idle"] if name == "breakpoint" else None
                compiled = graph.compile(checkpointer=saver, interrupt_before=before)
                if name == "failed":
                    with pytest.raises(ValueError, match="no luck"):
                        compiled.invoke({}, config_of(name))
                else:
                    compiled.invoke({"answer": ""}, config_of(name))
                if name == "answered":
                    compiled.invoke(Command(resume="yes"), config_of(name))
            saver.delete_thread("deleted")
            found = saver.log.thread_status([*names, "never"])
            tuples = {name: saver.get_tuple(config_of(name)) for name in names}
            stored = {each: saver.log.inspect(config_of(each)) for each in ("waiting", "failed")}
    else:
        async with AsyncEventLogSaver.from_conn_string(database_uri) as other:
            for name, graph in runs:
                before = ["idle"] if name == "breakpoint" else None
                compiled = graph.compile(checkpointer=other, interrupt_before=before)
                if name == "failed":
                    with pytest.raises(ValueError, match="no luck"):
                        await compiled.ainvoke({}, config_of(name))
                else:
                    await compiled.ainvoke({"answer": ""}, config_of(name))
                if name == "answered":
                    await compiled.ainvoke(Command(resume="yes"), config_of(name))
            await other.adelete_thread("deleted")
            found = await other.log.thread_status([*names, "never"])
            tuples = {name: await other.aget_tuple(config_of(name)) for name in names}
            stored = {each: await other.log.inspect(config_of(each)) for each in ("waiting", "failed")}
    expected = {"answered": "idle", "inside": "waiting", "two": "waiting", "breakpoint": "idle"}
    assert {name: each.status for name, each in found.items()} == {name: expected.get(name, name) for name in names}
    for name, each in found.items():
        assert each.error is None
        if name == "deleted":
            assert (each.checkpoint_id, each.step, each.pending) == (None, None, ())
            continue
        newest = tuples[name]
        assert newest is not None
        assert (each.checkpoint_id, each.step) == (newest.checkpoint["id"], newest.metadata["step"])
        assert {(task.task_id, task.kind) for task in each.pending} == {
            (task_id, {"__interrupt__": "interrupt", "__error__": "error"}[channel])
            for task_id, channel, _ in newest.pending_writes or ()
            if each.status != "idle" and channel in ("__interrupt__", "__error__")
        }
    assert len(found["two"].pending) == 2
    for name, inspected in stored.items():
        # `seq` is the event that holds the body.
        assert inspected is not None
        (task,) = found[name].pending
        (write,) = [each for each in inspected.writes if each.channel in ("__interrupt__", "__error__")]
        assert (task.seq, task.task_id, task.checkpoint_id) == (write.seq, write.task_id, inspected.checkpoint_id)


@POOLS
async def test_a_task_that_ran_again_has_the_outcome_of_its_last_run(log: Log) -> None:
    """In the order of events; and of the latest checkpoint alone."""
    write, status = log.saver.aput_writes, log.saver.log.thread_status
    config = await put(log.saver, config_of("1"), "c1", {"x": 1}, metadata={"step": 4})

    async def now() -> tuple[str, list[tuple[str, str]]]:
        found = (await status(["1"]))["1"]
        assert (found.checkpoint_id, found.step) == ("c1", 4)
        return found.status, [(each.task_id, each.kind) for each in found.pending]

    assert await now() == ("idle", [])
    await write(config, [("__error__", "no luck")], "one")
    assert await now() == ("failed", [("one", "error")])
    await write(config, [("__interrupt__", ["go on?"])], "two", "path")
    assert await now() == ("waiting", [("one", "error"), ("two", "interrupt")])
    await write(config, [("__resume__", ["yes"])], "00000000-0000-0000-0000-000000000000")
    assert (await now())[0] == "waiting"
    await write(config, [("x", 2)], "one")
    assert await now() == ("waiting", [("two", "interrupt")])
    # Another question, after the first was answered.
    await write(config, [("__interrupt__", ["sure?"]), ("__resume__", ["yes"])], "two", "path")
    found = (await status(["1"]))["1"]
    assert found.pending == (PendingTask("interrupt", "", "c1", "two", "path", found.pending[0].seq),)
    await write(config, [("__no_writes__", None)], "two", "path")
    assert await now() == ("idle", [])
    await write(config, [("__interrupt__", ["?"])], "three")
    await put(log.saver, config, "c2", {"x": 3}, metadata={"step": "no number"})
    assert (await status(["1"]))["1"][1:4] == ("idle", "c2", None)


@POOLS
async def test_without_a_root_checkpoint_all_namespaces_tell(log: Log) -> None:
    """A run that saves its root graph at the end alone; and writes that no checkpoint has yet."""
    config = await put(log.saver, config_of("1", ns="call:1"), "p1", {"x": 1}, metadata={"step": 2})
    await log.saver.aput_writes(config, [("__interrupt__", ["go on?"])], "task")
    await log.saver.aput_writes(config_of("2", "c1"), [("x", 1)], "task")
    found = await log.saver.log.thread_status(["2", "1", "1"])
    assert list(found) == ["2", "1"]
    assert found["1"][1:4] == ("waiting", None, None)
    assert (found["1"].pending[0].checkpoint_ns, found["1"].pending[0].checkpoint_id) == ("call:1", "p1")
    assert found["2"][1:5] == ("idle", None, None, ())
    await put(log.saver, config_of("1"), "c1", {"x": 1}, metadata={"step": 0})
    assert (await log.saver.log.thread_status(["1"]))["1"][1:5] == ("idle", "c1", 0, ())
    assert await log.saver.log.thread_status([]) == {}


async def test_bodies_that_do_not_decode_leave_one_status_unknown(database_uri: str) -> None:
    """Without the key, or damaged: the others are told."""
    key = b"0123456789abcdef"
    serde = EncryptedSerializer.from_pycryptodome_aes(key=key)
    async with open_saver("sync-pool", database_uri, serde=serde) as saver:
        for thread_id in ("1", "2"):
            config = await put(saver, config_of(thread_id), "c1", {"x": 1}, metadata={"step": 1})
            if thread_id == "1":
                await saver.aput_writes(config, [("__error__", "no luck")], "task")
        assert (await saver.log.thread_status(["1"]))["1"].status == "failed"
    async with open_saver("sync-pool", database_uri) as saver:
        found = await saver.log.thread_status(["1", "2"])
        assert (found["1"].status, found["1"].step, found["2"].status) == ("unknown", 1, "idle")
        assert "event 2 of thread '1'" in (found["1"].error or "")
        assert found["2"].error is None
    Tables(database_uri).replace_body("events", "1", 2, b"\x00damaged")
    async with open_saver("sync-pool", database_uri, serde=serde) as saver:
        assert (await saver.log.thread_status(["1"]))["1"].status == "unknown"


@POOLS
async def test_many_large_bodies_are_read_in_parts(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each still counts for its thread."""
    monkeypatch.setattr("langgraph.checkpoint.eventlog.audit.status.CHUNK_BYTES", 300)
    for number in range(9):
        config = await put(log.saver, config_of(f"{number}"), "c1", {"x": 1})
        await log.saver.aput_writes(config, [("__interrupt__", [f"{number}" * 50 * number])], "task")
    found = await log.saver.log.thread_status([f"{number}" for number in range(9)])
    assert {each.status for each in found.values()} == {"waiting"}
