"""Deleting a thread: what is gone, what stays, and what may come after."""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest

from eventlog.errors import ThreadDeletedError
from langgraph.checkpoint.eventlog import _put
from tests.support.adapters import open_saver
from tests.support.checkpoints import TABLES, Tables, config_of, listed, listed_ids, put, values_of

pytestmark = pytest.mark.portable

LARGE = [f"{number:x}" for number in range(2000)]
SECRET = "the content of a conversation"


async def conversation(saver: Any, thread_id: str = "1", ns: str = "") -> list[Any]:
    """Checkpoints with a fork, writes, and a snapshot if the settings take one."""
    first = await put(saver, config_of(thread_id, ns=ns), "a1", {"x": LARGE, "secret": SECRET}, metadata={"m": SECRET})
    await saver.aput_writes(first, [("x", SECRET)], "task")
    versions = {"x": "a2", "secret": "a1"}
    second = await put(saver, first, "a2", {"x": [*LARGE, SECRET]}, versions=versions, new={"x": "a2"})
    versions = {"x": "a1", "secret": "a3"}
    fork = await put(saver, first, "a3", {"secret": SECRET * 2}, versions=versions, new={"secret": "a3"})
    await saver.aput_writes(config_of(thread_id, "a4", ns), [("x", SECRET)], "early")
    return [first, second, fork]


def dump(tables: Tables, table: str) -> str:
    """All of a table as text, bodies too."""
    return " ".join(tables.contents()[table])


# --- what goes, and what stays


async def test_all_namespaces_of_the_thread_and_nothing_else_are_deleted(kind: str, database_uri: str) -> None:
    """From all namespaces and all tables, and nothing of another thread."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri, snapshot_floor_bytes=0) as saver:
        for thread_id, ns in (("1", ""), ("1", "child"), ("2", ""), ("11", "")):
            await conversation(saver, thread_id, ns)
        for number in range(15):
            await put(saver, config_of(ns="child"), f"b{number:02}", {"x": [*LARGE, number]})
        of_others = {
            table: [row for row in rows if not row.startswith("(1,")] for table, rows in tables.contents().items()
        }

        await saver.adelete_thread("1")

        assert await saver.aget_tuple(config_of()) is None
        assert await saver.aget_tuple(config_of("1", "a1")) is None
        assert await listed(saver, config_of("1", ns=None)) == []
        assert sorted(await listed_ids(saver, None)) == ["a1", "a1", "a2", "a2", "a3", "a3"]
        assert await values_of(saver, config_of("2", "a2")) == {"x": [*LARGE, SECRET], "secret": SECRET}

    assert tables.rows("select kind, count(*) from {schema}.events where thread_id = '1' group by 1") == [(3, 2)]
    for table in ("checkpoints", "snapshots"):
        assert not any(row.startswith("(1,") for row in tables.contents()[table])
    assert tables.rows("select latest_checkpoint_id from {schema}.streams where thread_id = '1'") == [(None,)] * 2
    after = tables.contents()
    for table in TABLES:
        assert [row for row in after[table] if not row.startswith("(1,")] == of_others[table]


async def test_one_tombstone_for_each_namespace_records_the_deletion(saver: Any, database_uri: str) -> None:
    """One event per namespace says who erased how much; of the content nothing is left anywhere."""
    tables = Tables(database_uri)
    await conversation(saver)
    await conversation(saver, ns="child")
    await put(saver, config_of(ns="child"), "z9", {"x": 1})

    await saver.log.delete_thread("1", actor="support case 7")

    rows = tables.rows(
        "select checkpoint_ns, seq, kind, checkpoint_id, base_seq, body from {schema}.events order by checkpoint_ns"
    )
    assert [row[:5] for row in rows] == [("", 6, 3, "a4", None), ("child", 7, 3, "z9", None)]
    for (_, seq, *_, body), events, checkpoints in zip(rows, (5, 6), (3, 4), strict=True):
        assert body[:1] == b"\x02"
        size = int.from_bytes(body[1:5], "big")
        says, stubs = json.loads(body[5 : 5 + size]), body[5 + size :]
        assert len(stubs) == 40 * (seq - 1)
        assert says.pop("bytes") > 0
        assert (len(says.pop("previous")), len(says.pop("salt"))) == (64, 32)
        assert says == {
            "operation": "delete_thread",
            "by": "postgres",
            "actor": "support case 7",
            "events": events,
            "checkpoints": checkpoints,
            "erased": [[1, seq - 1]],
            "records": [],
        }
    for table in TABLES:
        text = dump(tables, table)
        for secret in (SECRET, "secret", "task", "early"):
            assert secret not in text
            assert secret.encode().hex() not in text


async def test_deleting_again_or_an_unknown_thread_leaves_no_trace(saver: Any, database_uri: str) -> None:
    """Neither is an error, and neither leaves a trace."""
    tables = Tables(database_uri)
    await saver.adelete_thread("never there")
    assert tables.contents() == {table: [] for table in TABLES}

    await conversation(saver)
    await saver.adelete_thread("1")
    before = tables.contents()
    await saver.adelete_thread("1")
    await saver.adelete_thread(1)  # type: ignore[arg-type]

    assert tables.contents() == before


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_the_cache_drops_a_deleted_threads_states(saver: Any) -> None:
    """The saver that deletes a thread keeps none of its states, in any namespace."""
    cache = saver._context.states
    await put(saver, config_of("2"), "1", {"x": LARGE})
    of_other = cache.size_bytes
    assert of_other > 0
    for ns in ("", "child"):
        await conversation(saver, "1", ns)
        await saver.aget_tuple(config_of(ns=ns))
    assert cache.size_bytes > of_other

    await saver.adelete_thread("1")

    assert cache.size_bytes == of_other


async def test_writes_without_a_checkpoint_are_deleted(saver: Any, database_uri: str) -> None:
    """A thread that has only writes so far is erased too, and they do not turn up later."""
    await saver.aput_writes(config_of("1", "a1"), [("x", SECRET)], "task")
    await saver.adelete_thread("1")
    assert Tables(database_uri).rows("select kind from {schema}.events") == [(3,)]

    # The same id, started afresh.
    stored = await put(saver, config_of(), "a1", {"x": 1})
    assert (await saver.aget_tuple(stored)).pending_writes == []


# --- what comes too late


@pytest.mark.attack("application bug")
@pytest.mark.parametrize("who", ["the same saver", "a saver with a warm cache", "a saver without a cache"])
async def test_late_puts_of_a_deleted_threads_run_are_refused(kind: str, who: str, database_uri: str) -> None:
    """A run that is still going cannot bring the thread back."""
    tables = Tables(database_uri)
    settings = {"state_cache_bytes": 0} if who == "a saver without a cache" else {}
    async with open_saver(kind, database_uri) as deleter, open_saver(kind, database_uri, **settings) as other:
        saver = deleter if who == "the same saver" else other
        configs = await conversation(saver)
        for config in configs:
            await saver.aget_tuple(config)

        await deleter.adelete_thread("1")
        before = tables.contents()

        for config in configs:
            checkpoint_id = config["configurable"]["checkpoint_id"]
            says = f"checkpoint {checkpoint_id} of thread '1' was erased"
            # Large and inheriting, small and new, and put once more under its own config.
            with pytest.raises(ThreadDeletedError, match=f"{says}.*Start again without a checkpoint id"):
                await put(saver, config, "b1", {"y": 1}, versions={"x": "a1", "y": "b1"}, new={"y": "b1"})
            with pytest.raises(ThreadDeletedError, match=says):
                await put(saver, config, "b1", {"y": 1})
            with pytest.raises(ThreadDeletedError, match=says):
                await saver.aput_writes(config, [("x", 1)], "task")
        # Writes of a checkpoint that was not there yet: it would have been of the same run.
        with pytest.raises(ThreadDeletedError, match="checkpoint a4 of thread '1' was erased"):
            await saver.aput_writes(config_of("1", "a4"), [("x", 1)], "late")

        assert tables.contents() == before
        assert await saver.aget_tuple(config_of()) is None


@pytest.mark.parametrize("what", ["put", "small put", "put_writes"])
@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_an_append_that_waited_for_the_deletion_is_refused(kind: str, what: str, database_uri: str) -> None:
    """It began when the thread was still there, and gets its turn when it is not."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as saver:
        first, second, _ = await conversation(saver)
        calls = {
            "put": lambda: put(saver, second, "b1", {}, versions={"x": "a2"}, new={}),
            # It does not build on its parent's event, and so has no base that could be gone.
            "small put": lambda: put(saver, first, "b1", {"y": 1}),
            "put_writes": lambda: saver.aput_writes(second, [("x", SECRET)], "late"),
        }
        with psycopg.connect(database_uri) as conn:
            conn.execute("select eventlog.delete_thread_v1('1')")
            late = asyncio.create_task(calls[what]())
            while not tables.waiting():
                await asyncio.sleep(0.005)
            conn.commit()
        with pytest.raises(ThreadDeletedError):
            await late
    assert tables.rows("select kind from {schema}.events") == [(3,)]
    assert SECRET not in dump(tables, "events")


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_a_put_again_after_the_deletion_is_a_new_checkpoint(
    kind: str, waits: bool, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint is put again, and is gone when it gets its turn: it is new, and the log is whole."""
    tables = Tables(database_uri)
    append = _put.append_checkpoint

    def after_the_deletion(statements: Any, what: Any) -> Any:
        if what.replaces:
            tables.rows("select {schema}.delete_thread_v1('1')")
        return (yield from append(statements, what))

    async with open_saver(kind, database_uri) as saver:
        await put(saver, config_of(), "a1", {"x": 1})
        if waits:
            with psycopg.connect(database_uri) as conn:
                conn.execute("select eventlog.delete_thread_v1('1')")
                late = asyncio.create_task(put(saver, config_of(), "a1", {"x": 2}))
                while not tables.waiting():
                    await asyncio.sleep(0.005)
                conn.commit()
            await late
        else:
            monkeypatch.setattr(_put, "append_checkpoint", after_the_deletion)
            await put(saver, config_of(), "a1", {"x": 2})
        assert (await values_of(saver, config_of())) == {"x": 2}
        assert tables.rows("select seq, kind from {schema}.events order by seq") == [(2, 3), (3, 1)]
        assert (await saver.log.verify()).problems == []


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_puts_during_a_deletion_are_erased_or_refused(kind: str, database_uri: str) -> None:
    """Puts and a deletion at once: those that came after it are refused, and nothing of them stays."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as saver:

        async def run() -> bool:
            config = await put(saver, config_of(), "a000", {"x": LARGE})
            try:
                for number in range(1, 500):
                    config = await put(saver, config, f"a{number:03}", {"x": [*LARGE, number]})
                    await saver.aput_writes(config, [("x", number)], "task")
            except ThreadDeletedError:
                return True
            return False

        async def delete() -> None:
            while tables.events() < 10:
                await asyncio.sleep(0.005)
            await saver.adelete_thread("1")

        refused, _ = await asyncio.gather(run(), delete())

        assert refused
        assert await listed(saver, None) == []
    assert [kind for (kind,) in tables.rows("select kind from {schema}.events")] == [3]


async def test_a_deleted_threads_id_can_be_used_again(kind: str, database_uri: str) -> None:
    """The same thread id may be used again, and sees nothing of the past."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as deleter, open_saver(kind, database_uri) as saver:
        await conversation(saver)
        await deleter.adelete_thread("1")

        first = await put(saver, config_of(), "b1", {"new": 1}, versions={"new": "1", "x": "a1"}, new={"new": "1"})
        assert await values_of(saver, first) == {"new": 1}
        await saver.aput_writes(first, [("new", 2)], "task")
        # Writes may come before their put here as anywhere.
        await saver.aput_writes(config_of("1", "b2"), [("new", 3)], "task")
        second = await put(saver, first, "b2", {"x": LARGE}, versions={"new": "1", "x": "b2"}, new={"x": "b2"})

        for reader in (saver, deleter):
            found = await reader.aget_tuple(config_of())
            assert found.config == second
            assert found.checkpoint["channel_values"] == {"new": 1, "x": LARGE}
            assert found.pending_writes == [("task", "new", 3)]
            assert await listed_ids(reader, None) == ["b2", "b1"]
        # What was deleted stays deleted.
        with pytest.raises(ThreadDeletedError):
            await put(saver, config_of("1", "a2"), "b3")
        with pytest.raises(ThreadDeletedError):
            await put(deleter, config_of("1", "a2"), "b3")

        await saver.adelete_thread("1")
        assert await listed(deleter, None) == []
        with pytest.raises(ThreadDeletedError):
            await put(deleter, second, "b3")
        third = await put(deleter, config_of(), "c1", {"new": 5})
        assert await values_of(saver, third) == {"new": 5}
    assert tables.rows("select seq, kind from {schema}.events order by seq") == [(6, 3), (11, 3), (12, 1)]


async def test_a_second_deletion_keeps_the_greatest_deleted_id(saver: Any) -> None:
    """Deleting again, when all that came since has smaller ids, does not forget the greater ones."""
    late = await put(saver, config_of(), "z", {"x": LARGE})
    await saver.adelete_thread("1")
    await put(saver, config_of(), "a", {"x": 1})
    await saver.adelete_thread("1")

    with pytest.raises(ThreadDeletedError):
        await put(saver, late, "zz", {"x": 2})
    with pytest.raises(ThreadDeletedError):
        await saver.aput_writes(late, [("x", 1)], "task")


async def test_a_deleted_threads_checkpoint_ids_can_be_used_again(saver: Any) -> None:
    """Ids that are not made from the time, as in tests and imports: the same ones again."""
    for value in (1, 2):
        first = await put(saver, config_of(), "1", {"x": value, "y": LARGE})
        second = await put(saver, first, "2", {"x": value + 10}, versions={"x": "2", "y": "1"}, new={"x": "2"})
        await saver.aput_writes(second, [("x", value)], "task")
        assert await values_of(saver, second) == {"x": value + 10, "y": LARGE}
        assert await values_of(saver, first) == {"x": value, "y": LARGE}
        assert (await saver.aget_tuple(second)).pending_writes == [("task", "x", value)]
        assert await listed_ids(saver, None) == ["2", "1"]
        await saver.adelete_thread("1")


# --- the chain


EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)


def chained(previous: bytes, event: tuple[Any, ...]) -> bytes:
    """An event's digest, as `eventlog.format.digest` defines it."""
    thread_id, ns, seq, at, kind, checkpoint_id, base_seq, state_digest, body, _ = event
    leaf = hashlib.sha256(
        b"\x02"
        + struct.pack(">h", kind)
        + b"".join(struct.pack(">i", len(text.encode())) + text.encode() for text in (thread_id, ns, checkpoint_id))
        + struct.pack(">q", base_seq or 0)
        + hashlib.sha256((state_digest or b"") + hashlib.sha256(body).digest()).digest()
    ).digest()
    since = at - EPOCH
    microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    return hashlib.sha256(previous + struct.pack(">q", seq) + struct.pack(">q", microseconds) + leaf).digest()


def events(tables: Tables, ns: str = "") -> list[tuple[Any, ...]]:
    return tables.rows(
        "select thread_id, checkpoint_ns, seq, recorded_at, kind, checkpoint_id, base_seq, state_digest, body, digest"
        " from {schema}.events where thread_id = 'ü 1' and checkpoint_ns = %s order by seq",
        ns,
    )


def tip(tables: Tables, ns: str = "") -> tuple[int, bytes]:
    ((seq, digest),) = tables.rows(
        "select seq, digest from {schema}.streams where thread_id = 'ü 1' and checkpoint_ns = %s", ns
    )
    return seq, digest


async def test_digests_continue_across_a_deletion(saver: Any, database_uri: str) -> None:
    """Each covers all that came before in its stream; deleting breaks off the past, not the chain."""
    tables = Tables(database_uri)
    for ns in ("", "kind|ä"):
        await conversation(saver, "ü 1", ns)
        # Another checkpoint in the place of one that is there is in the chain as well.
        await put(saver, config_of("ü 1", ns=ns), "a1", {"x": 2})
    tips = {}
    for ns in ("", "kind|ä"):
        digest = b""
        found = events(tables, ns)
        for event in found:
            digest = chained(digest, event)
            assert event[-1] == digest
        assert [event[2] for event in found] == [1, 2, 3, 4, 5, 6]
        assert {event[4] for event in found} == {1, 2}
        assert [event[6] for event in found] == [None, None, 1, 1, None, None]
        times = [event[3] for event in found]
        assert times == sorted(times)
        assert tip(tables, ns) == (6, digest)
        tips[ns] = digest

    await saver.adelete_thread("ü 1")
    await put(saver, config_of("ü 1"), "b1", {"x": 1})

    for ns, kinds in (("", [3, 1]), ("kind|ä", [3])):
        digest = tips[ns]
        found = events(tables, ns)
        for event in found:
            digest = chained(digest, event)
            assert event[-1] == digest
        assert [event[4] for event in found] == kinds
        assert [event[2] for event in found] == [7, 8][: len(kinds)]
        assert tip(tables, ns) == (found[-1][2], digest)
