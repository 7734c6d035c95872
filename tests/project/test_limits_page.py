"""docs/reference/limits.md: its numbers are the code's, and what it says happens beyond them does."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from eventlog.db.retry import RetryPolicy
from eventlog.retention import ACTIVE, Retention
from eventlog.settings import BODY_LIMIT_BYTES, Settings, StoredSettings
from eventlog.streams import MAX_ID_BYTES
from langgraph.checkpoint.eventlog import EventLog, EventLogSaver, EventTooLargeError, InvalidInputError
from langgraph.checkpoint.eventlog._concurrency import MAX_OBSERVED
from langgraph.checkpoint.eventlog._get import CHUNK_BYTES
from langgraph.checkpoint.eventlog.integrity.chain import MOST_PROBLEMS
from projections.custom import check_projection
from tests.project.test_docs import REFERENCE
from tests.support.checkpoints import checkpoint_of, config_of

PAGE = (REFERENCE / "limits.md").read_text()


def rows() -> dict[str, str]:
    """What each row limits, and all that it says."""
    return {cells[1].strip(): line for line in PAGE.splitlines() if len(cells := line.split("|")) > 3}


def numbers(what: str) -> set[int]:
    """The numbers in the row about `what`."""
    (line,) = (line for name, line in rows().items() if name.startswith(what))
    return {int(each.replace(",", "")) for each in re.findall(r"\d[\d,]*", line)}


@pytest.mark.lint
def test_the_numbers_are_the_codes() -> None:
    fields = Settings.model_fields
    assert MAX_ID_BYTES in numbers("each id")
    assert MAX_ID_BYTES in numbers("thread id, namespace and checkpoint id")
    assert {fields["max_body_bytes"].default, 1024, BODY_LIMIT_BYTES} <= numbers("one event or snapshot")
    assert fields["pool_max_size"].default in numbers("connections of")
    assert RetryPolicy().deadline in numbers("one call")
    assert fields["state_cache_bytes"].default in numbers("states that a saver keeps")
    assert fields["message_cache_bytes"].default in numbers("decoded messages")
    assert 2 * CHUNK_BYTES in numbers("a listing")
    assert MAX_OBSERVED in numbers("observed reads")
    assert MOST_PROBLEMS in numbers("problems that")
    assert timedelta(minutes=15) == ACTIVE
    assert numbers("`Retention.idle`") == {15}


@pytest.mark.lint
@pytest.mark.parametrize(
    "call",
    [
        lambda: Settings.parse({"schema": "x" * 64}),
        lambda: Settings.parse({"max_body_bytes": 1023}),
        lambda: Settings.parse({"max_body_bytes": BODY_LIMIT_BYTES + 1}),
        lambda: StoredSettings.parse({"partitions_ahead": 1001}),
        lambda: StoredSettings.parse({"partition_interval": "year"}),
        lambda: Retention(idle=timedelta(minutes=14)),
        lambda: Retention(idle=timedelta(days=365 * 2001)),
        lambda: check_projection(_projection("x" * 64), "eventlog", is_async=False),
        lambda: check_projection(_projection("Upper"), "eventlog", is_async=False),
    ],
)
def test_settings_beyond_a_limit_are_refused(call: Any) -> None:
    with pytest.raises(InvalidInputError):
        call()


def _projection(name: str) -> Any:
    methods = {"setup": lambda self, conn: None, "apply": lambda self, conn, events: None}
    return type("Projection", (), {"name": name, "version": 1, **methods})()


@pytest.fixture
def saver(database_uri: str) -> Any:
    with EventLogSaver.from_conn_string(database_uri, max_body_bytes=1024) as opened:
        yield opened


def put(saver: EventLogSaver, thread_id: Any, value: Any = 1) -> Any:
    return saver.put(config_of(thread_id), checkpoint_of("1", {"x": value}, {"x": "1"}), {}, {"x": "1"})


@pytest.mark.parametrize("thread_id", ["x" * (MAX_ID_BYTES + 1), "ü" * 1301, "", "a\0b", "a\ud800b", 1.5, True])
def test_ids_beyond_a_limit_are_refused(saver: EventLogSaver, thread_id: Any) -> None:
    with pytest.raises(InvalidInputError):
        put(saver, thread_id)


@pytest.mark.parametrize("thread_id", ["x" * (MAX_ID_BYTES - 1), 7, uuid4()])
def test_ids_up_to_the_limit_are_stored(saver: EventLogSaver, thread_id: Any) -> None:
    """With a checkpoint id of one byte."""
    put(saver, thread_id)
    assert saver.get_tuple(config_of(thread_id)) is not None


def test_a_state_over_the_limit_is_refused(saver: EventLogSaver) -> None:
    with pytest.raises(EventTooLargeError, match="max_body_bytes is 1024"):
        put(saver, "1", "x" * 1024)
    assert saver.get_tuple(config_of("1")) is None


def test_integers_of_any_size_and_lone_surrogates_are_stored(saver: EventLogSaver) -> None:
    value = [1 << 100, "a\ud800"]
    put(saver, "1", value)
    found = saver.get_tuple(config_of("1"))
    assert found is not None
    assert found.checkpoint["channel_values"]["x"] == value


def test_calls_beyond_a_limit_are_refused(database_uri: str) -> None:
    with EventLog.from_conn_string(database_uri) as log:
        with pytest.raises(InvalidInputError):
            next(log.tail(poll_interval=86_401))
        with pytest.raises(InvalidInputError):
            log.maintain(every=timedelta(days=367))
        with pytest.raises(InvalidInputError):
            log.prune(["1"], older_than=timedelta(days=365 * 2001))
