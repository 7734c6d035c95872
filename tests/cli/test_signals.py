"""SIGINT and SIGTERM, sent to real processes: the first ends a command cleanly, the second at once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import EventLogSaver, Usage
from tests.cli.command import PATIENCE, clean_environment, documents, eventlog, interrupt, start, uri
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of
from tests.support.pooler import direct

__all__ = ["clean_environment", "uri"]  # fixtures

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
#: What a command that follows the log ends with.
CODES = {signal.SIGINT: 130, signal.SIGTERM: 0}


@contextmanager
def running(uri: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with start(uri, *arguments) as child:
        try:
            yield child
        finally:
            child.kill()


def wait_until(is_so: Callable[[], Any]) -> None:
    until = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


@BOTH
def test_tail_ends_behind_a_line_and_says_how_to_continue(uri: str, number: signal.Signals) -> None:
    """Nothing is shown twice, and nothing is left out, by those who continue."""
    shown: list[dict[str, Any]] = []
    after: list[str] = []
    with EventLogSaver.from_conn_string(uri) as saver:
        for round_ in range(2):
            with running(uri, "tail", "-f", "--json", *after) as child:
                assert child.stdout is not None
                shown.append(json.loads(child.stdout.readline()))
                for each in range(3):
                    saver.put_writes(config_of("1", "1"), [("x", each)], f"task {round_} {each}")
                child.send_signal(number)
                # Not `communicate`, which does not see what `readline` has in its buffer.
                shown += [json.loads(line) for line in child.stdout]
                assert child.wait(PATIENCE) == CODES[number]
                assert child.stderr is not None
                err = child.stderr.read()
            assert err == f"Stopped. To continue, add --after {shown[-1]['cursor']}\n"
            after = ["--after", shown[-1]["cursor"]]
    shown += documents(eventlog(uri, "tail", "--json", *after))
    assert shown == documents(eventlog(uri, "tail", "--json"))


@BOTH
def test_projecting_ends_behind_a_batch_with_the_cursor_saved(uri: str, number: signal.Signals) -> None:
    with EventLogSaver.from_conn_string(uri) as saver:
        with running(uri, "project", "run", "usage", "--json") as child:
            assert child.stdout is not None
            applied = json.loads(child.stdout.readline())
            out, err = interrupt(child, number)
        assert child.returncode == CODES[number]
        assert err == f"Stopped. Applied {applied['events']} events to usage; the next run continues.\n"
        assert out == ""
        (state,) = saver.log.projections()
    assert (str(state.cursor), state.events) == (applied["cursor"], applied["events"])


@BOTH
def test_what_was_to_end_by_itself_is_not_done_when_it_is_stopped(uri: str, number: signal.Signals) -> None:
    """Another worker has the projection, so that it waits: SIGTERM is no success here."""
    with psycopg.connect(direct(uri)) as other:
        eventlog(uri, "project", "run", "usage", "--once")
        other.execute("select 1 from eventlog.projections where name = 'usage' for update")
        with running(uri, "project", "run", "usage", "--once") as child:
            assert child.stderr is not None
            assert "Standing by" in child.stderr.readline()
            interrupt(child, number)
    assert child.returncode == 128 + number


@BOTH
def test_a_command_that_waits_for_a_lock_is_interrupted(uri: str, number: signal.Signals) -> None:
    """Not by the flag alone: it would wait for as long as the lock is held."""
    with psycopg.connect(uri) as blocker, psycopg.connect(direct(uri), autocommit=True) as watcher:
        blocker.execute("select 1 from eventlog.streams where thread_id = 'old' for update")
        with running(uri, "delete", "old", "--yes") as child:
            wait_until(lambda: _is_waiting(watcher))
            _, err = interrupt(child, number)
    assert child.returncode == 128 + number
    assert err.startswith("\nInterrupted.")


def _is_waiting(watcher: psycopg.Connection[Any]) -> bool:
    query = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    return bool(watcher.execute(query).fetchall())


@BOTH
def test_a_follower_that_does_not_come_by_its_flag_is_interrupted(uri: str, number: signal.Signals) -> None:
    """As when the server is away: here another session holds the table."""
    with running(uri, "tail", "-f", "--json") as child, psycopg.connect(direct(uri)) as blocker:
        assert child.stdout is not None
        child.stdout.readline()
        blocker.execute("lock table eventlog.events in access exclusive mode")
        with psycopg.connect(direct(uri), autocommit=True) as watcher:
            wait_until(lambda: _is_waiting(watcher))
        _, err = interrupt(child, number)
    assert child.returncode == 128 + number
    assert "\nInterrupted." in err


@BOTH
def test_the_second_signal_ends_the_command_at_once(uri: str, number: signal.Signals) -> None:
    """Whatever it is at: here it waits in the middle of a batch, and its pool would wait for the connection."""
    with (
        psycopg.connect(direct(uri)) as blocker,
        psycopg.connect(direct(uri), autocommit=True) as watcher,
        running(uri, "tail", "-f", "--json") as child,
    ):
        assert child.stdout is not None
        child.stdout.readline()
        blocker.execute("lock table eventlog.events in access exclusive mode")
        wait_until(lambda: _is_waiting(watcher))
        child.send_signal(number)
        time.sleep(0.5)  # Two that are pending together would be one.
        interrupt(child, signal.SIGTERM)
    assert child.returncode == 128 + signal.SIGTERM


@BOTH
def test_a_lost_exception_is_raised_again(uri: str, number: signal.Signals) -> None:
    """Python writes an exception off that a handler raises in a destructor."""
    code = (
        "import sys, time\n"
        "from langgraph.checkpoint.eventlog.cli import main\n"
        "from langgraph.checkpoint.eventlog import EventLog\n"
        "class Deaf:\n"
        "    def __del__(self):\n"
        "        print('deaf', flush=True)\n"
        "        time.sleep(300)\n"
        "def threads(*_, **__):\n"
        "    Deaf()\n"
        "    print('not any more', flush=True)\n"
        "    time.sleep(300)\n"
        "EventLog.threads = threads\n"
        "sys.exit(main(['threads']))"
    )
    environment = {**os.environ, "EVENTLOG_DSN": uri}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "deaf\n"
            out, err = interrupt(child, number)
        finally:
            child.kill()
    assert (child.returncode, out) == (128 + number, "not any more\n")
    assert "Exception ignored in" in err
    assert err.endswith("run the same command again to continue.\n")


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_stop_ends_tail_and_project(kind: str, uri: str) -> None:
    """Asked while they wait for more, and before they begin."""
    async with open_saver(kind, uri) as saver:
        for is_late in (False, True):
            stop = threading.Event()
            if not is_late:
                stop.set()
            timer = threading.Timer(0.3, stop.set)
            timer.start()
            seen = [event async for event in saver.log.tail(follow=True, poll_interval=3600, stop=stop.is_set)]
            assert len(seen) == (8 if is_late else 0)
            stop.clear()
            timer = threading.Timer(0.3, stop.set)
            timer.start()
            counts = await saver.log.project(Usage(), follow=True, poll_interval=3600, stop=stop.is_set)
            assert counts == {"usage": 0 if is_late else 8}
        for wrong in (True, stop):
            with pytest.raises(InvalidInputError, match="stop must be a function"):
                await saver.log.project(Usage(), stop=wrong)
            with pytest.raises(InvalidInputError, match="stop must be a function"):
                await asyncio.wait_for(anext(saver.log.tail(stop=wrong)), PATIENCE)
