"""Bad input to what ends or copies data: an error that says what to do about it, and nothing has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from eventlog.errors import InvalidInputError
from tests.support.adapters import POOLS
from tests.support.checkpoints import Tables, config_of, converse, put

pytestmark = POOLS

DAY = timedelta(days=1)

NOT_IDS: list[tuple[Any, str]] = [
    ("1", "must be a sequence of ids, not str"),
    ("", "must be a sequence of ids, not str"),
    (b"1", "must be a sequence of ids, not bytes"),
    (None, "must be a sequence of ids, not NoneType"),
    (1, "must be a sequence of ids, not int"),
    (object(), "must be a sequence of ids, not object"),
    (["1", None], "each of .* must be a str, int or UUID, not NoneType"),
    (["1", b"1"], "each of .* must be a str, int or UUID, not bytes"),
    ([["1"]], "each of .* must be a str, int or UUID, not list"),
    ([True], "each of .* must be a str, int or UUID, not bool"),
    ([1.0], "each of .* must be a str, int or UUID, not float"),
    (["1", ""], "each of .* must not be empty"),
    (["1", "\0"], "each of .* must not contain NUL characters"),
    (["1", "\ud800"], "each of .* must not contain lone surrogates"),
    (["1", "x" * 3000], "each of .* is 3000 bytes long; the limit is 2600"),
]

NOT_DURATIONS: list[tuple[Any, str]] = [
    (-DAY, "must not be negative"),
    (-timedelta(microseconds=1), "must not be negative"),
    (timedelta.max, "must be less than 2,000 years"),
    (30, "must be a timedelta, not int"),
    (30.0, "must be a timedelta, not float"),
    ("30 days", "must be a timedelta, not str"),
    (datetime(2026, 1, 1), "must be a timedelta, not datetime"),
]

NOT_COUNTS: list[tuple[Any, str]] = [
    (0, r"must be at least 1 \(got 0\)"),
    (-1, r"must be at least 1 \(got -1\)"),
    (True, "must be an int, not bool"),
    ("2", "must be an int, not str"),
    (2.0, "must be an int, not float"),
]

NOT_TEXTS: list[tuple[Any, str]] = [
    ("\0", "must not contain NUL characters"),
    ("\ud800", "must not contain lone surrogates"),
    ("x" * 3000, "is 3000 bytes long; the limit is 2600"),
    (b"me", "must be a str, not bytes"),
    (7, "must be a str, not int"),
]

NOT_AN_ID: list[tuple[Any, str]] = [
    (None, "must be a str, int or UUID, not NoneType"),
    (["1"], "must be a str, int or UUID, not list"),
    (b"1", "must be a str, int or UUID, not bytes"),
    (True, "must be a str, int or UUID, not bool"),
    ("", "must not be empty"),
    ("1\0", "must not contain NUL characters"),
]


def prefixed(name: str, cases: list[tuple[Any, str]]) -> Iterator[tuple[Any, str]]:
    for value, message in cases:
        yield value, message.replace("each of .*", f"each of {name}") if "each of" in message else f"{name} {message}"


def calls(saver: Any) -> Iterator[tuple[Callable[[], Any], str]]:
    """Calls that must be refused, each with what the error says."""

    def case(method: str, message: str, *args: Any, **options: Any) -> tuple[Callable[[], Any], str]:
        # Under LangGraph's names on the saver, which has LangGraph's parameters; with more of them on the log.
        if method.startswith("a") and options.keys() <= {"strategy"}:
            return lambda: getattr(saver, method)(*args, **options), message
        return lambda: getattr(saver.log, method.removeprefix("a"))(*args, **options), message

    for value, message in prefixed("thread_ids", NOT_IDS):
        yield case("aprune", message, value)
        yield case("aprune", message, value, strategy="delete")
        if value is not None:
            yield case("threads", message, value)
    for value, message in prefixed("run_ids", NOT_IDS):
        yield case("adelete_for_runs", message, value)
    for strategy in ("keep_all", "", "KEEP_LATEST", None, 1, "delete ", "delete all"):
        message = f"unknown strategy {strategy!r}: it must be one of keep_latest, delete"
        yield case("aprune", message, ["1"], strategy=strategy)
    for value, message in prefixed("older_than", NOT_DURATIONS):
        yield case("aprune", message, ["1"], older_than=value)
    for value, message in prefixed("keep_last", NOT_COUNTS):
        yield case("aprune", message, ["1"], keep_last=value)
    yield case("aprune", "keep_last and older_than contradict each other: give one", ["1"], keep_last=1, older_than=DAY)
    keeps_nothing = "strategy 'delete' deletes all: leave out keep_last and older_than"
    yield case("aprune", keeps_nothing, ["1"], strategy="delete", keep_last=1)
    yield case("aprune", keeps_nothing, ["1"], strategy="delete", older_than=DAY)

    for value, message in [*prefixed("idle", NOT_DURATIONS), (None, "idle must be a timedelta, not NoneType")]:
        yield case("expire", message, value)
    for value, message in prefixed("limit", NOT_COUNTS):
        yield case("expire", message, timedelta(0), limit=value)
        yield case("threads", message, limit=value)
    yield case("threads", "limit must be an int, not NoneType", limit=None)
    for before in (datetime(2026, 1, 1), "2026-01-01", 0, DAY):
        yield case("threads", "before must be a datetime with a time zone", before=before)
    for ahead in (-1, 1001, True, "1", 1.0):
        yield case("make_partitions", f"ahead must be an int from 0 to 1000, not {ahead!r}", ahead)

    for value, message in NOT_AN_ID:
        yield case("adelete_thread", f"thread_id {message}", value)
        for method in ("acopy_thread", "fork_thread"):
            yield case(method, f"source_thread_id {message}", value, "2")
            yield case(method, f"target_thread_id {message}", "1", value)
        if value is not None:
            yield case("fork_thread", f"checkpoint_id {message}", "1", "2", value)
    for method in ("acopy_thread", "fork_thread"):
        for target in ("1", 1):
            yield case(method, "thread '1' cannot be copied onto itself: choose another target id", "1", target)

    for value, message in prefixed("actor", NOT_TEXTS):
        yield case("adelete_thread", message, "1", actor=value)
        yield case("adelete_for_runs", message, ["run"], actor=value)
        yield case("acopy_thread", message, "1", "2", actor=value)
        yield case("fork_thread", message, "1", "2", actor=value)
        yield case("aprune", message, ["1"], actor=value)
        yield case("aprune", message, ["1"], strategy="delete", actor=value)
        yield case("expire", message, timedelta(0), actor=value)


async def test_bad_arguments_are_refused_and_change_nothing(saver: Any, database_uri: str) -> None:
    await converse(saver, run_id="run")
    await put(saver, config_of("2", ns="call:1"), "a", {"x": 1})
    tables = Tables(database_uri)
    before = tables.contents()
    count = 0
    for call, message in calls(saver):
        with pytest.raises(InvalidInputError, match=message):
            await call()
        count += 1
    assert count > 150
    assert tables.contents() == before


async def test_a_bad_id_is_refused_before_the_first_is_touched(saver: Any, database_uri: str) -> None:
    """The ids are all looked at before the first of them is touched, also when they come one by one."""
    await converse(saver)
    tables = Tables(database_uri)
    before = tables.contents()

    def broken() -> Iterator[str]:
        yield "1"
        raise LookupError("no more ids")

    for strategy in ("keep_latest", "delete"):
        with pytest.raises(InvalidInputError):
            await saver.aprune(iter(["1", None]), strategy=strategy)
        with pytest.raises(LookupError, match="no more ids"):
            await saver.aprune(broken(), strategy=strategy)
    assert tables.contents() == before


async def test_bad_arguments_are_refused_on_an_empty_log(kind: str, saver: Any, database_uri: str) -> None:
    """Bad input is refused where there is nothing, too, and leaves nothing."""
    for call, message in calls(saver):
        with pytest.raises(InvalidInputError, match=message):
            await call()
    assert Tables(database_uri).contents() == {table: [] for table in Tables(database_uri).contents()}
