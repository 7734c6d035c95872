"""Logical replication of a log into a second cluster, which takes over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from eventlog.errors import InvalidInputError, MissingGrantError, NotSetUpError, StorageError
from langgraph.checkpoint.eventlog import EventLogSaver
from projections import rebuild
from tests.audit.test_untrusted_rows import plant
from tests.backup.load import Load, wait_until
from tests.database.test_rights import as_role, role
from tests.feed.test_feed import tail
from tests.rebuild.workload import append
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import Tables, config_of, everything, put
from tests.support.full_log import SETTINGS, assert_goes_on, assert_verified, open_reader, read, write_full_log
from tests.support.server import Server

pytestmark = pytest.mark.portable

__all__ = ["role"]  # a fixture

DAY = timedelta(days=1)
#: What has to be replicated. The rest is derived from it, or a database's own.
PUBLISHED = ("events", "generations", "partitions", "seals", "sealed", "ended")


class Pair:
    """A log that is published, and a replica of it, on two clusters."""

    def __init__(self, here: Server, there: Server, name: str) -> None:
        self.here, self.there, self.name = here, there, name
        self.replica_name = there.create_database(prefix="replica")
        self.uri, self.replica_uri = here.uri(name), there.uri(self.replica_name)
        self.tables, self.replica = Tables(self.uri), Tables(self.replica_uri)
        self.subscription = f"of_{self.replica_name}"

    def publish(self, *tables: str, via_root: bool = True) -> None:
        names = ", ".join(f"eventlog.{table}" for table in tables or PUBLISHED)
        self._run(
            self.uri,
            f"create publication eventlog for table {names} with "
            f"(publish = 'insert, update, delete', publish_via_partition_root = {str(via_root).lower()})",
        )

    @staticmethod
    def _run(uri: str, statement: str) -> None:
        with psycopg.connect(uri, autocommit=True) as conn:
            conn.execute(statement.encode())

    def prepare(self) -> None:
        """Set up the replica's database."""
        with EventLogSaver.from_conn_string(self.replica_uri) as saver:
            saver.setup(partition_interval="day", partitions_ahead=1)
            saver.log.make_subscriber()

    def subscribe(self) -> None:
        source = conninfo.make_conninfo(self.uri)
        self._run(
            self.replica_uri, f"create subscription {self.subscription} connection '{source}' publication eventlog"
        )

    def has_copied(self) -> bool:
        return not self.replica.rows("select 1 from pg_subscription_rel where srsubstate <> 'r'")

    def wait(self) -> None:
        """Until all that is committed here now has arrived there."""
        wait_until(self.has_copied, "the first copy")
        end = self.tables.one("select pg_current_wal_insert_lsn()")
        wait_until(
            lambda: self.tables.one(
                "select coalesce(bool_or(flush_lsn >= %s::pg_lsn), false) from pg_stat_replication"
                " where application_name = %s",
                end,
                self.subscription,
            ),
            "all has arrived",
        )

    def cut(self) -> None:
        """Drop the subscription."""
        if self.replica.rows("select 1 from pg_subscription where subname = %s", self.subscription):
            self._run(self.replica_uri, f"drop subscription {self.subscription}")


@pytest.fixture
def pair(server: Server, other_server: Server) -> Iterator[Callable[[str], Pair]]:
    """Makes a pair of a database on the other cluster, which publishes, and one on the session's."""
    pairs: list[Pair] = []

    def make(name: str) -> Pair:
        pairs.append(Pair(other_server, server, name))
        return pairs[-1]

    yield make
    for each in pairs:
        each.cut()
        each.there.drop_database(each.replica_name)
        each.here.drop_database(each.name)


@pytest.fixture
def empty_pair(pair: Callable[[str], Pair], other_server: Server) -> Pair:
    """A database with an empty log."""
    name = other_server.create_database(prefix="published")
    with EventLogSaver.from_conn_string(other_server.uri(name)) as saver:
        saver.setup()
    return pair(name)


@POOLS
async def test_a_subscriber_takes_over_and_reads_the_same(
    kind: str, pair: Callable[[str], Pair], other_server: Server
) -> None:
    """Copied first, then followed while others write; then it takes over, reads the same, and goes on."""
    name = other_server.create_database(prefix="published")
    await write_full_log(other_server.uri(name))
    two = pair(name)
    two.publish()
    two.prepare()
    two.subscribe()
    wait_until(two.has_copied, "the first copy")
    async with open_saver(kind, two.uri, **SETTINGS) as saver:
        with Load(two.uri) as load:
            load.wait_for(30)
            partitions = await saver.log.make_partitions(ahead=4)
            await saver.adelete_thread("idle")
            await saver.log.retain(10 * DAY)
            await saver.log.seal()
            load.wait_for(30)
        await saver.aput_writes(config_of("late", "1"), [("x", 1)], "task")
        fed = await tail(saver)
        lag = await saver.log.lag()
    two.wait()
    expected = await read(two.uri)
    await assert_verified(two.uri, expected.seals)

    async with open_saver(kind, two.replica_uri, **SETTINGS) as replica:
        await replica.setup()
        assert await replica.log.make_partitions(ahead=9) == []
        with pytest.raises(StorageError, match=f"still receives another log's events.*{two.subscription}"):
            await replica.log.take_over()
        two.cut()
        with pytest.raises(StorageError, match=r"is a subscriber of another log, and has not taken over"):
            await put(replica, config_of("steady"), "z", {"x": 1})
        for reading in (tail(replica), replica.log.tail_position(), replica.log.lag()):
            with pytest.raises(NotSetUpError, match="the log is a subscriber of another log"):
                await reading
        rebuilt = await replica.log.take_over()
        assert rebuilt.events == two.tables.events()
        with pytest.raises(InvalidInputError, match="is not a subscriber"):
            await replica.log.take_over()

        assert lag.waiting == len(fed)
        assert await tail(replica) == fed
        cursor = fed[len(fed) // 2].cursor
        await replica.aput_writes(config_of("late", "1"), [("x", 2)], "another task")
        *rest, new = await tail(replica, cursor)
        assert rest == fed[len(fed) // 2 + 1 :]
        assert (new.thread_id, new.seq) == ("late", 2)
        assert new.cursor.generation == fed[-1].cursor.generation + 1
        assert new.cursor.position > max(event.cursor.position for event in fed)
        assert await tail(replica, new.cursor) == []
        await replica.adelete_thread("late")
    dropped = "select name, dropped_at, dropped_by, dropped_rows from {schema}.partitions order by 1"
    assert two.replica.rows(dropped) == two.tables.rows(dropped)
    assert set(partitions) < set(attached(two.replica)) == set(attached(two.tables))

    async with open_reader(two.replica_uri) as reader:
        found = await everything(reader)
        assert {key: each for key, each in found.items() if key[0] != "late"} == expected.tuples
        assert [(each.number, each.digest.hex()) for each in await reader.log.seals()] == expected.seals
    await assert_verified(two.replica_uri, expected.seals)
    await assert_goes_on(two.replica_uri, expected)


def attached(tables: Tables) -> list[str]:
    return [
        name
        for (name,) in tables.rows(
            "select c.relname::text from pg_inherits as i join pg_class as c on c.oid = i.inhrelid"
            " where i.inhparent = '{schema}.events'::regclass order by 1"
        )
    ]


@POOLS
async def test_a_subscriber_refuses_operations_of_its_own(kind: str, empty_pair: Pair) -> None:
    """What would be in the way of what is still to come is refused, also where `streams` was derived already."""
    two = empty_pair
    two.publish()
    two.prepare()
    two.subscribe()
    # Old enough to be dropped, and nothing is in it.
    two.tables.run("select {schema}.ensure_partitions_v1('2020-01-01', 0, 'month')")
    async with open_saver(kind, two.uri) as saver, open_saver(kind, two.replica_uri) as replica:
        await put(saver, config_of(), "1", {"x": 1})
        await saver.log.seal()
        two.wait()
        await replica.log.rebuild()
        before = attached(two.replica)
        for refused in (replica.log.seal(), replica.log.retain(DAY)):
            with pytest.raises(StorageError, match="has not taken over"):
                await refused
        assert attached(two.replica) == before == attached(two.tables)

        await put(saver, config_of("1", "1"), "2", {"x": 2})
        await saver.log.seal()
        await saver.log.retain(DAY)
        two.wait()
        assert attached(two.replica) == attached(two.tables) == before[1:]
        two.cut()
        await replica.log.take_over()
        assert [each.number for each in await replica.log.seals()] == [2, 1]
        assert (await replica.log.seal()).number == 3
        two.replica.run("select {schema}.ensure_partitions_v1('2020-01-01', 0, 'month')")
        assert len((await replica.log.retain(DAY)).partitions) == 1


async def test_a_cut_off_subscriber_has_a_whole_prefix_of_each_thread(empty_pair: Pair) -> None:
    """What had come is a beginning of each thread, and nothing half."""
    two = empty_pair
    two.publish()
    two.prepare()
    two.subscribe()
    with Load(two.uri) as load:
        wait_until(two.has_copied, "the first copy")
        load.wait_for(30)
        before = two.tables.one("select pg_current_wal_insert_lsn()")
        known = list(load.done)
        wait_until(
            lambda: two.tables.one(
                "select coalesce(bool_or(flush_lsn >= %s), false) from pg_stat_replication where application_name = %s",
                before,
                two.subscription,
            ),
            "what was there has arrived",
        )
        two.cut()
        load.wait_for(20)
    async with open_saver("async-pool", two.replica_uri) as replica:
        await replica.log.take_over()
        latest = {summary.thread_id: summary for summary in await replica.log.threads()}
        for thread_id in {thread_id for thread_id, _ in known}:
            found = await replica.aget_tuple(config_of(thread_id))
            assert found.checkpoint["id"] >= max(id_ for each, id_ in known if each == thread_id)
            assert found.checkpoint["channel_values"]["by"] == thread_id
            await put(replica, found.config, "a last one", {"x": 1})
        assert len(latest) >= 4
    await assert_verified(two.replica_uri, [])
    chain = (
        "select thread_id, seq, digest from {schema}.events"
        " where as_of is null and thread_id !~ '^copy' and checkpoint_id <> 'a last one'"
    )
    theirs = {(thread_id, seq): digest for thread_id, seq, digest in two.tables.rows(chain)}
    ours = {(thread_id, seq): digest for thread_id, seq, digest in two.replica.rows(chain)}
    assert all(theirs.get(place, digest) == digest for place, digest in ours.items())


async def test_an_interrupted_take_over_is_completed_by_the_same_call(
    empty_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as `streams` is not what the log says, nothing can be appended; the same call goes on."""
    two = empty_pair
    async with open_saver("sync-string", two.uri) as saver:
        for number in range(30):
            await put(saver, config_of(f"{number:02}"), "1", {"x": 1})
    two.publish()
    two.prepare()
    two.subscribe()
    two.wait()
    two.cut()
    monkeypatch.setattr(rebuild, "PAGE_STREAMS", 10)

    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    with EventLogSaver.from_conn_string(two.replica_uri) as replica:
        with pytest.raises(KeyboardInterrupt):
            replica.log.take_over(workers=1, on_progress=stop)
        with pytest.raises(StorageError, match="has not taken over"):
            append(replica, "01", "2", None)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="run rebuild"):
            two.replica.rows("select {schema}.take_over_v1()")
        assert replica.log.take_over().streams == 30
        append(replica, "01", "2", None)
        assert replica.log.verify().problems == []


@pytest.mark.attack("stolen writer")
@POOLS
async def test_a_take_over_runs_no_code_of_a_row(kind: str, empty_pair: Pair, tmp_path: Path) -> None:
    """What arrives was written elsewhere: taking over decodes metadata, with safe types only."""
    two = empty_pair
    async with open_saver("sync-string", two.uri) as saver:
        await plant(saver, tmp_path / "run")
    two.publish()
    two.prepare()
    two.subscribe()
    two.wait()
    two.cut()
    async with open_saver(kind, two.replica_uri) as replica:
        assert (await replica.log.take_over()).checkpoints == 3
        assert (await replica.log.verify(states=True)).problems == []
    assert not (tmp_path / "run").exists()


async def test_replication_stops_at_a_missing_partition_and_resumes(empty_pair: Pair) -> None:
    """Events without a partition stop the replication; it goes on once there is one."""
    two = empty_pair
    async with open_saver("sync-string", two.uri) as saver:
        await put(saver, config_of(), "1", {"x": 1})
    two.publish(*(table for table in PUBLISHED if table != "partitions"))
    two.prepare()
    two.subscribe()
    wait_until(
        lambda: two.replica.one(
            "select coalesce(sum(sync_error_count + apply_error_count), 0) > 0 from pg_stat_subscription_stats"
            " where subname = %s",
            two.subscription,
        ),
        "an error",
    )
    assert two.replica.events() == 0
    two.tables.run("alter publication eventlog add table {schema}.partitions")
    two._run(two.replica_uri, f"alter subscription {two.subscription} refresh publication")
    two.wait()
    assert two.replica.events() == 1


def test_subscribing_to_single_partitions_fails(empty_pair: Pair) -> None:
    """A replica has no partitions to begin with, so that is refused at once, and not found out when one is missing."""
    empty_pair.publish(via_root=False)
    empty_pair.prepare()
    with pytest.raises(psycopg.errors.UndefinedTable, match=r"eventlog\.events_"):
        empty_pair.subscribe()


def test_taking_over_without_generations_is_refused(empty_pair: Pair) -> None:
    """Then what is replicated cannot be told from what will be appended."""
    two = empty_pair
    with EventLogSaver.from_conn_string(two.uri) as saver:
        append(saver, "1", "1")
    two.publish(*(table for table in PUBLISHED if table != "generations"))
    two.prepare()
    two.subscribe()
    two.wait()
    two.cut()
    with EventLogSaver.from_conn_string(two.replica_uri) as replica:
        with pytest.raises(StorageError, match="was not replicated"):
            replica.log.take_over()
        with pytest.raises(StorageError, match="has not taken over"):
            append(replica, "1", "2")


@POOLS
async def test_only_the_owner_of_an_empty_log_makes_it_a_subscriber(kind: str, database_uri: str, role: str) -> None:
    """A log of one's own that is empty; once is enough."""
    tables = Tables(database_uri)
    tables.run(
        f"select {{schema}}.grant_rights_v1('auditor', '{role}', 'eventlog_views')",  # type: ignore[arg-type]
    )
    async with open_saver(kind, database_uri) as saver, open_saver(kind, as_role(database_uri, role)) as other:
        with pytest.raises(InvalidInputError, match="is not a subscriber"):
            await saver.log.take_over()
        for refused in (other.log.make_subscriber(), other.log.take_over()):
            with pytest.raises(MissingGrantError, match="only the log's owner"):
                await refused
        await put(saver, config_of(), "1", {"x": 1})
        with pytest.raises(StorageError, match="cannot become a subscriber"):
            await saver.log.make_subscriber()
        await put(saver, config_of(), "2", {"x": 1})


async def test_a_log_of_several_nodes_is_no_subscriber(database_uri: str) -> None:
    """Neither can become the other. Without its guard triggers a log counts as distributed."""
    async with open_saver("async-pool", database_uri) as saver:
        Tables(database_uri).run("drop trigger events_immutable on {schema}.events")
        with pytest.raises(InvalidInputError, match="distributed over a Citus cluster, and cannot become a subscriber"):
            await saver.log.make_subscriber()


async def test_a_subscriber_is_not_distributed(database_uri: str) -> None:
    async with open_saver("async-pool", database_uri) as saver:
        await saver.log.make_subscriber()
        with pytest.raises(InvalidInputError, match=r"is a subscriber, .* and cannot be distributed"):
            await saver.setup(citus=True)


async def test_an_empty_subscriber_refuses_appends_and_take_over(database_uri: str) -> None:
    """It refuses all appends, and cannot take over from nothing."""
    async with open_saver("async-pool", database_uri) as saver:
        await saver.log.make_subscriber()
        await saver.log.make_subscriber()
        await saver.setup()
        assert attached(Tables(database_uri)) == []
        with pytest.raises(StorageError):
            await put(saver, config_of(), "1", {"x": 1})
        with pytest.raises(StorageError):
            await saver.aput_writes(config_of("1", "1"), [("x", 1)], "task")
        with pytest.raises(StorageError, match="was not replicated"):
            await saver.log.take_over()
