"""Appends on Citus: in transactions of the caller's, and in a log that cannot be distributed."""

from __future__ import annotations

import psycopg
import pytest

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.checkpoints import checkpoint_of, config_of


@pytest.mark.parametrize("concurrency", ["branch", "strict"])
def test_an_append_in_a_transaction_has_the_transaction_id_of_its_node(database_uri: str, concurrency: str) -> None:
    """Otherwise the feed of that node would miss it."""
    with psycopg.connect(database_uri) as conn:
        saver = EventLogSaver(conn, concurrency=concurrency)
        conn.execute("select 1")  # A transaction of the user's.
        config = config_of()
        for number in ("1", "2", "3"):
            checkpoint = checkpoint_of(number, {"x": ["x" * 2000, number]}, {"x": number})
            config = saver.put(config, checkpoint, {}, {"x": number})
            saver.put_writes(config, [("x", number)], "task")
        conn.commit()
        nodes = conn.execute(
            "select count(distinct xid), count(distinct position >> 48), min(position >> 48) from eventlog.events"
        ).fetchone()
    assert nodes is not None
    transactions, groups, group = nodes
    assert (transactions, groups) == (1, 1)
    assert group > 0


def test_a_subscriber_is_not_distributed(empty_database_uri: str) -> None:
    with EventLogSaver.from_conn_string(empty_database_uri) as saver:
        saver.setup()
        saver.log.make_subscriber()
        with pytest.raises(InvalidInputError, match=r"is a subscriber, .* and cannot be distributed"):
            saver.setup(citus=True)
