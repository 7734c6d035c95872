"""Reads over the whole log, comparisons and rebuilds on a cluster: of all nodes, in pages."""

from __future__ import annotations

from typing import Any

import pytest

from projections import rebuild
from tests.citus.distributed import rows_on
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, converse, put
from tests.support.cluster import Cluster
from tests.support.soundness import assert_sound

THREADS = 12


async def fill(saver: Any) -> None:
    for number in range(THREADS):
        await put(saver, config_of(f"{number:02}"), "a", {"x": number})
        await converse(saver, f"{number:02}", "sub", ids="ab")


async def test_the_threads_of_these_tests_are_on_both_workers(
    cluster: Cluster, database: str, database_uri: str
) -> None:
    async with open_saver("sync-pool", database_uri) as saver:
        await fill(saver)
    shards = "select get_shard_id_for_distribution_column('eventlog.streams', s.thread_id) from eventlog.streams as s"
    places = "select shardid, groupid from pg_dist_placement"
    node_of = dict(rows_on(cluster.nodes[0], database, places))
    assert len({node_of[shard] for (shard,) in rows_on(cluster.nodes[0], database, shards)}) == 2


@pytest.mark.parametrize("kind", ["sync-pool", "async-connection"])
async def test_a_list_of_all_threads_comes_from_all_nodes(kind: str, database_uri: str) -> None:
    """In the order of ids, page after page, with states and writes."""
    async with open_saver(kind, database_uri, state_cache_bytes=0) as saver:
        await fill(saver)
        listed = [found async for found in saver.alist(None)]
        assert len(listed) == 3 * THREADS
        assert sorted(found.checkpoint["id"] for found in listed) == sorted("aab" * THREADS)
        for found in listed:
            assert found == await saver.aget_tuple(found.config)


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_rebuild_pages_through_the_streams_of_all_nodes(
    workers: int, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that are lost on several nodes come back, as no trigger has marked the loss there."""
    monkeypatch.setattr(rebuild, "PAGE_STREAMS", 5)
    monkeypatch.setattr(rebuild, "BATCH_STREAMS", 2)
    tables = Tables(database_uri)
    async with open_saver("sync-pool", database_uri) as saver:
        await fill(saver)
        before = tables.rows("select thread_id, checkpoint_ns, seq, digest from {schema}.streams order by 1, 2")
        tables.run("delete from {schema}.streams where thread_id < '06'", "truncate {schema}.checkpoints")
        found = await saver.log.rebuild(check=True, workers=workers)
        assert found.differing == {"streams": 12, "checkpoints": 3 * THREADS, "snapshots": 0}
        found = await saver.log.rebuild(workers=workers)
        assert (found.streams, found.checkpoints) == (2 * THREADS, 3 * THREADS)
        assert not any((await saver.log.rebuild(check=True)).differing.values())
    assert tables.rows("select thread_id, checkpoint_ns, seq, digest from {schema}.streams order by 1, 2") == before
    assert_sound(tables)


async def test_statistics_are_sums_over_all_nodes(database_uri: str) -> None:
    tables = Tables(database_uri)
    async with open_saver("sync-pool", database_uri) as saver:
        await fill(saver)
        found = await saver.log.stats(exact=True)
        assert (found.threads, found.streams, found.checkpoints) == (THREADS, 2 * THREADS, 3 * THREADS)
        assert found.events == tables.one("select count(*) from {schema}.events")
        assert sum(each.rows for each in found.partitions) == found.events
        assert found.body_bytes == tables.one("select sum(octet_length(body)) from {schema}.events")
        tables.run("analyze {schema}.events", "analyze {schema}.checkpoints")
        estimated = await saver.log.stats()
    assert (estimated.events, estimated.checkpoints) == (found.events, found.checkpoints)
    # Streams are counted there, as the coordinator's planner has no statistics of them.
    assert (estimated.threads, estimated.streams) == (THREADS, 2 * THREADS)
    assert estimated.log_bytes > found.body_bytes


@pytest.mark.parametrize("sort", ["activity", "size", "events", "id"])
async def test_threads_are_listed_from_all_nodes_in_each_order(sort: Any, database_uri: str) -> None:
    async with open_saver("sync-pool", database_uri) as saver:
        await fill(saver)
        pages = [await saver.log.threads(sort=sort, limit=5)]
        while len(pages[-1]) == 5:
            pages.append(await saver.log.threads(sort=sort, limit=5, before=pages[-1][-1]))
        found = [each.thread_id for page in pages for each in page]
        assert sorted(found) == [f"{number:02}" for number in range(THREADS)]
        if sort == "activity":
            assert found == sorted(found, reverse=True)
