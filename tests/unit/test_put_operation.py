"""`put` without a database: what it asks after each answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions
from psycopg import errors as pg

from eventlog.db.query import Op
from eventlog.errors import CheckpointExistsError, StorageError, ThreadDeletedError
from langgraph.checkpoint.eventlog._put import PUT_ROUNDS, SMALL_STATE_BYTES, Writer
from tests.support.checkpoints import checkpoint_of, config_of
from tests.support.scripted import AppendedCheckpoint, fail_with, play

pytestmark = pytest.mark.portable

TEXT = "word " * SMALL_STATE_BYTES


def put(
    writer: Writer, parent_id: str | None, checkpoint_id: str, values: Mapping[str, Any], **more: Any
) -> Op[RunnableConfig]:
    versions: ChannelVersions = dict.fromkeys(values, checkpoint_id)
    checkpoint = checkpoint_of(checkpoint_id, values, versions)
    return writer.put(config_of("1", parent_id, **more), checkpoint, {"step": 1}, versions)


def test_put_of_a_new_checkpoint_is_one_query(writer: Writer) -> None:
    appended = AppendedCheckpoint()
    assert play(put(writer, None, "a", {"x": TEXT}), ("append_checkpoint", appended)) == config_of("1", "a")
    assert (appended.base_seq, appended.replaces, appended.params[:4]) == (None, False, ("1", "", "a", None))


def test_put_of_a_child_is_a_difference_from_the_known_parent(writer: Writer) -> None:
    first, second = AppendedCheckpoint(), AppendedCheckpoint(seq=2)
    play(put(writer, None, "a", {"x": TEXT}), ("append_checkpoint", first))
    assert play(put(writer, "a", "b", {"x": TEXT + "!"}), ("append_checkpoint", second)) == config_of("1", "b")
    assert second.base_seq == 1
    assert len(second.body) < 200


def test_put_reads_an_unknown_parent_of_a_large_state(writer: Writer, other_writer: Writer) -> None:
    first, second = AppendedCheckpoint(), AppendedCheckpoint(seq=2)
    play(put(other_writer, None, "a", {"x": TEXT}), ("append_checkpoint", first))
    play(
        put(writer, "a", "b", {"x": TEXT + "!"}),
        ("read_checkpoint", lambda _: first.rows()),
        ("append_checkpoint", second),
    )
    assert second.base_seq == 1


def test_put_does_not_read_an_unknown_parent_of_a_small_state(writer: Writer) -> None:
    appended = AppendedCheckpoint(seq=2)
    play(put(writer, "a", "b", {"x": "small"}), ("append_checkpoint", appended))
    assert appended.base_seq is None


def test_put_of_an_existing_checkpoint_with_other_values_replaces_it(writer: Writer, other_writer: Writer) -> None:
    stored, refused, appended = AppendedCheckpoint(), AppendedCheckpoint("exists"), AppendedCheckpoint(seq=2)
    play(put(other_writer, None, "a", {"x": "before"}), ("append_checkpoint", stored))
    play(
        put(writer, None, "a", {"x": "after"}),
        ("append_checkpoint", refused),
        ("read_checkpoint", lambda _: stored.rows()),
        ("append_checkpoint", appended),
    )
    assert (refused.replaces, appended.replaces) == (False, True)


def test_put_of_an_existing_checkpoint_with_equal_values_appends_nothing(writer: Writer, other_writer: Writer) -> None:
    stored = AppendedCheckpoint()
    play(put(other_writer, None, "a", {"x": TEXT}), ("append_checkpoint", stored))
    assert play(
        put(writer, None, "a", {"x": TEXT}),
        ("append_checkpoint", AppendedCheckpoint("exists")),
        ("read_checkpoint", lambda _: stored.rows()),
    ) == config_of("1", "a")
    # It is at hand from then on.
    child = AppendedCheckpoint(seq=2)
    play(put(writer, "a", "b", {"x": TEXT + "!"}), ("append_checkpoint", child))
    assert child.base_seq == 1


def test_put_takes_a_unique_violation_for_a_checkpoint_that_exists(writer: Writer, other_writer: Writer) -> None:
    stored = AppendedCheckpoint()
    play(put(other_writer, None, "a", {"x": 1}), ("append_checkpoint", stored))
    play(
        put(writer, None, "a", {"x": 1}),
        ("append_checkpoint", fail_with(pg.UniqueViolation)),
        ("read_checkpoint", lambda _: stored.rows()),
    )


def test_put_reads_a_stale_parent_again(writer: Writer, other_writer: Writer) -> None:
    first, replaced = AppendedCheckpoint(), AppendedCheckpoint(seq=2)
    stale, appended = AppendedCheckpoint("stale"), AppendedCheckpoint(seq=3)
    play(put(writer, None, "a", {"x": TEXT}), ("append_checkpoint", first))
    play(put(other_writer, None, "a", {"x": TEXT + "?"}), ("append_checkpoint", replaced))
    play(
        put(writer, "a", "b", {"x": TEXT + "!"}),
        ("append_checkpoint", stale),
        ("read_checkpoint", lambda _: replaced.rows()),
        ("append_checkpoint", appended),
    )
    assert (stale.base_seq, appended.base_seq) == (1, 2)


def test_put_on_a_stale_parent_that_is_gone_is_self_contained(writer: Writer) -> None:
    appended = AppendedCheckpoint(seq=2)
    play(put(writer, None, "a", {"x": TEXT}), ("append_checkpoint", AppendedCheckpoint()))
    play(
        put(writer, "a", "b", {"x": TEXT + "!"}),
        ("append_checkpoint", AppendedCheckpoint("stale")),
        ("read_checkpoint", []),
        ("append_checkpoint", appended),
    )
    assert appended.base_seq is None


def test_put_on_an_erased_parent_is_refused(writer: Writer) -> None:
    with pytest.raises(ThreadDeletedError, match="checkpoint a of thread '1' was erased"):
        play(put(writer, "a", "b", {"x": 1}), ("append_checkpoint", AppendedCheckpoint("erased")))


def test_put_gives_up_when_the_checkpoint_keeps_changing(writer: Writer, other_writer: Writer) -> None:
    stored = AppendedCheckpoint()
    play(put(other_writer, None, "a", {"x": "theirs"}), ("append_checkpoint", stored))
    round_: Any = (
        ("append_checkpoint", AppendedCheckpoint("exists")),
        ("read_checkpoint", lambda _: stored.rows()),
    )
    with pytest.raises(CheckpointExistsError, match="other writers replaced checkpoint a"):
        play(put(writer, None, "a", {"x": "ours"}), *(round_ * PUT_ROUNDS))


def test_put_without_a_partition_makes_it_and_appends_again(writer: Writer) -> None:
    appended = AppendedCheckpoint()
    play(
        put(writer, None, "a", {"x": 1}),
        ("append_checkpoint", fail_with(pg.CheckViolation)),
        ("extend_partitions", [("events_2026_01",)]),
        ("append_checkpoint", appended),
    )
    assert appended.params[2] == "a"


def test_put_does_not_take_a_constraint_for_a_missing_partition(writer: Writer) -> None:
    error = fail_with(pg.CheckViolation, constraint="positive")
    with pytest.raises(pg.CheckViolation) as raised:
        play(put(writer, None, "a", {"x": 1}), ("append_checkpoint", error))
    assert raised.value is error


def test_put_hands_on_errors_that_it_does_not_know(writer: Writer) -> None:
    with pytest.raises(pg.DiskFull):
        play(put(writer, None, "a", {"x": 1}), ("append_checkpoint", fail_with(pg.DiskFull)))
    assert not issubclass(pg.DiskFull, StorageError)
