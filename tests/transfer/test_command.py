"""`eventlog import`: what it writes, how it ends, and that it goes on after it was killed."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from typing import Any

import psycopg
import pytest

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.cli.command import PATIENCE, clean_environment, eventlog, process, start
from tests.support.checkpoints import Tables
from tests.support.pooler import direct
from tests.transfer.dumps import KEY
from tests.transfer.incumbent import load_dump
from tests.transfer.test_import import THREADS

__all__ = ["clean_environment"]  # a fixture


@pytest.fixture
def source(database_uri: str) -> str:
    load_dump(database_uri, "3.2", "old tables")
    return database_uri


def test_import_names_what_it_could_not_import_and_ends_with_1(source: str) -> None:
    done = eventlog(source, "import", "--from", source, "--from-schema", "old tables")
    assert done.exit_code == 1
    assert "Imported 13 threads with 85 checkpoints and 182 writes: " in done.stdout
    assert "1 thread: refused\n  encrypted: thread 'encrypted' was not imported: checkpoint " in done.stdout
    again = eventlog(source, "--json", "import", "--from", source, "--from-schema", "old tables", "--resume")
    assert again.exit_code == 1
    *threads, total = [json.loads(line) for line in again.stdout.splitlines()]
    assert {each["thread_id"]: each["status"] for each in threads} == {
        **dict.fromkeys(THREADS, "equal"),
        "encrypted": "refused",
    }
    assert total["threads"] == {"equal": 13, "refused": 1}


def test_import_with_the_key_imports_all(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGGRAPH_AES_KEY", KEY)
    monkeypatch.setenv("EVENTLOG_FROM_DSN", source)
    first = eventlog(source, "import", "--from-schema", "old tables", "--part", "1/2", "--actor", "ada")
    assert first.exit_code == 0
    assert "Each was read back and compared." in first.stdout
    rest = eventlog(source, "import", "--from-schema", "old tables", "--threads", "chat", "--threads", "sent")
    assert rest.exit_code == 0
    second = eventlog(source, "import", "--from-schema", "old tables", "--part", "2/2", "--workers", "1")
    assert second.exit_code == 0
    last = eventlog(source, "import", "--from-schema", "old tables", "--idle", "100w")
    assert last.exit_code == 0
    assert last.stdout == "There is nothing to import.\n"
    shown = eventlog(source, "history", "chat")
    assert "import by postgres for " in shown.stdout
    assert "/old tables:" in shown.stdout
    eventlog(source, "delete", "chat", "--yes")
    left = eventlog(source, "import", "--from-schema", "old tables")
    assert left.exit_code == 0
    assert "1 thread: deleted from the log, and skipped\n" in left.stdout
    assert "13 threads: already imported, and equal\n" in left.stdout


def test_import_refuses_bad_input_with_a_message(source: str) -> None:
    for arguments, code, message in (
        ((), 1, "has no table checkpoint_migrations on the search path of user"),
        (("--from-schema", "eventlog"), 1, "has no table checkpoint_migrations"),
        (("--from-schema", "old tables", "--part", "2"), 2, "write 1/2 for the first of two"),
        (("--from-schema", "old tables", "--part", "3/2"), 2, "part must be"),
        (("--from-schema", "old tables", "--threads", "nope"), 1, ""),
    ):
        done = eventlog(source, "import", "--from", source, *arguments)
        assert (done.exit_code, message in done.stderr) == (code, True), done.stderr
    assert Tables(source).rows("select 1 from {schema}.streams") == []


def test_a_dry_run_estimates_and_changes_nothing(source: str) -> None:
    done = eventlog(source, "import", "--from", source, "--from-schema", "old tables", "--dry-run")
    assert done.exit_code == 0
    assert " in your tables (14 threads) would take " in done.stdout
    assert "in the log with indexes" in done.stdout
    assert "Would be refused: thread 'encrypted' was not imported" in done.stderr
    assert Tables(source).rows("select 1 from {schema}.streams") == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_an_import_that_was_killed_goes_on(source: str, how: signal.Signals) -> None:
    """Again and again, in the middle of threads: each is there whole, or not at all."""
    copies = 40
    with psycopg.connect(direct(source), autocommit=True) as conn:
        conn.execute('set search_path = "old tables"')
        conn.execute("delete from checkpoints where thread_id = 'encrypted'")
        conn.execute("delete from checkpoint_writes where thread_id = 'encrypted'")
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
            columns = ", ".join(
                name
                for (name,) in conn.execute(
                    "select quote_ident(attname) from pg_attribute where attrelid = %s::regclass and attnum > 1"
                    " and not attisdropped order by attnum",
                    (table,),
                )
            )
            statement = (
                f"insert into {table} (thread_id, {columns}) select thread_id || ' ' || n, {columns}"
                f" from {table}, generate_series(1, {copies}) as n"
            )
            conn.execute(statement.encode())
    whole = {id_: kept(source, id_) for id_ in THREADS}
    imported, rounds = 0, 0
    while rounds < 3:
        child = start(source, "import", "--from", source, "--from-schema", "old tables", "--resume", "--workers", "2")
        wait_for_more(source, child, imported)
        child.send_signal(how)
        child.communicate(timeout=PATIENCE)
        there = Tables(source).rows("select distinct thread_id from {schema}.streams")
        assert len(there) > imported
        for (id_,) in there:
            assert checkpoints(source, id_) == whole[id_.rsplit(" ", 1)[0] if id_ not in whole else id_]
        imported = len(there)
        rounds += 1
    done = process(source, "--json", "import", "--from", source, "--from-schema", "old tables", "--resume")
    assert done.returncode == 0, done.stderr
    total = json.loads(done.stdout.splitlines()[-1])
    assert total["threads"]["equal"] >= imported
    assert sum(total["threads"].values()) == (len(THREADS) - 1) * (copies + 1)
    with EventLogSaver.from_conn_string(source) as saver:
        assert not saver.log.verify().problems


def wait_for_more(uri: str, child: subprocess.Popen[str], imported: int) -> None:
    """Until it has imported some more threads."""
    until = time.monotonic() + PATIENCE
    while Tables(uri).one("select count(distinct thread_id) from {schema}.streams") < imported + 5:
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < until


def kept(uri: str, thread_id: str) -> int:
    with psycopg.connect(direct(uri)) as conn:
        query = 'select count(*) from "old tables".checkpoints where thread_id = %s'
        ((count,),) = conn.execute(query, (thread_id,)).fetchall()
        return int(count)


def checkpoints(uri: str, thread_id: str) -> Any:
    return Tables(uri).one("select count(*) from {schema}.checkpoints where thread_id = %s", thread_id)
