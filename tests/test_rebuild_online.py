"""Rebuilding while others write and read, and what interrupts it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from eventlog.errors import InvalidInputError, LogBusyError, LogCorruptedError, StorageError, ThreadDeletedError
from langgraph.checkpoint.eventlog import EventLogSaver
from projections import rebuild as rebuilding
from projections.rebuild import RebuildProgress
from projections.side import Side
from projections.swapping import Swapper
from tests.adapters import POOLS, open_saver
from tests.checkpoints import Tables, checkpoint_of, config_of
from tests.soundness import assert_keyframes, assert_sound, projected
from tests.test_rebuild import fill, nothing_left

TEXTS = [f"{number} " * 20 for number in range(30)]


@pytest.fixture
def tables(database_uri: str) -> Tables:
    return Tables(database_uri)


@pytest.fixture
def pool(database_uri: str) -> Iterator[ConnectionPool[Any]]:
    with ConnectionPool(database_uri, min_size=1, max_size=20, kwargs={"autocommit": True}) as opened:
        yield opened


@pytest.fixture
def saver(pool: ConnectionPool[Any]) -> EventLogSaver:
    return EventLogSaver(pool, snapshot_floor_bytes=2000)


def append(saver: EventLogSaver, thread_id: str, id_: str, parent: str | None = None, **values: Any) -> Any:
    state = {"x": TEXTS, **values}
    checkpoint = checkpoint_of(id_, state, dict.fromkeys(state, id_))
    return saver.put(config_of(thread_id, parent), checkpoint, {"step": id_}, checkpoint["channel_versions"])


class Load:
    """Writers, readers, and others that erase and copy, until it ends. Whoever fails, fails the test."""

    def __init__(self, saver: EventLogSaver) -> None:
        self._saver = saver
        self._stop = threading.Event()
        self._ids = count()
        self.appended = 0

    def __enter__(self) -> Load:
        works = [self._write] * 4 + [self._write_afresh] + [self._read, self._erase, self._prune, self._copy]
        self._executor = ThreadPoolExecutor(len(works))
        self._running = [self._executor.submit(self._until_stopped, work, n) for n, work in enumerate(works)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for each in self._running:
            each.result()
        self._executor.shutdown()

    def _until_stopped(self, work: Callable[[int], None], number: int) -> None:
        while not self._stop.is_set():
            with suppress(ThreadDeletedError):
                work(number)

    def _write(self, number: int) -> None:
        """A conversation that is never erased: whoever wrote reads what was written, whatever changes places."""
        thread_id, parent = f"kept {number}", None
        for _ in range(20):
            id_ = f"{next(self._ids):08}"
            stored = append(self._saver, thread_id, id_, parent, by=number)
            self._saver.put_writes(stored, [("x", [*TEXTS, id_])], "task")
            self.appended += 2
            found = self._saver.get_tuple(config_of(thread_id))
            assert found is not None, f"{thread_id} is gone"
            assert found.checkpoint["id"] == id_, f"{found.checkpoint['id']} is read, and {id_} was written"
            assert [each[2][-1] for each in found.pending_writes or []] == [id_]
            parent = id_ if int(id_) % 5 else parent
            time.sleep(0.01)

    def _write_afresh(self, number: int) -> None:
        for _ in range(5):
            id_ = f"{next(self._ids):08}"
            append(self._saver, f"thread {int(id_) % 3}", id_, None, by=number)
            append(self._saver, f"thread {int(id_) % 3}", id_, None, by=[number])
            time.sleep(0.01)

    def _read(self, _: int) -> None:
        time.sleep(0.02)
        for found in self._saver.list(None, limit=30):
            assert found.checkpoint["channel_values"]["x"] == TEXTS
            again = self._saver.get_tuple(found.config)
            assert again is None or again.checkpoint["channel_values"]["x"] == TEXTS

    def _erase(self, _: int) -> None:
        self._saver.delete_thread(f"thread {next(self._ids) % 3}")
        time.sleep(0.1)

    def _prune(self, _: int) -> None:
        self._saver.prune([f"kept {next(self._ids) % 4}"], keep_last=3)
        time.sleep(0.1)

    def _copy(self, _: int) -> None:
        target = f"copy {next(self._ids)}"
        with suppress(LookupError):
            self._saver.copy_thread(f"kept {next(self._ids) % 4}", target)
            if next(self._ids) % 2:
                self._saver.delete_thread(target)
        time.sleep(0.2)


def test_under_load(saver: EventLogSaver, database_uri: str, tables: Tables) -> None:
    """Nobody is disturbed, nothing is lost, and what comes out is what is there."""
    with Load(saver) as load:
        while load.appended < 100:
            time.sleep(0.01)
        for _ in range(2):
            before = load.appended
            found = saver.rebuild(workers=3)
            assert not any(found.differing.values()), found.differences
            found = saver.rebuild(check=True, workers=2)
            assert not any(found.differing.values()), found.differences
            assert load.appended > before, "nobody could write meanwhile"
    assert_sound(tables)
    assert_keyframes(tables)
    rows = projected(tables, keyframes=False)
    assert not any(saver.rebuild(check=True).differing.values())
    saver.rebuild()
    assert projected(tables, keyframes=False) == rows


def test_damage_under_load(saver: EventLogSaver, tables: Tables) -> None:
    """Repaired while others write to the very same streams."""
    append(saver, "damaged", "0")
    with Load(saver) as load:
        while load.appended < 100:
            time.sleep(0.01)
        tables.run("update {schema}.checkpoints set state_bytes = 1 where thread_id = 'damaged'")
        found = saver.rebuild()
        assert [each[:5] for each in found.differences] == [("damaged", "", "checkpoints", "0", "different")]
    assert not any(saver.rebuild(check=True).differing.values())
    assert_sound(tables)


# --- the change of places


def at_the_swap(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None], under: Callable[[], None]) -> None:
    """Have something done just before the lock is taken, and under it when all is caught up; the first time."""
    swap, bring_up_to_date = Swapper.swap, Side.bring_up_to_date
    times = count()

    def with_pauses(self: Swapper, state: Any, side: Side, attempt: int) -> Any:
        if next(times):
            return (yield from swap(self, state, side, attempt))
        before()

        def then(side: Side, *args: Any) -> Any:
            done = yield from bring_up_to_date(side, *args)
            under()
            return done

        with monkeypatch.context() as patch:
            patch.setattr(Side, "bring_up_to_date", then)
            return (yield from swap(self, state, side, attempt))

    monkeypatch.setattr(Swapper, "swap", with_pauses)


@pytest.mark.parametrize("prepare", [None, 0])
def test_who_waited_sees_all(
    prepare: int | None, database_uri: str, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that waits for the lock reads what was put just before it, though its statement began before the end."""
    with ConnectionPool(
        database_uri, min_size=4, max_size=4, kwargs={"autocommit": True, "prepare_threshold": prepare}
    ) as pool:
        saver, reader = EventLogSaver(pool), EventLogSaver(pool, frame_cache_bytes=0)
        append(saver, "1", "1")
        for _ in range(6):  # so that each connection has plans that are kept
            assert reader.get_tuple(config_of("1")) is not None
            assert len(list(reader.list(config_of("1")))) == 1
        with ThreadPoolExecutor(3) as threads:
            waiting: list[Any] = []

            def before() -> None:
                append(saver, "1", "2", "1")
                append(saver, "new", "1")

            def under() -> None:
                waiting.extend(threads.submit(reader.get_tuple, config_of(id_)) for id_ in ("1", "new"))
                waiting.append(threads.submit(lambda: list(reader.list(config_of("new")))))
                while tables.one("select count(distinct pid) from pg_locks where not granted") < 3:
                    time.sleep(0.01)

            at_the_swap(monkeypatch, before, under)
            saver.rebuild(workers=1)
            one, new, listing = (each.result() for each in waiting)
    assert one is not None
    assert one.checkpoint["id"] == "2"
    assert new is not None
    assert [found.checkpoint["id"] for found in listing] == ["1"]


def test_a_writer_that_waited(saver: EventLogSaver, tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on with the new tables: numbers go on, and nothing is in the old ones."""
    append(saver, "1", "1")
    with ThreadPoolExecutor(1) as threads:
        waiting: list[Any] = []

        def under() -> None:
            waiting.append(threads.submit(append, saver, "1", "3", "2"))
            while not tables.one("select count(*) from pg_locks where not granted"):
                time.sleep(0.01)

        at_the_swap(monkeypatch, lambda: append(saver, "1", "2", "1"), under)
        saver.rebuild()
        waiting[0].result()
    assert_sound(tables)
    assert tables.rows("select seq from {schema}.streams") == [(3,)]
    assert tables.rows("select seq from {schema}.streams_old_1") == [(2,)]
    assert not any(saver.rebuild(check=True).differing.values())


def test_waits_no_longer_than_a_moment_at_a_time(
    saver: EventLogSaver, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds a lock on a table keeps the rebuild waiting, not the others behind it; in the end it gives up."""
    append(saver, "1", "1")
    monkeypatch.setattr(rebuilding, "SWAP_ATTEMPTS", 3)
    with psycopg.connect(database_uri) as conn:
        conn.execute("select * from eventlog.snapshots")
        with pytest.raises(LogBusyError):
            saver.rebuild()
        append(saver, "1", "2", "1")
        conn.rollback()
        # It goes on with what it had: one event is new.
        assert saver.rebuild().events == 1
    assert [found.checkpoint["id"] for found in saver.list(config_of("1"))] == ["2", "1"]


def test_more_than_can_be_caught_up(saver: EventLogSaver, monkeypatch: pytest.MonkeyPatch, tables: Tables) -> None:
    """Under the lock is only so much done; the rest is done before it is taken again."""
    ids = count()
    append(saver, "0", "0")
    monkeypatch.setattr("projections.swapping.LOCKED_STREAMS", 2)
    at_the_swap(
        monkeypatch,
        lambda: [append(saver, f"{next(ids)}", "1") for _ in range(5)] and None,
        lambda: pytest.fail("this was too much"),
    )
    assert saver.rebuild().events == 6
    assert not any(saver.rebuild(check=True).differing.values())


def test_all_that_a_table_has(saver: EventLogSaver, database_uri: str, tables: Tables) -> None:
    """Names, constraints, settings, owner, rights, comments: the new tables cannot be told from the old ones."""
    append(saver, "1", "1")
    tables.run(
        'create role "An owner"',
        'create role "A reader"',
        'grant create, usage on schema {schema} to "An owner"',
        'alter table {schema}.streams owner to "An owner"',
        "alter table {schema}.streams set (autovacuum_enabled = false, toast.autovacuum_enabled = false)",
        "alter table {schema}.checkpoints replica identity full",
        "alter table {schema}.snapshots replica identity using index snapshots_pkey",
        "alter table {schema}.checkpoints alter column metadata set storage main",
        'create index "An index" on {schema}.checkpoints (run_id, seq)',
        "comment on table {schema}.streams is 'kept'",
        "comment on column {schema}.streams.seq is 'kept'",
        'grant select, update on {schema}.streams to "A reader" with grant option',
        'grant select (checkpoint_id) on {schema}.checkpoints to "A reader"',
        "grant select on {schema}.checkpoints to public",
        "revoke delete on {schema}.snapshots from postgres",
        'alter default privileges in schema {schema} grant all on tables to "A reader"',
    )
    try:
        before = described(tables)
        saver.rebuild()
        saver.rebuild()
        for was, now in zip(before, described(tables), strict=True):
            assert [row for row in now if row not in was] == []
            assert len(now) == len(was)
    finally:
        tables.run(
            'drop owned by "A reader" cascade',
            'drop role "A reader"',
            "alter table {schema}.streams owner to postgres",
        )
        saver.drop_old()
        tables.run('drop owned by "An owner" cascade', 'drop role "An owner"')


def described(tables: Tables) -> list[Any]:
    return [
        tables.rows(query)
        for query in (
            """
            select
                c.relname, c.relkind, c.relowner::regrole::text, c.reloptions, t.reloptions, c.relreplident,
                obj_description(c.oid, 'pg_class'),
                (select array_agg(a::text order by a::text) from unnest(c.relacl) as a)
            from pg_class as c left join pg_class as t on t.oid = c.reltoastrelid
            where c.relnamespace = 'eventlog'::regnamespace and c.relname !~ '_old_' order by 1
            """,
            """
            select
                c.relname, a.attname, a.attnum, a.atttypid::regtype::text, a.attnotnull, a.attstorage, a.attcollation,
                pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum), a.attacl::text
            from pg_class as c inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0
            left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
            where c.relnamespace = 'eventlog'::regnamespace and c.relname !~ '_old_' and c.relkind = 'r' order by 1, 3
            """,
            """
            select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisprimary, i.indisreplident
            from pg_index as i where i.indrelid = any(array[
                'eventlog.streams'::regclass, 'eventlog.checkpoints'::regclass, 'eventlog.snapshots'::regclass
            ]) order by 1
            """,
            """
            select c.conname, c.conrelid::regclass::text from pg_constraint as c
            where c.connamespace = 'eventlog'::regnamespace and c.contype = 'p' and c.conname !~ '_old_' order by 1
            """,
        )
    ]


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("create view eventlog.mine as select thread_id from eventlog.streams", "view eventlog.mine"),
        (
            "create trigger mine after insert on eventlog.checkpoints"
            " for each row execute function suppress_redundant_updates_trigger()",
            "trigger mine",
        ),
        ("create publication mine for table eventlog.streams", "publication mine"),
        ("create policy mine on eventlog.streams", "policy mine"),
    ],
)
def test_what_would_stay_behind(saver: EventLogSaver, tables: Tables, statement: Any, named: str) -> None:
    """It is named before anything is done."""
    append(saver, "1", "1")
    tables.run(statement)
    before = tables.contents()
    with pytest.raises(StorageError, match=named):
        saver.rebuild()
    assert nothing_left(tables)
    assert tables.contents() == before


# --- interrupted

CHILD = """
import sys, time
from psycopg_pool import ConnectionPool
from langgraph.checkpoint.eventlog import EventLogSaver
from projections import rebuild
from projections.side import Side
from projections.swapping import Swapper

uri, where = sys.argv[1:]
rebuild.PAGE_STREAMS, rebuild.BATCH_STREAMS = 6, 2
done = 0

def stop():
    print(done, flush=True)
    time.sleep(600)

def tell(progress):
    global done
    done = progress.events
    if where == "between" and done >= 100:
        stop()

bring, obstacles, analyze = Side.bring_up_to_date, Swapper._check_obstacles, rebuild.Rebuilder._analyze

def in_a_batch(self, *args):
    result = yield from bring(self, *args)
    if where == "in a batch" and done >= 100:
        stop()
    return result

looks = 0

def under_the_lock(self):
    global looks
    looks += 1
    yield from obstacles(self)
    if where == "under the lock" and looks == 2:
        stop()

def before_the_lock(self):
    if where == "before the lock":
        stop()
    yield from analyze(self)

Side.bring_up_to_date, Swapper._check_obstacles = in_a_batch, under_the_lock
rebuild.Rebuilder._analyze = before_the_lock
with ConnectionPool(uri, min_size=1, max_size=4, kwargs={"autocommit": True}) as pool:
    EventLogSaver(pool, snapshot_floor_bytes=2000).rebuild(workers=1, on_progress=tell)
"""


@pytest.mark.parametrize("where", ["between", "in a batch", "before the lock", "under the lock"])
def test_killed(where: str, saver: EventLogSaver, database_uri: str, tables: Tables) -> None:
    """The same call goes on where the other was killed: what was done is not done again."""
    for number in range(20):
        for step in range(10):
            append(saver, f"{number:02}", f"{step}", f"{step - 1}" if step else None)
    tables.run("update {schema}.checkpoints set state_bytes = 1 where thread_id in ('00', '19')")
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, database_uri, where],
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )
    try:
        assert child.stdout is not None
        done = int(child.stdout.readline())
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert done == (200 if "lock" in where else 100)
    append(saver, "00", "last", "9")

    found = saver.rebuild()
    assert found.events == 200 - done + 1
    assert found.differing == {"streams": 0, "checkpoints": 20, "snapshots": 0}
    assert_sound(tables)
    assert nothing_left(tables)
    assert not any(saver.rebuild(check=True).differing.values())


@POOLS
async def test_poison(kind: str, database_uri: str, tables: Tables) -> None:
    """An event that does not decode stops it, with its place; when it is repaired, it goes on."""
    async with open_saver(kind, database_uri) as saver:
        for thread_id in ("1", "2", "3"):
            await fill(saver, thread_id)
        # Lost, so that it shows whether anything was rebuilt.
        tables.run("delete from {schema}.checkpoints where thread_id = '1'")
        before = tables.contents()
        body, position = tables.rows(
            "select body, position from {schema}.events where thread_id = '2' and checkpoint_ns = '' and seq = 5"
        )[0]
        with psycopg.connect(database_uri) as conn:
            conn.execute("set local session_replication_role = replica")
            conn.execute("update eventlog.events set body = %s where position = %s", (body[:-1], position))
        says = rf"event 5 of thread '2', namespace '', does not decode.*position in the log is {position}"
        for check in (True, False, False):
            with pytest.raises(LogCorruptedError, match=says):
                await saver.rebuild(check=check)
        contents = tables.contents()
        assert [contents[name] for name in rebuilding.TABLES] == [before[name] for name in rebuilding.TABLES]
        with psycopg.connect(database_uri) as conn:
            conn.execute("set local session_replication_role = replica")
            conn.execute("update eventlog.events set body = %s where position = %s", (body, position))
        found = await saver.rebuild()
        assert found.differing == {"streams": 0, "checkpoints": 12, "snapshots": 0}
        assert not any((await saver.rebuild(check=True)).differing.values())


def test_two_at_once(saver: EventLogSaver, pool: ConnectionPool[Any], tables: Tables) -> None:
    """The second is told; the first is not disturbed."""
    for number in range(30):
        append(saver, f"{number}", "1")
    other = EventLogSaver(pool)
    refused = []

    def tell(_: RebuildProgress) -> None:
        if not refused:
            with pytest.raises(LogBusyError, match="another rebuild is under way") as caught:
                other.rebuild()
            refused.append(caught.value)

    # Told between two batches of one transaction each: others are under way.
    found = saver.rebuild(workers=2, on_progress=tell)
    assert found.events == 30
    assert len(refused) == 1
    assert not any(saver.rebuild(check=True).differing.values())


def test_taken_over(saver: EventLogSaver, pool: ConnectionPool[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sleeps for long is taken for dead, and gives up when it wakes up."""
    monkeypatch.setattr(rebuilding, "BATCH_STREAMS", 1)
    for number in range(3):
        append(saver, f"{number}", "1")
    other = EventLogSaver(pool, snapshot_floor_bytes=2000)
    taken: list[Any] = []

    def tell(_: RebuildProgress) -> None:
        while not taken:
            with suppress(LogBusyError):  # the first one's last batches may be under way
                taken.append(other.rebuild())

    with pytest.raises(LogBusyError, match="another call has taken over"):
        saver.rebuild(workers=1, on_progress=tell)
    assert taken[0].streams == 3
    assert not any(saver.rebuild(check=True).differing.values())


def test_settings_and_restart(saver: EventLogSaver, pool: ConnectionPool[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was begun with other settings is not gone on with, and what was done is thrown away when that is said."""
    append(saver, "1", "1")
    append(saver, "2", "1")
    monkeypatch.setattr(rebuilding, "SWAP_ATTEMPTS", 0)
    with pytest.raises(LogBusyError):
        saver.rebuild()
    monkeypatch.undo()

    other = EventLogSaver(pool, snapshot_floor_bytes=1)
    with pytest.raises(InvalidInputError, match="begun with snapshot_floor_bytes=2000"):
        other.rebuild()
    with pytest.raises(InvalidInputError, match="nothing to restart"):
        other.rebuild(check=True, restart=True)
    with pytest.raises(InvalidInputError, match="workers"):
        other.rebuild(workers=0)
    assert other.rebuild(restart=True).events == 2
    assert saver.rebuild().events == 2


def test_in_a_transaction(database_uri: str) -> None:
    """It needs transactions of its own, and says so."""
    with psycopg.connect(database_uri, autocommit=True) as conn:
        saver = EventLogSaver(conn)
        append(saver, "1", "1")
        with conn.transaction():
            conn.execute("select 1")
            for check in (True, False):
                with pytest.raises(InvalidInputError, match="transactions of its own"):
                    saver.rebuild(check=check)
        assert saver.rebuild().events == 1


# --- catching up


def test_what_was_appended_is_derived_on_top(saver: EventLogSaver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long stream is not read from its first event again, unless something was erased from it."""
    for step in range(60):
        append(saver, "long", f"{step:02}", f"{step - 1:02}" if step else None, n=step)
    forks = iter(["00", "30", "59"])

    def more() -> None:
        for parent in forks:
            append(saver, "long", f"fork of {parent}", parent, n=-1)
        append(saver, "long", "30", "29", n="again")
        saver.put_writes(config_of("long", "30"), [("x", TEXTS)], "task")

    at_the_swap(monkeypatch, more, lambda: None)
    assert saver.rebuild().events == 60 + 5
    found = saver.rebuild(check=True)
    assert not any(found.differing.values()), found.differences

    append(saver, "short", "1")
    monkeypatch.undo()
    at_the_swap(monkeypatch, lambda: saver.prune(["long"], keep_last=5), lambda: None)
    saver.rebuild()
    found = saver.rebuild(check=True)
    assert not any(found.differing.values()), found.differences


def test_progress(saver: EventLogSaver, database_uri: str, tables: Tables) -> None:
    """How many events of how many, how fast, and how long it will take."""
    for number in range(45):
        append(saver, f"{number}", "1")
    tables.run("analyze {schema}.events")
    told: list[RebuildProgress] = []
    saver.rebuild(on_progress=told.append)
    assert [each.events for each in told] == sorted(each.events for each in told)
    assert told[-1].events == told[-1].total == 45
    assert told[-1].seconds_left == 0
    assert all(each.rate > 0 for each in told)
