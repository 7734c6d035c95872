"""Importing many threads while old replicas use others: each is moved behind the fence."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg import errors as pg

from langgraph.checkpoint.eventlog.transfer import fence
from langgraph.checkpoint.eventlog.transfer.fence import FenceStatus
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, converse, listed_ids
from tests.support.pooler import direct
from tests.support.scenarios import MODES, Mode
from tests.transfer.old_savers import fill, latest_id, open_incumbent, open_old

pytestmark = pytest.mark.parametrize("mode", MODES)


@pytest.mark.portable
async def test_imported_threads_are_moved(mode: Mode, fenced_uri: str) -> None:
    async with (
        open_old(f"{mode}-pool", fenced_uri) as old,
        open_saver(f"{mode}-pool", fenced_uri) as saver,
        open_incumbent(mode, fenced_uri) as incumbent,
    ):
        for number in range(6):
            await fill(old, f"{number}")
        done = await saver.log.import_from(direct(fenced_uri), thread_ids=[*"01234", "no such thread"])
        assert done.threads == {"imported": 5, "missing": 1}
        assert await incumbent.fence_status() == FenceStatus(True, [], 5, [])
        with pytest.raises(pg.ObjectNotInPrerequisiteState, match="was moved to the event log in schema 'eventlog'"):
            await fill(old, "0", "d")
        for thread_id in ("5", "no such thread"):
            await fill(old, thread_id, "d")
        assert await latest_id(saver, "0") == "c"
        again = await saver.log.import_from(direct(fenced_uri))
        assert again.threads == {"equal": 5, "imported": 2}
        assert await incumbent.fence_status() == FenceStatus(True, [], 7, [])


async def test_a_thread_that_is_refused_stays_with_old_replicas(mode: Mode, fenced_uri: str) -> None:
    async with (
        open_old(f"{mode}-pool", fenced_uri) as old,
        open_saver(f"{mode}-pool", fenced_uri) as saver,
        open_incumbent(mode, fenced_uri) as incumbent,
    ):
        for thread_id in ("broken", "another", "fine"):
            await fill(old, thread_id)
        await converse(saver, "another", ids="xyz")
        with psycopg.connect(direct(fenced_uri), autocommit=True) as conn:
            conn.execute("update checkpoint_blobs set blob = '\\xc1' where version = 'b' and thread_id = 'broken'")
        done = await saver.log.import_from(direct(fenced_uri))
        assert done.threads == {"refused": 1, "differs": 1, "imported": 1}
        assert await incumbent.fence_status() == FenceStatus(True, [], 1, [])
        for thread_id in ("broken", "another"):
            await fill(old, thread_id, "d")


async def test_a_thread_that_cannot_be_read_stays_with_old_replicas_and_the_others_go_on(
    mode: Mode, fenced_uri: str
) -> None:
    """As with a statement_timeout that is too short for one thread."""
    async with (
        open_old(f"{mode}-pool", fenced_uri) as old,
        open_saver(f"{mode}-pool", fenced_uri) as saver,
        open_incumbent(mode, fenced_uri) as incumbent,
    ):
        for thread_id in ("fine", "slow", "too"):
            await fill(old, thread_id)
        with psycopg.connect(direct(fenced_uri), autocommit=True) as conn:
            # A view in the table's place: reading the rows of one thread fails.
            conn.execute(
                "alter table checkpoint_writes rename to all_writes;"
                "create function fail(text, text) returns text stable language plpgsql as "
                "$$ begin if $1 = 'slow' then raise query_canceled using message = 'too slow'; end if;"
                " return $2; end $$;"
                "create view checkpoint_writes as select thread_id, checkpoint_ns, checkpoint_id, task_id, idx,"
                " fail(thread_id, channel) as channel, type, blob, task_path, xmin, ctid from all_writes"
            )
            done = await saver.log.import_from(direct(fenced_uri), thread_ids=["fine", "slow", "too"], workers=1)
            conn.execute("drop view checkpoint_writes; alter table all_writes rename to checkpoint_writes")
        assert done.threads == {"imported": 2, "refused": 1}, done.not_done
        assert "the source cannot be read: too slow" in str(done.not_done[0].detail)
        assert await incumbent.fence_status() == FenceStatus(True, [], 2, [])
        await fill(old, "slow", "d")


async def test_a_refused_thread_that_was_moved_leaves_no_transaction_behind(mode: Mode, fenced_uri: str) -> None:
    async with open_old(f"{mode}-pool", fenced_uri) as old, open_saver(f"{mode}-pool", fenced_uri) as saver:
        for thread_id in "123":
            await fill(old, thread_id)
        with psycopg.connect(direct(fenced_uri), autocommit=True) as conn:
            conn.execute("update checkpoint_blobs set blob = '\\xc1' where version = 'b' and thread_id = '1'")
            conn.execute("insert into moved (thread_id, state, moved_to) values ('1', 'moved', 'another log')")
        done = await saver.log.import_from(direct(fenced_uri), thread_ids=[*"123"], workers=1)
        assert done.threads == {"refused": 1, "imported": 2}


async def test_a_thread_that_a_writer_holds_is_left_out(
    mode: Mode, fenced_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph.checkpoint.eventlog.transfer.fenced.fence.PATIENCE", 0.2)
    async with open_old(f"{mode}-pool", fenced_uri) as old, open_saver(f"{mode}-pool", fenced_uri) as saver:
        for thread_id in "12":
            await fill(old, thread_id)
        with psycopg.connect(direct(fenced_uri)) as writer:
            writer.execute("insert into checkpoint_blobs values ('1', '', 'x', '1', 'null', '')")
            done = await saver.log.import_from(direct(fenced_uri))
            assert done.threads == {"imported": 1, "refused": 1}
            assert "a transaction that wrote to it does not end" in str(done.not_done[0].detail)
        assert (await saver.log.import_from(direct(fenced_uri), resume=True)).threads == {"equal": 1, "imported": 1}


async def test_a_thread_that_is_deleted_while_it_is_imported_is_deleted_here(
    mode: Mode, fenced_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = fence.finish

    def deleting(statements: Any, thread_id: str) -> Any:
        with psycopg.connect(direct(fenced_uri), autocommit=True) as conn:
            conn.execute("delete from checkpoints where thread_id = '1'")
        return finish(statements, thread_id)

    monkeypatch.setattr(fence, "finish", deleting)
    async with open_old(f"{mode}-pool", fenced_uri) as old, open_saver(f"{mode}-pool", fenced_uri) as saver:
        await fill(old, "1")
        assert (await saver.log.import_from(direct(fenced_uri))).threads == {"deleted": 1}
        assert await listed_ids(saver, config_of("1")) == []
