"""What a thread was at a time: what LangGraph would have been given then, or an error if that is unknown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from eventlog.errors import HistoryErasedError, InvalidInputError, ThreadDeletedError, ThreadNotFoundError
from tests.support.adapters import POOLS, open_saver
from tests.support.aging import DAY, Log, log
from tests.support.checkpoints import TEXTS, Tables, config_of, converse, put, tangle

__all__ = ["log"]

MICROSECOND = timedelta(microseconds=1)


async def times(saver: Any, **options: Any) -> list[datetime]:
    return [record.time async for record in saver.log.history("1", **options)]


class Diary:
    """What `get_tuple` returned after each call, with the time of the last event then."""

    def __init__(self, saver: Any, ns: str = "") -> None:
        self.saver, self.ns = saver, ns
        self.pages: list[tuple[datetime, CheckpointTuple | None]] = []

    async def write(self) -> None:
        *_, last = await times(self.saver)
        self.pages.append((last, await self.saver.aget_tuple(config_of("1", ns=self.ns))))


async def tangled(saver: Any, diary: Diary) -> None:
    """Forks, repeats and late writes, each noted in the diary."""
    parent = config_of("1")
    for id_ in "abcd":
        parent = await put(saver, parent, id_, {"x": [*TEXTS, id_], "y": id_}, metadata={"at": id_})
        await diary.write()
        await saver.aput_writes(parent, [("x", [*TEXTS, id_, "w"]), ("y", id_)], "task")
        await diary.write()
    for id_, under in (("b1", "b"), ("d", "c"), ("d", "c"), ("c1", "c"), ("e", "d")):
        again = sum(1 for _ in diary.pages)
        await put(saver, config_of("1", under), id_, {"x": [*TEXTS, id_, again]}, metadata={"at": again})
        await diary.write()
        await saver.aput_writes(config_of("1", id_), [("x", [*TEXTS, again]), ("__error__", again)], f"task {again}")
        await diary.write()


async def test_state_at_returns_what_a_reader_got_at_that_time(saver: Any) -> None:
    """What it returned then it returns for then, between any two events."""
    diary = Diary(saver)
    await tangled(saver, diary)
    assert len({page[0] for page in diary.pages}) == len(diary.pages)
    for (time, found), following in zip(diary.pages, [*diary.pages[1:], None], strict=True):
        assert await saver.log.state_at("1", time) == found
        if following is not None:
            assert await saver.log.state_at("1", following[0] - MICROSECOND) == found
    first = diary.pages[0][0]
    assert await saver.log.state_at("1", first - MICROSECOND) is None
    assert await saver.log.state_at("1", datetime(1900, 1, 1, tzinfo=timezone.utc)) is None


async def test_times_in_any_zone_are_accepted(saver: Any) -> None:
    await converse(saver, ids="ab")
    (time, *_) = await times(saver)
    found = await saver.log.state_at("1", time.astimezone(timezone(timedelta(hours=-11))))
    assert found.checkpoint["id"] == "a"


async def test_each_namespace_has_its_own_state(saver: Any) -> None:
    """Each has its own latest; one that never was had none."""
    await converse(saver, ids="ab")
    await converse(saver, ns="sub", ids="x")
    *_, last = await times(saver)
    for ns, id_ in (("", "b"), ("sub", "x")):
        found = await saver.log.state_at("1", last, checkpoint_ns=ns)
        assert found == await saver.aget_tuple(config_of("1", ns=ns))
        assert found.checkpoint["id"] == id_
    assert await saver.log.state_at("1", last, checkpoint_ns="never") is None
    assert await saver.log.state_at("1", (await times(saver))[3], checkpoint_ns="sub") is None


@pytest.mark.portable
async def test_writes_without_a_checkpoint_are_no_state(saver: Any) -> None:
    """They are no checkpoint yet."""
    await saver.aput_writes(config_of("1", "a"), [("x", 1)], "task")
    await put(saver, config_of("1"), "a", {"x": 1})
    first, second = await times(saver)
    assert await saver.log.state_at("1", first) is None
    assert (await saver.log.state_at("1", second)).pending_writes == [("task", "x", 1)]


async def test_pending_sends_before_version_four_are_included(saver: Any) -> None:
    """What was sent is with the parent's writes, as `get_tuple` finds it."""
    parent = await put(saver, config_of("1"), "a", {"x": 1}, v=3)
    await saver.aput_writes(parent, [("__pregel_tasks", "sent")], "task")
    config = await put(saver, parent, "b", {"x": 2}, v=3)
    *_, last = await times(saver)
    found = await saver.log.state_at("1", last)
    assert found == await saver.aget_tuple(config)
    assert found.checkpoint["channel_values"]["__pregel_tasks"] == ["sent"]


# --- when something was erased


async def known(saver: Any, diary: Diary, *, orphans: bool = True) -> tuple[int, int]:
    """How many pages of the diary are told as they were, and how many are refused; there is no third way."""
    told = refused = 0
    for time, expected in diary.pages:
        try:
            found = await saver.log.state_at("1", time)
        except HistoryErasedError:
            refused += 1
            continue
        if found is not None and expected is not None and found.parent_config is None and orphans:
            expected = expected._replace(parent_config=None)
        assert found == expected
        told += 1
    return told, refused


ERASURES: dict[str, tuple[Callable[[Any], Any], tuple[int, int]]] = {
    "keep the latest": (lambda saver: saver.aprune(["1"]), (2, 16)),
    "keep the last two": (lambda saver: saver.log.prune(["1"], keep_last=2), (6, 12)),
    "keep the last five": (lambda saver: saver.log.prune(["1"], keep_last=5), (8, 10)),
    "delete": (lambda saver: saver.adelete_thread("1"), (0, 18)),
    "delete by pruning": (lambda saver: saver.aprune(["1"], strategy="delete"), (0, 18)),
    # Pruning keeps of a checkpoint that was put again what it is now.
    "only what was replaced": (lambda saver: saver.log.prune(["1"], keep_last=100), (12, 6)),
}


@pytest.mark.parametrize("erasure", ERASURES)
@POOLS
async def test_erased_states_are_refused_and_never_wrong(kind: str, erasure: str, database_uri: str) -> None:
    """Never a wrong answer; and no refusal where it can be known."""
    async with open_saver(kind, database_uri) as saver:
        diary = Diary(saver)
        await tangled(saver, diary)
        erase, expected = ERASURES[erasure]
        await erase(saver)
        assert await known(saver, diary) == expected
        # What came after is known.
        *_, last = await times(saver)
        assert await saver.log.state_at("1", last) == await saver.aget_tuple(config_of("1"))
        await put(saver, config_of("1"), "z", {"x": 1})
        *_, last = await times(saver)
        assert (await saver.log.state_at("1", last)).checkpoint["id"] == "z"


async def test_a_state_erased_before_the_time_is_absent(saver: Any) -> None:
    """What was gone at the time was gone then too."""
    await tangle(saver)
    await saver.log.prune(["1"], keep_last=2)
    await put(saver, config_of("1", "h"), "k", {"x": 1})
    *_, then = await times(saver)
    state = await saver.aget_tuple(config_of("1"))
    await saver.log.prune(["1"], keep_last=1)
    assert await saver.log.state_at("1", then) == state._replace(parent_config=None)
    await put(saver, config_of("1", "k"), "l", {"x": 1})
    await saver.aprune(["1"])
    with pytest.raises(HistoryErasedError, match="thread '1'"):
        await saver.log.state_at("1", then)


async def _delete(saver: Any) -> None:
    await saver.adelete_thread("1")


async def _delete_run(saver: Any) -> None:
    await saver.adelete_for_runs(["of b"])


async def _prune_further(saver: Any) -> None:
    for id_, under in (("c", "b"), ("d", "c")):
        await put(saver, config_of("1", under), id_, {"x": [*TEXTS, id_]})
    await saver.aprune(["1"])


async def _delete_run_of_more(saver: Any) -> None:
    for id_, under in (("c", "b"), ("d", "c")):
        await put(saver, config_of("1", under), id_, {"x": [*TEXTS, id_]})
    await _delete_run(saver)


@pytest.mark.parametrize("branches", [False, True])
@pytest.mark.parametrize("erase", [_delete, _delete_run, _prune_further, _delete_run_of_more])
async def test_relocated_checkpoints_exist_until_they_are_erased(
    saver: Any, erase: Callable[[Any], Awaitable[None]], branches: bool
) -> None:
    """What pruning relocated was there until another operation erased it."""
    await put(saver, config_of("1"), "a", {"x": TEXTS}, metadata={"run_id": "of a"})
    if branches:
        await put(saver, config_of("1", "a"), "a1", {"x": [*TEXTS, "a1"]}, metadata={"run_id": "of a1"})
    await put(saver, config_of("1", "a"), "b", {"x": [*TEXTS, "b"]}, metadata={"run_id": "of b"})
    await saver.log.prune(["1"], keep_last=1)
    *_, then = await times(saver)
    state = await saver.aget_tuple(config_of("1"))
    assert await saver.log.state_at("1", then) == state
    await erase(saver)
    with pytest.raises(HistoryErasedError, match="thread '1'"):
        await saver.log.state_at("1", then)


async def live(saver: Any, seed: int) -> None:
    """Put and erase at random, and compare every moment."""
    random, diary = Random(seed), Diary(saver)
    ids = ["", "a"]
    await put(saver, config_of("1"), "a", {"x": TEXTS}, metadata={"run_id": "u"})
    for number in range(24):
        chance = random.random()
        # What was erased before is refused as a parent, and writes to it are.
        with suppress(ThreadDeletedError):
            if chance < 0.65:
                id_ = random.choice(ids[1:]) if chance < 0.1 else f"b{number:02}"
                under = random.choice([each for each in ids if each < id_])
                values = {"x": [*TEXTS, number], "y": random.choice("ab")}
                await put(saver, config_of("1", under or None), id_, values, metadata={"run_id": random.choice("uvw")})
                ids = sorted({*ids, id_})
            elif chance < 0.75:
                await saver.aput_writes(config_of("1", random.choice(ids[1:])), [("x", number)], "task")
            elif chance < 0.85:
                await saver.adelete_for_runs([random.choice("uvw")])
            elif chance < 0.97:
                await saver.log.prune(["1"], keep_last=random.randint(1, 3))
            else:
                await saver.adelete_thread("1")
        await diary.write()
    told, refused = await known(saver, diary)
    assert told
    assert refused


@pytest.mark.parametrize("seed", range(8))
@POOLS
async def test_random_operations_give_the_state_of_then_or_an_error(kind: str, seed: int, database_uri: str) -> None:
    """Whatever is put and erased: what it was then, or an error."""
    async with open_saver(kind, database_uri) as saver:
        await live(saver, seed)


@pytest.mark.portable
async def test_a_deleted_thread_has_no_state_until_it_begins_again(saver: Any) -> None:
    await converse(saver, ids="ab")
    (first, *_) = await times(saver)
    await saver.adelete_thread("1")
    (tombstone,) = await times(saver)
    await put(saver, config_of("1"), "c", {"x": 1})
    _, begun = await times(saver)
    assert await saver.log.state_at("1", tombstone) is None
    assert await saver.log.state_at("1", begun - MICROSECOND) is None
    assert (await saver.log.state_at("1", begun)).checkpoint["id"] == "c"
    with pytest.raises(HistoryErasedError):
        await saver.log.state_at("1", first)


async def test_states_before_the_cut_are_refused(log: Log) -> None:
    """The state that was relocated is known since it was saved; what was before is not."""
    await log.grow("1", "1", "2", "3", days=10)
    before = {record.checkpoint_id: record.time async for record in log.saver.log.history("1", kinds=["writes"])}
    state = await log.saver.aget_tuple(config_of("1"))
    await log.saver.log.retain(timedelta(days=5))
    for time in (before["3"], before["3"] + 5 * DAY):
        assert await log.saver.log.state_at("1", time) == state._replace(parent_config=None)
    for time in (before["2"], before["3"] - DAY, before["1"] - DAY):
        with pytest.raises(HistoryErasedError):
            await log.saver.log.state_at("1", time)
    await log.grow("1", "4")
    assert (await log.saver.log.state_at("1", before["3"] + 5 * DAY)).checkpoint["id"] == "3"


async def test_a_deleted_thread_without_partitions_is_not_found(log: Log) -> None:
    """Of a deleted thread nothing is left once its partitions are dropped; so it is unknown who was there then."""
    await log.grow("1", "1", ns="sub")
    await log.grow("1", "1", days=1)
    (time, *_) = await times(log.saver)
    await log.saver.adelete_thread("1")
    log.clock.advance(20 * DAY)
    await log.saver.log.retain(timedelta(days=10))
    with pytest.raises(ThreadNotFoundError):
        await log.saver.log.state_at("1", time)
    await log.grow("1", "7", days=1)
    for ns in ("", "sub", "never"):
        with pytest.raises(HistoryErasedError):
            await log.saver.log.state_at("1", time, checkpoint_ns=ns)
    (begun, _) = await times(log.saver)
    assert await log.saver.log.state_at("1", begun - DAY) is None
    assert (await log.saver.log.state_at("1", begun)).checkpoint["id"] == "7"


async def test_a_copy_has_no_state_before_it_was_made(saver: Any) -> None:
    await tangle(saver)
    await saver.acopy_thread("1", "2")
    copied = [record.time async for record in saver.log.history("2")]
    assert (await saver.log.state_at("2", copied[-1])).checkpoint == (await saver.aget_tuple(config_of("1"))).checkpoint
    assert await saver.log.state_at("2", copied[0] - MICROSECOND) is None


@POOLS
async def test_encrypted_states_are_found_without_snapshots(kind: str, database_uri: str) -> None:
    """Encrypted, and without a snapshot left."""
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    async with open_saver(kind, database_uri, serde=serde, snapshot_floor_bytes=0) as saver:
        diary = Diary(saver)
        await tangled(saver, diary)
        Tables(database_uri).run("truncate {schema}.snapshots")
        assert await known(saver, diary, orphans=False) == (18, 0)


# --- bad input


async def test_bad_times_and_unknown_threads_are_refused(saver: Any) -> None:
    now = datetime.now(timezone.utc)
    with pytest.raises(ThreadNotFoundError, match="'never'"):
        await saver.log.state_at("never", now)
    await converse(saver, ids="a")
    with pytest.raises(InvalidInputError, match="future"):
        await saver.log.state_at("1", now + DAY)
    for time in (datetime.now(), now.date(), now.isoformat(), now.timestamp(), None):
        with pytest.raises(InvalidInputError, match="time must be a datetime with a time zone"):
            await saver.log.state_at("1", time)
    with pytest.raises(InvalidInputError, match="thread_id"):
        await saver.log.state_at("", now)
    with pytest.raises(InvalidInputError, match="checkpoint_ns"):
        await saver.log.state_at("1", now, checkpoint_ns=None)
