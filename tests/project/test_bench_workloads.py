"""The benchmark suite's workloads beside each other, over many threads, in many partitions and far away."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import psycopg
import pytest

from bench import suite
from bench.delay_proxy import delayed
from bench.race import thread
from bench.replicating import Copy, check, replicate, write_template
from bench.results import EVENTLOG, Results
from bench.savers import MeasuredSavers, open_savers
from bench.workers import STEPS, Worker, rate, rate_async, states
from bench.workloads.partitions import EMPTY_LOG, FULL_LOG
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.support.checkpoints import Tables
from tests.support.pooler import direct
from tests.support.server import Server
from tests.support.soundness import assert_keyframes, assert_sound

NO_FLOOR = ("WAL", "list(limit=20)")


def test_each_workload_measures_every_saver(server: Server, tmp_path: Path) -> None:
    """A little of each, for real: the savers agree, and each figure has a value for each saver."""
    file = tmp_path / "results.json"
    only = "workers,list,filter,partitions,network,delta,growth"
    if sys.version_info >= (3, 11):  # as deepagents
        only += ",deep-agent"
    suite.main(["--tiny", "--only", only, "--uri", server.uri("postgres"), "--out", str(file)])
    found = Results.load(file)
    for measure in found.measures:
        assert measure.eventlog > 0
        assert measure.postgres
        # LangGraph runs on some: no floor.
        assert measure.floor or measure.workload.startswith(("DeltaChannel", "Deep Agent")) or measure.name in NO_FLOOR
    names = {workload: [each.name for each in measures] for workload, measures in found.workloads().items()}
    assert names["workers"][:2] == ["1 worker, sync", "3 workers, sync"]
    assert names["list, 15 checkpoints"] == ["list(limit=20)", "list()"]
    assert names["list(filter=…), 30 threads"] == ["3 hits", "3 hits, limit=20", "30 hits", "30 hits, limit=20"]
    assert names[FULL_LOG] == names[EMPTY_LOG]
    assert names["no prepared statements"] == names["1 ms of delay"]
    line = found.find("workers", "throughput, async")
    assert line is not None
    assert [series.x for series in line.series] == [[1.0, 3.0]] * 3


# --- replicating


@pytest.fixture
def savers(database_uri: str) -> Iterator[MeasuredSavers]:
    with open_savers(direct(database_uri), others=False) as opened:  # The incumbent prepares its statements.
        yield opened


def test_generated_copies_read_and_verify_like_written_threads(database_uri: str, savers: MeasuredSavers) -> None:
    """They read as what they were made of, verify, rebuild to the same, and go on."""
    ids = write_template(savers, "template", 40, {"customer": "me"}, window=3)
    year = timedelta(days=365)
    copies = [Copy("template", "now"), Copy("template", "then", -year)]
    with psycopg.connect(database_uri, autocommit=True) as conn:
        conn.execute("select eventlog.ensure_partitions_v1(%s, 0, 'month')", (datetime.now(timezone.utc) - year,))
        replicate(conn, copies[:1])
        replicate(conn, copies[1:])
    check(savers, copies)
    saver = savers[EVENTLOG].saver
    tables = Tables(database_uri)
    assert tables.rows("select count(*) > 0 from {schema}.snapshots where thread_id = 'then'") == [(True,)]
    before = {copy.target: [each.checkpoint for each in saver.list(thread(copy.target))] for copy in copies}
    assert [each["id"] for each in before["then"]] == ids[::-1]
    for copy in copies:
        found = saver.get_tuple(thread(copy.target))
        checkpoint = {**found.checkpoint, "id": f"{found.checkpoint['id']}+"}
        saver.put(found.config, checkpoint, {}, {})
        saver.put_writes(thread(copy.target, checkpoint["id"]), [("messages", [])], "task")
        assert [each.checkpoint for each in saver.list(thread(copy.target))][1:] == before[copy.target]
    assert_sound(tables)
    assert_keyframes(tables)
    assert saver.log.verify().problems == []
    assert sum(saver.log.rebuild(check=True).differing.values()) == 0


def test_a_wrong_copy_is_reported(database_uri: str, savers: MeasuredSavers) -> None:
    for number in range(2):
        write_template(savers, f"template {number}", 3)
    copies = [Copy("template 0", "copy")]
    with psycopg.connect(database_uri, autocommit=True) as conn:
        replicate(conn, copies)
        check(savers, copies)
        with pytest.raises(SystemExit, match="not there"):
            check(savers, [Copy("template 0", "nobody")])
        with pytest.raises(SystemExit, match="disagree"):
            check(savers, [Copy("template 1", "copy")])
        conn.execute("update eventlog.streams set digest = 'x' where thread_id = 'copy'")
        with pytest.raises(SystemExit, match="do not verify"):
            check(savers, copies)


# --- workers


def test_workers_count_three_operations_for_each_step(savers: MeasuredSavers, database_uri: str) -> None:
    """Each step is three operations, and all of a step is done."""
    values = states()
    workers = [Worker("one", values), Worker("other", values), Worker("shared", values, shares=True)]
    saver = savers[EVENTLOG].saver
    began = time.perf_counter()
    per_second = rate([saver] * 3, workers, 0.05)
    elapsed = time.perf_counter() - began
    ((events,),) = Tables(database_uri).rows("select count(*) from {schema}.events")
    # Reads leave no events; the time that is counted is within that of the whole call.
    assert events * 3 / 2 <= per_second * elapsed
    assert events % 2 == 0


def test_a_worker_starts_another_conversation_after_the_last_turn() -> None:
    """After a conversation comes another: on a thread of its own, or at the beginning of the one that all share."""
    for shares in (False, True):
        steps = Worker("w", states(), shares=shares).steps()
        made = [next(steps) for _ in range(STEPS + 1)]
        threads = {step.put[0]["configurable"]["thread_id"] for step in made}
        assert len(threads) == (1 if shares else 2)
        assert [len(step.put[1]["channel_values"]["messages"]) for step in made] == [*range(1, STEPS + 1), 1]
        for before, after in pairwise(made[:STEPS]):
            assert after.put[0]["configurable"]["checkpoint_id"] == before.put[1]["id"]
        assert "checkpoint_id" not in made[-1].put[0]["configurable"]


class Forgetful(EventLogSaver):
    def get_tuple(self, config: object) -> None:
        return None


class AsyncForgetful(AsyncEventLogSaver):
    async def aget_tuple(self, config: object) -> None:
        return None


def test_a_worker_that_reads_a_wrong_state_fails(database_uri: str) -> None:
    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(database_uri, autocommit=True) as conn:
            await rate_async([AsyncForgetful(conn)], [Worker("b", states())], 0.0)

    with psycopg.connect(database_uri, autocommit=True) as conn, pytest.raises(SystemExit, match="did not read"):
        rate([Forgetful(conn)], [Worker("a", states())], 0.0)
    with pytest.raises(SystemExit, match="did not read"):
        asyncio.run(work())


# --- the proxy


def test_the_proxy_delays_and_keeps_bytes_in_order(database_uri: str) -> None:
    """A round trip takes twice the delay at least; what is large, and what is in flight together, arrives in order."""
    large = b"x" * 3_000_000
    with delayed(database_uri, 20) as uri:
        conns = [psycopg.connect(uri, autocommit=True) for _ in range(2)]
        for conn in conns:
            began = time.perf_counter()
            assert conn.execute("select 1").fetchone() == (1,)
            assert time.perf_counter() - began >= 0.04
        assert conns[0].execute("select %b::bytea", (large,)).fetchone() == (large,)
        with conns[1].pipeline():
            cursors = [conns[1].execute("select %s::int", (number,)) for number in range(100)]
            assert [cursor.fetchone() for cursor in cursors] == [(number,) for number in range(100)]
        pid = conns[0].info.backend_pid
        conns[0].close()
        for _ in range(100):
            if conns[1].execute("select 1 from pg_stat_activity where pid = %s", (pid,)).fetchone() is None:
                break
        else:
            pytest.fail("the server was not told that the client has gone")
        conns[1].close()


def test_the_proxy_reports_a_missing_server(tmp_path: Path) -> None:
    with (
        delayed(f"host={tmp_path} dbname=nothing", 0) as uri,
        pytest.raises(psycopg.OperationalError),
        psycopg.connect(uri),
    ):
        pass
