"""`eventlog tail` and `eventlog lag`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from eventlog.events import Cursor
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.cli.command import (
    MODULE,
    ODD,
    PATIENCE,
    clean_environment,
    documents,
    eventlog,
    fill,
    interrupt,
    process,
    start,
    uri,
)
from tests.database.test_rights import as_role, role
from tests.feed.test_feed import append
from tests.support.checkpoints import config_of
from tests.support.pooler import direct

__all__ = ["clean_environment", "role", "uri"]  # fixtures


def test_tail_json_has_a_line_for_each_event(uri: str) -> None:
    """One line for each event, with all that there is but the body."""
    lines = documents(eventlog(uri, "tail", "--json"))
    with EventLogSaver.from_conn_string(uri) as saver:
        events = list(saver.log.tail())
    assert [line["cursor"] for line in lines] == [str(event.cursor) for event in events]
    assert lines[0] == {
        "cursor": str(events[0].cursor),
        "thread_id": "old",
        "checkpoint_ns": "",
        "seq": 1,
        "recorded_at": events[0].recorded_at.isoformat(),
        "kind": "checkpoint",
        "checkpoint_id": "1",
        "base_seq": None,
        "as_of": None,
        "is_replay": False,
        "bytes": len(events[0].body),
        "digest": events[0].digest.hex(),
    }
    assert [line["kind"] for line in lines[:2]] == ["checkpoint", "writes"]


async def test_tail_shows_ids_escaped_on_one_line(uri: str) -> None:
    """Ids as they are, on one line, whatever is in them."""
    await fill(uri, ODD, "1")
    done = eventlog(uri, "tail", "--thread", ODD)
    first, second = done.stdout.splitlines()
    assert "[red]odd[/red]\\x1b[31m\\n:smile:é  #1  checkpoint  1  " in first
    assert "#2  writes" in second
    cursor = first.split()[-1]
    assert eventlog(uri, "tail", "--after", cursor).stdout.splitlines()[-1] == second
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.log.prune(["old"], keep_last=1)
        saver.copy_thread("old", "copy")
        saver.delete_thread("new")
    shown = eventlog(uri, "tail").stdout
    for text in ("checkpoint (relocated)", "  erased  ", "  copied  -  ", "  deleted  1  "):
        assert text in shown


def test_tail_selects_by_thread_limit_and_cursor(uri: str) -> None:
    everything = documents(eventlog(uri, "tail", "--json"))
    assert documents(eventlog(uri, "tail", "--json", "--limit", "3")) == everything[:3]
    some = documents(eventlog(uri, "tail", "--json", "--thread", "new", "--thread", "none"))
    assert some == [line for line in everything if line["thread_id"] == "new"]
    assert documents(eventlog(uri, "tail", "--json", "--after", everything[4]["cursor"])) == everything[5:]
    assert eventlog(uri, "tail", "--after", everything[-1]["cursor"]).stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tail", "--after", "soon"], "is not a cursor"),
        (["lag", "--after", "1-2"], "is not a cursor"),
        (["tail", "--after", "9-1-1"], "another database"),
        (["lag", "--after", "1-99999999-1"], "ahead of the log"),
        (["tail", "--from-now"], "needs -f"),
        (["tail", "-f", "--from-now", "--after", "1-1-1"], "cannot be combined with --after"),
        (["tail", "--limit", "0"], "--limit"),
    ],
)
def test_wrong_cursors_and_options_are_refused(uri: str, arguments: list[str], message: str) -> None:
    done = eventlog(uri, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


@contextmanager
def following(uri: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`tail -f` in a process of its own."""
    with start(uri, "tail", "-f", *arguments) as running:
        try:
            yield running
        finally:
            running.kill()


def test_follow_prints_events_as_they_come(uri: str) -> None:
    """Lines come as the events do, also into a pipe; who interrupts it is told nothing that is not so."""
    with EventLogSaver.from_conn_string(uri) as saver, following(uri, "--json", "--thread", "1") as running:
        assert running.stdout is not None
        for number in range(3):
            saver.put_writes(config_of("1", "1"), [("x", number)], f"task {number}")
            line = json.loads(running.stdout.readline())
            assert (line["thread_id"], line["seq"]) == ("1", number + 1)
        out, err = interrupt(running)
    assert (running.returncode, out) == (130, "")
    assert err == f"Stopped. To continue, add --after {line['cursor']}\n"


def test_from_now_starts_at_the_end(uri: str) -> None:
    with (
        EventLogSaver.from_conn_string(uri) as saver,
        following(uri, "--json", "--from-now", "--limit", "1") as running,
    ):
        seen = 0
        # It starts from the moment that it looks, which is some time after the process began.
        while running.poll() is None:
            saver.put_writes(config_of("1", "1"), [("x", seen)], f"task {seen}")
            seen += 1
        out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, err) == (0, "")
    assert json.loads(out)["thread_id"] == "1"


def test_follow_ends_when_the_reader_of_the_pipe_does(uri: str) -> None:
    """It ends with the next line that it writes, and says nothing."""
    with EventLogSaver.from_conn_string(uri) as saver, following(uri) as running:
        assert running.stdout is not None
        assert running.stdout.readline()
        running.stdout.close()
        for number in range(1000):
            saver.put_writes(config_of("1", "1"), [("x", number)], f"task {number}")
            if running.poll() is not None:
                break
        assert running.wait(timeout=PATIENCE) == 141
        assert running.stderr is not None
        assert running.stderr.read() == ""


def test_tail_into_head_ends_quietly(uri: str) -> None:
    with EventLogSaver.from_conn_string(uri) as saver:
        for number in range(300):
            saver.put_writes(config_of("x" * 1000, "1"), [("x", number)], f"task {number}")
    shell = subprocess.run(
        ["bash", "-c", '"$@" | head -1', "bash", *MODULE, "tail"],
        env={**os.environ, "EVENTLOG_DSN": uri},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (shell.returncode, shell.stderr) == (0, "")
    assert len(shell.stdout.splitlines()) == 1


def test_lag_counts_events_and_names_the_oldest_transaction(uri: str) -> None:
    done = eventlog(uri, "lag")
    assert done.exit_code == 0
    assert done.stdout.startswith("8 events after 1-0-0, the first of them ")
    cursor = documents(eventlog(uri, "tail", "--json"))[-1]["cursor"]
    assert eventlog(uri, "lag", "--after", cursor).stdout.startswith(
        f"0 events after {cursor}. The end of the feed is {cursor}."
    )
    # Directly: a pooler's client does not know the server's process.
    with (
        psycopg.connect(direct(uri), application_name="the slow one") as slow,
        psycopg.connect(uri, autocommit=True) as quick,
    ):
        append(slow, "slow")
        append(quick, "quick")
        shown = eventlog(uri, "lag").stdout
        assert "1 event not settled yet: an older transaction has not ended." in shown
        assert f"process {slow.info.backend_pid} of postgres in {slow.info.dbname} (the slow one), idle in" in shown
        (document,) = documents(eventlog(uri, "lag", "--json"))
        assert (document["waiting"], document["unsettled"]) == (8, 1)
        assert document["held_by"]["pid"] == slow.info.backend_pid
        assert Cursor.parse(document["end"]) == Cursor.parse(cursor)
        slow.rollback()


def test_lag_without_the_right_says_which_grant_is_missing(uri: str, role: str) -> None:
    with psycopg.connect(uri, autocommit=True) as admin:
        admin.execute("select eventlog.grant_rights_v1('auditor', %s, 'eventlog_views')", (role,))
    with psycopg.connect(uri) as slow, psycopg.connect(uri, autocommit=True) as quick:
        append(slow, "slow")
        append(quick, "quick")
        done = eventlog(as_role(uri, role), "lag")
        assert done.exit_code == 0
        assert "may not see its query: grant pg_read_all_stats" in done.stdout
        assert len(eventlog(as_role(uri, role), "tail").stdout.splitlines()) == 8


def test_tail_into_a_closed_pipe_ends_with_141(uri: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done: Any = process(uri, "tail", capture_output=False, stdout=write, stderr=subprocess.PIPE)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
