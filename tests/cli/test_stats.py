"""The `eventlog` command: `stats`."""

from __future__ import annotations

import re

import psycopg
import pytest

from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.cli.render.output import when
from tests.cli.command import clean_environment, documents, eventlog
from tests.database.test_rights import as_role, role
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, checkpoint_of, config_of, converse, tangle

pytestmark = pytest.mark.portable

__all__ = ["clean_environment", "role"]  # fixtures


@pytest.fixture
async def uri(database_uri: str) -> str:
    """A log with a few threads."""
    async with open_saver("sync-string", database_uri) as saver:
        await tangle(saver)
        await converse(saver, "2", "sub")
    return database_uri


@pytest.mark.parametrize("exact", [False, True])
def test_stats_prints_counts_growth_and_replay(uri: str, exact: bool) -> None:
    done = eventlog(uri, "stats", *(["--exact"] if exact else []))
    assert (done.exit_code, done.stderr) == (0, "")
    with EventLogSaver.from_conn_string(uri) as saver:
        found = saver.log.stats(exact=exact)
    for name in ("threads", "streams"):
        about = "about " if name in found.estimates else ""
        assert re.search(rf"^{name} +{about}{getattr(found, name):,} with data$", done.stdout, re.MULTILINE)
    for each in found.relations:
        # Estimates may be others by now.
        cells = rf"{each.rows:,} +counted" if each.is_exact else r"[\d,]+ +estimated"
        assert re.search(rf"^{each.name} +{cells} ", done.stdout, re.MULTILINE)
    assert ("rows (about)" in done.stdout.split("Growth")[0].split("partition  ")[1]) is not exact
    assert f"a day since {when(found.growth.since)} UTC." in done.stdout
    assert re.search(r"at the median, [\d,]+ at the 95th percentile, [\d,]+ at most\.", done.stdout)
    assert "Written whole at each step, the states would take" in done.stdout


@pytest.mark.parametrize("exact", [False, True])
def test_stats_json_has_the_fields_but_the_cache(uri: str, exact: bool) -> None:
    """The record's fields, but for the cache, which would be that of this command's own process."""
    with EventLogSaver.from_conn_string(uri) as saver:
        expected = saver.log.stats(exact=exact)
    (found,) = documents(eventlog(uri, "stats", "--json", *(["--exact"] if exact else [])))
    assert list(found) == [name for name in expected._fields if name != "cache"]
    assert found["estimates"] == list(expected.estimates)
    assert bool(expected.estimates) is not exact
    assert found["body_bytes"] == expected.body_bytes
    for name in ("is_exact", "threads", "streams", "checkpoints", "events", "snapshots", "log_bytes", "states_bytes"):
        assert found[name] == getattr(expected, name)
    assert found["relations"] == [each._asdict() for each in expected.relations]
    assert found["replay"] == expected.replay._asdict()
    assert set(found["growth"]) == set(expected.growth._fields)
    assert [each["name"] for each in found["partitions"]] == [each.name for each in expected.partitions]


def test_stats_of_an_empty_log_ends_with_0(database_uri: str) -> None:
    for arguments in ([], ["--exact"]):
        done = eventlog(database_uri, "stats", *arguments)
        assert done.exit_code == 0
        assert "the states would take" in done.stdout


def test_stats_needs_only_the_right_to_read(uri: str, role: str) -> None:
    """To read is right enough."""
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute("select eventlog.grant_rights_v1('auditor', %s, 'eventlog_views')", (role,))
    for arguments in (["stats"], ["stats", "--exact"]):
        assert eventlog(as_role(uri, role), *arguments).exit_code == 0


@pytest.mark.parametrize("exact", [False, True])
def test_stats_has_one_number_for_one_thing(uri: str, exact: bool) -> None:
    """What stands in several places of the output is the same; and each says whether it was counted."""
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.delete_thread("2")
    # Estimates that are far from what was counted.
    Tables(uri).run(
        "analyze {schema}.events",
        "analyze {schema}.checkpoints",
        "insert into {schema}.locks (name) select n::text from generate_series(1, 500) as n",
    )
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.delete_thread("1")
        saver.put(config_of("3"), checkpoint_of("a", {"x": 1}, {"x": "1"}), {}, {"x": "1"})
    done = eventlog(uri, "stats", *(["--exact"] if exact else []))
    (found,) = documents(eventlog(uri, "stats", "--json", *(["--exact"] if exact else [])))
    relations = {each["name"]: each for each in found["relations"]}
    for name in ("checkpoints", "events", "snapshots"):
        assert relations[name]["rows"] == found[name]
        assert relations[name]["is_exact"] is (name not in found["estimates"])
        assert len(re.findall(rf"^{name} ", done.stdout, re.MULTILINE)) == 1
    assert sum(each["rows"] for each in found["partitions"]) == found["events"]
    assert {each["is_exact"] for each in found["partitions"]} == {exact}
    # Few checkpoints are all looked at.
    assert "checkpoints" not in found["estimates"]
    if exact:
        tables = Tables(uri)
        assert found["estimates"] == []
        for name, each in relations.items():
            assert each["is_exact"]
            assert each["rows"] == tables.one("select count(*) from {schema}." + name)  # type: ignore[arg-type]
        assert (found["threads"], found["streams"], relations["streams"]["rows"]) == (1, 1, 3)
