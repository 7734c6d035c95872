"""A log with everything in it: for tests of what is dumped, copied, replicated or upgraded.

Some hundred days of it are written in a second or two: threads with subgraphs and forks, an encrypted one, what was
erased, pruned, copied, relocated and dropped with its partition, seals, a custom projection that is behind, a
rebuild that was finished and one that was given up half-way.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

import psycopg
import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from eventlog.db.statements import Statements
from projections import rebuild
from projections.rebuild import RebuildProgress
from projections.usage import Usage
from tests.support.adapters import open_saver
from tests.support.checkpoints import Key, Tables, config_of, everything, put
from tests.support.clock import Clock
from tests.support.soundness import assert_keyframes, assert_sound, projected

__all__ = [
    "SETTINGS",
    "Reading",
    "assert_goes_on",
    "assert_reads",
    "assert_verified",
    "grow",
    "open_reader",
    "read",
    "write_full_log",
]

DAY = timedelta(days=1)
TEXTS = [f"{number} " * 20 for number in range(20)]

#: The rights of a role that reads all of the log, and looks after it.
SETTINGS: dict[str, Any] = {
    "serde": EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef"),
    "snapshot_floor_bytes": 2000,
    "partition_interval": "day",
    "partitions_ahead": 1,
}


class _Half(Exception):
    """Ends a rebuild."""


async def grow(saver: Any, thread_id: str, ids: str, *, ns: str = "", after: str | None = None, **fields: Any) -> None:
    """Checkpoints one after the other, each with writes, one of which has a message that says what it cost."""
    config = config_of(thread_id, after, ns=ns)
    for id_ in ids:
        state = {"x": [*TEXTS, id_], "y": {"of": thread_id}, "n": ord(id_)}
        config = await put(saver, config, id_, state, metadata={"step": ord(id_), "source": "loop", **fields})
        usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
        message = AIMessage(f"answer {id_}", id=f"{thread_id}{ns}{id_}", usage_metadata=usage)
        await saver.aput_writes(config, [("x", [*TEXTS, id_, "more"]), ("messages", message)], f"task of {id_}")
        await saver.aput_writes(config, [("z", id_), ("__interrupt__", "ask")], f"other task of {id_}", "a path")


async def write_full_log(uri: str) -> None:
    """Fill an empty database. Ends with the log's clock being the real one, and partitions for now."""
    async with open_saver("sync-string", uri, **SETTINGS) as owner:
        # Before the clock is set: what it makes must know the real one.
        await owner.setup()
    clock = Clock(uri, behind=100 * DAY)
    plain = {key: value for key, value in SETTINGS.items() if key != "serde"}
    async with open_saver("sync-string", uri, **SETTINGS) as owner, open_saver("sync-string", uri, **plain) as saver:
        for thread_id in ("copied", "deleted", "idle", "pruned", "steady", "unfinished"):
            await grow(saver, thread_id, "abcd")
        await grow(saver, "steady", "abc", ns="child:1|grandchild:2")
        await grow(saver, "steady", "ef", after="b")
        await grow(saver, "deleted", "a", ns="child:1")
        await put(saver, config_of("steady", "c"), "d", {"x": [*TEXTS, "again"]}, metadata={"step": 4})
        await grow(owner, "secret", "abcde")
        await grow(saver, "runs", "ab", run_id="good run")
        await grow(saver, "runs", "cd", after="b", run_id="bad run")
        await grow(saver, "ended", "a")
        await saver.log.delete_thread("ended", actor="somebody")
        await owner.log.seal()
        await owner.log.project(Usage())

        clock.advance(10 * DAY)
        await saver.log.copy_thread("copied", "copy", actor="somebody")
        await saver.log.fork_thread("steady", "fork", "f")
        await saver.log.prune(["pruned"], keep_last=2)
        await owner.adelete_for_runs(["bad run"])
        await saver.adelete_thread("deleted")
        await owner.log.seal(actor="auditor")

        clock.advance(30 * DAY)
        await grow(saver, "steady", "ghij", after="f")
        await grow(owner, "secret", "fgh", after="e")
        await owner.log.retain(25 * DAY)
        await owner.log.seal()
        await owner.log.project(Usage())

        clock.advance(20 * DAY)
        await grow(saver, "steady", "kl", after="j")
        await saver.acopy_thread("copied", "late copy")
        await saver.log.prune(["fork"], keep_last=1)
        await saver.aput_writes(config_of("unfinished", "e"), [("x", TEXTS)], "of a checkpoint that never came")
        await owner.log.rebuild()
        clock.advance(20 * DAY)
        await grow(owner, "secret", "ij", after="h")
        await owner.log.expire(75 * DAY)
        await owner.log.seal()
        await grow(saver, "new", "abc")

        async with open_saver("sync-string", uri, **SETTINGS) as other:
            await _rebuild_half(other)
    with psycopg.connect(uri, autocommit=True) as conn:
        # What setting the clock has put in the place of the real one.
        for script in Statements("eventlog").scripts:
            if "clock" in script.name:
                conn.execute(script.statement)
        conn.execute(f'alter database "{conn.info.dbname}" reset search_path'.encode())
    async with open_saver("sync-string", uri, **SETTINGS) as owner:
        await owner.setup()
    _assert_all_there(Tables(uri))


async def _rebuild_half(saver: Any) -> None:
    def stop(_: RebuildProgress) -> None:
        raise _Half

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild, "PAGE_STREAMS", 4)
        patch.setattr(rebuild, "BATCH_STREAMS", 2)
        with pytest.raises(_Half):
            await saver.log.rebuild(workers=1, on_progress=stop)


def _assert_all_there(tables: Tables) -> None:
    """That it is what it says: each of these must have rows."""
    found = tables.rows(
        """
        select 'relocated' from {schema}.events where as_of is not null and kind <= 2
        union select 'record ' || kind from {schema}.events where kind > 2
        union select 'encrypted' from {schema}.events where get_byte(body, 0) & 32 > 0
        union select 'snapshot' from {schema}.snapshots
        union select 'dropped' from {schema}.partitions where dropped_at is not null
        union select 'ended' from {schema}.ended
        union select 'ended and sealed' from {schema}.sealed where ended_at is not null
        union select 'rebuilt' from {schema}.rebuilds where finished_at is not null
        union select 'half rebuilt' from {schema}.rebuilds where finished_at is null
        union select 'some rebuilt' from {schema}.rebuilds where finished_at is null and thread_id > ''
        union select 'behind' from {schema}.projections as p
            where p.position < (select max(position) from {schema}.events)
        union select 'three partitions' from {schema}.events having count(distinct tableoid) >= 3
        union select 'void' from {schema}.streams where begins_at is not null
        union select 'deleted' from {schema}.streams where erased_through is not null
        """
    )
    missing = {
        *("relocated", "record 3", "record 4", "record 5", "encrypted", "snapshot", "dropped", "ended"),
        *(
            "ended and sealed",
            "rebuilt",
            "half rebuilt",
            "some rebuilt",
            "behind",
            "three partitions",
            "void",
            "deleted",
        ),
    } - {what for (what,) in found}
    assert not missing, missing


class Reading(NamedTuple):
    """A log's content, read through a saver."""

    tuples: dict[Key, CheckpointTuple]
    seals: list[tuple[int, str]]
    rows: dict[str, list[Any]]
    """Of the derived tables."""
    usage: list[Any]
    cursor: tuple[Any, ...]
    """How far the custom projection is."""


def open_reader(uri: str) -> Any:
    """A saver that remembers nothing, and has the key."""
    return open_saver("sync-string", uri, state_cache_bytes=0, **SETTINGS)


async def read(uri: str) -> Reading:
    """All that a log says."""
    tables = Tables(uri)
    async with open_reader(uri) as reader:
        tuples = await everything(reader)
        seals = [(seal.number, seal.digest.hex()) for seal in await reader.log.seals()]
        (projection,) = await reader.log.projections()
    usage = tables.rows("select u::text from eventlog_views.usage as u order by 1")
    return Reading(tuples, seals, projected(tables), usage, (*projection.cursor, projection.events))


async def assert_reads(uri: str, expected: Reading) -> None:
    """It says all that, is sound, verifies, has the seals, and its projections are what the log says."""
    assert await read(uri) == expected
    await assert_verified(uri, expected.seals)


async def assert_verified(uri: str, seals: list[tuple[int, str]]) -> None:
    """It is sound, verifies with each of these seals, and its projections are what the log says."""
    tables = Tables(uri)
    assert_sound(tables)
    assert_keyframes(tables)
    async with open_reader(uri) as reader:
        for number, digest in seals[:1] + seals[-1:]:
            problems = (await reader.log.verify(seal=f"{number}:{digest}")).problems
            assert not problems, problems
        assert (await reader.log.rebuild(check=True)).differences == []


async def assert_goes_on(uri: str, expected: Reading) -> None:
    """Everything that savers do can be done, on what was there before, and all is sound afterwards."""
    tables = Tables(uri)
    last = tables.one("select max(position) from {schema}.events")
    async with open_saver("sync-string", uri, **SETTINGS) as saver:
        await saver.setup()
        await grow(saver, "steady", "mn", after="l")
        await grow(saver, "secret", "kl", after="j")
        await grow(saver, "another", "ab")
        assert tables.one("select min(position) from {schema}.events where thread_id = 'another'") > last
        assert await saver.log.project(Usage()) != {"usage": 0}
        assert await saver.log.project(Usage()) == {"usage": 0}
        await saver.log.rebuild()
        await saver.log.prune(["steady"], keep_last=3)
        await saver.adelete_thread("secret")
        await saver.acopy_thread("steady", "last copy")
        await saver.log.retain(1 * DAY)
        seal = await saver.log.seal()
        found = await everything(saver)
    assert ("steady", "", "n") in found
    untouched = {key for key in expected.tuples if key[0] not in ("steady", "secret")}
    for stream in {key[:2] for key in untouched}:
        # What was before the newest state, retention may have cut.
        latest = max(key for key in untouched if key[:2] == stream)
        assert _alone(found[latest]) == _alone(expected.tuples[latest])
    await assert_verified(uri, [(seal.number, seal.digest.hex())])


def _alone(found: CheckpointTuple) -> CheckpointTuple:
    return found._replace(parent_config=None)
