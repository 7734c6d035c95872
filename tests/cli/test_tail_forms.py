"""The `eventlog` command: `tail --changes`, with values, and `tail --csv`, for spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from tests.cli.command import ODD, clean_environment, documents, eventlog, fill, uri
from tests.cli.test_feed import following
from tests.feed.views import Point
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, put

pytestmark = pytest.mark.portable

__all__ = ["clean_environment", "uri"]  # fixtures

COLUMNS = [
    "cursor",
    "thread_id",
    "checkpoint_ns",
    "seq",
    "recorded_at",
    "kind",
    "checkpoint_id",
    "base_seq",
    "as_of",
    "is_replay",
    "bytes",
    "digest",
]


def test_changes_have_what_the_history_has_with_the_feeds_cursor(uri: str) -> None:
    """The values, too; for machines and for people."""
    lines = documents(eventlog(uri, "tail", "--json"))
    changes = documents(eventlog(uri, "tail", "--changes", "--json"))
    assert [each["cursor"] for each in changes] == [each["cursor"] for each in lines]
    for thread_id in ("old", "new"):
        expected = documents(eventlog(uri, "history", thread_id, "--changes", "--json"))
        found = [each for each in changes if each["thread_id"] == thread_id]
        assert [{**each, "cursor": None, "is_replay": None} for each in found] == [
            {**each, "cursor": None, "is_replay": None} for each in expected
        ]
    assert changes[1]["channels"][0]["value"] == "1"
    done = eventlog(uri, "tail", "--changes", "--limit", "2")
    heading, *rest = done.stdout.splitlines()
    assert heading.split("  ")[1:3] == ["old", "event 1"]
    assert heading.endswith(changes[0]["cursor"])
    assert "  x written: '1'" in rest


async def test_changes_show_values_of_other_types_as_data(database_uri: str) -> None:
    async with open_saver("sync-string", database_uri) as saver:
        await put(saver, config_of(ODD), "a", {"x": Point(1, 2)})
    done = eventlog(database_uri, "tail", "--changes")
    assert done.exit_code == 0
    assert "Shown as data" in done.stderr
    assert "tests.feed.views:Point" in done.stderr
    assert "\x1b" not in done.stdout
    assert "[red]odd[/red]\\x1b[31m\\n:smile:é" in done.stdout


def test_changes_follow(uri: str) -> None:
    with following(uri, "--changes", "--json", "--thread", "new") as running:
        assert running.stdout is not None
        lines = [json.loads(running.stdout.readline()) for _ in range(2)]
    assert [each["seq"] for each in lines] == [1, 2]


async def test_csv_has_a_heading_and_a_line_for_each_event(uri: str) -> None:
    """The same columns whatever comes; ids that would be formulas, or would break a line, do neither."""
    hostile = ['=HYPERLINK("http://x")', "+1", "-1", "@x", "a,b\n=1", "\uff1d1", "\t=1", ODD]
    for thread_id in hostile:
        await fill(uri, thread_id, "1")
    done = eventlog(uri, "tail", "--csv")
    assert done.exit_code == 0
    heading, *rows = csv.reader(io.StringIO(done.stdout))
    assert heading == COLUMNS
    expected = documents(eventlog(uri, "tail", "--json"))
    assert len(rows) == len(expected) == len(done.stdout.splitlines()) - 1
    for row, document in zip(rows, expected, strict=True):
        cells: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
        assert cells["cursor"] == document["cursor"]
        assert cells["seq"] == str(document["seq"])
        assert cells["recorded_at"] == document["recorded_at"]
        assert cells["base_seq"] == ("" if document["base_seq"] is None else str(document["base_seq"]))
        assert cells["is_replay"] == "false"
        assert cells["digest"] == document["digest"]
        assert not cells["thread_id"].startswith(("=", "+", "-", "@", "\uff1d", "\t"))
        assert cells["thread_id"].isprintable()
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)
    written = {cells[1] for cells in rows}
    assert {"'+1", "'-1", "'@x", "'\uff1d1", "old", "\\t=1", "a,b\\n=1"} < written
    assert eventlog(uri, "tail", "--csv", "--thread", "none").stdout == ",".join(COLUMNS) + "\n"
    for wrong in (["--csv", "--json"], ["--csv", "--changes"]):
        done = eventlog(uri, "tail", *wrong)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "without --changes and --json" in done.stderr
