"""`eventlog rebuild`: what it shows, and how it ends."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.cli.command import MODULE, clean_environment, documents, eventlog, uri  # noqa: F401 -- fixtures
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, put


@pytest.fixture
def damaged(uri: str) -> str:  # noqa: F811
    """A log in which a row is gone, and one is altered."""
    Tables(uri).run(
        "delete from {schema}.checkpoints where thread_id = 'old' and checkpoint_id = '2'",
        "update {schema}.streams set written_through = '7' where thread_id = 'new'",
    )
    return uri


def test_check_of_a_sound_log_says_that_no_row_differs(uri: str) -> None:  # noqa: F811
    """Nothing differs: it says so."""
    done = eventlog(uri, "rebuild", "--check")
    assert (done.exit_code, done.stdout) == (0, "Compared 2 streams with 8 events: no row differs.\n")
    (found,) = documents(eventlog(uri, "rebuild", "--check", "--json"))
    assert found == {
        "streams": 2,
        "checkpoints": 4,
        "events": 8,
        "differing": {"streams": 0, "checkpoints": 0, "snapshots": 0},
    }


def test_check_of_a_damaged_log_shows_differences_and_ends_with_1(damaged: str) -> None:
    """What differs is shown, nothing is changed, and it ends with 1."""
    before = Tables(damaged).contents()
    done = eventlog(damaged, "rebuild", "--check", "--workers", "2")
    assert done.exit_code == 1
    assert "Different from the log: 2 rows (streams 1, checkpoints 1)." in done.stderr
    assert re.search(r"new +streams +different +written_through: 7, not \w+", done.stdout)
    assert re.search(r"old +checkpoints +2 +missing", done.stdout)

    done = eventlog(damaged, "rebuild", "--check", "--json")
    assert done.exit_code == 1
    assert '"key": "2", "what": "missing"' in done.stdout
    assert '"columns": ["written_through"], "live": ["7"]' in done.stdout
    assert Tables(damaged).contents() == before


@dataclass
class Note:
    text: str


async def test_metadata_of_own_classes_is_the_same_for_every_reader(database_uri: str) -> None:
    """The searchable copy has their fields, as no reader needs their code for it: nothing differs."""
    async with open_saver("sync-pool", database_uri) as saver:
        await put(saver, config_of("1"), "a", {"x": 1}, metadata={"note": Note("x")})
    copy = Tables(database_uri).one("select metadata -> 'note' from {schema}.checkpoints")
    for arguments in ([], ["--allow", f"{__name__}:Note"], ["--trust"]):
        done = eventlog(database_uri, "rebuild", "--check", *arguments)
        assert (done.exit_code, done.stderr) == (0, "")
    assert eventlog(database_uri, "rebuild", "--trust").exit_code == 0
    assert Tables(database_uri).one("select metadata -> 'note' from {schema}.checkpoints") == copy
    assert copy["text"] == "x"


def test_rebuild_repairs_rows_in_place(damaged: str) -> None:
    """It is repaired, and what was wrong is shown."""
    done = eventlog(damaged, "rebuild", "--json")
    assert done.exit_code == 0, done.stderr
    found = documents(done)[-1]
    assert found["differing"] == {"streams": 1, "checkpoints": 1, "snapshots": 0}
    assert found["locked_seconds"] > 0
    done = eventlog(damaged, "rebuild", "--restart")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "Rebuilt 2 streams, 4 checkpoints and 0 snapshots. No writer waited longer than 0 ms.\n"
    found = documents(eventlog(damaged, "rebuild", "--json"))[-1]
    assert (found["streams"], found["checkpoints"], found["snapshots"], found["events"]) == (2, 4, 0, 8)
    assert found["differing"] == {"streams": 0, "checkpoints": 0, "snapshots": 0}


@pytest.mark.parametrize("arguments", [("--accept-loss", "--check"), ("--check", "--restart"), ("--workers", "0")])
def test_contradicting_options_are_refused(uri: str, arguments: tuple[str, ...]) -> None:  # noqa: F811
    assert eventlog(uri, "rebuild", *arguments).exit_code == 2


@pytest.mark.portable
def test_an_event_that_does_not_decode_is_named(uri: str) -> None:  # noqa: F811
    """The message says where."""
    Tables(uri).replace_body("events", "old", 3, b"")
    done = eventlog(uri, "rebuild")
    assert done.exit_code == 1
    assert re.search(r"event 3 of thread 'old', namespace '', does not decode.* position .* is \d+", done.stderr)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def test_a_terminal_shows_a_bar_with_rate_and_time_left(uri: str, terminal: tuple[int, int]) -> None:  # noqa: F811
    """On a terminal there is a bar, with rate and time left."""
    ours, theirs = terminal
    command = [*MODULE, "--dsn", uri, "rebuild"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}) as done:
        os.close(theirs)
        shown = b""
        try:
            while more := os.read(ours, 4096):
                shown += more
        except OSError:
            pass  # the other end is closed
        assert done.stdout is not None
        assert b"Rebuilt 2 streams" in done.stdout.read()
    assert done.returncode == 0
    assert b"Rebuilding" in shown
    assert re.search(rb"8/8 .*events, [\d,]+/s \d:\d\d:\d\d 00:00", re.sub(rb"\x1b\[[\d;?]*[a-zA-Z]", b"", shown))
