"""The fence in the old database: what it refuses, what it lets pass, and who may make it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError, LogBusyError, MissingGrantError, NotSetUpError, StorageError
from langgraph.checkpoint.eventlog.transfer import fence
from langgraph.checkpoint.eventlog.transfer.fence import FenceStatus
from tests.support.checkpoints import config_of, listed_ids, put
from tests.support.pooler import direct
from tests.transfer.old_savers import OLD_KINDS, fill, latest_id, no, open_incumbent, open_old, yes

pytestmark = pytest.mark.portable

HERE = "the event log in schema 'eventlog'"

MODES = pytest.mark.parametrize("mode", ["sync", "async"])
KINDS = pytest.mark.parametrize("kind", OLD_KINDS)


@pytest.fixture
def admin(uri: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(direct(uri), autocommit=True) as conn:
        yield conn


async def nothing(_: Any) -> None:
    """Copies a thread that is there already."""


async def writes_of_each_kind(old: Any, thread_id: str) -> list[Awaitable[Any]]:
    """Each way that PostgresSaver writes to a thread: new rows, and rows that are there."""
    values = {"list": ["new"], "text": "new"}
    return [
        put(old, config_of(thread_id, "c"), "d", values),
        put(old, config_of(thread_id, "b"), "c", {"text": "again"}),
        put(old, config_of(thread_id, "b"), "c", values, versions={"list": "c", "text": "c"}),
        old.aput_writes(config_of(thread_id, "c"), [("list", ["new"])], "task new"),
        old.aput_writes(config_of(thread_id, "c"), [("list", ["new"])], "task c"),
        old.aput_writes(config_of(thread_id, "c"), [("__interrupt__", "ask")], "task c"),
    ]


@KINDS
async def test_a_moved_thread_refuses_every_write_and_says_where_it_is(kind: str, uri: str, admin: Any) -> None:
    async with open_old(kind, uri) as old, open_incumbent(kind.split("-")[0], uri) as incumbent:
        await fill(old, "moved")
        await fill(old, "stays")
        assert await incumbent.install_fence()
        assert await incumbent.move("moved", HERE, nothing) == "moved"
        before = rows(admin)

        for write in await writes_of_each_kind(old, "moved"):
            assert "thread 'moved' was moved to the event log in" in await refusal(write)
        assert rows(admin) == before

        for write in await writes_of_each_kind(old, "stays"):
            await write
        assert await latest_id(old, "stays") == "d"
        assert await latest_id(old, "moved") == "c", "what is there can be read"


async def refusal(write: Awaitable[Any]) -> str:
    """What the fence says to a write. In a pipeline, what PostgresSaver raises of it may have it as its context."""
    with pytest.raises((pg.ObjectNotInPrerequisiteState, psycopg.errors.PipelineAborted)) as refused:
        await write
    error: BaseException | None = refused.value
    while not isinstance(error, pg.ObjectNotInPrerequisiteState):
        assert error is not None
        error = error.__context__
    return str(error)


def rows(conn: Any) -> list[Any]:
    """All rows of the old tables."""
    return [
        conn.execute(f"select t::text from {table} as t order by 1").fetchall()
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
    ]


@KINDS
async def test_deleting_and_pruning_pass_and_are_noted(kind: str, uri: str, admin: Any) -> None:
    async with open_old(kind, uri) as old, open_incumbent(kind.split("-")[0], uri) as incumbent:
        for thread_id in ("deleted", "pruned", "stays", "not moved"):
            await fill(old, thread_id)
        await incumbent.install_fence()
        for thread_id in ("deleted", "pruned", "stays"):
            await incumbent.move(thread_id, HERE, nothing)

        await old.adelete_thread("deleted")
        await old.adelete_thread("not moved")
        # As `PostgresSaver.prune` does since 3.2.
        for prune in (
            "delete from checkpoint_writes where checkpoint_id <> 'c'",
            "delete from checkpoints where checkpoint_id <> 'c'",
            "update checkpoints set parent_checkpoint_id = null",
        ):
            admin.execute(prune + (" and" if "where" in prune else " where") + " thread_id = 'pruned'")
        assert await listed_ids(old, config_of("deleted")) == []
        assert await listed_ids(old, config_of("pruned")) == ["c"]
        assert await incumbent.fence_status() == FenceStatus(True, [], 3, ["deleted"])

        await incumbent.forget_deletions(["deleted", "stays"])
        assert await incumbent.fence_status() == FenceStatus(True, [], 3, [])
        assert "was moved" in await refusal(fill(old, "deleted"))


@MODES
async def test_a_thread_that_is_being_moved_refuses_writes_until_it_is_undone(mode: str, uri: str) -> None:
    async with open_old("sync-pool", uri) as old, open_incumbent(mode, uri) as incumbent:
        await fill(old, "1")
        await incumbent.install_fence()
        seen = []

        async def look_and_fail(_: Any) -> None:
            with psycopg.connect(direct(uri), autocommit=True) as conn:
                with pytest.raises(pg.ObjectInUse, match="thread '1' is being moved to the event log") as refused:
                    conn.execute("insert into checkpoint_writes values ('1', '', 'c', 't', 0, 'x', 'null', '')")
                seen.append(str(refused.value))
            raise RuntimeError("the log refused it")

        with pytest.raises(RuntimeError, match="the log refused it"):
            await incumbent.move("1", HERE, look_and_fail)
        assert "eventlog fence settle" in seen[0]
        assert await incumbent.fence_status() == FenceStatus(True, [], 0, [])
        await fill(old, "1", "d")
        assert await latest_id(old, "1") == "d"


@MODES
async def test_a_move_waits_for_writers_and_writers_wait_for_its_mark(mode: str, uri: str, admin: Any) -> None:
    async with open_incumbent(mode, uri) as incumbent:
        await incumbent.install_fence()
        insert = "insert into checkpoint_blobs values ('1', '', %s, '1', 'null', '')"
        copied: list[int] = []

        async def copy(_: Any) -> None:
            ((count,),) = admin.execute("select count(*) from checkpoint_blobs where thread_id = '1'").fetchall()
            copied.append(count)

        with psycopg.connect(direct(uri)) as writer:
            writer.execute(insert, ("early",))
            moving = asyncio.ensure_future(
                incumbent.move("1", HERE, copy)
                if mode == "async"
                else asyncio.to_thread(asyncio.run, incumbent.move("1", HERE, copy))
            )
            done, _ = await asyncio.wait([moving], timeout=0.5)
            assert (done, copied) == (set(), []), "the mover did not wait for the writer's transaction"
            writer.execute(insert, ("later",))
            writer.commit()
            assert await moving == "moved"
            with pytest.raises(pg.ObjectNotInPrerequisiteState):
                writer.execute(insert, ("too late",))
        assert copied == [2]


@MODES
@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_a_writer_with_an_old_snapshot_is_refused(mode: str, isolation: str, uri: str) -> None:
    """Its transaction cannot see the mark."""
    async with open_incumbent(mode, uri) as incumbent:
        await incumbent.install_fence()
        insert = "insert into checkpoint_blobs values (%s, '', 'x', '1', 'null', '')"
        with psycopg.connect(direct(uri)) as writer:
            writer.execute(f"set transaction isolation level {isolation}")
            writer.execute("select count(*) from checkpoints")
            await incumbent.move("1", HERE, nothing)
            with pytest.raises(pg.SerializationFailure):
                writer.execute(insert, ("1",))
            writer.rollback()
            writer.execute(f"set transaction isolation level {isolation}")
            with pytest.raises(pg.ObjectNotInPrerequisiteState):
                writer.execute(insert, ("1",))
            writer.rollback()
            writer.execute(f"set transaction isolation level {isolation}")
            writer.execute(insert, ("2",))
            writer.commit()
        assert await incumbent.fence_status() == FenceStatus(True, [], 1, [])


@MODES
async def test_of_movers_at_once_one_copies(mode: str, uri: str) -> None:
    copies: list[int] = []

    async def move(number: int) -> Any:
        async def copy(_: Any) -> None:
            copies.append(number)

        async with open_incumbent(mode, uri) as mover:
            return await mover.move("1", HERE, copy)

    async with open_incumbent(mode, uri) as incumbent:
        await incumbent.install_fence()
    if mode == "async":
        outcomes = await asyncio.gather(*map(move, range(4)))
    else:
        outcomes = await asyncio.gather(*(asyncio.to_thread(asyncio.run, move(number)) for number in range(4)))
    assert sorted(outcomes) == ["already", "already", "already", "moved"]
    assert len(copies) == 1


@MODES
async def test_a_mover_that_began_before_another_finished_does_not_copy_again(mode: str, uri: str, admin: Any) -> None:
    """Its snapshot shows the thread as being moved still; deletions that are noted meanwhile are no conflict."""
    hold = Statements("public")["fence_hold"]
    async with open_old("sync-pool", uri) as old, open_incumbent(mode, uri) as incumbent:
        await fill(old, "1")
        await incumbent.install_fence()
        with psycopg.connect(direct(uri)) as late:

            async def copy(_: Any) -> None:
                late.execute("set transaction isolation level repeatable read")
                late.execute("select")
                admin.execute("delete from checkpoints where thread_id = '1'")
                assert late.execute(hold, ("1",)).fetchall() == [("moving", HERE)]
                late.rollback()
                late.execute("set transaction isolation level repeatable read")
                late.execute("select")

            assert await incumbent.move("1", HERE, copy) == "deleted"
            with pytest.raises(pg.SerializationFailure):
                late.execute(hold, ("1",))


@MODES
async def test_a_move_keeps_its_mark_once_the_log_has_committed(mode: str, uri: str, admin: Any) -> None:
    """Whatever happens to the mark then: old replicas must not go on with what the log has."""
    async with open_old("sync-pool", uri) as old, open_incumbent(mode, uri) as incumbent:
        await fill(old, "1")
        await incumbent.install_fence()
        admin.execute(
            "create function fail() returns trigger language plpgsql as $$ begin raise 'it fails'; end $$;"
            "create trigger fail before update on moved for each row execute function fail()"
        )
        with pytest.raises(StorageError, match="it fails"):
            await incumbent.move("1", HERE, nothing)
        admin.execute("drop function fail cascade")
        assert await incumbent.fence_status() == FenceStatus(True, ["1"], 0, [])
        with pytest.raises(pg.ObjectInUse):
            await fill(old, "1", "d")
        assert await incumbent.move("1", HERE, nothing) == "moved"


@MODES
async def test_a_session_that_ends_after_the_copy_is_replaced(mode: str, uri: str, admin: Any) -> None:
    """By PostgreSQL's idle_in_transaction_session_timeout, while the log took its time."""
    pids: list[int] = []

    async def copy(conn: Any) -> None:
        pids.append(conn.info.backend_pid)
        if len(pids) == 1:
            await answer(conn, "set idle_in_transaction_session_timeout = '1ms'")
            while admin.execute("select from pg_stat_activity where pid = %s", (pids[0],)).fetchall():
                pass

    async with open_incumbent(mode, uri) as incumbent:
        await incumbent.install_fence()
        assert await incumbent.move("1", HERE, copy) == "moved"
        assert len(set(pids)) == 2


@MODES
async def test_a_move_reads_a_thread_as_of_one_moment(mode: str, uri: str, admin: Any) -> None:
    """Also while an old replica prunes it, which the fence lets pass."""
    counts: list[Any] = []

    async def copy(conn: Any) -> None:
        counts.append(await answer(conn, "select count(*) from checkpoints"))
        admin.execute("delete from checkpoint_blobs where thread_id = '1'")
        admin.execute("delete from checkpoints where thread_id = '1' and checkpoint_id <> 'c'")
        counts.append(await answer(conn, "select count(*) from checkpoints"))

    async with open_old("sync-pool", uri) as old, open_incumbent(mode, uri) as incumbent:
        await fill(old, "1")
        await incumbent.install_fence()
        assert await incumbent.move("1", HERE, copy) == "moved"
    assert counts == [[(3,)], [(3,)]]


@MODES
async def test_a_mark_waits_for_a_deletion_of_thousands_of_threads(mode: str, uri: str, admin: Any) -> None:
    """The deletion, which locks none of them, could not note a mark that is made meanwhile."""
    async with open_incumbent(mode, uri) as incumbent:
        await incumbent.install_fence()
        admin.execute(
            "insert into checkpoints (thread_id, checkpoint_id, checkpoint, metadata) "
            "select n::text, 'a', '{}', '{}' from generate_series(1, 1001) as n"
        )
        with psycopg.connect(direct(uri)) as deleting:
            deleting.execute("delete from checkpoints")
            mark = "insert into moved (thread_id, state, moved_to) values ('1', 'moving', '')"
            with psycopg.connect(direct(uri)) as mover:
                mover.execute("set lock_timeout = '100ms'")
                with pytest.raises(pg.LockNotAvailable):
                    mover.execute(mark)
        assert await incumbent.move("1", HERE, nothing) == "moved"


async def answer(conn: Any, statement: str) -> list[Any]:
    """The rows of a statement, by a sync or an async connection."""
    cursor: Any = conn.execute(statement)
    cursor = await cursor if inspect.isawaitable(cursor) else cursor
    if cursor.description is None:
        return []
    rows: Any = cursor.fetchall()
    return list(await rows if inspect.isawaitable(rows) else rows)


@MODES
async def test_a_thread_that_is_deleted_while_it_moves_is_reported(mode: str, uri: str, admin: Any) -> None:
    async with open_old("sync-pool", uri) as old, open_incumbent(mode, uri) as incumbent:
        await fill(old, "1")
        await incumbent.install_fence()

        async def copy(_: Any) -> None:
            admin.execute("delete from checkpoints where thread_id = '1'")

        assert await incumbent.move("1", HERE, copy) == "deleted"


@MODES
async def test_a_fence_is_made_once_and_leaves_nothing_behind(mode: str, uri: str, admin: Any) -> None:
    objects = (
        "select c.relname::text from pg_class as c where c.relnamespace = 'public'::regnamespace and c.relkind <> 't'"
        " union all select p.proname::text from pg_proc as p where p.pronamespace = 'public'::regnamespace"
        " union all select t.tgname::text from pg_trigger as t where not t.tgisinternal and t.tgname like 'eventlog%'"
        " order by 1"
    )
    before = admin.execute(objects).fetchall()
    async with open_incumbent(mode, uri) as incumbent:
        assert await incumbent.fence_status() == FenceStatus(False)
        assert await incumbent.move("1", HERE, nothing) is None
        assert await incumbent.install_fence()
        assert not await incumbent.install_fence()
        await incumbent.move("1", HERE, nothing)
        admin.execute("insert into moved (thread_id, state, moved_to) values ('2', 'moving', '')")
        with pytest.raises(InvalidInputError, match="fence settle"):
            await incumbent.remove_fence()
        assert await incumbent.settle("2", "", no) == "undone"
        assert await incumbent.settle("2", "", no) == "busy"
        assert await incumbent.remove_fence()
        assert not await incumbent.remove_fence()
    assert admin.execute(objects).fetchall() == before


@MODES
async def test_settling_a_thread_that_the_log_has_marks_it_as_moved(mode: str, uri: str, admin: Any) -> None:
    async with open_incumbent(mode, uri) as incumbent:
        await incumbent.install_fence()
        admin.execute("insert into moved (thread_id, state, moved_to) values ('1', 'moving', 'a log')")
        assert (await incumbent.fence_status()).moving == ["1"]
        assert await incumbent.settle("1", "another log", no) == "elsewhere"
        assert (await incumbent.fence_status()).moving == ["1"]
        assert await incumbent.settle("1", "a log", yes) == "moved"
        assert await incumbent.fence_status() == FenceStatus(True, [], 1, [])


@MODES
async def test_bad_input_gets_an_error_that_says_what_to_do(
    mode: str, uri: str, admin: Any, empty_database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_incumbent(mode, empty_database_uri) as incumbent:
        with pytest.raises(NotSetUpError, match=r"the search path has no tables .* Run PostgresSaver.setup\(\)"):
            await incumbent.install_fence()
    async with open_incumbent(mode, uri, schema="elsewhere") as incumbent:
        with pytest.raises(NotSetUpError, match="schema 'elsewhere' has no tables"):
            await incumbent.fence_status()
    async with open_incumbent(mode, uri) as incumbent:
        with psycopg.connect(direct(uri)) as busy:
            busy.execute("select from checkpoints")
            monkeypatch.setattr(fence, "_LOCK_TIMEOUT", b"set local lock_timeout = '100ms'")
            monkeypatch.setattr(fence, "LOCK_PATIENCE", 0.1)
            busy.execute("lock table checkpoints in row exclusive mode")
            with pytest.raises(LogBusyError):
                await incumbent.install_fence()
        admin.execute("create table moved (thread_id text)")
        with pytest.raises(InvalidInputError, match="has a table 'moved' that is not the fence's"):
            await incumbent.install_fence()
    admin.execute("insert into checkpoint_migrations values (10)")
    async with open_incumbent(mode, uri) as incumbent:
        with pytest.raises(InvalidInputError, match="schema version 10; this package knows 0 to 9"):
            await incumbent.install_fence()
        admin.execute("drop table checkpoint_blobs")
        with pytest.raises(NotSetUpError, match=r"lacks tables .*checkpoint_blobs"):
            await incumbent.install_fence()


@MODES
async def test_writers_need_no_right_on_the_fence_and_may_be_movers(mode: str, uri: str, admin: Any) -> None:
    admin.execute("drop role if exists app_of_fence")
    admin.execute("create role app_of_fence login")
    admin.execute(
        "grant select, insert, update, delete on checkpoints, checkpoint_blobs, checkpoint_writes to app_of_fence"
    )
    as_app = uri.replace("//postgres@", "//app_of_fence@")
    try:
        async with open_incumbent(mode, as_app) as app:
            with pytest.raises(MissingGrantError, match=r"grant select on \S+checkpoint_migrations to \"?app_of_fence"):
                await app.fence_status()
        admin.execute("grant select on checkpoint_migrations to app_of_fence")
        async with open_incumbent(mode, as_app) as app:
            with pytest.raises(MissingGrantError, match=r"of the old database .* for the owner of PostgresSaver's"):
                await app.install_fence()
            async with open_incumbent(mode, uri) as owner:
                await owner.install_fence()
            async with open_old("sync-pool", as_app) as old:
                await fill(old, "1")
                assert await app.move("1", HERE, nothing) == "moved"
                with pytest.raises(pg.ObjectNotInPrerequisiteState):
                    await fill(old, "1", "d")
                admin.execute("delete from checkpoints where thread_id = '1'")
            assert (await app.fence_status()).deleted == ["1"]
    finally:
        admin.execute("drop owned by app_of_fence")
        admin.execute("drop role app_of_fence")


@MODES
async def test_a_fence_waits_for_no_lock_while_it_holds_another(mode: str, uri: str, admin: Any) -> None:
    """Else it could be in a deadlock with a replica that holds the other one."""
    waits = "select count(*) from pg_locks as l where not l.granted and exists ("
    waits += "select from pg_locks as h where h.pid = l.pid and h.granted and h.mode = 'ShareRowExclusiveLock')"

    async with open_incumbent(mode, uri) as incumbent:
        with psycopg.connect(direct(uri)) as replica:
            replica.execute("lock table checkpoint_blobs in row exclusive mode")
            run = incumbent.install_fence()
            installing = asyncio.ensure_future(run if mode == "async" else asyncio.to_thread(asyncio.run, run))
            for _ in range(20):
                assert admin.execute(waits).fetchall() == [(0,)]
                await asyncio.sleep(0.02)
            # What the fence holds for a moment does not end the replica's transaction.
            replica.execute("lock table checkpoints in row exclusive mode")
        assert await installing


@MODES
async def test_tables_in_another_schema_and_of_the_shallow_saver_get_a_fence(mode: str, uri: str, admin: Any) -> None:
    admin.execute("create schema elsewhere")
    for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes", "checkpoint_migrations"):
        admin.execute(f"alter table {table} set schema elsewhere")
    admin.execute("alter table elsewhere.checkpoints drop column checkpoint_id cascade")
    async with open_incumbent(mode, uri, schema="elsewhere") as incumbent:
        assert await incumbent.install_fence()
        await incumbent.move("1", HERE, nothing)
        with pytest.raises(pg.ObjectNotInPrerequisiteState):
            admin.execute("insert into elsewhere.checkpoints values ('1', '', null, null, '{}', '{}')")
        assert await incumbent.remove_fence()
