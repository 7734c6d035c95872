"""Cursors that are used again, and what they keep in memory meanwhile."""

from __future__ import annotations

import psycopg
import pytest

from eventlog.db.connections import MOST_HELD_BYTES
from eventlog.db.query import Op, Query
from eventlog.db.sync import Driver

pytestmark = pytest.mark.portable

LARGE = MOST_HELD_BYTES + 1


@pytest.mark.parametrize("value", [b"x" * LARGE, "x" * LARGE], ids=["a body", "metadata"])
@pytest.mark.parametrize("statement", [b"select length(%s)", b"select %s"], ids=["parameters", "parameters and rows"])
def test_a_cursor_with_large_values_is_not_held(value: bytes | str, statement: bytes, database_uri: str) -> None:
    """A cursor holds what it ran with until it runs again, on each of a pool's connections."""

    def ask(value: bytes | str) -> Op[None]:
        yield Query(statement, (value,), is_frequent=True)

    with psycopg.connect(database_uri, autocommit=True) as conn:
        driver = Driver(conn)
        driver.run(lambda: ask(value[:1]))
        (held,) = driver._connections[conn].cursors.values()
        driver.run(lambda: ask(value[:1]))
        assert list(driver._connections[conn].cursors.values()) == [held]
        driver.run(lambda: ask(value))
        assert driver._connections[conn].cursors == {}
