"""`get_tuple` without a database: what it asks, and what it makes of the rows."""

from __future__ import annotations

import pytest

from eventlog.db.query import Query, Rows
from eventlog.errors import LogCorruptedError
from langgraph.checkpoint.eventlog._put import Writer
from tests.support.checkpoints import checkpoint_of, config_of
from tests.support.scripted import AT, AppendedCheckpoint, AppendedWrites, play

pytestmark = pytest.mark.portable

TEXTS = [f"{number} {'word ' * 200}" for number in range(12)]


def append(writer: Writer, *texts: str) -> list[AppendedCheckpoint]:
    """A line of checkpoints a, b, c, … each with one text more, the last of which has all of these."""
    appended, parent_id = [], None
    for number in range(1, len(texts) + 1):
        id_ = chr(ord("a") + number - 1)
        checkpoint = checkpoint_of(id_, {"x": texts[:number]}, {"x": id_})
        appended.append(AppendedCheckpoint(seq=number))
        play(
            writer.put(config_of("1", parent_id), checkpoint, {"step": number}, {"x": id_}),
            ("append_checkpoint", appended[-1]),
        )
        parent_id = id_
    return appended


def test_get_tuple_of_an_empty_thread_is_none(writer: Writer) -> None:
    assert play(writer.reader.get_tuple(config_of("1")), ("read_checkpoint", [])) is None


def test_get_tuple_reads_a_self_contained_event(writer: Writer, other_writer: Writer) -> None:
    (first,) = append(other_writer, *TEXTS[:1])
    found = play(writer.reader.get_tuple(config_of("1", "a")), ("read_checkpoint", first.rows()))
    assert found is not None
    assert found.config == config_of("1", "a")
    assert found.parent_config is None
    assert found.checkpoint["channel_values"] == {"x": TEXTS[:1]}
    assert found.metadata == {"step": 1}
    assert found.pending_writes == []


def test_get_tuple_folds_the_events_behind_it(writer: Writer, other_writer: Writer) -> None:
    line = append(other_writer, *TEXTS[:3])
    events = [each.event() for each in reversed(line)]
    assert [each.base_seq for each in line] == [None, 1, 2]
    found = play(writer.reader.get_tuple(config_of("1")), ("read_checkpoint", [line[-1].head(), *events]))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"x": TEXTS[:3]}
    assert found.parent_config == config_of("1", "b")


def test_get_tuple_starts_from_a_snapshot(writer: Writer, other_writer: Writer) -> None:
    line = append(other_writer, *TEXTS)
    number, snapshot = next((n, bytes(each.params[18])) for n, each in enumerate(line) if each.params[18])
    assert number + 1 < len(line), "the last one has a snapshot: nothing would be folded"
    events = [each.event() for each in reversed(line[number + 1 :])]
    rows: Rows = [line[-1].head(), line[number].snapshot(snapshot), *events]
    found = play(writer.reader.get_tuple(config_of("1")), ("read_checkpoint", rows))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"x": TEXTS}


def test_get_tuple_names_the_state_that_it_knows(writer: Writer) -> None:
    """The database then answers that it is on the path, and sends nothing older."""
    (first,) = append(writer, *TEXTS[:1])

    def answer(query: Query) -> Rows:
        assert isinstance(query.params, tuple)
        assert query.params[3] == "1"
        return [first.head(), (3, 1, 1, AT, None, None, None)]

    found = play(writer.reader.get_tuple(config_of("1", "a")), ("read_checkpoint", answer))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"x": TEXTS[:1]}


def test_get_tuple_has_the_pending_writes(writer: Writer) -> None:
    (first,) = append(writer, *TEXTS[:1])
    writes = AppendedWrites()
    play(writer.put_writes(config_of("1", "a"), [("y", 1), ("z", TEXTS[0])], "task"), ("append_writes", writes))
    found = play(writer.reader.get_tuple(config_of("1", "a")), ("read_checkpoint", first.rows(writes)))
    assert found is not None
    assert found.pending_writes == [("task", "y", 1), ("task", "z", TEXTS[0])]


def test_get_tuple_of_a_corrupted_event_names_it(writer: Writer, other_writer: Writer) -> None:
    (first,) = append(other_writer, *TEXTS[:1])
    rows = [first.head(), (*first.event()[:6], first.body[:-5])]
    with pytest.raises(LogCorruptedError, match="event 1 of thread '1'"):
        play(writer.reader.get_tuple(config_of("1", "a")), ("read_checkpoint", rows))


def test_get_tuple_without_the_base_of_an_event_is_corrupted(writer: Writer, other_writer: Writer) -> None:
    _, second = append(other_writer, *TEXTS[:2])
    with pytest.raises(LogCorruptedError):
        play(writer.reader.get_tuple(config_of("1", "b")), ("read_checkpoint", [second.head(), second.event()]))
