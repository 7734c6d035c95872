"""Runs of one saver on one thread: what each has read of its parent is told apart, whatever is read in between."""

from __future__ import annotations

import json
import pickle
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import pytest

from eventlog.errors import ConcurrentUpdateError
from eventlog.read import ObservedHead
from langgraph.checkpoint.eventlog import _concurrency
from langgraph.checkpoint.eventlog._concurrency import ObservedHeads
from tests.saver.test_forks import concurrent, history, interrupted, line
from tests.support.adapters import AsyncFace
from tests.support.checkpoints import config_of, put
from tests.support.racing import Meeting, assert_clean, outcomes, refused, together
from tests.support.scenarios import MODES, Mode, Run, open_mode

pytestmark = pytest.mark.parametrize("mode", MODES)

Concurrency = Literal["branch", "strict"]
both_settings = pytest.mark.parametrize("concurrency", ["branch", "strict"])


@pytest.fixture
async def saver(mode: Mode, database_uri: str, concurrency: Concurrency) -> AsyncIterator[Any]:
    async with open_mode(mode, database_uri, concurrency=concurrency) as opened:
        yield opened


async def talk(run: Run, turns: int = 2) -> Any:
    """A thread with a past; returns a config from its middle, as the state's history has it."""
    for turn in range(turns):
        await run.invoke({"items": [f"turn {turn}"]})
    return (await run.history())[-2].config


def hold_two_reads(mode: Mode, saver: Any) -> None:
    """Each of the saver's next two reads waits, once it has its answer, for the other."""
    place, held = Meeting(2), [1, 2]
    read, aread = saver.get_tuple, saver.aget_tuple

    def get_tuple(config: Any) -> Any:
        found = read(config)
        if held:
            held.pop()
            place.wait()
        return found

    async def aget_tuple(config: Any) -> Any:
        found = await aread(config)
        if held:
            held.pop()
            await place.await_all()
        return found

    if mode == "sync":
        saver.get_tuple = get_tuple
    else:
        saver.aget_tuple = aget_tuple


@both_settings
@pytest.mark.parametrize("where", ["latest", "old"])
async def test_the_second_of_two_runs_is_found(
    mode: Mode, database_uri: str, saver: Any, concurrency: Concurrency, where: str
) -> None:
    run = Run(line(saver), mode)
    config = await talk(run)
    hold_two_reads(mode, saver)
    start = config if where == "old" else run.config
    found = await together(
        mode, [lambda number=number: run.invoke({"items": [f"said {number}"]}, start) for number in range(2)]
    )
    marked = concurrent(history(database_uri))
    if concurrency == "branch":
        assert outcomes(found) == ["done", "done"], found
        (second,) = marked
        assert len(second.concurrent_with) == 1
    else:
        refused(found)
        assert marked == []
    assert_clean(database_uri)


@both_settings
# Not "async": the node that reads and updates would race with the run's own puts.
@pytest.mark.parametrize("durability", ["sync", "exit"])
async def test_reads_and_updates_in_between_are_not_taken_for_the_runs_own(
    mode: Mode, database_uri: str, saver: Any, concurrency: Concurrency, durability: str
) -> None:
    """While a run is under way, its own saver reads and updates the checkpoint that the run builds on."""
    meddled: list[Any] = []

    def meddle() -> None:
        # At exit the run's first checkpoint is yet to come; otherwise it builds on one of its own by now.
        of = old if durability == "exit" else {"configurable": {"thread_id": "1"}}
        parent = graphs.get_state(of).config
        graphs.update_state(parent, {"items": ["update"]}, as_node="second")
        graphs.get_state(parent)
        list(graphs.get_state_history(of))
        meddled.append(parent["configurable"]["checkpoint_id"])

    graphs = interrupted(meddle)(saver)
    run = Run(graphs, mode)
    old = await talk(run)
    act = run.invoke({"items": ["meddle"]}, old, durability=durability)
    if concurrency == "strict":
        with pytest.raises(ConcurrentUpdateError) as caught:
            await act
        assert caught.value.parent_id == meddled[0]
        assert not concurrent(history(database_uri))
    else:
        await act
        (second,) = concurrent(history(database_uri))
        # The update alone, and not the child that was there when the run read its parent.
        assert (second.parent_id, len(second.concurrent_with)) == (meddled[0], 1)
    assert_clean(database_uri)


def through_json(config: Any) -> Any:
    return json.loads(json.dumps(config))


def through_pickle(config: Any) -> Any:
    return pickle.loads(pickle.dumps(config))


@both_settings
@pytest.mark.parametrize("send", [through_json, through_pickle])
async def test_a_config_that_was_sent_somewhere_still_forks(
    mode: Mode, database_uri: str, saver: Any, concurrency: Concurrency, send: Callable[[Any], Any]
) -> None:
    run = Run(line(saver), mode)
    old = send(await talk(run))
    await run.invoke({"items": ["instead"]}, old)
    await run.invoke(None, old)
    await run.update({"items": ["changed"]}, old)
    await run.update(None, old, as_node="__copy__")
    records = history(database_uri)
    assert not concurrent(records)
    assert sum(record.fork for record in records) == 4


@both_settings
async def test_a_fork_without_its_observation_is_taken_for_concurrent(
    mode: Mode, database_uri: str, saver: Any, concurrency: Concurrency, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The config went through JSON, or too many reads came in between: strict mode refuses rather than overlook."""
    face = AsyncFace(saver) if mode == "sync" else saver
    config = config_of("1")
    for id_ in ("a0", "b0"):
        config = await put(face, config, id_, {"x": 1})
    monkeypatch.setattr(_concurrency, "MAX_OBSERVED", 1)
    pushed_out, kept = [(await face.aget_tuple(config_of("1", "a0"))).config for _ in range(2)]
    forgotten = [pushed_out, through_json(kept)]
    for number, config in enumerate(forgotten):
        if concurrency == "strict":
            with pytest.raises(ConcurrentUpdateError):
                await put(face, config, f"c{number}", {"x": 1})
        else:
            await put(face, config, f"c{number}", {"x": 1})
    await put(face, kept, "d0", {"x": 1})
    marked = {record.checkpoint_id: record.concurrent_with for record in concurrent(history(database_uri))}
    if concurrency == "strict":
        assert marked == {}
    else:
        assert marked == {"c0": ("b0",), "c1": ("b0", "c0"), "d0": ("c0", "c1")}


def test_observed_heads_are_found_by_identity_and_bounded(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_concurrency, "MAX_OBSERVED", 3)
    observed = ObservedHeads()
    given = "an id"
    heads = [ObservedHead(number, given) for number in range(5)]
    noted = [observed.note(given, head) for head in heads]
    assert noted == [given] * 5
    assert {type(each) for each in noted} == {str}
    assert [observed.find(each) for each in noted] == [None, None, *heads[2:]]
    assert observed.find(given) is None
