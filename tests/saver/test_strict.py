"""The setting `concurrency`, without a graph: what stands in a checkpoint's way, and how the history tells of it."""

from __future__ import annotations

import pickle
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import ormsgpack
import psycopg
import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from eventlog.errors import ConcurrentUpdateError, EventLogError, InvalidInputError, LogCorruptedError
from eventlog.format.contents import NOTHING, CheckpointSaved, MapPatch
from eventlog.settings import Settings
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.adapters import AsyncFace, open_saver
from tests.support.aging import DAY, Log, log
from tests.support.checkpoints import TEXTS, Tables, checkpoint_of, codec_of, config_of, listed_ids, put
from tests.support.racing import PATIENCE, Meeting, assert_clean, outcomes, refused, together
from tests.support.scenarios import MODES, Mode, open_mode

__all__ = ["log"]  # a fixture

STRICT = "strict"


@pytest.fixture
async def strict(kind: str, database_uri: str) -> AsyncIterator[Any]:
    async with open_saver(kind, database_uri, concurrency=STRICT) as opened:
        yield opened


async def read(saver: Any, checkpoint_id: str | None = None, thread_id: str = "1", ns: str = "") -> Any:
    """The config of a checkpoint as a run has it that has read it just now."""
    found = await saver.aget_tuple(config_of(thread_id, checkpoint_id, ns=ns))
    assert found is not None
    return found.config


async def grow(saver: Any, ids: Iterable[str], config: Any = None, **more: Any) -> Any:
    """Checkpoints one after the other; returns the last one's config."""
    config = config_of("1") if config is None else config
    for id_ in ids:
        config = await put(saver, config, id_, {"x": [*TEXTS, id_]}, **more)
    return config


async def concurrent(saver: Any, thread_id: str = "1", **options: Any) -> dict[str, tuple[bool, tuple[str, ...]]]:
    """Of each checkpoint that is a fork or concurrent with others: whether it is a fork, and with which."""
    return {
        record.checkpoint_id: (record.fork, record.concurrent_with)
        async for record in saver.log.history(thread_id, kinds=["checkpoint"], **options)
        if record.fork or record.concurrent_with
    }


# --- what is refused


async def test_a_second_child_is_refused(strict: Any, database_uri: str) -> None:
    """Both have read the same latest checkpoint; what came between are writes, and other branches."""
    await grow(strict, "abc")
    one, other = await read(strict), await read(strict)
    await strict.aput_writes(other, [("x", 1)], "task")
    await put(strict, await read(strict, "a"), "b2", {"x": 1})
    await put(strict, one, "d1", {"x": 1})
    before = Tables(database_uri).contents()
    with pytest.raises(ConcurrentUpdateError) as caught:
        await put(strict, other, "d2", {"x": [*TEXTS, 2]})
    assert Tables(database_uri).contents() == before
    error = caught.value
    assert (error.thread_id, error.checkpoint_ns, error.parent_id) == ("1", "", "c")
    assert (error.checkpoint_id, error.conflicting_id) == ("d2", "d1")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.conflicting_id) == (str(error), "d1")
    await put(strict, await read(strict), "e", {"x": 2})
    assert await concurrent(strict) == {"b2": (True, ())}
    assert_clean(database_uri)


async def test_children_of_a_refused_checkpoint_are_refused(strict: Any, kind: str, database_uri: str) -> None:
    """LangGraph may have put them already, or puts them all the same. They would come last, and hide the other run."""
    await grow(strict, "abc")
    one, other = await read(strict), await read(strict)
    await put(strict, one, "d1", {"x": 1})
    with pytest.raises(ConcurrentUpdateError):
        await put(strict, other, "d2", {"x": 2})
    before = Tables(database_uri).contents()
    for values in ({"x": 3}, {"x": TEXTS * 9}):
        with pytest.raises(ConcurrentUpdateError, match=r"e2 of .*: its parent d2 is not there .* d1") as caught:
            await put(strict, config_of("1", "d2"), "e2", values)
        assert (caught.value.parent_id, caught.value.conflicting_id) == ("d2", "d1")
    assert Tables(database_uri).contents() == before
    # Where there is nothing, nothing is hidden. A copy of a checkpoint, as its sibling, hides nothing either.
    await put(strict, config_of("2", "x"), "y", {"x": 1})
    siblings = (await strict.aget_tuple(config_of("2"))).parent_config
    await put(strict, siblings, "z", {"x": 1}, metadata={"source": "fork"})
    with pytest.raises(ConcurrentUpdateError, match="its parent x is not there"):
        await put(strict, siblings, "z2", {"x": 1})
    # Other savers branch.
    async with open_saver(kind, database_uri) as branching:
        await put(branching, config_of("1", "d2"), "e2", {"x": 3})
    await put(strict, await read(strict), "f", {"x": 1})
    assert_clean(database_uri)


async def test_conflicts_are_within_one_thread_and_namespace(strict: Any) -> None:
    for thread_id, ns in (("1", ""), ("1", "sub"), ("2", "")):
        await put(strict, config_of(thread_id, ns=ns), "a", {"x": 1})
        await put(strict, await read(strict, thread_id=thread_id, ns=ns), "b", {"x": 1})
    with pytest.raises(ConcurrentUpdateError, match="of thread '1', namespace 'sub' was refused: checkpoint b was put"):
        await put(strict, config_of("1", "a", ns="sub"), "c", {"x": 1})


async def test_a_child_of_a_runs_own_checkpoint_conflicts(strict: Any) -> None:
    """What `put` returned is the run's own, and so is an id of its own making: no other run may build on it."""
    stored = await grow(strict, "a")
    await put(strict, stored, "b", {"x": 1})
    for config in (stored, config_of("1", "a")):
        with pytest.raises(ConcurrentUpdateError):
            await put(strict, config, "c", {"x": 1})
    await put(strict, config_of("1", "b"), "c", {"x": 1})


async def test_a_second_beginning_is_refused(strict: Any) -> None:
    """Who has found nothing begins; not where there is something by now. Copies of a beginning are deliberate."""
    await grow(strict, "ab")
    with pytest.raises(ConcurrentUpdateError, match=r"checkpoint a was put since .* and both start the thread"):
        await put(strict, config_of("1"), "c", {"x": 1})
    await put(strict, config_of("1"), "d", {"x": 1}, metadata={"source": "fork"})
    assert await concurrent(strict) == {}
    await strict.adelete_thread("1")
    await put(strict, config_of("1"), "e", {"x": 1})


@pytest.mark.parametrize("values", [{"x": 1}, {"x": TEXTS * 5}], ids=["small", "large"])
async def test_a_checkpoint_put_again_is_no_conflict(
    strict: Any, kind: str, database_uri: str, values: dict[str, Any]
) -> None:
    """After an answer that was lost, or with more in it; whatever was put since, and by whatever saver."""
    await grow(strict, "a")
    config = await read(strict)
    await put(strict, config, "b", values)
    await put(strict, await read(strict, "a"), "c", values)
    events = Tables(database_uri).events()
    async with open_saver(kind, database_uri, concurrency=STRICT) as another:
        for saver in (strict, another):
            assert await put(saver, config, "b", values) == config_of("1", "b")
            assert await put(saver, config_of("1"), "a", {"x": [*TEXTS, "a"]}) == config_of("1", "a")
        assert Tables(database_uri).events() == events
        await put(another, config, "b", {**values, "more": 2})
        await put(another, await read(another, "b"), "b", {**values, "more": 3})
    assert (await strict.aget_tuple(config_of("1", "b"))).checkpoint["channel_values"]["more"] == 3
    assert await concurrent(strict) == {"c": (True, ())}
    assert_clean(database_uri)


async def test_writes_of_a_refused_checkpoint_are_not_read(strict: Any, database_uri: str) -> None:
    """Writes may come before their checkpoint. Without it they are never read. What was written to the
    parent stays, and the first of a task counts."""
    await grow(strict, "a")
    one, other = await read(strict), await read(strict)
    await strict.aput_writes(one, [("x", "first")], "task")
    await strict.aput_writes(other, [("x", "second")], "task")
    await put(strict, one, "b", {"x": 1})
    await strict.aput_writes(config_of("1", "c"), [("x", "of what never comes")], "task")
    with pytest.raises(ConcurrentUpdateError):
        await put(strict, other, "c", {"x": 1})
    assert await listed_ids(strict, config_of("1")) == ["b", "a"]
    assert (await strict.aget_tuple(config_of("1", "a"))).pending_writes == [("task", "x", "first")]
    assert_clean(database_uri)


async def test_an_erased_checkpoint_is_no_conflict(strict: Any) -> None:
    await grow(strict, "a")
    config = await read(strict)
    await put(strict, config, "b", {"x": 1}, metadata={"run_id": "gone"})
    await strict.adelete_for_runs(["gone"])
    await put(strict, config, "c", {"x": 1})
    assert await concurrent(strict) == {}


async def test_a_relocated_parent_is_no_conflict(strict: Any, database_uri: str) -> None:
    """Then it is younger, by the clock, than its children."""
    await grow(strict, "abc")
    one, other = await read(strict, "b"), config_of("1", "b")
    await put(strict, config_of("1", "c"), "d", {"x": 1})
    await strict.log.prune(["1"], keep_last=3)
    assert await listed_ids(strict, config_of("1")) == ["d", "c", "b"]
    with pytest.raises(ConcurrentUpdateError) as caught:
        await put(strict, other, "e", {"x": 1})
    assert caught.value.conflicting_id == "c"
    await put(strict, one, "f", {"x": 1})
    with pytest.raises(ConcurrentUpdateError) as caught:
        await put(strict, one, "g", {"x": 1})
    assert caught.value.conflicting_id == "f"
    assert_clean(database_uri)


@pytest.mark.parametrize("ahead", [1, 60], ids=["few", "many"])
@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_conflicts_are_found_across_partitions(log: Log, ahead: int) -> None:
    """Parent, rival and the refused one lie in different partitions; then the first ones are dropped."""
    async with open_saver(log.kind, log.uri, partition_interval="day", partitions_ahead=ahead) as owners:
        await owners.setup()
    assert (len(log.partitions()) > 48) == (ahead > 48)
    await log.grow("1", "a1", "a2", days=3)
    async with open_saver(log.kind, log.uri, concurrency=STRICT, partition_interval="day") as strict:
        for parent_id, id_ in (("a2", "a3"), ("a3", "a4")):
            config = await read(strict)
            log.clock.advance(3 * DAY)
            await put(strict, config, id_, {"x": [*TEXTS, 1]})
            log.clock.advance(3 * DAY)
            for parent in (config, config_of("1", parent_id)):
                with pytest.raises(ConcurrentUpdateError) as caught:
                    await put(strict, parent, "a9", {"x": 1})
                assert caught.value.conflicting_id == id_
            assert (await strict.log.retain(timedelta(days=2))).partitions


@pytest.mark.parametrize("mode", MODES)
async def test_exactly_one_of_concurrent_puts_succeeds(mode: Mode, database_uri: str) -> None:
    """In each round all have read the same: of one thread nothing at first, then its latest checkpoint."""
    parties, rounds = 8, 6
    async with AsyncExitStack() as stack:
        savers = [
            await stack.enter_async_context(open_mode(mode, database_uri, concurrency=STRICT)) for _ in range(parties)
        ]
        faces = [AsyncFace(each) if mode == "sync" else each for each in savers]
        for round_ in range(rounds):
            place = Meeting(parties)
            for saver in savers:
                place.hold(mode, saver)

            async def act(number: int, round_: int = round_) -> None:
                found = await faces[number].aget_tuple(config_of("1"))
                await faces[number].aput_writes(config_of("1", f"{round_ - 1:03}"), [("x", number)], "task")
                config = config_of("1") if found is None else found.config
                await put(faces[number], config, f"{round_:03}-{number}", {"x": [*TEXTS, number]})

            found = await together(mode, [lambda number=number: act(number) for number in range(parties)])
            assert outcomes(found) == ["ConcurrentUpdateError"] * (parties - 1) + ["done"], found
            assert refused([each for each in found if each][:1]).conflicting_id == f"{round_:03}-{found.index(None)}"
        assert len(await listed_ids(faces[0], config_of("1"))) == rounds
        assert await concurrent(faces[0]) == {}
    assert_clean(database_uri)


@pytest.mark.parametrize("start", ["nothing", "a checkpoint"])
def test_a_put_waits_for_an_uncommitted_conflicting_one(database_uri: str, start: str) -> None:
    """The second waits for the first, whether there is a row to lock or not, and then sees what it did."""
    checkpoint = checkpoint_of("b1", {"x": 1}, {"x": "1"})
    with EventLogSaver.from_conn_string(database_uri, concurrency=STRICT) as saver, ExitStack() as stack:
        if start == "a checkpoint":
            saver.put(config_of("1"), checkpoint_of("a", {"x": 0}, {"x": "0"}), {}, {"x": "0"})
        found = saver.get_tuple(config_of("1"))
        config = config_of("1") if found is None else found.config
        first = stack.enter_context(psycopg.connect(database_uri))
        first.execute("select 1")  # in a transaction of our own
        EventLogSaver(first, concurrency=STRICT).put(config, checkpoint, {}, {"x": "1"})
        assert first.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
        threads = stack.enter_context(ThreadPoolExecutor(1))
        second = threads.submit(saver.put, config, {**checkpoint, "id": "b2"}, {}, {"x": "1"})
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%%strict_v1%%'"
        with Tables(database_uri) as tables:
            until(lambda: tables.one(waiting) == 1)
        first.commit()
        with pytest.raises(ConcurrentUpdateError) as caught:
            second.result(PATIENCE)
        assert (caught.value.checkpoint_id, caught.value.conflicting_id) == ("b2", "b1")
        assert next(each.checkpoint["id"] for each in saver.list(config_of("1"))) == "b1"
    assert_clean(database_uri)


def until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, "it never was so"
        time.sleep(0.01)


# --- what is told


@pytest.mark.attack("application bug")
async def test_history_names_the_branches_that_a_writer_did_not_see(saver: Any, database_uri: str) -> None:
    """By default all are kept. Each names those that were there before it, and that it did not know of."""
    await grow(saver, ["a0", "b0", "c0"])
    one, other, third = [await read(saver) for _ in range(3)]
    await put(saver, one, "d1", {"x": 1})
    await put(saver, other, "d2", {"x": 1})
    deliberate = await read(saver, "c0")
    await put(saver, third, "d3", {"x": 1})
    await put(saver, deliberate, "d4", {"x": 1})
    await put(saver, await read(saver, "c0"), "d5", {"x": 1})
    expected = {
        "d2": (True, ("d1",)),
        "d3": (True, ("d1", "d2")),
        "d4": (True, ("d3",)),
        "d5": (True, ()),
    }
    assert await concurrent(saver) == expected
    assert await concurrent(saver, newest_first=True) == expected
    assert [await concurrent(saver, after=each, limit=1) async for each in saver.log.history("1", limit=3)][-1] == {}
    await saver.acopy_thread("1", "copy")
    assert await concurrent(saver, "copy") == expected
    await saver.log.rebuild()
    assert await concurrent(saver) == expected
    await saver.acopy_thread("copy", "copy of it")
    assert await concurrent(saver, "copy of it") == expected
    await saver.log.prune(["1"], keep_last=4)
    assert await concurrent(saver) == {}  # of the parent nothing is known any more: they all begin something
    assert_clean(database_uri)


async def test_a_relocated_event_keeps_its_observed_latest_id(saver: Any, database_uri: str) -> None:
    """Stored again without its base, an event says still what its writer knew of."""
    await grow(saver, "abc")
    deliberate = await read(saver, "b")
    await put(saver, deliberate, "d", {"x": [*TEXTS, "d"]})
    await put(saver, deliberate, "e", {"x": [*TEXTS, "e"]})
    expected = {"d": (True, ()), "e": (True, ("d",))}
    assert await concurrent(saver) == expected
    await put(saver, config_of("1", "b"), "b", {"x": "another"})
    await saver.adelete_for_runs(["none"])
    await saver.log.prune(["1"], keep_last=4)
    assert await concurrent(saver) == expected
    assert_clean(database_uri)


async def test_history_of_an_encrypted_log_names_conflicts(kind: str, database_uri: str) -> None:
    async with open_saver(
        kind, database_uri, serde=EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    ) as saver:
        await grow(saver, "abc")
        for id_ in ("d1", "d2"):
            await put(saver, await read(saver, "b"), id_, {"x": 1})
        await put(saver, config_of("1", "b"), "d3", {"x": 1})
        assert await concurrent(saver) == {"d1": (True, ()), "d2": (True, ()), "d3": (True, ("c", "d1", "d2"))}


async def test_history_names_conflicting_beginnings(saver: Any) -> None:
    for id_ in "abc":
        await put(saver, config_of("1"), id_, {"x": 1})
    assert await concurrent(saver) == {"b": (False, ("a",)), "c": (False, ("a", "b"))}


async def test_history_names_a_bounded_number_of_conflicts(database_uri: str) -> None:
    """Not all of a hundred are named each time."""
    async with open_saver("async-pool", database_uri) as saver:
        await grow(saver, "a")
        for number in range(20):
            await put(saver, config_of("1", "a"), f"b{number:02}", {"x": 1})
        assert (await concurrent(saver))["b19"] == (True, tuple(f"b{number:02}" for number in range(16)))


async def test_an_event_on_the_latest_checkpoint_stores_no_observed_id(database_uri: str) -> None:
    """The event of a run that goes on from the latest checkpoint is what it always was."""
    bodies = []
    for number, of in enumerate((read, lambda saver: _given(config_of("1", "a")))):
        async with open_saver("async-pool", database_uri, schema=f"s{number}") as saver:
            await saver.setup()
            await grow(saver, "a")
            await put(saver, await of(saver), "b", {"x": 1})
            found = Tables(database_uri, f"s{number}").rows("select body from {schema}.events order by seq")
            # But for the salts.
            events = [codec_of(Settings()).decode_checkpoint(body, "it") for (body,) in found]
            bodies.append([replace(event, salt=bytes(16)) for event in events])
    assert bodies[0] == bodies[1]


async def _given(config: Any) -> Any:
    return config


# --- bodies, settings


@pytest.mark.parametrize("observed_latest_id", [None, "", "x", "ä" * 100])
def test_an_observed_latest_id_round_trips(observed_latest_id: str | None) -> None:
    event = CheckpointSaved("p", NOTHING, NOTHING, MapPatch({}, []), MapPatch({}, []), {}, observed_latest_id)
    codec = codec_of(Settings())
    assert codec.decode_checkpoint(codec.encode_checkpoint(event), "it") == event


@pytest.mark.parametrize("more", [[1], [None], [b"x"], ["x", "y"]])
def test_a_damaged_observed_latest_id_is_reported(more: list[Any]) -> None:
    content = [None, ["null", b""], ["null", b""], [{}, []], [{}, []], {}, bytes(16), *more]
    with pytest.raises(LogCorruptedError):
        codec_of(Settings()).decode_checkpoint(b"\x01" + ormsgpack.packb(content), "it")


@pytest.mark.parametrize("value", ["Strict", "", None, True, "serial"])
def test_an_invalid_concurrency_setting_is_refused(value: Any, database_uri: str) -> None:
    with (
        pytest.raises(InvalidInputError, match="setting 'concurrency'"),
        EventLogSaver.from_conn_string(database_uri, concurrency=value),
    ):
        pass


def test_the_conflict_error_is_not_retryable() -> None:
    """It is none of those that a retry of the same call could help."""
    assert ConcurrentUpdateError.__mro__[1] is EventLogError
    assert "latest checkpoint" in str(ConcurrentUpdateError())
