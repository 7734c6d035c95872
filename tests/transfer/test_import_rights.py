"""How far the right to import goes: new threads, and records that say no more than from where."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from psycopg.types.json import Jsonb

from eventlog.rights import Rights
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.database.test_rights import as_role, role
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of
from tests.support.pooler import direct

__all__ = ["role"]  # a fixture

pytestmark = pytest.mark.portable

#: What verification reads in records.
LIES = {
    "anchor": [1, "00"],
    "lost": [[1, 1, "00"]],
    "erased": [[1, 1]],
    "records": [[1, "2020-01-01T00:00:00Z"]],
    "source": "elsewhere",
    "events": 1000,
    "mine": 1,
}

IMPORT = "select eventlog.import_events_v1('1', '', %s, '[]', '{}', '{}', '{}', '{}')"

ATTEMPTS: list[tuple[str, tuple[Any, ...]]] = [
    (IMPORT, (2,)),
    ("select eventlog.record_import_v1('1', null, %s)", (Jsonb({"outline": "forged"}),)),
]


def grant(uri: str, role: str, *sets: Rights) -> None:
    with psycopg.connect(direct(uri), autocommit=True) as conn:
        for rights in sets:
            EventLogSaver(conn).log.grant(rights, role)


def begin_thread(saver: EventLogSaver) -> Any:
    """Begin a thread with one event; returns the config of its checkpoint."""
    return saver.put(config_of("1"), empty_checkpoint(), {}, {})


@pytest.mark.attack("stolen writer")
@pytest.mark.parametrize(("statement", "params"), ATTEMPTS)
def test_an_append_does_not_make_a_thread_one_that_may_be_imported_into(
    role: str, database_uri: str, statement: str, params: tuple[Any, ...]
) -> None:
    with EventLogSaver.from_conn_string(direct(database_uri)) as owners:
        config = begin_thread(owners)
    grant(database_uri, role, "importer")
    with psycopg.connect(as_role(direct(database_uri), role), autocommit=True) as conn:
        conn.execute("begin")
        EventLogSaver(conn).put_writes(config, [("x", 2)], "task")
        assert conn.execute("select seq from eventlog.streams").fetchall() == [(2,)]
        with pytest.raises(psycopg.errors.UniqueViolation, match="thread 1 "):
            conn.execute(statement.encode(), params)
    assert Tables(database_uri).events() == 1


@pytest.mark.attack("stolen writer")
@pytest.mark.parametrize(("statement", "params"), ATTEMPTS)
def test_nothing_is_imported_into_a_thread_that_was_erased(
    role: str, database_uri: str, statement: str, params: tuple[Any, ...]
) -> None:
    """Not even where the same transaction began and erased it."""
    grant(database_uri, role, "importer", "eraser")
    with psycopg.connect(as_role(direct(database_uri), role), autocommit=True) as conn:
        conn.execute("begin")
        saver = EventLogSaver(conn)
        begin_thread(saver)
        saver.delete_thread("1")
        assert conn.execute("select seq from eventlog.streams").fetchall() == [(2,)]
        with pytest.raises(psycopg.errors.UniqueViolation, match="thread 1 "):
            conn.execute(statement.encode(), params)
    assert Tables(database_uri).events() == 0


@pytest.mark.attack("stolen writer")
async def test_records_of_imports_and_copies_take_no_more_of_details_than_they_have_to_say(
    role: str, database_uri: str
) -> None:
    grant(database_uri, role, "importer")
    with psycopg.connect(as_role(direct(database_uri), role), autocommit=True) as conn:
        with conn.transaction():
            begin_thread(EventLogSaver(conn))
            conn.execute(
                "select eventlog.record_import_v1('1', 'ada', %s)",
                (Jsonb(LIES | {"from": {"saver": "S"}, "outline": "o"}),),
            )
        conn.execute(
            "select eventlog.copy_stream_v1('1', '2', '', null, null, 'copy_thread', 'ada', %s)",
            (Jsonb(LIES | {"request": "r", "checkpoint_id": "1"}),),
        )
    tables = Tables(database_uri)
    every = {"operation", "by", "actor", "previous", "salt", "events", "checkpoints"}
    (imported,) = tables.records("1")
    assert imported.keys() == every | {"from", "outline"}
    assert (imported["from"], imported["outline"], imported["events"]) == ({"saver": "S"}, "o", 1)
    (copied,) = tables.records("2")
    assert copied.keys() == every | {"source", "source_seq", "source_digest", "request", "checkpoint_id"}
    assert (copied["source"], copied["events"], copied["request"]) == ("1", 1, "r")
    async with open_saver("sync-pool", database_uri) as owners:
        assert not (await owners.log.verify(states=True)).problems
