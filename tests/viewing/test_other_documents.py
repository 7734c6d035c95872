"""Comparing, moments, proof, the log as a whole, exports, and errors as documents."""

from __future__ import annotations

import importlib
import json
import threading
from datetime import datetime, timedelta, timezone
from typing import Any

import anyio
import psycopg
import pytest

from langgraph.checkpoint.eventlog import (
    ConnectionLostError,
    EventLog,
    EventLogSaver,
    InvalidInputError,
    LogCorruptedError,
    MissingGrantError,
    NotSetUpError,
    ThreadNotFoundError,
)
from langgraph.checkpoint.eventlog.viewing import (
    Reader,
    at,
    diff,
    error_document,
    export,
    export_lines,
    log,
    proof,
    thread,
    verify,
)
from langgraph.checkpoint.eventlog.viewing.arguments import moment
from langgraph.checkpoint.eventlog.viewing.texts import iso, size
from projections.usage import Usage
from tests.viewing.world import ODD, opened, reader, world

exporting = importlib.import_module("langgraph.checkpoint.eventlog.viewing.export")

__all__ = ["reader", "world"]  # fixtures

pytestmark = pytest.mark.portable


async def steps_of(reader: Reader, thread_id: str) -> list[dict[str, Any]]:
    return [each for each in (await thread(reader, thread_id))["steps"] if each["kind"] == "step"]


# --- diff


async def test_two_branches_are_compared(reader: Reader) -> None:
    document = await thread(reader, "chat")
    one, other = (branch["tip"] for branch in document["branches"])
    found = await diff(reader, "chat", one, other)
    assert json.loads(json.dumps(found)) == found
    assert found["common_ancestor"] == document["branches"][1]["starts_at"]
    (messages,) = [each for each in found["channels"] if each["channel"] == "messages"]
    assert messages["what"] == "changed"
    part = messages["parts"][0]
    assert part["path"][0] == "messages" or isinstance(part["path"][0], int)
    assert "topic" in found["unchanged"]
    assert len(found["checkpoints"]) == 20
    assert found["checkpoints"][0]["checkpoint_id"] == other


async def test_without_two_checkpoints_there_is_only_the_choice(reader: Reader) -> None:
    found = await diff(reader, "waiting")
    assert [each["step"] for each in found["checkpoints"]] == [1, 0, -1]
    assert found["channels"] == []
    with pytest.raises(ThreadNotFoundError, match="no checkpoint 'x'"):
        await diff(reader, "waiting", "x", found["checkpoints"][0]["checkpoint_id"])


# --- a moment


async def test_the_state_at_a_time_is_that_of_the_step_before(reader: Reader) -> None:
    steps = await steps_of(reader, "answered")
    for step in steps:
        found = await at(reader, "answered", step["time"])
        assert json.loads(json.dumps(found)) == found
        assert found["checkpoint"]["checkpoint_id"] == step["checkpoint_id"]
        assert found["checkpoint"]["step"] == step["step"]
    assert found["checkpoint"]["messages"]["messages"][0]["text"] == "may I?"
    # As it was then: the answer came later.
    waiting = (await at(reader, "answered", steps[2]["time"]))["checkpoint"]
    assert waiting["next"] == ["confirm"]
    before = await at(reader, "answered", iso(datetime.now(timezone.utc) - timedelta(days=1)))
    assert before["checkpoint"] is None
    span = await at(reader, "answered")
    assert span["time"] is None
    assert span["first"] <= steps[0]["time"] <= steps[-1]["time"] <= span["last"]


async def test_a_state_that_was_erased_says_so(reader: Reader) -> None:
    time = (await thread(reader, "deleted"))["deleted"]["time"]
    found = await at(reader, "deleted", iso(moment(time) - timedelta(milliseconds=2)))
    assert found["checkpoint"] is None
    assert "was erased since" in found["erased"]


@pytest.mark.parametrize("time", ["yesterday", "2026-13-01", "2999-01-01T00:00:00Z", "10"])
async def test_what_is_no_time_of_the_past_is_refused(reader: Reader, time: str) -> None:
    with pytest.raises(InvalidInputError, match="time"):
        await at(reader, "chat", time)


def test_times_are_read_as_people_and_urls_write_them() -> None:
    assert moment("2026-11-22T10:30:00Z") == datetime(2026, 11, 22, 10, 30, tzinfo=timezone.utc)
    assert moment("2026-11-22T10:30") == datetime(2026, 11, 22, 10, 30, tzinfo=timezone.utc)
    assert moment("2026-11-22 10:30") == datetime(2026, 11, 22, 10, 30, tzinfo=timezone.utc)
    assert moment("2026-11-22T10:30:00 01:00") == datetime(2026, 11, 22, 9, 30, tzinfo=timezone.utc)
    assert moment("2026-11-22T10:30:00.123Z").microsecond == 123_999
    assert moment("2026-11-22T10:30:00.123456Z").microsecond == 123_456
    for early_or_late in ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:59.999-01:00"):
        with pytest.raises(InvalidInputError, match="is out of range"):
            moment(early_or_late)
    assert iso(moment("2026-11-22T10:30:00.123Z")) == "2026-11-22T10:30:00.123Z"


def test_sizes_are_in_the_largest_unit() -> None:
    assert [size(count) for count in (0, 1, 465, 1_900, 999_960, 10**9)] == [
        "0 bytes",
        "1 byte",
        "465 bytes",
        "1.9 kB",
        "1.0 MB",
        "1.0 GB",
    ]


# --- proof


async def test_a_thread_is_verified_and_covered_by_a_seal(reader: Reader) -> None:
    verified = await verify(reader, "pruned")
    assert (verified["found"], verified["problems"]) == (0, [])
    assert verified["events"] > 0
    document = await proof(reader, "pruned", verified=verified)
    assert json.loads(json.dumps(document)) == document
    assert document["verified"] == verified
    assert document["seals"]["latest"]["number"] == 1
    assert document["seals"]["latest"]["actor"] == "sealer"
    (root,) = document["covered_by_seal"]["ns"]
    assert root["seal"] == 1
    assert root["later"] == root["last"] - root["through"] > 0
    assert document["erased"]
    assert {each["operation"] for each in document["erased"]} == {"prune"}
    assert {each["actor"] for each in document["erased"]} == {"an operator"}
    (operation,) = document["receipts"]
    assert operation["events"] == sum(each["to"] - each["from"] + 1 for each in document["erased"])
    assert document["missing"] == []


async def test_what_was_altered_is_named(world: str) -> None:
    with psycopg.connect(world) as conn:
        conn.execute("set session_replication_role = replica")
        conn.execute("update eventlog.events set checkpoint_id = 'x' where thread_id = 'failed' and seq = 1")
    async with opened(world) as opened_log:
        verified = await verify(Reader(opened_log), "failed")
    assert verified["found"] == len(verified["problems"]) > 0
    assert verified["problems"][0]["text"].startswith("namespace ''")


async def test_a_thread_that_nothing_was_erased_from_has_no_receipts(reader: Reader) -> None:
    document = await proof(reader, "chat")
    assert (document["verified"], document["erased"], document["receipts"]) == (None, [], [])
    with pytest.raises(ThreadNotFoundError):
        await proof(reader, "nobody")
    with pytest.raises(ThreadNotFoundError):
        await verify(reader, "nobody")


# --- the log


async def test_the_log_says_how_large_it_is_and_who_reads_it(world: str) -> None:
    with EventLogSaver.from_conn_string(world) as saver:
        saver.log.project(Usage())
        document = await log(Reader(saver.log), largest=True)
    assert json.loads(json.dumps(document)) == document
    assert document["stats"]["threads"] >= 0
    assert document["partitions"]
    assert sum(each["is_current"] for each in document["partitions"]) == 1
    assert document["runway"]["seconds"] > 0
    assert not document["runway"]["is_short"]
    assert document["largest"][0]["bytes"] >= document["largest"][-1]["bytes"] > 0
    assert document["growth"]
    assert document["feed"]["error"] is None
    (usage,) = document["projections"]
    assert (usage["name"], usage["waiting"], usage["error"]) == ("usage", 0, None)
    assert document["seals"]["latest"]["number"] == 1


async def test_the_largest_threads_are_read_only_when_asked_for(reader: Reader) -> None:
    assert (await log(reader))["largest"] is None


# --- exports


async def test_an_export_has_the_timeline_and_the_latest_checkpoints(reader: Reader) -> None:
    document = await export(reader, "nested")
    assert json.loads(json.dumps(document)) == document
    assert document["thread"]["thread_id"] == "nested"
    assert len(document["checkpoints"]) == 2
    assert document["checkpoints"][0]["ns"] == ""
    assert not document["left_out"]
    assert document["version"]


async def test_lines_have_each_event_with_its_values(reader: Reader) -> None:
    lines = [line async for line in export_lines(reader, ODD)]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert json.loads(json.dumps(lines)) == lines
    # The writes to it may have been committed before.
    saved = next(line for line in lines if line["kind"] == "checkpoint")
    first = {each["channel"]: each["value"] for each in saved["channels"]}
    assert first["__start__"]["messages"] == [["human", "one"]]
    with pytest.raises(ThreadNotFoundError):
        _ = [line async for line in export_lines(reader, "nobody")]


async def test_an_export_is_one_reading_whose_lines_are_made_in_a_thread(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings, threads = [], set()
    changes, line = reader._log.changes, exporting._line
    monkeypatch.setattr(reader._log, "changes", lambda *args, **more: readings.append(args) or changes(*args, **more))
    monkeypatch.setattr(exporting, "_line", lambda change: threads.add(threading.get_ident()) or line(change))
    monkeypatch.setattr(exporting, "LINES", 2)
    text = "".join([some async for some in exporting.export_text(reader, ODD)])
    lines = list(map(json.loads, text.splitlines()))
    assert len(lines) > 5
    assert lines == [line async for line in export_lines(reader, ODD)]
    assert len(readings) == 2
    assert threading.get_ident() not in threads


# --- errors


@pytest.mark.parametrize(
    ("exc", "status", "error", "hint"),
    [
        (ThreadNotFoundError("gone"), 404, "not_found", None),
        (InvalidInputError("wrong"), 400, "invalid_request", None),
        (
            MissingGrantError("user 'a' lacks a right. Let the log's owner run: eventlog grant auditor a"),
            403,
            "missing_grant",
            "eventlog grant auditor a",
        ),
        (NotSetUpError(), 409, "not_set_up", "eventlog setup"),
        (ConnectionLostError(), 503, "database_unavailable", None),
        (LogCorruptedError("x"), 500, "undecodable", "eventlog verify"),
    ],
)
async def test_an_error_is_a_document(reader: Reader, exc: Any, status: int, error: str, hint: str | None) -> None:
    document = await error_document(reader, exc, "chat")
    assert (document["status"], document["error"], document["hint"]) == (status, error, hint)
    assert document["message"] == str(exc)
    assert document["retry_after"] == (2 if status == 503 else None)
    assert document["deleted"] is None


async def test_what_is_not_there_says_when_its_thread_was_deleted(reader: Reader) -> None:
    document = await error_document(reader, ThreadNotFoundError("gone"), "deleted")
    assert document["deleted"]["actor"] == "an operator"
    assert (await error_document(reader, ThreadNotFoundError("gone"), "nobody"))["deleted"] is None


async def test_a_reading_that_nobody_waits_for_keeps_its_slot_until_it_ends(
    world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("langgraph.checkpoint.eventlog.viewing.reader.MOST_CALLS", 1)
    ended = threading.Event()
    with EventLog.from_conn_string(world) as log:
        reader = Reader(log)
        try:
            with anyio.move_on_after(0.1):
                await reader.in_thread(ended.wait)
            with anyio.move_on_after(0.1) as waiting:
                await reader.in_thread(int)
            assert waiting.cancelled_caught
        finally:
            ended.set()
        with anyio.fail_after(5):
            assert await reader.in_thread(int) == 0
            with pytest.raises(ZeroDivisionError):
                await reader.in_thread(lambda: 1 / 0)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await reader.in_thread(int)
            assert await reader.in_thread(int) == 0
