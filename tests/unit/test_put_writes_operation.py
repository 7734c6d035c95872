"""`put_writes` without a database: what it asks after each answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from psycopg import errors as pg

from eventlog.db.query import BatchableQuery, Op
from eventlog.errors import InvalidInputError, ThreadDeletedError
from langgraph.checkpoint.eventlog._put import Writer
from tests.support.checkpoints import checkpoint_of, config_of
from tests.support.scripted import AT, STATEMENTS, AppendedCheckpoint, AppendedWrites, fail_with, play

pytestmark = pytest.mark.portable

TEXT = "word " * 5000


def put_writes(writer: Writer, *values: Any, again: bool = False) -> Op[None]:
    writes = [(f"channel {number}", value) for number, value in enumerate(values)]
    return writer.put_writes(config_of("1", "a"), writes, "task", again=again)


def put(writer: Writer, appended: AppendedCheckpoint) -> None:
    checkpoint = checkpoint_of("a", {"x": TEXT}, {"x": "1"})
    play(writer.put(config_of("1"), checkpoint, {}, {"x": "1"}), ("append_checkpoint", appended))


def test_put_writes_is_one_query(writer: Writer) -> None:
    appended = AppendedWrites()
    play(put_writes(writer, 1, 2), ("append_writes", appended))
    assert appended.params[:4] == ("1", "", "a", None)
    assert appended.base_seq is None


def test_put_writes_without_writes_asks_nothing(writer: Writer) -> None:
    play(put_writes(writer))


def test_put_writes_needs_a_checkpoint(writer: Writer) -> None:
    with pytest.raises(InvalidInputError, match="writes belong to a checkpoint"):
        play(writer.put_writes(config_of("1"), [("x", 1)], "task"))


def test_writes_can_be_joined(writer: Writer) -> None:
    """The query says how others go along."""
    ops = [put_writes(writer, number) for number in (1, 2)]
    queries = [next(op) for op in ops]
    assert all(isinstance(query, BatchableQuery) for query in queries)
    first, second = queries
    assert isinstance(first, BatchableQuery)
    assert isinstance(second, BatchableQuery)
    joint = first.join([first, second], None)
    assert joint.statement == STATEMENTS["append_together"]
    assert isinstance(joint.params, tuple)
    calls, *_, bodies, snapshots, is_relaxed = joint.params
    assert not is_relaxed
    assert [(each["number"], each["kind"], each["checkpoint_id"]) for each in json.loads(calls)] == [
        (1, 2, "a"),
        (2, 2, "a"),
    ]
    assert snapshots == [b"", b""]
    assert [len(body) > 0 for body in bodies] == [True, True]
    for op in ops:
        with pytest.raises(StopIteration):
            op.send([("ok", 3, AT, 0, bytes(32))])


def test_writes_that_repeat_the_state_are_a_difference_from_it(writer: Writer) -> None:
    appended = AppendedWrites()
    put(writer, AppendedCheckpoint())
    play(put_writes(writer, TEXT + "!"), ("append_writes", appended))
    assert appended.base_seq == 1
    assert len(appended.body) < 200


def test_writes_whose_base_is_stale_are_appended_whole(writer: Writer) -> None:
    stale, appended = AppendedWrites("stale"), AppendedWrites(seq=3)
    put(writer, AppendedCheckpoint())
    play(put_writes(writer, TEXT + "!"), ("append_writes", stale), ("append_writes", appended))
    assert (stale.base_seq, appended.base_seq) == (1, None)


def test_writes_to_an_erased_checkpoint_are_refused(writer: Writer) -> None:
    with pytest.raises(ThreadDeletedError, match="checkpoint a of thread '1' was erased"):
        play(put_writes(writer, 1), ("append_writes", AppendedWrites("erased")))


def test_writes_without_a_partition_make_it(writer: Writer) -> None:
    play(
        put_writes(writer, 1),
        ("append_writes", fail_with(pg.CheckViolation)),
        ("extend_partitions", []),
        ("append_writes", AppendedWrites()),
    )


def test_a_repeat_looks_first_and_appends_nothing_that_is_there(writer: Writer) -> None:
    appended = AppendedWrites()
    play(put_writes(writer, 1, 2), ("append_writes", appended))
    play(put_writes(writer, 1, 2, again=True), ("read_writes", lambda _: [appended.stored()]))
    # Of ordinary writes the first of a task counts, so other values would change nothing either.
    play(put_writes(writer, 3, 4, again=True), ("read_writes", lambda _: [appended.stored()]))


def test_a_repeat_appends_what_is_not_there(writer: Writer) -> None:
    appended = AppendedWrites()
    play(put_writes(writer, 1), ("append_writes", appended))
    play(
        put_writes(writer, 1, 2, again=True),
        ("read_writes", lambda _: [appended.stored()]),
        ("append_writes", AppendedWrites(seq=3)),
    )
