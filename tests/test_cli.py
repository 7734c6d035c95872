"""The `eventlog` command: what it says, to whom, and how it ends. What erases is in test_cli_destructive.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.cli import _output, _parsing
from langgraph.checkpoint.eventlog.cli._app import app
from tests.adapters import open_saver
from tests.checkpoints import Tables, config_of, listed_ids, put
from tests.test_rights import as_role, role  # noqa: F401 -- a fixture

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
MODULE = [sys.executable, "-m", "langgraph.checkpoint.eventlog.cli"]
SECRET = "sw0rdfish"
#: Markup, an escape sequence and a line break: all of it must be read as it is, on one line.
ODD = "[red]odd[/red]\x1b[31m\n:smile:é"

GROUP = typer.main.get_command(app)
COMMANDS: dict[str, Any] = GROUP.commands  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own gets in; colours must not depend on where tests run either."""
    for name in ("EVENTLOG_DSN", "EVENTLOG_SCHEMA", "FORCE_COLOR", "NO_COLOR", "GITHUB_ACTIONS", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


def eventlog(uri: str | None, *arguments: str, **options: Any) -> Any:
    """Run the command in this process, with everything that it wrote; a bug in it is raised."""
    dsn = [] if uri is None else ["--dsn", uri]
    done = CliRunner().invoke(app, [*dsn, *arguments], **options)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert "Traceback" not in done.stderr
    return done


def documents(done: Any) -> list[dict[str, Any]]:
    """What it wrote as JSON: nothing else may be there."""
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def process(uri: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [*MODULE, *arguments],
        env={**os.environ, "EVENTLOG_DSN": uri},
        **{"capture_output": True, "encoding": "utf-8", "timeout": 60, "check": False, **options},
    )


async def fill(uri: str, thread_id: str, *ids: str, run_id: str | None = None, **settings: Any) -> None:
    """Checkpoints one after the other, each with a write."""
    async with open_saver("sync-string", uri, **settings) as saver:
        config = config_of(thread_id)
        for id_ in ids:
            metadata = {} if run_id is None else {"run_id": run_id}
            config = await put(saver, config, id_, {"x": [id_] * 50}, metadata=metadata)
            await saver.aput_writes(config, [("x", id_)], f"task of {id_}")


@pytest.fixture
async def uri(database_uri: str) -> str:
    """A log with two threads."""
    await fill(database_uri, "old", "1", "2", "3")
    await fill(database_uri, "new", "1")
    return database_uri


# --- threads


def test_threads(uri: str) -> None:
    """A table, the last active first, with sizes for people."""
    done = eventlog(uri, "threads")
    assert (done.exit_code, done.stderr) == (0, "")
    heading, _, new, old = (line.strip() for line in done.stdout.splitlines() if line.strip())
    assert re.split(r" {2,}", heading) == [
        *("thread", "last active (UTC)", "namespaces", "checkpoints", "events", "size")
    ]
    today = datetime.now(timezone.utc).strftime("%Y-%m-")
    for row, name, checkpoints, events in ((new, "new", "1", "2"), (old, "old", "3", "6")):
        cells = re.split(r" {2,}", row)
        assert cells[0] == name
        assert cells[1].startswith(today)
        assert cells[2:5] == ["1", checkpoints, events]
        assert re.fullmatch(r"[\d.]+ (bytes|kB)", cells[5])


def test_threads_as_json(uri: str) -> None:
    """The fields of a summary, a line for each thread; times as ISO 8601, sizes in bytes."""
    with EventLogSaver.from_conn_string(uri) as saver:
        expected = saver.threads()
    for arguments in (("--json", "threads"), ("threads", "--json")):
        found = documents(eventlog(uri, *arguments))
        assert [list(each) for each in found] == [list(expected[0]._fields)] * 2
        for each, summary in zip(found, expected, strict=True):
            assert {**each, "active_at": datetime.fromisoformat(each["active_at"])} == summary._asdict()


def test_threads_page_by_page(uri: str) -> None:
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


async def test_odd_ids(uri: str) -> None:
    """They can neither control the terminal nor break a line, and machines get them as they are."""
    await fill(uri, ODD, "1")
    done = eventlog(uri, "threads")
    assert "\x1b" not in done.stdout
    assert "[red]odd[/red]\\x1b[31m\\n:smile:é " in done.stdout
    assert documents(eventlog(uri, "threads", "--json"))[0]["thread_id"] == ODD


async def test_long_ids_are_whole(uri: str) -> None:
    """Where a pipe reads, no width cuts them."""
    await fill(uri, "t" * 300, "1")
    assert "t" * 300 in eventlog(uri, "threads").stdout


@pytest.mark.parametrize("text", ["yesterday", "2026", "1700000000", "-5", "2026-11-22", "2026-11-22T10:30:00", ""])
def test_not_a_time(text: str) -> None:
    done = eventlog("dbname=nowhere", "threads", "--before", text)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--before" in done.stderr
    assert "2026-11-22T10:30:00Z" in done.stderr


# --- setup, partitions


def test_setup(empty_database_uri: str) -> None:
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
def test_schema(empty_database_uri: str, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "environment":
        monkeypatch.setenv("EVENTLOG_SCHEMA", "agents")
    schema = ["--schema", "agents"] if by == "option" else []
    assert eventlog(empty_database_uri, "setup", *schema).exit_code == 0
    assert Tables(empty_database_uri, "agents").events() == 0
    assert documents(eventlog(empty_database_uri, *schema, "threads", "--json")) == []
    monkeypatch.delenv("EVENTLOG_SCHEMA", raising=False)
    assert eventlog(empty_database_uri, "threads").exit_code == 1


def test_bad_schema(uri: str) -> None:
    done = eventlog(uri, "threads", "--schema", "pg_log")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "reserved" in done.stderr


def test_partitions(uri: str) -> None:
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
    assert re.fullmatch(r"They last for \d+d( \d+h)?\.", lines[-1][0])
    assert "rows (about)" in eventlog(uri, "partitions").stdout


def test_partitions_as_json(uri: str) -> None:
    *found, last = documents(eventlog(uri, "partitions", "--exact", "--json"))
    with EventLogSaver.from_conn_string(uri) as saver:
        there = saver.partitions(exact=True)
    for each, partition in zip(found, there.partitions, strict=True):
        times = {name: datetime.fromisoformat(each[name]) for name in ("starts_at", "ends_at")}
        assert {**each, **times} == partition._asdict()
    assert found[0]["starts_at"].endswith("+00:00")
    assert set(last) == {"runway", "is_short"}
    assert last["is_short"] is False
    assert abs(last["runway"] - there.runway.total_seconds()) < 60


def test_make_partitions(uri: str) -> None:
    """So many ahead, each once."""
    done = eventlog(uri, "partitions", "--make", "5")
    assert done.exit_code == 0
    assert re.search(r"^Made 2 partitions: events_\d{6}01, events_\d{6}01\.$", done.stdout, re.MULTILINE)
    *found, last = documents(eventlog(uri, "partitions", "--make", "6", "--json"))
    assert len(found) == 7
    assert last["made"] == [found[-1]["name"]]
    assert "Made 0 partitions." in eventlog(uri, "partitions", "--make", "6").stdout
    assert eventlog(uri, "partitions", "--make", "1001").exit_code == 2


@pytest.mark.parametrize("arguments", [["setup"], ["partitions", "--make", "3"]])
def test_partitions_are_as_long_as_they_were(empty_database_uri: str, arguments: list[str]) -> None:
    """The log of an application that has days gets no months from the command, unless it is told to."""
    with EventLogSaver.from_conn_string(empty_database_uri, partition_interval="day", partitions_ahead=1) as saver:
        saver.setup()
    assert eventlog(empty_database_uri, *arguments).exit_code == 0

    def lengths() -> list[timedelta]:
        with EventLogSaver.from_conn_string(empty_database_uri) as saver:
            return [each.ends_at - each.starts_at for each in saver.partitions().partitions]

    assert lengths() == [timedelta(days=1)] * 4
    assert eventlog(empty_database_uri, *arguments, "--interval", "week").exit_code == 0
    assert timedelta(weeks=1) in lengths()
    assert eventlog(empty_database_uri, *arguments, "--interval", "year").exit_code == 2


@pytest.mark.parametrize("as_json", [False, True])
def test_a_short_runway_is_a_warning(empty_database_uri: str, as_json: bool) -> None:
    """Once, on stderr, with the command that helps; also where nothing is left at all."""
    with EventLogSaver.from_conn_string(empty_database_uri, partitions_ahead=0) as saver:
        saver.setup()
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


# --- copy, fork


async def test_copy(uri: str) -> None:
    done = eventlog(uri, "copy", "old", "copied", "--actor", "ada")
    assert done.exit_code == 0
    assert re.fullmatch(r"Copied old to copied: 3 checkpoints, [\d.]+ (bytes|kB)\.\n", done.stdout)
    (found,) = documents(eventlog(uri, "copy", "old", "again", "--json"))
    assert (found["source_thread_id"], found["thread_id"], found["checkpoints"]) == ("old", "again", 3)
    async with open_saver("sync-string", uri) as saver:
        assert await listed_ids(saver, config_of("copied")) == ["3", "2", "1"]
    assert "ada" in actors(uri)


async def test_fork(uri: str) -> None:
    done = eventlog(uri, "fork", "old", "forked", "--checkpoint", "2")
    assert done.exit_code == 0
    assert done.stdout.startswith("Forked old to forked, at checkpoint 2: 2 checkpoints, ")
    (found,) = documents(eventlog(uri, "fork", "old", "latest", "--json"))
    assert (found["thread_id"], found["checkpoint_id"], found["checkpoints"]) == ("latest", "3", 3)
    async with open_saver("sync-string", uri) as saver:
        assert await listed_ids(saver, config_of("forked")) == ["2", "1"]


def test_copy_without_a_source_or_over_another_thread(uri: str) -> None:
    """An error of the log: one message, nothing written."""
    before = Tables(uri).contents()
    for arguments in (["copy", "none", "x"], ["copy", "old", "new"], ["fork", "old", "x", "--checkpoint", "9"]):
        done = eventlog(uri, *arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: ")
    assert eventlog(uri, "copy", "old", "old").exit_code == 2
    assert Tables(uri).contents() == before


def actors(uri: str) -> set[str]:
    """Who the records of operations name."""
    rows = Tables(uri).rows(
        "select convert_from(substr(body, 2), 'UTF8')::jsonb ->> 'actor' from {schema}.events where kind > 2"
    )
    return {actor for (actor,) in rows}


def test_the_actor_is_the_user_by_default(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "operator")
    assert eventlog(uri, "copy", "old", "copied").exit_code == 0
    assert actors(uri) == {"operator"}


def test_a_user_without_a_name(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs under a number: no actor is recorded, beside the database user."""

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert eventlog(uri, "copy", "old", "copied").exit_code == 0
    assert actors(uri) == {None}


# --- the connection string


def test_without_a_connection_string() -> None:
    """The message names both ways to give it; help needs none."""
    for command in ("threads", "partitions", "setup"):
        done = eventlog(None, command)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "--dsn" in done.stderr
        assert "EVENTLOG_DSN" in done.stderr
    assert eventlog(None, "threads", "--help").exit_code == 0


def test_connection_string_from_the_environment(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTLOG_DSN", uri)
    assert eventlog(None, "threads").exit_code == 0
    # What is said outweighs what is there, before the command and after it.
    assert eventlog("host=/nowhere", "threads").exit_code == 1
    assert eventlog(None, "threads", "--dsn", "host=/nowhere").exit_code == 1


@pytest.mark.parametrize(
    ("dsn", "code"),
    [
        (f"postgresql://ada:{SECRET}@127.0.0.1:1/app", 1),
        (f"host=127.0.0.1 port=1 user=ada password={SECRET}", 1),
        (f"postgres//ada:{SECRET}@localhost/app", 2),
        (f"postgresql://ada:{SECRET}@[::1/app", 2),
        (f"postgresql://ada:p@{SECRET}@localhost/app", 2),
        (f"postgresql://ada:p/{SECRET}@localhost/app", 2),
        (f"postgresql://ada:12/{SECRET}@localhost/app", 2),
        (f"postgresql://ada:{SECRET}/p@localhost/app", 2),
        (f"postgresql://ada:{SECRET}/%40@localhost/app", 2),
        (f"postgresql://ada:p%{SECRET}@localhost/app", 2),
        (f"host=localhost password=p {SECRET}", 2),
        (f"host=localhost password='{SECRET}", 2),
        (f"host=localhost {SECRET}=1", 2),
        (SECRET, 2),
    ],
)
def test_the_password_is_not_printed(dsn: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by us, not in a message of libpq's about what it cannot read, not in help."""
    monkeypatch.setenv("EVENTLOG_DSN", dsn)
    for arguments in (["threads"], ["--help"], ["threads", "--dsn", dsn], ["delete", "1", "--yes"], ["threads", "--x"]):
        done = eventlog(None, *arguments)
        assert SECRET not in done.output
        if arguments[0] != "--help" and "--x" not in arguments:
            assert done.exit_code == code, done.stderr
            assert done.stderr.startswith("Error: ")


def test_a_socket_whose_path_has_an_at_sign() -> None:
    """Neither that nor an encoded sign in a name is a password in the wrong place."""
    for dsn in ("postgresql://ada@/app?host=/sockets/a@b", "host=@abstract dbname=a@b", "postgresql://h/a%40b"):
        assert _parsing.checked_dsn(dsn) == dsn


# --- how it ends


def test_not_set_up(empty_database_uri: str) -> None:
    """An error of the log: its message, and what helps, without a traceback."""
    done = eventlog(empty_database_uri, "threads")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: The event log's tables or functions are not there.")
    for arguments in (
        ["delete", "1", "--yes"],
        ["copy", "1", "2"],
        ["partitions"],
        ["expire", "--idle", "1d", "--yes"],
    ):
        assert eventlog(empty_database_uri, *arguments).exit_code == 1


def test_no_rights(uri: str, role: str) -> None:  # noqa: F811
    done = eventlog(as_role(uri, role), "threads")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "permission denied" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["threads", "--nothing"],
        ["threads", "--limit", "0"],
        ["copy", "1"],
        ["delete"],
        ["expire"],
        ["retain"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = eventlog("dbname=nowhere", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")


def test_help_and_version() -> None:
    done = eventlog(None, "--help")
    assert done.exit_code == 0
    assert all(f"\n    {code}" in done.stdout for code in (0, 1, 2, 130))
    script = Path(sys.executable).parent / "eventlog"
    for command in ([script], MODULE):
        version = subprocess.run([*command, "--version"], capture_output=True, encoding="utf-8", check=True)
        assert re.fullmatch(r"eventlog \d+\.\d+\.\d+\n", version.stdout)


def test_output_into_a_closed_pipe(uri: str) -> None:
    """It ends, and says nothing."""
    for arguments in (["threads"], ["threads", "--json"], ["partitions"]):
        read, write = os.pipe()
        os.close(read)
        try:
            done = process(uri, *arguments, capture_output=False, stdout=write, stderr=subprocess.PIPE)
        finally:
            os.close(write)
        assert (done.returncode, done.stderr) == (141, "")


async def test_head(uri: str) -> None:
    """More than a pipe holds, of which one line is read."""
    for number in range(4):
        await fill(uri, f"{number}" * 2000, "1")
    with EventLogSaver.from_conn_string(uri) as saver:
        for source in range(4):
            for number in range(12):
                saver.copy_thread(f"{source}" * 2000, f"{source}" * 2000 + f"-{number}")
    shell = subprocess.run(
        ["bash", "-c", '"$@" | head -1', "bash", *MODULE, "threads", "--json"],
        env={**os.environ, "EVENTLOG_DSN": uri},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (shell.returncode, shell.stderr) == (0, "")
    assert len(shell.stdout.splitlines()) == 1


def test_a_terminal_that_cannot_show_an_id(uri: str) -> None:
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.copy_thread("old", "café")
    environment = {**os.environ, "EVENTLOG_DSN": uri, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*MODULE, "threads"], env=environment, capture_output=True, encoding="ascii", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"caf\xe9" in done.stdout


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra(package: str) -> None:
    """One line that says what to install."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from langgraph.checkpoint.eventlog.cli import main\nsys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "pip install 'langgraph-checkpoint-eventlog[cli]'" in done.stderr


def test_warnings_of_the_log_go_to_stderr(empty_database_uri: str) -> None:
    """They would be in the way on stdout. (Partitions made on demand are one.)"""
    with EventLogSaver.from_conn_string(empty_database_uri) as saver:
        saver.setup()
    code = (
        "import sys\nfrom eventlog.log import logger\nfrom langgraph.checkpoint.eventlog.cli import _showing, main\n"
        "say = _showing._show_threads\n"
        "_showing.Session.output = property(lambda s, old=_showing.Session.output.fget: "
        "(logger.warning('eventlog.something', partition='p1'), old(s))[1])\n"
        "sys.exit(main(['threads', '--json']))"
    )
    environment = {**os.environ, "EVENTLOG_DSN": empty_database_uri}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert "warning" in done.stderr
    assert re.search(r"eventlog\.something +partition=p1", done.stderr)


# --- durations, numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("90m", timedelta(minutes=90)),
        ("45s", timedelta(seconds=45)),
        ("2w", timedelta(weeks=2)),
        ("1d12h", timedelta(days=1, hours=12)),
        ("1w2d3h4m5s", timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5)),
        ("0d", timedelta(0)),
        ("P30D", timedelta(days=30)),
        ("PT90M", timedelta(minutes=90)),
        ("P1DT12H", timedelta(days=1, hours=12)),
    ],
)
def test_durations(text: str, expected: timedelta) -> None:
    assert _parsing.duration(text, "--idle") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "d",
        "30 d",
        "30D",
        "30M",
        "-1d",
        "-P1D",
        "P-1D",
        "1h1d",
        "1.5d",
        "1d1d",
        "30days",
        "P",
        "P1",
        "٣d",
        "9" * 30 + "d",
    ],
)
def test_not_durations(text: str) -> None:
    """What could mean two things is not guessed."""
    with pytest.raises(InvalidInputError, match=r"--idle: .* is not a duration: write 30d"):
        _parsing.duration(text, "--idle")
    done = eventlog("dbname=nowhere", "expire", f"--idle={text}", "--yes")
    assert (done.exit_code, done.stdout) == (2, "")


def test_a_duration_that_is_too_long(uri: str) -> None:
    done = eventlog(uri, "expire", "--idle", "900000d", "--dry-run")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "2,000 years" in done.stderr


def test_what_people_read() -> None:
    assert _output.span(timedelta(days=98, hours=13, minutes=5)) == "98d 13h"
    assert _output.span(timedelta(hours=2)) == "2h"
    assert _output.span(timedelta(seconds=5)) == "0m"
    assert _output.size(1_500_000) == "1.5 MB"
    assert _output.when(datetime(2026, 11, 22, 10, 30, tzinfo=timezone(timedelta(hours=1)))) == "2026-11-22 09:30:00"
    assert _output.when(datetime(2026, 11, 22, tzinfo=timezone.utc)) == "2026-11-22"
    assert _output.when(None) == "-"
    assert (_output.plural(1, "thread"), _output.plural(2000, "thread")) == ("1 thread", "2,000 threads")


# --- the reference page


def sections() -> dict[str, str]:
    """The page's text under each heading."""
    found = re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return {heading.strip("`"): text for heading, text in found}


def options(command: Any) -> Iterator[str]:
    """What a command takes, as it is written on the page."""
    for param in command.params:
        if getattr(param, "hidden", False):
            continue
        if param.param_type_name == "argument":
            yield param.metavar or param.name.upper()
        else:
            yield from param.opts
            yield from ([param.envvar] if isinstance(param.envvar, str) else param.envvar or [])


def test_every_command_is_documented() -> None:
    """Each in a section of its own, with an example and all that it takes; and nothing that is not there."""
    text = sections()
    assert set(COMMANDS) <= set(text)
    for name, command in COMMANDS.items():
        named = set(options(command))
        assert {each for each in named if not re.search(rf"`[^`\n]*(?<![\w-]){each}(?![\w-])", text[name])} == set(), (
            name
        )
        assert f"$ eventlog {name}" in text[name], name
        known = named | set(options(GROUP)) | {"--help"}
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text[name])) <= known, name
    assert {each for each in options(GROUP) if f"`{each}" not in text["Global options"]} == set()


def test_every_exit_code_is_documented() -> None:
    codes = re.findall(r"^    (\d+) ", eventlog(None, "--help").stdout, re.MULTILINE)
    assert re.findall(r"^\| (\d+) \|", sections()["Exit codes"], re.MULTILINE) == codes
