"""The commands `export` and `fence`."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from tests.cli.command import clean_environment, documents, eventlog
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, converse, listed_ids, put
from tests.support.pooler import direct
from tests.transfer.migrating import open_migrating
from tests.transfer.old_savers import fill, latest_id, open_old

__all__ = ["clean_environment"]  # a fixture

pytestmark = pytest.mark.portable


async def test_export_writes_threads_and_names_what_it_cannot(uri: str) -> None:
    async with open_saver("sync-pool", uri) as saver:
        await converse(saver, "1", ids="abc")
        await converse(saver, "2", ids="ab")
        done = eventlog(uri, "export", "--to", uri)
        assert (done.exit_code, done.stderr) == (0, "")
        assert "Exported 2 threads, " in done.stdout
        assert "Each of their 5 checkpoints was read back and compared." in done.stdout

        await put(saver, config_of("bad"), "a", {"x": "a\ud800"})
        done = eventlog(uri, "export", "--to", uri, "--to-schema", "public")
        assert done.exit_code == 1
        assert "already there: 2 threads" in done.stdout
        assert "bad: checkpoint a, channel 'x' has a value that LangGraph's serializer refuses" in done.stdout
        assert "1 thread could not be exported." in done.stderr

        found = documents(eventlog(uri, "export", "--to", uri, "--threads", "1", "--workers", "1", "--json"))
        assert [(each.get("thread_id"), each.get("outcome")) for each in found[:1]] == [("1", "equal")]
        assert found[1] == {"threads": 0, "equal": 1, "checkpoints": 3, "bytes": 0, "refused": 0}
    async with open_old("sync-pool", uri) as old:
        assert await listed_ids(old, config_of("1")) == ["c", "b", "a"]


def test_export_without_tables_says_what_to_do(uri: str, empty_database_uri: str) -> None:
    done = eventlog(uri, "export", "--to", empty_database_uri)
    assert done.exit_code == 1
    assert "Run PostgresSaver.setup() there" in done.stderr
    done = eventlog(uri, "export", "--to", "postgresql://nobody:sw0rdfish@/x?port=nonsense")
    assert done.exit_code == 2
    assert "sw0rdfish" not in done.stderr


async def test_a_fence_is_managed_by_commands(uri: str) -> None:
    source = ["--from", uri]
    assert "There is no fence." in eventlog(uri, "fence", "status", *source).stdout
    assert documents(eventlog(uri, "fence", "install", *source, "--json")) == [{"installed": True}]
    assert "The fence was installed already." in eventlog(uri, "fence", "install", *source).stdout

    async with open_migrating("sync-pool", uri) as saver:
        for thread_id in ("new", "copied", "taken over"):
            await fill(saver, thread_id)
        await fill(saver.old_face, "in limbo")
        with psycopg.connect(direct(uri), autocommit=True) as conn:
            # Where movers died.
            mark = "insert into moved (thread_id, state, moved_to) "
            conn.execute(mark.encode() + b"select 'in limbo', 'moving', moved_to from moved limit 1")
            conn.execute(mark.encode() + b"values ('far', 'moving', 'another log')")
            conn.execute("update moved set state = 'moving' where thread_id = 'copied'")
        shown = eventlog(uri, "fence", "status", *source).stdout
        assert "2 threads moved, 3 being moved." in shown
        assert "in limbo: being moved, or the process that moved it died: run eventlog fence settle" in shown
        (found,) = documents(eventlog(uri, "fence", "status", *source, "--json"))
        assert found["moving"] == ["copied", "far", "in limbo"]

        refused = eventlog(uri, "fence", "remove", *source, "--yes")
        assert refused.exit_code == 2
        assert "Run `eventlog fence settle` first" in refused.stderr
        settled = documents(eventlog(uri, "fence", "settle", *source, "--json"))
        assert settled[0] == {"thread_id": "copied", "moved": True}
        assert settled[1] == {"thread_id": "in limbo", "moved": False}
        assert settled[2] == {"settled": 2, "moved": 1, "elsewhere": ["far"]}
        with psycopg.connect(direct(uri), autocommit=True) as conn:
            conn.execute("delete from moved where thread_id = 'far'")
        await fill(saver.old_face, "in limbo", "d")
        assert await latest_id(saver, "in limbo") == "d"

    asks = eventlog(uri, "fence", "remove", *source)
    assert asks.exit_code == 2
    assert "4 threads were moved to the log, and there is no terminal to ask on. Give --yes" in asks.stderr
    assert "The fence is removed." in eventlog(uri, "fence", "remove", *source, "--yes").stdout
    assert documents(eventlog(uri, "fence", "remove", *source, "--from-schema", "public", "--json")) == [
        {"removed": False}
    ]


async def test_a_thread_that_an_old_replica_deleted_is_named(uri: str) -> None:
    async with open_old("sync-pool", uri) as old:
        await fill(old, "1")
        eventlog(uri, "fence", "install", "--from", uri)
        async with open_migrating("sync-pool", uri) as saver:
            assert await latest_id(saver, "1") == "c"
        await old.adelete_thread("1")
    shown: Any = eventlog(uri, "fence", "status", "--from", uri)
    assert "1: deleted from the old tables after it was moved: run eventlog delete" in shown.stdout
