"""Cursors that are used again, and what they keep in memory meanwhile."""

from __future__ import annotations

import psycopg
import pytest

from eventlog.db.cursors import MOST_HELD_BYTES, Cursors
from eventlog.db.query import Query, Rows

LARGE = MOST_HELD_BYTES + 1


@pytest.mark.parametrize("value", [b"x" * LARGE, "x" * LARGE], ids=["a body", "metadata"])
@pytest.mark.parametrize("where", ["parameters", "rows"])
def test_what_is_large_is_not_held(value: bytes | str, where: str, database_uri: str) -> None:
    """A cursor holds what it ran with until it runs again, on each of a pool's connections."""
    params, rows = ((value,), []) if where == "parameters" else ((), [(value,)])

    def is_kept(params: tuple[bytes | str, ...], rows: Rows) -> bool:
        query = Query(b"select", params, is_frequent=True)
        return cursors.give_back(conn, query, cursors.take(conn, query), rows)

    cursors = Cursors(psycopg.Cursor)
    with psycopg.connect(database_uri) as conn:
        assert is_kept(("small",), [(b"small",)])
        assert not is_kept(params, rows)
