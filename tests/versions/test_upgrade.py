"""Upgrades while the version before is at work: it goes on appending and reading, during the upgrade and after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventlog.db.statements import Statements
from eventlog.errors import DatabaseTooNewError, MigrationError
from langgraph.checkpoint.eventlog import Verified
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import Tables, config_of, converse, everything, listed_ids, put, values_of
from tests.support.pooler import direct
from tests.support.soundness import assert_keyframes, assert_sound
from tests.versions.newer import ADDED, newer_version

SCRIPTS = [script.name for script in Statements("eventlog").scripts]

#: In seconds, for what takes a moment: a machine may have other things to do.
PATIENCE = 240

#: Kinds of the savers that are at work while another one upgrades the database.
AT_WORK = ("sync-pool", "async-pool", "sync-string", "async-connection")

WAITING_FOR_ALL = "select count(*) from pg_locks where not granted and mode = 'AccessExclusiveLock'"

HOLD = "select count(*) from eventlog.streams"


class Writers:
    """Savers that append and read, again and again, each in a thread of its own and in one that all share."""

    def __init__(self, savers: list[Any]) -> None:
        self.savers = savers
        self._is_over = False
        #: What was acknowledged: thread, checkpoint, value, and how many writes.
        self.acknowledged: list[tuple[str, str, int, int]] = []

    async def _write(self, number: int) -> None:
        saver, own = self.savers[number], config_of(f"own {number}")
        for step in count():
            if self._is_over:
                return
            own = await put(saver, own, f"{step:06}", {"x": ["long enough " * 50] * (step % 20), "n": step})
            shared = await put(saver, config_of("shared"), f"{step:06}-{number}", {"n": step})
            await asyncio.gather(*(saver.aput_writes(own, [("n", step)], f"task {task}") for task in range(3)))
            assert (await values_of(saver, own))["n"] == step
            assert await values_of(saver, shared) == {"n": step}
            assert f"{step:06}" in await listed_ids(saver, config_of(f"own {number}"), limit=5)
            self.acknowledged += [(f"own {number}", f"{step:06}", step, 3), ("shared", f"{step:06}-{number}", step, 0)]

    async def more(self, steps: int = 40) -> None:
        """Wait until so much more was acknowledged."""
        wanted = len(self.acknowledged) + steps
        await eventually(lambda: len(self.acknowledged) >= wanted)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self._write(number)) for number in range(len(self.savers))]
        try:
            # An error of one of them ends the test, when it is waited for below.
            yield
        finally:
            self._is_over = True
            await asyncio.gather(*tasks)

    async def check(self, uri: str) -> None:
        """All that was acknowledged is there, once, as are its writes; and the log is sound. Run it as the newer."""
        tables = Tables(uri)
        assert len(set(self.acknowledged)) == len(self.acknowledged)
        saved = tables.rows("select thread_id, checkpoint_id from {schema}.events where kind = 1")
        assert sorted(saved) == sorted(each[:2] for each in self.acknowledged)
        async with open_saver("async-string", uri, state_cache_bytes=0) as reader:
            found = [
                (key[0], key[2], each.checkpoint["channel_values"]["n"], len(each.pending_writes or ()))
                for key, each in (await everything(reader)).items()
            ]
            assert sorted(found) == sorted(self.acknowledged)
            assert_only_code_differs(await reader.log.verify())
            assert not any((await reader.log.rebuild(check=True)).differing.values())
        assert_sound(tables)
        assert_keyframes(tables)


def assert_only_code_differs(verified: Verified) -> None:
    """The newer version is made up here: nothing has a list of what it makes in the database."""
    assert [each for each in verified.problems if not each.what.startswith("the database's code: ")] == []


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait for it."""

    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(wait(), PATIENCE)


@asynccontextmanager
async def writers(uri: str) -> AsyncIterator[Writers]:
    async with (
        open_saver(AT_WORK[0], uri) as one,
        open_saver(AT_WORK[1], uri) as two,
        open_saver(AT_WORK[2], uri) as three,
        open_saver(AT_WORK[3], uri) as four,
    ):
        yield Writers([one, two, three, four])


@POOLS
async def test_an_upgrade_loses_no_append_of_the_version_before(kind: str, database_uri: str, tmp_path: Path) -> None:
    """No append fails, none is lost, and all goes on, also while a transaction keeps the migration from a table.

    The new version's savers then work on the same threads; the old one's `setup()` says what is the matter.
    """
    uri = database_uri
    tables = Tables(uri)
    async with writers(uri) as old, open_saver(kind, uri) as upgraded:
        async with old.at_work():
            await old.more()
            with newer_version(tmp_path):
                with psycopg.connect(uri) as reader, Tables(uri) as watched:
                    reader.execute(HOLD)
                    setup = asyncio.create_task(upgraded.setup())
                    for _ in range(3):
                        # It waits, gives up for a moment, and is back.
                        await eventually(lambda: watched.one(WAITING_FOR_ALL))
                        await eventually(lambda: not watched.one(WAITING_FOR_ALL))
                        await old.more()
                    assert not setup.done()
                await asyncio.wait_for(setup, PATIENCE)
                await put(upgraded, config_of("new"), "1", {"n": 1})
            applied = tables.rows("select name from {schema}.migrations order by applied_at")
            assert [name for (name,) in applied] == [*SCRIPTS, *ADDED]
            await old.more()
            # The next version goes on where the version before is, and the other way round.
            await put(upgraded, config_of("own 0"), "999999", {"n": 7})
            await put(upgraded, config_of("shared"), "999999", {"n": 7})
            old.acknowledged += [("new", "1", 1, 0), ("own 0", "999999", 7, 0), ("shared", "999999", 7, 0)]
            await old.more()
            for number in range(len(AT_WORK)):
                with pytest.raises(DatabaseTooNewError, match=r"newer version.*upgrade the package.*labels_1"):
                    await old.savers[number].setup()
            await old.more()
        assert tables.one("select count(*) from {schema}.events where trace is not null") == 3
        # The version before does not know what belongs into the new columns.
        for check in (True, False):
            with pytest.raises(DatabaseTooNewError, match="upgrade the package"):
                await old.savers[0].log.rebuild(check=check)
    with newer_version(tmp_path / "again"):
        await old.check(uri)


@POOLS
async def test_an_upgrade_stops_a_running_rebuild_of_the_version_before(
    kind: str, database_uri: str, tmp_path: Path
) -> None:
    """It stops as soon as there may be columns that it does not know."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as old, open_saver("sync-pool", database_uri) as upgraded:
        await converse(old)

        def upgrade(_: Any) -> None:
            if tables.one("select count(*) from {schema}.migrations") == len(SCRIPTS):
                with newer_version(tmp_path):
                    upgraded.sync.setup()

        with pytest.raises(DatabaseTooNewError, match="upgrade the package"):
            await old.log.rebuild(on_progress=upgrade)
        assert tables.one("select count(label) from {schema}.streams") == 0
        await put(old, config_of("1", "h"), "i", {"x": 1})
        assert (await listed_ids(upgraded, config_of("1")))[:2] == ["i", "h"]


# --- statements that were prepared before


async def use(saver: Any, thread_id: str) -> None:
    """Every statement of everyday use, on a thread of its own and on what is there."""
    await converse(saver, thread_id)
    await put(saver, config_of(thread_id, "a"), "b", {"x": ["replaced"]})
    assert len(await listed_ids(saver, config_of(thread_id))) == 8
    assert await listed_ids(saver, None, filter={"at": "h"}) != []
    assert (await values_of(saver, config_of(thread_id)))["x"][-1] == "h"
    await saver.aget_delta_channel_history(config=config_of(thread_id, "h"), channels=["x"])
    assert [each async for each in saver.log.history(thread_id)] != []
    assert [each async for each in saver.log.changes(thread_id)] != []
    assert len(await saver.log.threads([thread_id])) == 1
    assert (await saver.log.lag()).waiting > 0
    assert [each async for each in saver.log.tail(follow=False)] != []
    await saver.acopy_thread(thread_id, f"copy of {thread_id}")
    await saver.log.prune([thread_id], keep_last=2)
    await saver.adelete_thread(f"copy of {thread_id}")
    assert await saver.log.expire(timedelta(days=1)) == []
    assert (await saver.log.partitions()).partitions
    await saver.log.seal()
    assert_only_code_differs(await saver.log.verify())


async def test_prepared_statements_survive_an_upgrade(kind: str, database_uri: str, tmp_path: Path) -> None:
    """No statement selects whatever columns there are: that is when a cached plan "must not change result type"."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as saver, open_saver("sync-pool", database_uri) as upgraded:
        for number in range(7):  # psycopg prepares at the fifth time, the server makes a generic plan at the sixth
            await use(saver, f"before {number}")
        with newer_version(tmp_path):
            await asyncio.to_thread(upgraded.sync.setup)
        # A function may be replaced by one that does the same: its plans, and those that it became a part of, go.
        functions = tables.rows(
            "select pg_get_functiondef(p.oid) from pg_proc as p where p.pronamespace = 'eventlog'::regnamespace"
        )
        with psycopg.connect(database_uri, autocommit=True) as conn:
            for (definition,) in functions:
                conn.execute(definition.encode())
            conn.execute("alter table eventlog.events add column later text default 'later'")
            conn.execute("alter table eventlog.snapshots add column later integer")
        await use(saver, "after")
        await use(saver, "once more")
    assert_sound(tables)


# --- who keeps a migration waiting


@pytest.mark.portable
@pytest.mark.parametrize("kind", ["sync-pool", "async-connection", "sync-pipeline"])
@pytest.mark.parametrize("holder", ["session", "prepared transaction"])
async def test_an_upgrade_that_is_blocked_names_the_blocking_session(
    kind: str, holder: str, database_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gives up in the end, and says who has to end what. Nothing was changed, and it goes on when that is over."""
    tables = Tables(database_uri)
    monkeypatch.setattr("eventlog.db.migrations.LOCK_TIMEOUT_SECONDS", 0.5)
    name = f"forgotten {kind}"
    # Directly: a pooler's client does not know the server's process.
    with psycopg.connect(direct(database_uri), application_name="a report") as other, newer_version(tmp_path):
        if holder == "session":
            other.execute(HOLD)
            says = (
                rf"process {other.info.backend_pid} of user 'postgres' \('a report', idle in transaction, for \d+ s, "
                r"streams\)"
            )
        else:
            other.tpc_begin(other.xid(1, name, "x"))
            other.execute(HOLD)
            other.tpc_prepare()
            says = r"prepared transaction '.*' \(for \d+ s, streams\)"
        async with open_saver(kind, database_uri) as saver:
            with pytest.raises(MigrationError, match=says) as caught:
                await saver.setup()
            assert "labels_1 did not get its locks on the tables of schema 'eventlog'" in str(caught.value)
            applied = tables.rows("select name from {schema}.migrations order by applied_at")
            assert [each for (each,) in applied] == SCRIPTS
            if holder == "session":
                other.rollback()
            else:
                other.tpc_rollback()
            await saver.setup()
    applied = tables.rows("select name from {schema}.migrations order by applied_at")
    assert [each for (each,) in applied] == [*SCRIPTS, *ADDED]


@pytest.mark.parametrize("kind", ["sync-connection", "async-connection"])
async def test_an_upgrade_in_the_users_transaction_commits_or_rolls_back_with_it(
    kind: str, empty_database_uri: str
) -> None:
    """All of it is then one transaction, which takes it back or keeps it; settings are left as they were."""
    uri = empty_database_uri
    tables = Tables(uri)
    for is_kept in (False, True):
        async with open_saver(kind, uri, connect={"autocommit": True}) as saver:
            conn = (saver.sync if kind.startswith("sync") else saver)._driver._conn

            async def run(statement: str, conn: Any = conn) -> None:
                cursor = conn.execute(statement.encode())
                if asyncio.iscoroutine(cursor):
                    await cursor

            await run("begin")
            await run("set local lock_timeout = '12345ms'")
            await saver.setup()
            await put(saver, config_of(), "1", {"x": 1})
            assert tables.one("select to_regnamespace('eventlog')") is None
            assert tables.one("select count(*) from pg_locks where locktype = 'advisory' and granted") > 0
            await run("do $$ begin assert current_setting('lock_timeout') = '12345ms'; end $$")
            await run("commit" if is_kept else "rollback")
            await run("do $$ begin assert current_setting('lock_timeout') = '0'; end $$")
    assert tables.events() == 1
    assert [name for (name,) in tables.rows("select name from {schema}.migrations order by applied_at")] == SCRIPTS
