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
from tests.support.checkpoints import converse, tangle

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
    about = "" if exact else "about "
    assert re.search(rf"^threads +{about}{found.threads:,}$", done.stdout, re.MULTILINE)
    assert re.search(rf"^events +{about}{found.events:,}$", done.stdout, re.MULTILINE)
    for each in found.relations:
        assert re.search(rf"^{each.name} +[\d,]+ +", done.stdout, re.MULTILINE)
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
