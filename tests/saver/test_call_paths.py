"""The two everyday calls pass through few of our own functions: what a newcomer reads, and what each call pays for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
from langgraph.checkpoint.base import CheckpointMetadata
from psycopg_pool import ConnectionPool

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.checkpoints import TEXTS, checkpoint_of, config_of
from tests.support.tracer import Trace, trace

METADATA: CheckpointMetadata = {"source": "loop", "step": 1, "parents": {}}

MOST_FUNCTIONS, MOST_FILES, MOST_CALLS = 50, 14, 80


@pytest.fixture
def saver(database_uri: str) -> Iterator[EventLogSaver]:
    with ConnectionPool(database_uri, min_size=1, kwargs={"autocommit": True}) as pool:
        yield EventLogSaver(pool)


def converse(saver: EventLogSaver, turns: int) -> Trace:
    """A conversation that grows by a text a turn; returns the way of its last `put`."""
    config = config_of()
    for turn in range(1, turns + 1):
        versions = {"messages": f"{turn:032}.1", "turn": f"{turn:032}.1"}
        values = {"messages": TEXTS[:turn], "turn": turn}
        checkpoint = checkpoint_of(f"{turn:08}", values, versions)
        checkpoint["versions_seen"] = {"agent": {"messages": f"{turn - 1:032}.1"}}
        way = trace(partial(saver.put, config, checkpoint, METADATA, versions))
        config = config_of("1", f"{turn:08}")
    return way


def assert_short(way: Trace) -> None:
    assert len(way.functions) <= MOST_FUNCTIONS, way
    assert len(way.files) <= MOST_FILES, way
    assert len(way.calls) <= MOST_CALLS, way


def test_put_with_a_cached_parent_passes_few_functions(saver: EventLogSaver) -> None:
    assert_short(converse(saver, 20))


def test_get_tuple_of_a_cached_state_passes_few_functions(saver: EventLogSaver) -> None:
    converse(saver, 20)
    saver.get_tuple(config_of())  # The first call composes the statement.
    assert_short(trace(lambda: saver.get_tuple(config_of())))
