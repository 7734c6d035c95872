"""The soak: that it runs, and that it notices what it is there to notice."""

from __future__ import annotations

import sys
from pathlib import Path

import psycopg
import pytest

from bench import soak
from bench.samples import MIB, Bound, Sample, Table, judge
from bench.soak import CACHE_BYTES, MOST_CONNECTIONS, Soak
from tests.support.pooler import direct


@pytest.mark.skipif(sys.version_info < (3, 11), reason="LangGraph cannot interrupt async graphs before Python 3.11")
def test_a_short_soak_verifies_and_rebuilds(
    empty_database_uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few turns of two threads and two tasks: the log verifies, and rebuilds to what it is."""
    uri = direct(empty_database_uri)  # Its own statements are prepared, as the incumbent's are.
    file = tmp_path / "soak.json"
    arguments = ["--turns", "40", "--workers", "2", "--every", "0.2", "--set", "streams: fillfactor = 60"]
    arguments += ["--set", "events: autovacuum_freeze_min_age = 0", "--uri", uri, "--out", str(file)]
    status = soak.main(arguments)
    found = Soak.model_validate_json(file.read_text())
    assert found.turns == 40
    assert found.problems == found.differences == 0
    # Of a few seconds nothing can be said of growth, and of a few samples nothing of what stays; the rest holds.
    broken = {each.name for each in found.bounds if not each.holds}
    assert broken <= {"memory, second half (MiB)", "open files", "connections left in a transaction"}
    assert status == (1 if broken else 0)
    last = found.samples[-1]
    assert last.tables["events"].live > 50
    assert last.tables["streams"].updates > 50
    assert 0 < last.states_bytes <= CACHE_BYTES
    assert sum(last.connections.values()) <= MOST_CONNECTIONS
    assert "problems that verify() found" in capsys.readouterr().out
    with psycopg.connect(uri) as conn:
        left = "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in%'"
        assert conn.execute(left).fetchone() == (0,)
        for table in ("streams", "events_%"):
            options = conn.execute("select reloptions from pg_class where relname like %s", (table,)).fetchall()
            assert ("fillfactor=60" if table == "streams" else "autovacuum_freeze_min_age=0") in str(options)


def samples(**changes: list[int]) -> list[Sample]:
    """Twelve samples of nothing that grows, but for what is given."""
    streams = Table(live=1000, dead=9, bytes=MIB, total_bytes=2 * MIB, updates=100, hot=99, vacuums=1, last_vacuum=None)
    made = []
    for number in range(12):
        values = {name: each[number] for name, each in changes.items()}
        connections = {"idle": 16, "idle in transaction": values.pop("idling", 0)}
        table = streams.model_copy(update={key: values.pop(key) for key in ("bytes", "hot") if key in values})
        sample = Sample(
            at=number, turns=number, turn_ms=1, rss_bytes=100 * MIB, heap_blocks=1, files=20, connections=connections,
            pooled=16, states_bytes=1, messages_bytes=1, wal_bytes=1, tables={"streams": table},
        )  # fmt: skip
        made.append(sample.model_copy(update=values))
    return made


def broken(found: list[Bound]) -> set[str]:
    return {each.name for each in found if not each.holds}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, set()),
        ({"rss_bytes": [(100 + 20 * number) * MIB for number in range(12)]}, {"memory, second half (MiB)"}),
        # While it warms up it may grow.
        ({"rss_bytes": [50 * MIB, 80 * MIB, 90 * MIB, 99 * MIB, *[100 * MIB] * 8]}, set()),
        ({"files": [20 + number for number in range(12)]}, {"open files"}),
        ({"idling": [0] * 6 + [1] * 6}, {"connections left in a transaction"}),
        ({"idling": [0, 1] * 6}, set()),
        ({"idling": [0] * 11 + [2]}, {"connections"}),
        ({"states_bytes": [1] * 11 + [9 * MIB]}, {"state cache (bytes)"}),
        ({"messages_bytes": [9 * MIB] + [1] * 11}, {"message cache (bytes)"}),
        ({"bytes": [10 * MIB] * 12}, {"bytes for each row of streams"}),
        ({"hot": [50] * 12}, {"updates of streams within the page"}),
    ],
)
def test_each_exceeded_bound_is_reported(changes: dict[str, list[int]], expected: set[str]) -> None:
    """Each bound, when it is exceeded and nothing else is."""
    assert broken(judge(samples(**changes), MOST_CONNECTIONS, CACHE_BYTES)) == expected
