"""The lock on a thread while it is imported."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg.sql
import pytest

from eventlog.db.retry import RetryPolicy
from eventlog.rights import Rights
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.database.test_rights import as_role, role
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import Tables
from tests.support.pooler import direct
from tests.transfer.incumbent import encrypted, load_dump

__all__ = ["role"]  # a fixture

pytestmark = pytest.mark.portable

BEGIN = "select {schema}.import_events_v1(%s, '', null, '[]', '{{}}', '{{}}', '{{}}', '{{}}')"


def try_lock(conn: Any, thread_id: str, *, is_exclusive: bool, schema: str = "eventlog") -> bool:
    name = psycopg.sql.Identifier(schema)
    query = psycopg.sql.SQL("select {}.import_lock_v1(%s, %s)").format(name)
    ((locked,),) = conn.execute(query, (thread_id, is_exclusive)).fetchall()
    return bool(locked)


def begin_import(conn: Any, thread_id: str) -> None:
    conn.execute(psycopg.sql.SQL(BEGIN).format(schema=psycopg.sql.Identifier("eventlog")), (thread_id,))


@pytest.fixture
def one(database_uri: str) -> Iterator[Any]:
    with psycopg.connect(direct(database_uri)) as conn:
        yield conn


@pytest.fixture
def other(database_uri: str) -> Iterator[Any]:
    with psycopg.connect(direct(database_uri)) as conn:
        yield conn


def test_an_import_keeps_the_exclusive_lock_from_others_until_it_ends(one: Any, other: Any) -> None:
    begin_import(one, "1")
    assert not try_lock(other, "1", is_exclusive=True)
    assert try_lock(other, "1", is_exclusive=False)
    assert try_lock(other, "2", is_exclusive=True)
    other.rollback()
    one.commit()
    assert try_lock(other, "1", is_exclusive=True)
    assert not try_lock(one, "1", is_exclusive=False)


def test_no_import_begins_while_another_has_the_exclusive_lock(one: Any, other: Any) -> None:
    assert try_lock(other, "1", is_exclusive=True)
    with pytest.raises(psycopg.errors.SerializationFailure, match="another transaction deletes thread 1 or searches"):
        begin_import(one, "1")
    one.rollback()
    other.rollback()
    begin_import(one, "1")


def test_logs_of_a_database_have_locks_of_their_own(one: Any, other: Any, database_uri: str) -> None:
    with psycopg.connect(direct(database_uri), autocommit=True) as conn:
        EventLogSaver(conn, schema="other log").setup()
    assert try_lock(one, "1", is_exclusive=True)
    assert try_lock(other, "1", is_exclusive=True, schema="other log")


@pytest.mark.parametrize(("rights", "may"), [("importer", True), ("eraser", True), ("writer", False)])
def test_importers_and_erasers_may_lock(role: str, database_uri: str, rights: Rights, may: bool) -> None:
    with psycopg.connect(direct(database_uri), autocommit=True) as conn:
        EventLogSaver(conn).log.grant(rights, role)
    with psycopg.connect(as_role(direct(database_uri), role)) as conn:
        if may:
            assert try_lock(conn, "1", is_exclusive=True)
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                try_lock(conn, "1", is_exclusive=True)


@POOLS
async def test_a_thread_that_is_being_deleted_is_refused_before_its_source_is_read(
    kind: str, database_uri: str, other: Any
) -> None:
    load_dump(database_uri, "3.2")
    assert try_lock(other, "chat", is_exclusive=True)
    async with open_saver(
        kind, database_uri, serde=encrypted(), retry=RetryPolicy(attempts=2, first_wait=0.01, longest_wait=0.01)
    ) as saver:
        done = await saver.log.import_from(database_uri, thread_ids=["chat"])
        (refused,) = done.not_done
        assert (refused.thread_id, refused.status, refused.checkpoints) == ("chat", "refused", 0)
        assert "another transaction deletes thread 'chat' or searches for it" in refused.detail
        assert Tables(database_uri).rows("select 1 from {schema}.streams") == []
        other.rollback()
        assert (await saver.log.import_from(database_uri, thread_ids=["chat"])).threads == {"imported": 1}
