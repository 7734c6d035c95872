"""The `eventlog` command: what it shows and copies. What erases is in test_cli_destructive.py."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

import psycopg
import pytest

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.cli.command import (
    ODD,
    actors,
    clean_environment,
    documents,
    eventlog,
    fill,
    process,
    uri,
)
from tests.database.test_rights import (
    as_role,
    role,
)
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, listed_ids

__all__ = ["clean_environment", "role", "uri"]  # fixtures


# --- threads


def test_threads_lists_the_last_active_first(uri: str) -> None:
    """A table, the last active first, with sizes for people."""
    done = eventlog(uri, "threads")
    assert (done.exit_code, done.stderr) == (0, "")
    heading, _, new, old = (line.strip() for line in done.stdout.splitlines() if line.strip())
    assert re.split(r" {2,}", heading) == [
        *("thread", "status", "last active (UTC)", "namespaces", "checkpoints", "events", "size")
    ]
    today = datetime.now(timezone.utc).strftime("%Y-%m-")
    for row, name, checkpoints, events in ((new, "new", "1", "2"), (old, "old", "3", "6")):
        cells = re.split(r" {2,}", row)
        assert cells[0] == name
        assert cells[1] == "idle"
        assert cells[2].startswith(today)
        assert cells[3:6] == ["1", checkpoints, events]
        assert re.fullmatch(r"[\d.]+ (bytes|kB)", cells[6])


def test_threads_json_has_the_fields_of_a_summary(uri: str) -> None:
    """And the status, a line for each thread; times as ISO 8601, sizes in bytes."""
    with EventLogSaver.from_conn_string(uri) as saver:
        expected = saver.log.threads()
    for arguments in (("--json", "threads"), ("threads", "--json")):
        found = documents(eventlog(uri, *arguments))
        assert [list(each) for each in found] == [[*expected[0]._fields, "status"]] * 2
        for each, summary in zip(found, expected, strict=True):
            at = datetime.fromisoformat(each["active_at"])
            assert {**each, "active_at": at} == {**summary._asdict(), "status": "idle"}


def test_threads_names_the_next_page(uri: str) -> None:
    """The line on stderr names the next page."""
    first = eventlog(uri, "threads", "--limit", "1")
    assert "new" in first.stdout
    assert "old" not in first.stdout
    (before,) = re.findall(r"--before (\S+)", first.stderr)
    second = eventlog(uri, "threads", "--limit", "1", "--before", before)
    assert "old" in second.stdout
    assert "new" not in second.stdout
    (before,) = re.findall(r"--before (\S+)", second.stderr)
    third = eventlog(uri, "threads", "--before", before)
    assert (third.exit_code, third.stdout, third.stderr) == (0, "", "No threads.\n")
    assert documents(eventlog(uri, "threads", "--before", before, "--json")) == []


async def test_odd_ids_are_escaped_for_people_and_whole_for_machines(uri: str) -> None:
    """They can neither control the terminal nor break a line, and machines get them as they are."""
    await fill(uri, ODD, "1")
    done = eventlog(uri, "threads")
    assert "\x1b" not in done.stdout
    assert "[red]odd[/red]\\x1b[31m\\n:smile:é " in done.stdout
    assert documents(eventlog(uri, "threads", "--json"))[0]["thread_id"] == ODD


async def test_long_ids_are_whole_in_a_pipe(uri: str) -> None:
    """Where a pipe reads, no width cuts them."""
    await fill(uri, "t" * 300, "1")
    assert "t" * 300 in eventlog(uri, "threads").stdout


@pytest.mark.parametrize("text", ["yesterday", "2026", "1700000000", "-5", "2026-11-22", "2026-11-22T10:30:00", ""])
def test_a_time_without_date_or_zone_is_refused(text: str) -> None:
    done = eventlog("dbname=nowhere", "threads", "--before", text)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--before" in done.stderr
    assert "2026-11-22T10:30:00Z" in done.stderr


# --- setup, partitions


def test_setup_says_until_when_partitions_last(empty_database_uri: str) -> None:
    """It says until when; a second time it changes nothing."""
    done = eventlog(empty_database_uri, "setup")
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.fullmatch(
        r"The event log in schema 'eventlog' is set up\. Its partitions last for \d+d.*\.\n", done.stdout
    )
    (found,) = documents(eventlog(empty_database_uri, "setup", "--json"))
    assert (found["schema"], found["partitions"], found["is_short"]) == ("eventlog", 4, False)
    assert timedelta(days=89) < timedelta(seconds=found["runway"]) < timedelta(days=124)


@pytest.mark.parametrize("by", ["option", "environment"])
def test_schema_is_an_option_or_comes_from_the_environment(
    empty_database_uri: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by == "environment":
        monkeypatch.setenv("EVENTLOG_SCHEMA", "agents")
    schema = ["--schema", "agents"] if by == "option" else []
    assert eventlog(empty_database_uri, "setup", *schema).exit_code == 0
    assert Tables(empty_database_uri, "agents").events() == 0
    assert documents(eventlog(empty_database_uri, *schema, "threads", "--json")) == []
    monkeypatch.delenv("EVENTLOG_SCHEMA", raising=False)
    assert eventlog(empty_database_uri, "threads").exit_code == 1


def test_a_reserved_schema_is_refused(uri: str) -> None:
    done = eventlog(uri, "threads", "--schema", "pg_log")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "reserved" in done.stderr


def test_partitions_lists_ranges_and_rows(uri: str) -> None:
    """Names and ranges, in UTC; rows as an estimate or exactly."""
    tables = Tables(uri)
    names = [name for (name,) in tables.rows("select name from {schema}.partitions order by starts_at")]
    done = eventlog(uri, "partitions", "--exact")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [re.split(r" {2,}", line.strip()) for line in done.stdout.splitlines() if line.strip()]
    assert lines[0] == ["partition", "from (UTC)", "to", "rows", "size"]
    assert [line[0] for line in lines[2:-1]] == names
    assert [line[3] for line in lines[2:-1]] == ["8", "0", "0", "0"]
    assert all(re.fullmatch(r"\d{4}-\d\d-01", cell) for line in lines[2:-1] for cell in line[1:3])
    assert re.fullmatch(r"They last for \d+d( \d+[hm])?\.", lines[-1][0])
    assert "rows (about)" in eventlog(uri, "partitions").stdout


def test_partitions_json_has_the_fields_and_the_runway(uri: str) -> None:
    *found, last = documents(eventlog(uri, "partitions", "--exact", "--json"))
    with EventLogSaver.from_conn_string(uri) as saver:
        there = saver.log.partitions(exact=True)
    for each, partition in zip(found, there.partitions, strict=True):
        times = {name: datetime.fromisoformat(each[name]) for name in ("starts_at", "ends_at")}
        assert {**each, **times} == partition._asdict()
    assert found[0]["starts_at"].endswith("+00:00")
    assert set(last) == {"runway", "is_short"}
    assert last["is_short"] is False
    assert abs(last["runway"] - there.runway.total_seconds()) < 60


def test_make_creates_each_partition_once(uri: str) -> None:
    """So many ahead, each once."""
    done = eventlog(uri, "partitions", "--make", "5")
    assert done.exit_code == 0
    assert re.search(r"^Made 2 partitions: events_\d{6}01, events_\d{6}01\.$", done.stdout, re.MULTILINE)
    *found, last = documents(eventlog(uri, "partitions", "--make", "6", "--json"))
    assert len(found) == 7
    assert last["made"] == [found[-1]["name"]]
    assert "Made 0 partitions." in eventlog(uri, "partitions", "--make", "6").stdout
    assert eventlog(uri, "partitions", "--make", "1001").exit_code == 2


def test_setup_stores_the_interval_and_the_number_ahead(empty_database_uri: str) -> None:
    """What is made later has them, by whatever command; setup without the options leaves them."""

    def lengths() -> list[timedelta]:
        with EventLogSaver.from_conn_string(empty_database_uri) as saver:
            return [each.ends_at - each.starts_at for each in saver.log.partitions().partitions]

    assert eventlog(empty_database_uri, "setup", "--interval", "day", "--ahead", "1").exit_code == 0
    assert lengths() == [timedelta(days=1)] * 2
    assert eventlog(empty_database_uri, "setup").exit_code == 0
    assert eventlog(empty_database_uri, "partitions", "--make", "3").exit_code == 0
    assert lengths() == [timedelta(days=1)] * 4
    assert eventlog(empty_database_uri, "setup", "--interval", "week", "--ahead", "3").exit_code == 0
    assert timedelta(weeks=1) in lengths()
    refused = eventlog(empty_database_uri, "setup", "--interval", "year")
    assert refused.exit_code == 2
    assert "'day', 'week' or 'month'" in refused.stderr


def test_setup_on_citus_needs_a_cluster_and_a_number_of_shards(empty_database_uri: str) -> None:
    """The options reach `setup()`, which says what the database lacks."""
    done = eventlog(empty_database_uri, "setup", "--shards", "8")
    assert done.exit_code == 1
    assert "shards is for a log on Citus" in done.stderr
    assert eventlog(empty_database_uri, "setup", "--citus", "--shards", "0").exit_code == 2
    with psycopg.connect(empty_database_uri) as conn:
        ((has_citus,),) = conn.execute("select exists (select from pg_extension where extname = 'citus')")
    done = eventlog(empty_database_uri, "setup", "--citus", "--shards", "2")
    if has_citus:
        assert (done.exit_code, done.stderr) == (0, "")
    else:
        assert done.exit_code == 1
        assert "has no extension citus" in done.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_a_short_runway_is_a_warning(empty_database_uri: str, as_json: bool) -> None:
    """Once, on stderr, with the command that helps; also where nothing is left at all."""
    with EventLogSaver.from_conn_string(empty_database_uri) as saver:
        saver.setup(partitions_ahead=0)
    arguments = ["partitions", *(["--json"] if as_json else [])]
    for at in ("for", "for no time"):
        done = process(empty_database_uri, *arguments)
        assert done.returncode == 0
        assert done.stderr.startswith("Warning: ")
        assert len(done.stderr.splitlines()) == 1
        assert at in done.stderr
        assert "eventlog partitions --make 3" in done.stderr
        if as_json:
            assert json.loads(done.stdout.splitlines()[-1])["is_short"] is True
        Tables(empty_database_uri).drop_partitions()


# --- grant


def test_grant_gives_a_role_a_set_of_rights(empty_database_uri: str, role: str) -> None:
    """Once granted, the role appends; what is no set or no role is wrong usage; only the owner grants."""
    assert eventlog(empty_database_uri, "setup").exit_code == 0
    (granted,) = documents(eventlog(empty_database_uri, "grant", "writer", role, "--json"))
    assert granted == {"rights": "writer", "role": role}
    with EventLogSaver.from_conn_string(as_role(empty_database_uri, role)) as saver:
        saver.setup()
    for arguments, message in (
        (("reader", role), "there is no set of rights 'reader'"),
        (("writer", "nobody"), "role 'nobody' does not exist"),
    ):
        refused = eventlog(empty_database_uri, "grant", *arguments)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert message in refused.stderr
    refused = eventlog(as_role(empty_database_uri, role), "grant", "eraser", role)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "only the log's owner can grant rights" in refused.stderr


# --- copy, fork


async def test_copy_duplicates_a_thread(uri: str) -> None:
    done = eventlog(uri, "copy", "old", "copied", "--actor", "ada")
    assert done.exit_code == 0
    assert re.fullmatch(r"Copied old to copied: 3 checkpoints, [\d.]+ (bytes|kB)\.\n", done.stdout)
    (found,) = documents(eventlog(uri, "copy", "old", "again", "--json"))
    assert (found["source_thread_id"], found["thread_id"], found["checkpoints"]) == ("old", "again", 3)
    async with open_saver("sync-string", uri) as saver:
        assert await listed_ids(saver, config_of("copied")) == ["3", "2", "1"]
    assert "ada" in actors(uri)


async def test_fork_copies_the_path_to_one_checkpoint(uri: str) -> None:
    done = eventlog(uri, "fork", "old", "forked", "--checkpoint", "2")
    assert done.exit_code == 0
    assert done.stdout.startswith("Forked old to forked, at checkpoint 2: 2 checkpoints, ")
    (found,) = documents(eventlog(uri, "fork", "old", "latest", "--json"))
    assert (found["thread_id"], found["checkpoint_id"], found["checkpoints"]) == ("latest", "3", 3)
    async with open_saver("sync-string", uri) as saver:
        assert await listed_ids(saver, config_of("forked")) == ["2", "1"]


def test_copy_of_nothing_or_over_a_thread_is_refused(uri: str) -> None:
    """An error of the log: one message, nothing written."""
    before = Tables(uri).contents()
    for arguments in (["copy", "none", "x"], ["copy", "old", "new"], ["fork", "old", "x", "--checkpoint", "9"]):
        done = eventlog(uri, *arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: ")
    assert eventlog(uri, "copy", "old", "old").exit_code == 2
    assert Tables(uri).contents() == before


def test_the_actor_is_the_user_by_default(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "operator")
    assert eventlog(uri, "copy", "old", "copied").exit_code == 0
    assert actors(uri) == {"operator"}


def test_a_user_without_a_name_records_no_actor(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number: no actor is recorded, beside the database user."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert eventlog(uri, "copy", "old", "copied").exit_code == 0
    assert actors(uri) == {None}
