"""Importing again, on top of what is there, and what cannot be imported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.memory import InMemorySaver

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import EventLogSaver, ImportedThread, ImportProgress
from tests.support.adapters import KINDS, POOLS, open_saver
from tests.support.checkpoints import Tables, config_of, put
from tests.support.pooler import direct
from tests.transfer.incumbent import encrypted, incumbent, load_dump, text_of

#: All threads of the dump.
THREADS = {
    *("chat", "delta", "delta with snapshots", "encrypted", "failed", "floats", "forked", "integers", "nested"),
    *("resumed", "sending", "sent", "texts", "waiting"),
}


def change(uri: str, statement: str, *params: Any) -> None:
    with psycopg.connect(direct(uri), autocommit=True) as conn:
        conn.execute(statement.encode(), params)


def log_of(uri: str) -> list[tuple[Any, ...]]:
    """The streams of the log: their digests cover all events."""
    return Tables(uri).rows("select thread_id, checkpoint_ns, seq, digest, epoch from {schema}.streams order by 1, 2")


@pytest.fixture
def source(database_uri: str) -> str:
    """A database that has a log, and the tables of the incumbent."""
    load_dump(database_uri, "3.2")
    return database_uri


@pytest.fixture(params=["sync-pool", "async-pool"])
async def log(request: pytest.FixtureRequest, source: str) -> AsyncIterator[Any]:
    """A log with the source's serializer."""
    async with open_saver(request.param, source, serde=encrypted()) as saver:
        yield saver.log


@pytest.fixture(params=["sync-pool", "async-pool"])
async def saver(request: pytest.FixtureRequest, source: str) -> AsyncIterator[Any]:
    async with open_saver(request.param, source, serde=encrypted()) as opened:
        yield opened


async def run(log: Any, source: Any, **options: Any) -> dict[str, ImportedThread]:
    """Import; returns what became of each thread."""
    told: list[ImportedThread] = []
    done = await log.import_from(source, on_thread=lambda each, _: told.append(each), **options)
    found = {each.thread_id: each for each in told}
    assert sum(done.threads.values()) == len(found) == len(told)
    assert {each.thread_id for each in done.not_done} == {
        each.thread_id for each in told if each.status in ("differs", "refused", "missing")
    }
    return found


def statuses(found: dict[str, ImportedThread]) -> set[str]:
    return {each.status for each in found.values()}


async def test_a_second_import_finds_all_threads_equal_and_appends_nothing(log: Any, source: str) -> None:
    assert (await run(log, source)).keys() == THREADS
    before = log_of(source)
    found = await run(log, source)
    assert statuses(found) == {"equal"}
    assert found["chat"].checkpoints == 9
    assert log_of(source) == before
    # Nothing is read when the record says it.
    resumed = await run(log, source, resume=True)
    assert statuses(resumed) == {"equal"}
    assert {each.checkpoints for each in resumed.values()} == {0}
    assert log_of(source) == before


CHANGES = [
    ("update checkpoints set metadata = metadata || '{\"step\": 99}' where {last}", "has other metadata"),
    (
        "update checkpoints set checkpoint = jsonb_set(checkpoint, '{{ts}}', '\"then\"') where {last}",
        "has other fields",
    ),
    (
        "update checkpoints set checkpoint = jsonb_set(checkpoint, '{{channel_values,count}}', '3.0') where {last}",
        "has another value in channel 'count'",
    ),
    (
        "update checkpoint_blobs set blob = set_byte(blob, 40, 65) where thread_id = 'chat' and channel = 'messages'"
        " and version = (select checkpoint -> 'channel_versions' ->> 'messages' from checkpoints where {last})",
        "has another value in channel 'messages'",
    ),
    (
        "update checkpoint_writes set type = 'bytes' where thread_id = 'chat' and channel = 'messages' and idx = 0",
        "has another write 0 of task",
    ),
    ("delete from checkpoint_writes where thread_id = 'chat' and channel = 'name'", "writes, not"),
    ("update checkpoints set parent_checkpoint_id = null where {last}", "has the parent"),
    (
        "update checkpoints set checkpoint = jsonb_set(checkpoint, '{{channel_versions,name}}', '7') where {last}",
        "has other channel_versions|has values in other channels",
    ),
    ("delete from checkpoints where {last}", ""),
]
LAST = "thread_id = 'chat' and checkpoint_id = (select max(checkpoint_id) from checkpoints where thread_id = 'chat')"


@pytest.mark.parametrize(("statement", "message"), CHANGES)
async def test_a_thread_that_changed_in_the_source_is_named_and_left_as_it_is(
    log: Any, source: str, statement: str, message: str
) -> None:
    await run(log, source)
    before = log_of(source)
    change(source, statement.replace("{last}", LAST).replace("{{", "{").replace("}}", "}"))
    if statement.startswith("delete from checkpoints"):
        # As if the thread had gone on in the log: what was imported before may do that.
        assert (await run(log, source))["chat"].status == "continued"
        return
    for resume in (False, True):
        found = await run(log, source, resume=resume)
        assert found.pop("chat").status == "differs"
        assert statuses(found) == {"equal"}
    done = await log.import_from(source)
    assert not done.is_done
    (named,) = done.not_done
    assert named.thread_id == "chat"
    assert any(part in (named.detail or "") for part in message.split("|")), named.detail
    assert log_of(source) == before


async def test_a_thread_of_the_same_id_that_was_never_imported_is_named(saver: Any, source: str) -> None:
    await put(saver, config_of("chat"), "1", {"x": 1})
    before = await saver.aget_tuple(config_of("chat"))
    found = await run(saver.log, source)
    assert found["chat"].status == "differs"
    assert "is another one, or went on in the source" in (found["chat"].detail or "")
    assert await saver.aget_tuple(config_of("chat")) == before
    del found["chat"]
    assert statuses(found) == {"imported"}


async def test_a_thread_that_has_gone_on_in_the_log_is_left_out(saver: Any, source: str) -> None:
    await run(saver.log, source)
    last = (await saver.aget_tuple(config_of("chat"))).config
    await put(saver, last, "2", {"x": 1})
    for resume in (False, True):
        found = await run(saver.log, source, resume=resume)
        assert found["chat"].status == ("equal" if resume else "continued")
    assert (await saver.log.import_from(source)).is_done


async def test_an_interrupt_that_was_answered_in_the_log_is_no_difference(saver: Any, source: str) -> None:
    """Its answer is a write to the last checkpoint that was imported."""
    await run(saver.log, source)
    last = (await saver.aget_tuple(config_of("waiting"))).config
    await saver.aput_writes(last, [("__resume__", ["yes"])], "task")
    found = await run(saver.log, source)
    assert found["waiting"].status == "continued"
    change(source, "update checkpoint_writes set type = 'bytes' where thread_id = 'waiting'")
    assert (await run(saver.log, source))["waiting"].status == "differs"


async def test_comparing_keeps_nobody_from_going_on(saver: Any, source: str) -> None:
    """The source's rows are read one by one while the thread is appended to."""
    await run(saver.log, source)
    last = (await saver.aget_tuple(config_of("chat"))).config
    told: list[str] = []

    class Slow(InMemorySaver):
        """What a long comparison is: the log's transaction is open while the source is read."""

        def list(self, *_: Any, **__: Any) -> Any:
            with EventLogSaver.from_conn_string(source) as other:
                other.put_writes(last, [("name", "meanwhile")], "another task")
                told.append("written")
            return iter(())

        async def alist(self, *_: Any, **__: Any) -> Any:
            for each in await asyncio.to_thread(self.list):
                yield each

    done = await saver.log.import_from(Slow(), thread_ids=["chat"])
    assert told == ["written"]
    assert done.threads == {"continued": 1}


async def test_a_thread_that_was_deleted_from_the_log_is_never_imported_again(saver: Any, source: str) -> None:
    await run(saver.log, source)
    await saver.adelete_thread("chat")
    for options in ({}, {"resume": True}, {"thread_ids": ["chat"]}):
        assert (await run(saver.log, source, **options))["chat"].status == "deleted"
    assert await saver.aget_tuple(config_of("chat")) is None
    assert (await saver.log.import_from(source)).is_done


@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_serializer_refuses_is_named_and_the_rest_is_imported(kind: str, source: str) -> None:
    change(
        source,
        "update checkpoint_blobs set blob = '\\xc1' where thread_id = 'sent' and channel = 'messages' and version ="
        " (select max(version) from checkpoint_blobs where thread_id = 'sent' and channel = 'messages')",
    )
    change(source, "update checkpoint_writes set type = 'pickle' where thread_id = 'waiting'")
    async with open_saver(kind, source) as saver:
        found = await run(saver.log, source)
        assert {id_ for id_, each in found.items() if each.status == "refused"} == {"encrypted", "sent", "waiting"}
        for id_, what in (
            ("encrypted", "channel '__start__'"),
            ("sent", "channel 'messages'"),
            ("waiting", "write to"),
        ):
            detail = found.pop(id_).detail or ""
            assert f"thread {id_!r} was not imported: checkpoint " in detail
            assert what in detail
            assert "Give the log the serializer that wrote it" in detail
            assert Tables(source).rows("select 1 from {schema}.streams where thread_id = %s", id_) == []
        assert statuses(found) == {"imported"}
        assert not (await saver.log.verify(states=True)).problems


async def test_a_log_that_reads_back_something_else_aborts_the_thread(log: Any, source: str) -> None:
    """A foreign trigger replaces the body of one event by that of another."""
    for statement in (
        "create table bodies (body bytea)",
        """create function swap() returns trigger language plpgsql as $$ begin
            if new.thread_id = 'forked' and new.kind = 1 then
                if new.seq > 8 then new.body := (select body from public.bodies limit 1); end if;
                insert into public.bodies values (new.body);
            end if;
            return new;
        end $$""",
        "create trigger swap before insert on eventlog.events for each row execute function swap()",
    ):
        change(source, statement)
    found = await run(log, source)
    assert found["forked"].status == "refused"
    assert "thread 'forked' was not imported: checkpoint " in (found.pop("forked").detail or "")
    assert statuses(found) == {"imported"}
    assert Tables(source).rows("select 1 from {schema}.streams where thread_id = 'forked'") == []
    change(source, "drop trigger swap on eventlog.events")
    again = await run(log, source)
    assert again.pop("forked").status == "imported"
    assert statuses(again) == {"equal"}


async def test_threads_are_chosen_by_id_by_age_and_by_part(log: Any, source: str) -> None:
    found = await run(log, source, thread_ids=["chat", "no such thread"])
    assert {id_: each.status for id_, each in found.items()} == {"chat": "imported", "no such thread": "missing"}
    change(
        source,
        'update checkpoints set checkpoint = checkpoint || \'{"ts": "2999-01-01T00:00:00+00:00"}\''
        " where thread_id = 'sent'",
    )
    change(
        source, "update checkpoints set checkpoint = checkpoint || '{\"ts\": \"no time\"}' where thread_id = 'failed'"
    )
    assert await run(log, source, idle=timedelta(days=365_000)) == {}
    idle = await run(log, source, idle=timedelta(0))
    # By the time in its id, one that says no time was there before, too.
    assert idle.keys() == THREADS - {"sent"}
    parts = [await run(log, source, part=(number, 3)) for number in (1, 2, 3)]
    assert sum(map(len, parts)) == len(THREADS)
    assert set().union(*parts) == THREADS
    assert parts[0]
    assert parts[1]


@pytest.mark.parametrize("is_alone", [False, True])
async def test_a_thread_whose_id_is_empty_is_refused_and_named(log: Any, source: str, is_alone: bool) -> None:
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
        change(source, f"update {table} set thread_id = '' where thread_id = 'sent'")
        if is_alone:
            change(source, f"delete from {table} where thread_id <> ''")
    found = await run(log, source)
    assert found.keys() == ({""} if is_alone else THREADS - {"sent"} | {""})
    refused = found.pop("")
    assert refused.status == "refused"
    assert "thread_id" in (refused.detail or "")
    assert statuses(found) == (set() if is_alone else {"imported"})
    memory = InMemorySaver()
    await put(memory, config_of(""), "1", {"x": 1})
    assert (await run(log, memory))[""].status == "refused"


async def test_progress_counts_threads_and_bytes(log: Any, source: str) -> None:
    told: list[ImportProgress] = []
    done = await log.import_from(source, on_thread=lambda _, progress: told.append(progress))
    assert [each.threads for each in told] == list(range(1, len(THREADS) + 1))
    assert {each.total for each in told} == {len(THREADS)}
    assert told[-1].seconds_left == 0
    assert told[-1].source_bytes == done.source_bytes > 0
    assert told[-1].rate > 0
    assert done.checkpoints == 91
    assert done.seconds > 0


async def test_two_imports_at_once_import_each_thread_once(source: str) -> None:
    async with (
        open_saver("async-pool", source, serde=encrypted()) as one,
        open_saver("async-pool", source, serde=encrypted()) as other,
    ):
        both = await asyncio.gather(*(run(each.log, source) for each in (one, other)))
        for id_ in THREADS:
            assert sorted(found[id_].status for found in both) == ["equal", "imported"]
        assert not (await one.log.verify(states=True)).problems


async def test_writes_of_a_checkpoint_that_is_not_there_wait_for_it(saver: Any, source: str) -> None:
    """A run that was under way when its thread was imported goes on in the log."""
    found = await run(saver.log, source)
    assert found["texts"].orphan_writes == 1
    await put(saver, config_of("texts"), "1fffffff-ffff-6fff-bfff-ffffffffffff", {"things": []})
    there = await saver.aget_tuple(config_of("texts"))
    assert there.pending_writes == [("task", "things", ["orphan"])]


VALUES = [2**63 - 1, 2**70, -(2**70), 1e300, -0.0, 0.1, 5e-324, True, None, "", "é\u2028", "x" * 5000, 1.0, 10**400]


async def test_values_in_checkpoints_keep_their_types(saver: Any, source: str) -> None:
    """Python's JSON may read other numbers than were written: what the incumbent reads counts."""
    with incumbent(source, serde=encrypted()) as old:
        values = {f"c{number}": value for number, value in enumerate(VALUES)}
        checkpoint: Any = {
            "v": 4,
            "id": "1",
            "ts": "2026-01-01T00:00:00+00:00",
            "versions_seen": {},
            "channel_values": values,
            "channel_versions": dict.fromkeys(values, 1),
        }
        old.put(config_of("numbers"), checkpoint, {}, checkpoint["channel_versions"])  # type: ignore[typeddict-item]
        assert (await run(saver.log, source))["numbers"].status == "imported"
        assert (await run(saver.log, source))["numbers"].status == "equal"
        assert text_of(await saver.aget_tuple(config_of("numbers"))) == text_of(old.get_tuple(config_of("numbers")))


async def test_values_without_a_version_come_and_go(saver: Any, source: str) -> None:
    """Some versions of LangGraph stored values of channels that were never written."""
    with psycopg.connect(direct(source)) as conn:
        query = "select checkpoint_id from checkpoints where thread_id = 'chat' order by 1"
        ids = [id_ for (id_,) in conn.execute(query)]
    for id_ in ids[2:5]:
        change(
            source,
            "update checkpoints set checkpoint = jsonb_set(checkpoint, '{channel_values,loose}', to_jsonb(%s::text))"
            " where thread_id = 'chat' and checkpoint_id = %s",
            id_ * 300,
            id_,
        )
    assert statuses(await run(saver.log, source)) == {"imported"}
    for number, id_ in enumerate(ids):
        values = (await saver.aget_tuple(config_of("chat", id_))).checkpoint["channel_values"]
        assert values.get("loose") == (id_ * 300 if 2 <= number < 5 else None)
    assert not (await saver.log.rebuild(check=True)).differences


async def test_an_imported_thread_can_be_pruned_copied_and_deleted(saver: Any, source: str) -> None:
    await run(saver.log, source)
    latest = text_of(await saver.aget_tuple(config_of("forked")))
    await saver.acopy_thread("forked", "copy")
    await saver.log.prune(["forked"])
    assert text_of(await saver.aget_tuple(config_of("forked")))[:60] == latest[:60]
    await saver.adelete_thread("nested")
    assert not (await saver.log.verify(states=True)).problems
    assert not (await saver.log.rebuild(check=True)).differences


@POOLS
async def test_arguments_are_validated(kind: str, source: str) -> None:
    async with open_saver(kind, source) as saver:
        for options, message in (
            ({"part": (0, 2)}, "part must be"),
            ({"part": (3, 2)}, "part must be"),
            ({"part": "1/2"}, "part must be"),
            ({"thread_ids": "chat"}, "must be a sequence of ids"),
            ({"idle": 3}, "must be a timedelta"),
            ({"workers": 0}, "must be at least 1"),
            ({"actor": 3}, "actor must be a str"),
            ({"schema": ""}, "schema must name"),
        ):
            with pytest.raises(InvalidInputError, match=message):
                await saver.log.import_from(source, **options)
        with pytest.raises(InvalidInputError, match="int is no source"):
            await saver.log.import_from(3)
        assert Tables(source).rows("select 1 from {schema}.events") == []
