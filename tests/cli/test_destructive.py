"""The commands that erase: dry runs, asking, and what they leave."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet
import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from eventlog.records import Erased
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.cli.commands import erase
from tests.cli.command import COMMANDS as ALL
from tests.cli.command import (
    MODULE,
    ODD,
    PATIENCE,
    actors,
    clean_environment,  # noqa: F401 -- a fixture
    documents,
    eventlog,
    fill,
    interrupt,
    process,
    start,
)
from tests.database.test_rights import as_role, role  # noqa: F401 -- a fixture
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, checkpoint_of, config_of, listed_ids, values_of
from tests.support.clock import Clock
from tests.support.pooler import direct
from tests.support.server import Server

DAY = timedelta(days=1)
#: Long enough to be stored as differences.
TEXT = " ".join(map(str, range(500)))

#: Each command that erases, with arguments that make it erase some of the log of `uri`.
COMMANDS = {
    "delete": ["delete", "old"],
    "prune": ["prune", "old", "recent"],
    "delete-runs": ["delete-runs", "r1"],
    "expire": ["expire", "--idle", "90d"],
    "retain": ["retain", "--history", "30d"],
}
#: Checkpoints of the threads "old", "recent" and "other" that each of them leaves.
LEFT = {
    "delete": [[], ["3", "2", "1"], ["1"]],
    "prune": [["3"], ["3"], ["1"]],
    "delete-runs": [[], ["3", "2", "1"], []],
    "expire": [[], ["3", "2", "1"], []],
    "retain": [["3"], ["3", "2", "1"], ["1"]],
}
DAILY: dict[str, Any] = {"partition_interval": "day", "partitions_ahead": 1}

each_command = pytest.mark.parametrize("command", COMMANDS)


async def fill_three_threads(uri: str) -> None:
    clock = Clock(uri, behind=100 * DAY)
    async with open_saver("sync-string", uri, **DAILY) as saver:
        await saver.setup()
    await fill(uri, "old", "1", "2", "3", run_id="r1", **DAILY)
    await fill(uri, "other", "1", run_id="r1", **DAILY)
    clock.advance(100 * DAY)
    await fill(uri, "recent", "1", "2", "3", run_id="r2", **DAILY)


@pytest.fixture
def uri(server: Server, new_database: Callable[..., str]) -> str:
    """A log with daily partitions: two threads of a run that were idle for 100 days, and one of now."""
    return new_database(server.filled(fill_three_threads))


def everything(uri: str) -> Any:
    """Every row, and which partitions there are."""
    tables = Tables(uri)
    return tables.contents(), tables.rows("select * from {schema}.partitions order by name")


async def left(uri: str) -> list[list[str]]:
    """The checkpoints of the three threads, newest first; what is there can be read."""
    async with open_saver("sync-string", uri) as saver:
        ids = [await listed_ids(saver, config_of(name)) for name in ("old", "recent", "other")]
        for name, found in zip(("old", "recent", "other"), ids, strict=True):
            for id_ in found:
                assert await values_of(saver, config_of(name, id_)) == {"x": [id_] * 50}
    return ids


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were a terminal."""
    monkeypatch.setattr(erase, "is_interactive", lambda: True)


# --- dry runs


@each_command
async def test_dry_runs_change_nothing(command: str, uri: str) -> None:
    """And say what would go; with --yes too."""
    before = everything(uri)
    done = eventlog(uri, *COMMANDS[command], "--dry-run")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "This would " in done.stdout
    assert re.search(r"\d (bytes|kB|MB)", done.stdout)
    assert documents(eventlog(uri, *COMMANDS[command], "--dry-run", "--yes", "--json"))
    assert everything(uri) == before


@each_command
async def test_dry_runs_tell_what_is_then_erased(command: str, uri: str) -> None:
    """The same threads with the same counts and sizes, thread by thread, as JSON."""
    would = documents(eventlog(uri, *COMMANDS[command], "--dry-run", "--json"))
    did = documents(eventlog(uri, *COMMANDS[command], "--yes", "--json"))
    threads = [each for each in did if "thread_id" in each]
    assert [each for each in would if "thread_id" in each] == threads
    assert {tuple(each) for each in threads} == {Erased._fields}
    assert any(each["events"] > 0 and each["bytes"] > 0 for each in threads)
    assert await left(uri) == LEFT[command]
    assert eventlog(uri, *COMMANDS[command], "--yes").exit_code == 0
    assert await left(uri) == LEFT[command]


@each_command
async def test_erasing_reports_once_and_then_finds_nothing(command: str, uri: str) -> None:
    done = eventlog(uri, *COMMANDS[command], "--yes")
    assert (done.exit_code, done.stderr) == (0, "")
    assert await left(uri) == LEFT[command]
    assert re.search("^(Erased|Dropped) ", done.stdout, re.MULTILINE)
    assert "would" not in done.stdout
    again = eventlog(uri, *COMMANDS[command], "--yes")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "Nothing to erase.\n", "")


# --- asking


@each_command
@pytest.mark.parametrize("answer", ["y\n", "YES\n"])
async def test_a_yes_erases_what_the_question_showed(command: str, answer: str, uri: str, asked: None) -> None:
    """What would go is on stderr, before the question; what went on stdout."""
    done = eventlog(uri, *COMMANDS[command], input=answer)
    assert done.exit_code == 0
    assert re.search(r"This would .*Erase this for good\? \[y/N\] $", done.stderr, re.DOTALL)
    assert re.search("^(Erased|Dropped) ", done.stdout, re.MULTILINE)
    assert await left(uri) == LEFT[command]


@each_command
@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yess\n", "yn"])
async def test_any_other_answer_changes_nothing(command: str, answer: str, uri: str, asked: None) -> None:
    before = everything(uri)
    done = eventlog(uri, "--json", *COMMANDS[command], input=answer)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "This would " in done.stderr
    assert done.stderr.endswith("Declined: nothing was changed.\n")
    assert everything(uri) == before


def test_nothing_to_erase_asks_nothing(uri: str, asked: None) -> None:
    before = everything(uri)
    for arguments in (
        ["delete", "none"],
        ["prune", "other", "none"],
        ["delete-runs", "none"],
        ["expire", "--idle", "101d"],
        ["retain", "--history", "101d"],
    ):
        done = eventlog(uri, *arguments, input="y\n")
        assert (done.exit_code, done.stdout, done.stderr) == (0, "", "Nothing to erase.\n")
    assert everything(uri) == before


@each_command
def test_without_a_terminal_nothing_is_erased(command: str, uri: str) -> None:
    """Without a terminal nothing is asked, whatever stdin holds."""
    before = everything(uri)
    done = eventlog(uri, *COMMANDS[command], input="y\n")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--yes" in done.stderr
    assert "--dry-run" in done.stderr
    real = process(uri, *COMMANDS[command], stdin=subprocess.DEVNULL)
    assert (real.returncode, real.stdout) == (2, "")
    assert everything(uri) == before


def in_terminal(uri: str, *arguments: str, answer: str) -> tuple[int, str, str]:
    """Run the command with a terminal for stdin and stderr; returns its exit code, stdout, and what was on screen."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "EVENTLOG_DSN": uri, "TERM": "xterm"}
    child = subprocess.Popen(
        [*MODULE, *arguments], stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, env=environment
    )
    os.close(theirs)
    screen = ""
    try:
        while child.poll() is None or select.select([ours], [], [], 0)[0]:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    screen += os.read(ours, 65536).decode()
                except OSError:  # Linux's way to say that the other end is closed
                    break
                if "[y/N]" in screen and answer:
                    os.write(ours, answer.encode())
                    answer = ""
        assert child.stdout is not None
        return child.wait(timeout=PATIENCE), child.stdout.read().decode(), screen
    finally:
        child.kill()
        child.wait()
        os.close(ours)
        if child.stdout is not None:
            child.stdout.close()


async def test_a_terminal_gets_the_question_and_a_bar(uri: str) -> None:
    """It asks, shows a bar on the terminal, and writes no control characters to what is not one."""
    before = everything(uri)
    code, stdout, screen = in_terminal(uri, "prune", "old", "recent", answer="n\n")
    assert (code, stdout) == (1, "")
    assert "Declined" in screen
    assert everything(uri) == before

    code, stdout, screen = in_terminal(uri, "prune", "old", "recent", answer="y\n")
    assert code == 0, screen
    assert "Erasing" in screen
    assert "2/2" in screen
    assert "\x1b" not in stdout
    assert stdout.splitlines()[-1].startswith("Erased 4 checkpoints, 8 events, ")
    assert await left(uri) == LEFT["prune"]

    # The bar stands on the terminal, the lines go where they belong.
    code, stdout, screen = in_terminal(uri, "delete", "old", "recent", "--yes", "--json", answer="")
    assert code == 0, screen
    assert "Erasing" in screen
    assert [json.loads(line)["thread_id"] for line in stdout.splitlines()] == ["old", "recent"]


def test_an_interrupted_deletion_keeps_what_is_done_and_can_go_on(uri: str) -> None:
    """What was done stays done; the rest is done by running it again."""
    # Directly: what is executed often psycopg prepares, and that belongs to a session.
    with psycopg.connect(uri) as blocker, psycopg.connect(direct(uri), autocommit=True) as watcher:
        blocker.execute("select 1 from eventlog.streams where thread_id = 'recent' for update")
        arguments = ["delete", "other", "recent", "old", "--yes", "--json"]
        with start(uri, *arguments) as child:
            waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            until = time.monotonic() + PATIENCE
            while not watcher.execute(waiting).fetchall():
                assert time.monotonic() < until
                time.sleep(0.02)
            stdout, stderr = interrupt(child)
    assert child.returncode == 130
    assert [json.loads(line)["thread_id"] for line in stdout.splitlines()] == ["other"]
    assert "run the same command again" in stderr
    assert "Traceback" not in stderr
    assert {each["thread_id"] for each in documents(eventlog(uri, "threads", "--json"))} == {"old", "recent"}
    assert eventlog(uri, *arguments).exit_code == 0
    assert documents(eventlog(uri, "threads", "--json")) == []


def test_an_error_ends_with_1_and_a_message(uri: str) -> None:
    """What was done before is on record."""
    Tables(uri).run("alter table {schema}.events rename column body to missing")
    done = eventlog(uri, "prune", "recent", "--yes")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")


# --- each of them


async def test_delete_erases_each_thread_once_on_behalf_of_the_actor(uri: str) -> None:
    """Each once, also with an odd id; those that are not there are no error; the actor is on record."""
    await fill(uri, ODD, "1", **DAILY)
    found = documents(eventlog(uri, "delete", ODD, "none", "old", "old", "--yes", "--json", "--actor", "ada"))
    assert [(each["thread_id"], each["checkpoints"], each["events"]) for each in found] == [
        (ODD, 1, 2),
        ("none", 0, 0),
        ("old", 3, 6),
    ]
    assert await left(uri) == LEFT["delete"]
    assert actors(uri) == {"ada"}
    operation = "select {schema}.record_details_v1(body) ->> 'operation' from {schema}.events where kind > 2"
    assert set(Tables(uri).rows(operation)) == {("delete_thread",)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--strategy", "delete"], []),
        (["--strategy", "keep_latest"], ["3"]),
        (["--keep-last", "2"], ["3", "2"]),
        (["--keep-last", "9"], ["3", "2", "1"]),
        (["--older-than", "99d"], ["3"]),
        (["--older-than", "101d"], ["3", "2", "1"]),
    ],
)
async def test_prune_keeps_what_its_options_say(options: list[str], expected: list[str], uri: str) -> None:
    would = documents(eventlog(uri, "prune", "old", *options, "--dry-run", "--json"))
    assert documents(eventlog(uri, "prune", "old", *options, "--yes", "--json")) == would
    assert [each["checkpoints"] for each in would] == [3 - len(expected)]
    assert await left(uri) == [expected, ["3", "2", "1"], ["1"]]


def test_prune_refuses_contradicting_options(uri: str) -> None:
    before = everything(uri)
    for options in (
        ["--strategy", "some"],
        ["--keep-last", "0"],
        ["--keep-last", "1", "--older-than", "1d"],
        ["--strategy", "delete", "--keep-last", "1"],
    ):
        done = eventlog(uri, "prune", "old", "--yes", *options)
        assert (done.exit_code, done.stdout) == (2, "")
    assert everything(uri) == before


async def test_delete_runs_erases_in_every_thread(uri: str) -> None:
    """In every thread that has something of theirs."""
    await fill(uri, "both", "1", run_id="r1", **DAILY)
    found = documents(eventlog(uri, "delete-runs", "r1", "r2", "--yes", "--json"))
    assert {each["thread_id"] for each in found} == {"old", "other", "recent", "both"}
    assert await left(uri) == [[], [], []]


async def test_expire_stops_at_its_limit(uri: str) -> None:
    found = documents(eventlog(uri, "expire", "--idle", "P90D", "--limit", "1", "--yes", "--json"))
    assert [each["thread_id"] for each in found] == ["old"]
    assert await left(uri) == [[], ["3", "2", "1"], ["1"]]


async def test_people_see_the_largest_threads_and_machines_all(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """People see the largest and how many there are; machines get them all."""
    monkeypatch.setattr("langgraph.checkpoint.eventlog.cli.render.erased.MOST_ROWS", 1)
    done = eventlog(uri, "expire", "--idle", "90d", "--dry-run")
    rows = [line.split()[0] for line in done.stdout.splitlines() if re.search(r" (bytes|kB) *$", line)]
    assert rows == ["old"]
    assert "the 1 largest of 2 threads" in done.stdout
    assert "4 checkpoints, 8 events" in done.stdout
    assert len(documents(eventlog(uri, "expire", "--idle", "90d", "--dry-run", "--json"))) == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["prune", "secret"], 1),
        (["delete-runs", "r2"], 1),
        (["prune", "secret", "--strategy", "delete"], 0),
        (["delete", "secret"], 0),
        (["expire", "--idle", "0d"], 0),
    ],
)
async def test_without_the_key_nothing_encrypted_is_rewritten(
    arguments: list[str], code: int, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing an event again takes the key: where the command does not find it, nothing changes."""
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0" * 32)
    with EventLogSaver.from_conn_string(database_uri, serde=serde) as saver:
        config = config_of("secret")
        for id_ in ("1", "2", "3"):
            values: Any = {"x": [TEXT, id_]}
            versions: Any = {"x": id_}
            metadata: Any = {"run_id": f"r{id_}"}
            config = saver.put(config, checkpoint_of(id_, values, versions), metadata, versions)
        before = Tables(database_uri).contents()
        done = eventlog(database_uri, *arguments, "--yes")
        assert done.exit_code == code
        if code == 0:
            assert saver.get_tuple(config_of("secret")) is None
        else:
            assert done.stdout == ""
            assert re.match("Error: .*secret", done.stderr)
            assert Tables(database_uri).contents() == before
            monkeypatch.setenv("LANGGRAPH_AES_KEY", "too short")
            done = eventlog(database_uri, *arguments, "--yes")
            assert done.exit_code == 2
            assert "LANGGRAPH_AES_KEY" in done.stderr
            assert "too short" not in done.stderr
            monkeypatch.setenv("LANGGRAPH_AES_KEY", "0" * 32)
            latest = saver.get_tuple(config_of("secret"))
            assert latest is not None
            assert eventlog(database_uri, *arguments, "--yes").exit_code == 0
            after = saver.get_tuple(latest.config)
            assert after is not None
            assert after.checkpoint == latest.checkpoint
            assert Tables(database_uri).contents() != before


def names(uri: str) -> list[str]:
    rows = Tables(uri).rows("select name from {schema}.partitions where dropped_at is null order by name")
    return [name for (name,) in rows]


async def test_retain_drops_old_partitions_and_sums_up(uri: str) -> None:
    """The partitions, then a summary, after the threads."""
    there = names(uri)
    *lines, summary = documents(eventlog(uri, "retain", "--history", "30d", "--dry-run", "--json"))
    assert [each["thread_id"] for each in lines if "thread_id" in each] == ["old", "other"]
    old = [each["name"] for each in lines if "name" in each]
    assert old == there[:2]
    assert summary["partitions"] == old
    assert summary["before"].endswith("+00:00")
    assert (summary["relocated_threads"], summary["dropped_threads"], summary["archives"]) == (2, 0, [])

    done = eventlog(uri, "retain", "--history", "30d", "--yes", "--actor", "night job")
    assert done.exit_code == 0
    assert re.search(r"^Dropped 2 partitions, [\d.]+ kB\. The log begins at \d{4}-\d\d-\d\d UTC\.$", done.stdout, re.M)
    assert "2 threads cut: the latest state stays. 0 idle threads erased." in done.stdout
    assert names(uri)[0] > old[-1]
    assert actors(uri) == {"night job"}
    # Those that it made are as long as those before.
    lengths = Tables(uri).rows("select distinct ends_at - starts_at from {schema}.partitions")
    assert lengths == [(DAY,)]


@pytest.mark.parametrize("dry", [True, False])
async def test_retain_drop_idle_erases_idle_threads(uri: str, dry: bool) -> None:
    arguments = ["retain", "--history", "30d", "--drop-idle", "--dry-run" if dry else "--yes", "--json"]
    summary = documents(eventlog(uri, *arguments))[-1]
    assert (summary["relocated_threads"], summary["dropped_threads"]) == (0, 2)
    assert await left(uri) == ([["3", "2", "1"], ["3", "2", "1"], ["1"]] if dry else [[], ["3", "2", "1"], []])


def test_retain_archives_each_partition(uri: str, tmp_path: Path) -> None:
    """A file for each partition; the paths are told."""
    folder = tmp_path / "archive"
    assert eventlog(uri, "retain", "--history", "30d", "--archive", str(folder), "--dry-run").exit_code == 0
    assert not folder.exists()
    summary = documents(eventlog(uri, "retain", "--history", "30d", "--archive", str(folder), "--yes", "--json"))[-1]
    files = sorted(folder.iterdir())
    assert summary["archives"] == [str(each) for each in files]
    assert [each.stem for each in files] == summary["partitions"]
    assert sum(pyarrow.parquet.read_table(each).num_rows for each in files) == 8


def test_retain_drops_nothing_that_cannot_be_archived(uri: str, tmp_path: Path) -> None:
    """Nothing is dropped."""
    there = names(uri)
    (tmp_path / "file").write_text("")
    for path, code in ((tmp_path / "file", 2), (tmp_path / "file" / "folder", 1)):
        done = eventlog(uri, "retain", "--history", "30d", "--archive", str(path), "--yes")
        assert (done.exit_code, done.stdout) == (code, "")
        assert done.stderr.startswith("Error: ")
    assert set(there) <= set(names(uri))


# The others lock the threads that they look at, which takes the right to update `streams`.
@pytest.mark.parametrize("command", ["delete", "expire"])
def test_dry_runs_need_no_right_but_to_read(command: str, uri: str, role: str) -> None:  # noqa: F811
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute("select eventlog.grant_rights_v1('auditor', %s, 'eventlog_views')", (role,))
    done = eventlog(as_role(uri, role), *COMMANDS[command], "--dry-run")
    assert (done.exit_code, done.stderr) == (0, "")


def test_each_command_that_erases_has_yes_and_dry_run() -> None:
    """All can be asked what they would do, and told not to ask."""
    erasing = {name for name, command in ALL.items() if any("--yes" in param.opts for param in command.params)}
    assert erasing == set(COMMANDS)
    assert all(any("--dry-run" in param.opts for param in ALL[name].params) for name in COMMANDS)
