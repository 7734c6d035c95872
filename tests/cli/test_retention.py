"""`retention` and `maintain`: what they say, what they leave, and how they end."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from langgraph.checkpoint.eventlog import EventLogSaver, Retention, verify_receipt, verify_signed_seals
from tests.cli.command import PATIENCE, actors, clean_environment, documents, eventlog, fill, process, start
from tests.cli.test_signals import wait_until
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables
from tests.support.clock import Clock
from tests.support.pooler import direct
from tests.support.signing import make_keys

__all__ = ["clean_environment"]  # a fixture

DAY = timedelta(days=1)


@pytest.fixture
async def aged(timed_uri: str) -> str:
    """A log with a thread that is idle for a hundred days, and one that is not."""
    clock = Clock(timed_uri, behind=100 * DAY)
    async with open_saver("sync-string", timed_uri) as saver:
        await saver.setup()
    await fill(timed_uri, "old", "1", "2", "3")
    clock.advance(100 * DAY - timedelta(hours=1))
    await fill(timed_uri, "new", "1", "2", "3")
    clock.advance(timedelta(hours=1))
    return timed_uri


def threads(uri: str) -> list[str]:
    return sorted(each["thread_id"] for each in documents(eventlog(uri, "threads", "--json")))


async def test_retention_is_set_shown_and_cleared(aged: str) -> None:
    assert eventlog(aged, "retention", "show").stdout == "No retention is set: 'maintain' erases nothing.\n"
    arguments = ["--idle", "90d", "--history", "30d", "--keep-last", "10", "--interrupted", "365d"]
    done = eventlog(aged, "retention", "set", *arguments, "--actor", "ada")
    assert (done.exit_code, done.stderr) == (0, "To see what 'maintain' would erase: eventlog maintain --dry-run\n")
    assert done.stdout == (
        "Threads without an append for 90d are erased.\n"
        "Checkpoints are erased unless they are younger than 30d or among the newest 10. The latest of each namespace, "
        "the ends of branches and pending interrupts stay.\n"
        "Threads with a pending interrupt stay as they are until 365d after their last append.\n"
        "A thread's own retention, in its metadata, may lengthen this.\n"
    )
    assert eventlog(aged, "retention", "show").stdout == done.stdout
    (found,) = documents(eventlog(aged, "retention", "show", "--json"))
    seconds = {"idle": 90 * 86400.0, "history": 30 * 86400.0, "keep_last": 10, "interrupted": 365 * 86400.0}
    assert found == {"retention": {**seconds, "allow_shorter": False}}
    with EventLogSaver.from_conn_string(aged) as saver:
        assert saver.log.retention() == Retention(idle=90 * DAY, history=30 * DAY, keep_last=10, interrupted=365 * DAY)
    assert Tables(aged).one("select retention_actor from {schema}.settings") == "ada"
    assert documents(eventlog(aged, "retention", "set", "--keep-last", "1", "--allow-shorter", "--json"))[0][
        "retention"
    ] == {"idle": None, "history": None, "keep_last": 1, "interrupted": None, "allow_shorter": True}
    assert documents(eventlog(aged, "retention", "clear", "--json")) == [{"retention": None}]
    assert threads(aged) == ["new", "old"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "it erases nothing"),
        (["--idle", "1m"], "idle"),
        (["--idle", "30d", "--interrupted", "1d"], "interrupted (1 day, 0:00:00) is shorter than idle"),
        (["--keep-last", "0"], "--keep-last"),
        (["--idle", "soon"], "is not a duration"),
    ],
)
def test_a_contradiction_ends_with_2(arguments: list[str], why: str) -> None:
    done = eventlog("dbname=nowhere", "retention", "set", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert why in done.stderr


async def test_maintain_erases_what_the_setting_says_without_asking(aged: str) -> None:
    """A dry run changes nothing and counts the same; JSON has a line for each thread and one for the run."""
    done = eventlog(aged, "maintain")
    assert "No retention is set, so nothing is erased. To set one: eventlog retention set" in done.stdout
    eventlog(aged, "retention", "set", "--idle", "90d", "--keep-last", "1")
    contents = Tables(aged).contents()
    dry = eventlog(aged, "maintain", "--dry-run")
    assert Tables(aged).contents() == contents
    assert dry.stdout.startswith("Would erase 1 idle thread and history of 1 thread: 5 checkpoints, ")
    erased, pruned, run = documents(eventlog(aged, "maintain", "--json", "--actor", "nightly"))
    # In the order of the ids.
    assert (erased["thread_id"], erased["checkpoints"]) == ("new", 2)
    assert (pruned["thread_id"], pruned["checkpoints"]) == ("old", 3)
    assert (run["looked_at"], run["expired"], run["pruned"], run["checkpoints"]) == (2, 1, 1, 5)
    assert (run["failed"], run["stood_by_for"], run["is_dry_run"], run["seal"]) == ({}, None, False, None)
    assert run["retention"]["idle"] == 90 * 86400
    assert actors(aged) == {"nightly"}
    assert threads(aged) == ["new"]
    assert eventlog(aged, "maintain").stdout == (
        "Erased 0 idle threads and history of 0 threads: 0 checkpoints, 0 events, 0 bytes. Looked at 1 thread.\n"
    )


async def test_maintain_says_that_it_stands_by(aged: str) -> None:
    eventlog(aged, "retention", "set", "--idle", "90d")
    with psycopg.connect(aged) as conn:
        conn.execute("select eventlog.hold_maintenance_v1('host:7', 60)")
        conn.commit()
        done = eventlog(aged, "maintain")
        assert (done.exit_code, done.stdout) == (0, "Standing by: another worker maintains the log (host:7).\n")
    assert threads(aged) == ["new", "old"]


async def test_maintain_writes_receipts_and_a_seal(aged: str, tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    out = tmp_path / "proofs"
    out.mkdir()
    eventlog(aged, "retention", "set", "--idle", "90d")
    signed = ["--seal-key", str(keys.private), "--receipt-key", str(keys.private)]
    _, run = documents(eventlog(aged, "maintain", *signed, "--out", str(out), "--json"))
    (receipt,) = map(Path, run["receipts"])
    assert verify_receipt(receipt.read_text(), keys.public).erasures[0].operation == "maintain"
    (sealed,) = verify_signed_seals([run["seal"]["document"]], keys.public)
    assert sealed.digest.hex() == run["seal"]["digest"]
    assert sorted(out.iterdir()) == sorted([receipt, out / "seal-1.json"])
    refused = eventlog(aged, "maintain", "--out", str(out))
    assert (refused.exit_code, refused.stdout) == (2, "")


async def test_maintain_ends_with_1_where_a_thread_fails_and_names_it(aged: str) -> None:
    with EventLogSaver.from_conn_string(aged) as saver:
        saver.put(
            {"configurable": {"thread_id": "new", "checkpoint_ns": "", "checkpoint_id": "3"}},
            {**saver.get({"configurable": {"thread_id": "new"}}), "id": "4"},  # type: ignore[typeddict-item]
            {"retention": "gold"},  # type: ignore[typeddict-unknown-key]
            {},
        )
    eventlog(aged, "retention", "set", "--idle", "90d", "--keep-last", "1")
    done = eventlog(aged, "maintain")
    assert done.exit_code == 1
    assert "Thread 'new' was left as it is: 'gold' is not a retention" in done.stderr
    assert threads(aged) == ["new"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
async def test_a_signal_ends_the_worker_in_its_pause(aged: str, number: signal.Signals, code: int) -> None:
    """Cleanly: what it did is committed, and another worker need not wait for it."""
    eventlog(aged, "retention", "set", "--idle", "90d")
    with start(aged, "maintain", "--every", "1h", "--json") as child:
        try:
            assert child.stdout is not None
            assert child.stderr is not None
            lines: list[dict[str, Any]] = [json.loads(child.stdout.readline()) for _ in range(2)]
            child.send_signal(number)
            assert child.wait(PATIENCE) == code
            # Before it, a pooler may have been found.
            assert child.stderr.read().endswith("Stopped. The next run goes on.\n")
        finally:
            child.kill()
    assert (lines[0]["thread_id"], lines[1]["expired"]) == ("old", 1)
    assert Tables(aged).one("select held_by from {schema}.locks where name = 'maintain'") is None
    assert process(aged, "maintain").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_a_run_behind_a_thread(aged: str, number: signal.Signals) -> None:
    """Not in the middle of one; the next run goes on."""
    eventlog(aged, "retention", "set", "--idle", "90d", "--keep-last", "1")
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    with psycopg.connect(direct(aged)) as blocker:
        blocker.execute("select 1 from eventlog.streams where thread_id = 'new' for update")
        with start(aged, "maintain", "--json") as child:
            try:
                wait_until(lambda: Tables(aged).one(waiting))
                child.send_signal(number)
                blocker.rollback()
                out, err = child.communicate(timeout=PATIENCE)
            finally:
                child.kill()
    assert child.returncode == 128 + number
    assert err.endswith("Stopped. The next run goes on.\n")
    pruned, run = map(json.loads, out.splitlines())
    assert (pruned["thread_id"], run["pruned"], run["expired"], run["is_stopped"]) == ("new", 1, 0, True)
    _, run = documents(eventlog(aged, "maintain", "--json"))
    assert (run["pruned"], run["expired"]) == (0, 1)
