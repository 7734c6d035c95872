"""The feed with what each event did: as the history of its thread tells it, in the order of the feed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog.audit.describe import FeedDescriber
from tests.feed.test_set_aside import damage
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import TEXTS, config_of, converse, put, tangle

pytestmark = pytest.mark.portable


async def told(saver: Any, **options: Any) -> list[Any]:
    return [each async for each in saver.log.tail_changes(**options)]


async def histories(saver: Any, *thread_ids: str) -> dict[tuple[str, str, int], Any]:
    found = {}
    for thread_id in thread_ids:
        async for change in saver.log.changes(thread_id):
            found[change.entry.thread_id, change.entry.checkpoint_ns, change.entry.seq] = change
    return found


@pytest.mark.parametrize("described", [64, 2])
async def test_it_tells_what_changes_tells(saver: Any, described: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forks, repeats, namespaces, several threads, however few are described at a time; each with the feed's event."""
    monkeypatch.setattr("langgraph.checkpoint.eventlog.following.tail.DESCRIBED", described)
    await tangle(saver)
    await converse(saver, "2", ids="abc")
    await converse(saver, "2", ns="sub", ids="ab")
    await saver.log.copy_thread("2", "3")
    events = [event async for event in saver.log.tail()]
    found = await told(saver)
    assert [each.event for each in found] == events
    expected = await histories(saver, "1", "2", "3")
    assert len(found) == len(expected)
    for event, entry, values in found:
        change = expected[event.thread_id, event.checkpoint_ns, event.seq]
        assert (entry, values) == (change.entry, change.values)
    assert await told(saver, after=str(events[3].cursor), limit=2) == found[4:6]
    assert await told(saver, thread_ids=["2"]) == [each for each in found if each.event.thread_id == "2"]


@POOLS
async def test_a_batch_of_many_threads_keeps_few_of_them(
    saver: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph.checkpoint.eventlog.audit.describe.MOST_THREADS", 2)
    for thread_id in "12345":
        await converse(saver, thread_id, ids="ab")
    kept: list[int] = []
    thread = FeedDescriber._thread

    def watched(self: FeedDescriber, thread_id: str) -> Any:
        found = thread(self, thread_id)
        kept.append(len(self._threads))
        return found

    monkeypatch.setattr(FeedDescriber, "_thread", watched)
    found = await told(saver)
    assert max(kept) == 3
    expected = await histories(saver, *"12345")
    assert [each.values for each in found] == [
        expected[each.entry.thread_id, each.entry.checkpoint_ns, each.entry.seq].values for each in found
    ]


@POOLS
async def test_it_tells_of_relocated_events_and_records(saver: Any, kind: str) -> None:
    await converse(saver, ids="abcdef")
    await saver.log.prune(["1"], keep_last=2)
    await saver.log.delete_thread("1")
    assert [each.entry.kind for each in await told(saver)] == ["erased", "deleted"]
    await converse(saver, "2", ids="abcdef")
    await saver.log.prune(["2"], keep_last=2)
    found = await told(saver, thread_ids=["2"])
    assert any(each.event.is_replay for each in found)
    assert all(each.entry.error is None for each in found)
    expected = await histories(saver, "2")
    assert {each.event.seq: (each.entry, each.values) for each in found} == {
        seq: (change.entry, change.values) for (_, _, seq), change in expected.items()
    }


@POOLS
async def test_an_event_that_does_not_decode_says_so_and_the_others_go_on(
    saver: Any, kind: str, database_uri: str
) -> None:
    config = config_of("1")
    for id_ in "abc":
        config = await put(saver, config, id_, {"x": [*TEXTS, id_]})
    await put(saver, config_of("2"), "a", {"x": 1})
    damage(database_uri, "1", 2)
    async with open_saver(kind, database_uri, state_cache_bytes=0) as reader:
        found = await told(reader)
    assert [each.event.seq for each in found] == [1, 2, 3, 1]
    assert "does not decode" in found[1].entry.error
    assert found[1].values == []
    # It builds on the one before, so it cannot be told either.
    assert found[2].entry.error is not None
    assert found[0].entry.error is found[3].entry.error is None


@POOLS
async def test_it_follows(saver: Any, kind: str) -> None:
    """As events come, each with the values of a state that was told before."""
    seen: list[Any] = []

    async def follow() -> None:
        async for each in saver.log.tail_changes(follow=True, poll_interval=0.05):
            seen.append(each.values)
            if len(seen) == 3:
                return

    following = asyncio.ensure_future(follow())
    config = config_of("1")
    for number in range(3):
        config = await put(saver, config, f"{number}", {"x": [*TEXTS, *range(number + 1)]})
    await asyncio.wait_for(following, 240)
    assert seen == [[[*TEXTS, 0]], [[1]], [[2]]]


@POOLS
async def test_bad_arguments_are_refused_at_once(saver: Any, kind: str) -> None:
    for wrong in ({"after": "soon"}, {"limit": 0}, {"thread_ids": []}, {"poll_interval": 0}):
        with pytest.raises(InvalidInputError):
            await told(saver, **wrong)
