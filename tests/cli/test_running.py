"""The `eventlog` command: how it connects, what it refuses, and how it ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from eventlog.errors import StorageError
from langgraph.checkpoint.eventlog import EventLog, EventLogSaver
from langgraph.checkpoint.eventlog.cli import parsing
from langgraph.checkpoint.eventlog.cli.render import output
from tests.cli.command import (
    MODULE,
    SECRET,
    clean_environment,
    eventlog,
    fill,
    process,
    uri,
)
from tests.database.test_rights import as_role, role

__all__ = ["clean_environment", "role", "uri"]  # fixtures


# --- the connection string


def test_a_missing_connection_string_is_refused_with_both_ways_to_give_it() -> None:
    """The message names both ways to give it; help needs none."""
    for command in ("threads", "partitions", "setup"):
        done = eventlog(None, command)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "--dsn" in done.stderr
        assert "EVENTLOG_DSN" in done.stderr
    assert eventlog(None, "threads", "--help").exit_code == 0


def test_the_connection_string_may_come_from_the_environment(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_at_sign_in_a_socket_path_is_no_password() -> None:
    """Neither that nor an encoded sign in a name is a password in the wrong place."""
    for dsn in ("postgresql://ada@/app?host=/sockets/a@b", "host=@abstract dbname=a@b", "postgresql://h:1/a%40b"):
        assert eventlog(dsn, "threads").stderr.startswith("Error: could not connect")


def test_an_error_of_several_lines_has_no_escapes_for_its_tabs() -> None:
    shown = eventlog("postgresql://ada@/app?host=/no/such/folder", "threads").stderr
    assert "\n    Is the server running" in shown
    assert "\\t" not in shown


# --- how it ends


def test_commands_on_an_empty_database_say_what_to_run(empty_database_uri: str) -> None:
    """An error of the log: its message, and what helps, without a traceback."""
    done = eventlog(empty_database_uri, "threads")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: The event log's tables or functions do not exist.")
    for arguments in (
        ["delete", "1", "--yes"],
        ["copy", "1", "2"],
        ["partitions"],
        ["expire", "--idle", "1d", "--yes"],
    ):
        assert eventlog(empty_database_uri, *arguments).exit_code == 1


def test_control_characters_in_error_messages_are_escaped(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the server or a decoder quotes in them; their lines stay lines."""

    def fail(*_: Any, **__: Any) -> None:
        raise StorageError("one \x1b[31m\nand another \x9b")

    monkeypatch.setattr(EventLog, "threads", fail)
    done = eventlog(uri, "threads")
    assert (done.exit_code, done.stderr) == (1, "Error: one \\x1b[31m\nand another \\x9b\n")


def test_missing_rights_are_an_error_with_a_message(uri: str, role: str) -> None:
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
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    done = eventlog("dbname=nowhere", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")


def test_help_lists_the_exit_codes_and_version_prints_one() -> None:
    done = eventlog(None, "--help")
    assert done.exit_code == 0
    assert all(f"\n    {code}" in done.stdout for code in (0, 1, 2, 130))
    script = Path(sys.executable).parent / "eventlog"
    for command in ([script], MODULE):
        version = subprocess.run([*command, "--version"], capture_output=True, encoding="utf-8", check=True)
        assert re.fullmatch(r"eventlog \d+\.\d+\.\d+\n", version.stdout)


def test_output_into_a_closed_pipe_ends_with_141(uri: str) -> None:
    """It ends, and says nothing."""
    for arguments in (["threads"], ["threads", "--json"], ["partitions"]):
        read, write = os.pipe()
        os.close(read)
        try:
            done = process(uri, *arguments, capture_output=False, stdout=write, stderr=subprocess.PIPE)
        finally:
            os.close(write)
        assert (done.returncode, done.stderr) == (141, "")


async def test_head_reads_one_line_without_an_error(uri: str) -> None:
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


def test_an_id_outside_of_the_encoding_is_escaped(uri: str) -> None:
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.copy_thread("old", "café")
    environment = {**os.environ, "EVENTLOG_DSN": uri, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*MODULE, "threads"], env=environment, capture_output=True, encoding="ascii", check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"caf\xe9" in done.stdout


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_extra_one_line_says_what_to_install(package: str) -> None:
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
        "import sys\nfrom eventlog.logger import logger\nfrom langgraph.checkpoint.eventlog.cli import main\n"
        "from langgraph.checkpoint.eventlog import EventLog\n"
        "EventLog.threads = lambda *_, **__: logger.warning('eventlog.something', partition='p1') or []\n"
        "sys.exit(main(['threads', '--json']))"
    )
    environment = {**os.environ, "EVENTLOG_DSN": empty_database_uri}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("WARNING: eventlog.something partition='p1'\n")


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
def test_durations_are_read(text: str, expected: timedelta) -> None:
    assert parsing.duration(text) == expected


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
def test_ambiguous_durations_are_refused(text: str) -> None:
    """What could mean two things is not guessed."""
    done = eventlog("dbname=nowhere", "expire", f"--idle={text}", "--yes")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "'--idle': " in done.stderr
    assert "is not a duration: write 30d" in done.stderr


def test_a_duration_that_is_too_long_is_refused(uri: str) -> None:
    done = eventlog(uri, "expire", "--idle", "900000d", "--dry-run")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "2,000 years" in done.stderr


def test_spans_sizes_times_and_counts_are_written_for_people() -> None:
    assert output.span(timedelta(days=98, hours=13, minutes=5)) == "98d 13h"
    assert output.span(timedelta(hours=2)) == "2h"
    assert output.span(timedelta(seconds=5)) == "0m"
    assert output.size(1_500_000) == "1.5 MB"
    assert output.when(datetime(2026, 11, 22, 10, 30, tzinfo=timezone(timedelta(hours=1)))) == "2026-11-22 09:30:00.000"
    assert output.when(datetime(2026, 11, 22, tzinfo=timezone.utc)) == "2026-11-22"
    assert output.when(None) == "-"
    assert (output.plural(1, "thread"), output.plural(2000, "thread")) == ("1 thread", "2,000 threads")
