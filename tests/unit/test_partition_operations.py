"""Making partitions without a database: when, in what order, and what errors become."""

from __future__ import annotations

import pytest
from psycopg import errors as pg

from eventlog.append import into_partition
from eventlog.db.query import Op, Query, Rows
from eventlog.errors import MissingGrantError
from eventlog.partitions import ensure_partitions
from tests.support.scripted import STATEMENTS, fail_with, play

pytestmark = pytest.mark.portable


def append() -> Op[Rows]:
    return into_partition(STATEMENTS, "1", Query(STATEMENTS["append_writes"]))


def missing() -> pg.Error:
    return fail_with(pg.CheckViolation, 'no partition of relation "events" found for row')


def test_partitions_are_those_of_the_settings() -> None:
    def answer(query: Query) -> Rows:
        assert query.params == (None,)
        return [("one",), ("two",)]

    assert play(ensure_partitions(STATEMENTS), ("extend_partitions", answer)) == ["one", "two"]


def test_another_number_ahead_is_the_owners_to_choose() -> None:
    def answer(query: Query) -> Rows:
        assert query.params == (0,)
        return []

    owner = ("owner", [(True, "owner")])
    assert play(ensure_partitions(STATEMENTS, 0), owner, ("ensure_partitions", answer)) == []
    with pytest.raises(MissingGrantError, match="run this as 'owner'"):
        play(ensure_partitions(STATEMENTS, 0), ("owner", [(False, "owner")]))


def test_append_with_a_partition_makes_none() -> None:
    assert play(append(), ("append_writes", [("ok", 1)])) == [("ok", 1)]


def test_append_behind_all_partitions_makes_those_of_the_thread() -> None:
    """The clock went back: the partition for now is not the one that the thread's next event goes to."""

    def answer(query: Query) -> Rows:
        assert query.params == ("1",)
        return [("older",)]

    assert play(
        append(),
        ("append_writes", missing()),
        ("extend_partitions", []),
        ("append_writes", missing()),
        ("extend_partitions", answer),
        ("append_writes", [("ok", 1)]),
    ) == [("ok", 1)]


@pytest.mark.parametrize("made", [0, 1])
def test_append_hands_on_the_violation_of_a_constraint(made: int) -> None:
    """At the first append, and at the one behind a partition that was made."""
    before = [("append_writes", missing()), ("extend_partitions", [("now",)])] * made
    with pytest.raises(pg.CheckViolation):
        play(append(), *before, ("append_writes", fail_with(pg.CheckViolation, constraint="positive")))  # type: ignore[arg-type]
