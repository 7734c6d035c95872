"""Every byte of the log, altered; every row, taken out: tried at random, found, and named.

The log has about a thousand events: threads with subgraphs, replaced checkpoints, deletions, prunes, copies, retention
that carried events forward and dropped partitions, and seals. A trial changes one thing in a transaction, verifies in
that transaction, and rolls it back. `EVENTLOG_TEST_TRIALS` is how many trials each test makes, `EVENTLOG_TEST_SEED`
where they start.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest
from psycopg import sql

from langgraph.checkpoint.eventlog import EventLogSaver, Problem, Seal
from tests.adapters import open_saver
from tests.checkpoints import TEXTS, config_of, put
from tests.clock import Clock
from tests.server import Server

TRIALS = int(os.environ.get("EVENTLOG_TEST_TRIALS", "100"))
SEED = int(os.environ.get("EVENTLOG_TEST_SEED", "1"))

DAY = timedelta(days=1)
EPOCH = datetime(2000, 1, 1, tzinfo=timezone.utc)

#: Columns that the chain of digests covers; `position` and `xid` are not among them.
CHAINED = (
    "thread_id",
    "checkpoint_ns",
    "seq",
    "recorded_at",
    "kind",
    "checkpoint_id",
    "base_seq",
    "as_of",
    "first_at",
    "digest",
    "body",
)

#: What can be told of the projections without decoding. That a keyframe is a checkpoint's event, is; which one, is for
#: rebuilding to say.
PROJECTED = {
    "streams": (
        *("thread_id", "checkpoint_ns", "seq", "epoch", "digest", "latest_checkpoint_id", "written_through"),
        *("erased_through", "begins_at", "active_at", "updated_at"),
    ),
    "checkpoints": ("thread_id", "checkpoint_ns", "checkpoint_id", "seq", "recorded_at", "first_at", "keyframe_at"),
    "snapshots": ("thread_id", "checkpoint_ns", "seq", "recorded_at"),
}

SEALED = {
    "seals": (*("number", "sealed_at", "streams", "changed", "root", "changes", "previous", "digest", "by", "actor"),),
    "sealed": ("stream", "seal", "is_live", "seq", "digest", "ended_at"),
    "ended": ("stream", "seq", "digest", "ended_at", "partition"),
}


async def _grow(saver: Any, clock: Clock, thread_id: str, ns: str, days: int, ids: Iterator[int]) -> None:
    config = config_of(thread_id, ns=ns)
    for _ in range(days):
        for _ in range(4):
            id_ = f"{next(ids):05}"
            config = await put(saver, config, id_, {"x": [*TEXTS, id_]}, metadata={"run_id": f"run {int(id_) % 7}"})
            await saver.aput_writes(config, [("x", [*TEXTS, id_])], "task")
        # Saved again, with other content.
        await put(saver, config_of(thread_id, ns=ns), id_, {"x": [id_]})


async def _build(uri: str) -> None:
    clock = Clock(uri, behind=30 * DAY)
    settings = {"partition_interval": "day", "partitions_ahead": 1, "snapshot_floor_bytes": 4000}
    ids = iter(range(100_000))
    async with open_saver("async-pool", uri, **settings) as saver:
        await saver.setup()
        for _ in range(2):
            for thread_id in ("ended", "ended too"):
                await _grow(saver, clock, thread_id, "", 1, ids)
            for thread_id in ("plain", "pruned", "deleted", "retained", "idle"):
                await _grow(saver, clock, thread_id, "", 2, ids)
                await _grow(saver, clock, thread_id, "sub|graph:1", 1, ids)
            clock.advance(DAY)
        await saver.seal(actor="a test")
        await saver.adelete_thread("ended")
        await saver.adelete_thread("ended too")
        await saver.aprune(["pruned"], keep_last=6)
        clock.advance(8 * DAY)
        for thread_id in ("plain", "pruned", "retained"):
            await _grow(saver, clock, thread_id, "", 2, ids)
        await saver.seal()
        await saver.retain(4 * DAY)
        await saver.acopy_thread("plain", "copied", actor="a test")
        clock.advance(DAY)
        await saver.adelete_thread("deleted")
        await saver.adelete_for_runs(["run 3"])
        await saver.aprune(["pruned"], keep_last=4)
        await _grow(saver, clock, "ended", "", 1, ids)
        await saver.seal()
        for thread_id in [f"{number}" for number in range(14)]:
            await _grow(saver, clock, thread_id, "", 3, ids)
            await _grow(saver, clock, thread_id, "sub|graph:2", 3, ids)
        await saver.acopy_thread("1", "copied too")
        await saver.aprune(["1", "2"], keep_last=3)
        await saver.adelete_thread("3")
        await saver.seal()


@pytest.fixture(scope="module")
def tampered(server: Server) -> Iterator[str]:
    """The log: what a test does to it is rolled back."""
    name = server.create_database(prefix="tampering")
    asyncio.run(_build(server.uri(name)))
    yield server.uri(name)
    server.drop_database(name)


class Tamper:
    """Changes the log as somebody does who may do everything, and looks what `verify` says."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self.conn = conn
        self.saver = EventLogSaver(conn)
        self.random = random.Random(SEED)

    @contextmanager
    def trial(self) -> Iterator[None]:
        with self.conn.transaction(force_rollback=True):
            self.conn.execute("set local session_replication_role = replica")
            yield

    def problems(self, *threads: str, **options: Any) -> list[Problem]:
        found = self.saver.verify(threads or None, **options)
        assert found.found >= len(found.problems)
        return found.problems

    def rows(self, table: str, columns: tuple[str, ...]) -> list[dict[str, Any]]:
        """All rows, with where they are; times as PostgreSQL sends them, as no alteration fits Python's."""
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        found = self.conn.execute(
            sql.SQL("select tableoid::bigint, ctid::text, {} from eventlog.{} order by 1, 2").format(
                names, sql.Identifier(table)
            ),
            binary=True,
        ).fetchall()
        return [dict(zip(("tableoid", "ctid", *columns), row, strict=True)) for row in found]

    def execute(self, statement: str, table: str, row: dict[str, Any], column: str = "", *params: Any) -> bool:
        """Whether the database lets it happen: a number that is there already is refused by itself."""
        where = sql.SQL(" where tableoid = %s and ctid = %s::tid")
        text = sql.SQL(statement).format(sql.Identifier(table), *([sql.Identifier(column)] if column else []))  # type: ignore[arg-type]
        try:
            with self.conn.transaction():
                done = self.conn.execute(text + where, (*params, row["tableoid"], row["ctid"]))
        except (psycopg.errors.IntegrityError, psycopg.DataError):
            return False
        assert done.rowcount == 1
        return True

    def altered(self, value: Any) -> Any:
        """A value of which one byte is another."""
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            size, code = (2, ">h") if 0 < value < 6 and self.random.random() < 0.3 else (8, ">q")
            return struct.unpack(code, self.flipped(struct.pack(code, value), size))[0]
        if isinstance(value, datetime):
            micros = (value - EPOCH) // timedelta(microseconds=1)
            return struct.unpack(">q", self.flipped(struct.pack(">q", micros), 8))[0]
        if isinstance(value, bytes):
            return self.flipped(value, len(value))
        place = self.random.randrange(len(value))
        other = self.random.choice([c for c in "abcXYZ019|: é\x01" if c != value[place]])
        return value[:place] + other + value[place + 1 :]

    def flipped(self, data: bytes, size: int) -> bytes:
        place = self.random.randrange(size)
        return data[:place] + bytes([data[place] ^ self.random.randrange(1, 256)]) + data[place + 1 :]

    def alter(self, table: str, row: dict[str, Any], column: str) -> bool:
        """Alter one byte; False where that cannot be."""
        value = row[column]
        if value is None or value == "":
            return False
        param = (
            "'2000-01-01 00:00Z'::timestamptz + %s * interval '1 microsecond'" if isinstance(value, datetime) else "%s"
        )
        return self.execute(f"update eventlog.{{}} set {{}} = {param}", table, row, column, self.altered(value))


@pytest.fixture
def tamper(tampered: str) -> Iterator[Tamper]:
    with psycopg.connect(tampered, autocommit=True) as conn:
        yield Tamper(conn)


def test_the_log_is_whole(tamper: Tamper) -> None:
    """As it was left; and it has everything that the trials are to meet."""
    found = tamper.saver.verify()
    assert found.problems == []
    assert found.seals == 4
    ((events, kinds, carried, ended, snapshots, dropped),) = tamper.conn.execute(
        """
        select
            (select count(*) from eventlog.events),
            (select array_agg(distinct kind order by kind) from eventlog.events),
            (select count(*) from eventlog.events where as_of is not null and kind < 3),
            (select count(*) from eventlog.ended),
            (select count(*) from eventlog.snapshots),
            (select count(*) from eventlog.partitions where dropped_at is not null)
        """
    ).fetchall()
    assert 700 < events < 1500
    assert kinds == [1, 2, 3, 4, 5]
    assert min(carried, ended, snapshots, dropped) > 0
    assert found.events == events


def near(problems: list[Problem], row: dict[str, Any]) -> bool:
    """Whether one of them names the event, or a neighbour."""
    return any(
        (each.thread_id, each.checkpoint_ns) == (row["thread_id"], row["checkpoint_ns"])
        and abs(each.seq - row["seq"]) <= 1
        for each in problems
    )


def test_altered_events(tamper: Tamper) -> None:
    """One byte of any column of any event."""
    rows = tamper.rows("events", CHAINED)
    trials = 0
    while trials < TRIALS:
        row, column = tamper.random.choice(rows), tamper.random.choice(CHAINED)
        with tamper.trial():
            if not tamper.alter("events", row, column):
                continue
            trials += 1
            problems = tamper.problems(row["thread_id"])
            assert near(problems, row), (row, column, problems)
            if column not in ("thread_id", "checkpoint_ns"):
                assert problems[0][:2] == (row["thread_id"], row["checkpoint_ns"])


def test_deleted_events(tamper: Tamper) -> None:
    """Any event, whatever it is."""
    rows = tamper.rows("events", CHAINED[:5])
    for _ in range(TRIALS):
        row = tamper.random.choice(rows)
        with tamper.trial():
            assert tamper.execute("delete from eventlog.{}", "events", row)
            problems = tamper.problems(row["thread_id"])
            assert problems, row
            assert problems[0][:2] == (row["thread_id"], row["checkpoint_ns"])
            assert near(problems, row), (row, problems)


def test_records(tamper: Tamper) -> None:
    """What vouches for what is gone: each byte of it counts."""
    rows = [row for row in tamper.rows("events", CHAINED) if row["kind"] > 2]
    for _ in range(TRIALS // 4):
        row = tamper.random.choice(rows)
        with tamper.trial():
            assert tamper.alter("events", row, "body")
            assert near(tamper.problems(row["thread_id"]), row)


@pytest.mark.parametrize("table", PROJECTED)
def test_altered_projections(tamper: Tamper, table: str) -> None:
    """One byte of what can be told without decoding."""
    rows = tamper.rows(table, PROJECTED[table])
    trials = 0
    while trials < TRIALS // 3:
        row, column = tamper.random.choice(rows), tamper.random.choice(PROJECTED[table])
        with tamper.trial():
            if not tamper.alter(table, row, column):
                continue
            trials += 1
            named = {each[:2] for each in tamper.problems(row["thread_id"])}
            assert (row["thread_id"], row["checkpoint_ns"]) in named or column in ("thread_id", "checkpoint_ns"), (
                row,
                column,
                named,
            )
            assert column not in ("thread_id", "checkpoint_ns") or tamper.problems(), (row, column)


@pytest.mark.parametrize("table", ["streams", "checkpoints"])
def test_deleted_projections(tamper: Tamper, table: str) -> None:
    """A row that is gone. (Of `snapshots` any may be: they are for speed.)"""
    rows = tamper.rows(table, PROJECTED[table])
    for _ in range(TRIALS // 5):
        row = tamper.random.choice(rows)
        with tamper.trial():
            assert tamper.execute("delete from eventlog.{}", table, row)
            named = {each[:2] for each in tamper.problems(row["thread_id"])}
            assert named == {(row["thread_id"], row["checkpoint_ns"])}


@pytest.mark.parametrize("table", SEALED)
def test_altered_seals(tamper: Tamper, table: str) -> None:
    """One byte of the seals, of what they cover, or of what vouches for streams that ended."""
    rows = tamper.rows(table, SEALED[table])
    trials = 0
    while trials < TRIALS // 4:
        row, column = tamper.random.choice(rows), tamper.random.choice(SEALED[table])
        with tamper.trial():
            if not tamper.alter(table, row, column):
                continue
            trials += 1
            assert tamper.problems(), (row, column)


@pytest.mark.parametrize("table", SEALED)
def test_deleted_seals(tamper: Tamper, table: str) -> None:
    """Any row of them."""
    for row in tamper.rows(table, SEALED[table]):
        with tamper.trial():
            assert tamper.execute("delete from eventlog.{}", table, row)
            assert tamper.problems(), row


# --- whole things


def columns_of(tamper: Tamper, table: str, without: tuple[str, ...] = ()) -> str:
    names = tamper.conn.execute(
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 order by attnum",
        (f"eventlog.{table}",),
    ).fetchall()
    return ", ".join(name for (name,) in names if name not in without)


def test_forged_events(tamper: Tamper) -> None:
    """One that was never appended, at the end and in between, with the digest that it would have."""
    names = columns_of(tamper, "events", ("seq", "position", "digest"))
    for number in ("s.seq + 1", "s.seq - 3"):
        with tamper.trial():
            tamper.conn.execute(
                f"""
                insert into eventlog.events (seq, digest, {names})
                select
                    {number},
                    sha256(s.digest || int8send({number}) || timestamptz_send(recorded_at)
                    || eventlog.event_leaf_v1(kind, thread_id, checkpoint_ns, checkpoint_id, base_seq, body)),
                    {names}
                from eventlog.events inner join (
                    select thread_id as t, checkpoint_ns as n, seq, digest, updated_at from eventlog.streams
                ) as s on t = thread_id and n = checkpoint_ns and s.seq = events.seq
                where thread_id = 'plain' and checkpoint_ns = ''
                """.encode()
            )
            (first, *_) = tamper.problems()
            ((last,),) = tamper.conn.execute(
                "select seq from eventlog.streams where thread_id = 'plain' and checkpoint_ns = ''"
            ).fetchall()
            assert first[:2] == ("plain", "")
            assert first.seq in (last + 1, last - 3)
            assert first.what.startswith("inserted")


def test_swapped_events(tamper: Tamper) -> None:
    """Each in the place of the other."""
    with tamper.trial():
        tamper.conn.execute(
            "update eventlog.events set seq = 21 - seq where thread_id = '0' and checkpoint_ns = '' and seq in (10, 11)"
        )
        found = tamper.problems()
        assert found[0][:3] == ("0", "", 10)
        assert {each.seq for each in found} >= {10, 11}


def test_swapped_positions(tamper: Tamper) -> None:
    """No digest has them, but within a stream they rise."""
    with tamper.trial():
        tamper.conn.execute("alter table eventlog.events alter column position set generated by default")
        tamper.conn.execute(
            """
            update eventlog.events as e set position = o.position from eventlog.events as o
            where
                e.thread_id = '0' and o.thread_id = '0' and e.checkpoint_ns = '' and o.checkpoint_ns = ''
                and e.seq in (10, 11) and o.seq = 21 - e.seq
            """
        )
        assert [each[:3] for each in tamper.problems()] == [("0", "", 11)]


def test_a_keyframe_that_is_none(tamper: Tamper) -> None:
    """It names an event that is no checkpoint's, or one that is not there."""
    for number in ("keyframe_seq + 1", "1000000"):
        with tamper.trial():
            tamper.conn.execute(
                f"update eventlog.checkpoints set keyframe_seq = {number} where thread_id = '0' and seq = 3".encode()
            )
            assert {each.what for each in tamper.problems()} == {"`checkpoints` disagrees with the log: keyframe"}


def vanish(tamper: Tamper, thread_id: str, *tables: str) -> None:
    for table in tables:
        tamper.conn.execute(
            sql.SQL("delete from eventlog.{} where thread_id = %s").format(sql.Identifier(table)), (thread_id,)
        )


ALL = ("events", "streams", "checkpoints", "snapshots")


def test_a_stream_vanishes(tamper: Tamper) -> None:
    """Nothing is left of it but its seal, which calls it by a hash; who asks for the thread is told which it is."""
    proof = tamper.saver.prove("plain", "sub|graph:1")
    with tamper.trial():
        vanish(tamper, "plain", *ALL)
        found = tamper.problems()
        assert [each[:2] for each in found] == [("", ""), ("", "")]
        assert all(each.what.startswith("missing") and each.seal for each in found)
        assert proof.stream.hex() in {each.stream for each in found}
        # The root graph's namespace has a name that is known.
        ((thread_id, ns, _, what, seal, _),) = tamper.problems("plain")
        assert (thread_id, ns, seal) == ("plain", "", 3)
        assert what.startswith("missing: the stream was sealed up to number")
        assert tamper.problems("pruned") == []
    with tamper.trial():
        vanish(tamper, "plain", "events", "streams", "checkpoints")
        assert ("plain", "") in {each[:2] for each in tamper.problems()}


def test_a_stream_that_is_said_to_have_ended(tamper: Tamper) -> None:
    """It did not go with a partition that was dropped."""
    proof = tamper.saver.prove("0")
    with tamper.trial():
        vanish(tamper, "0", *ALL)
        tamper.conn.execute(
            "insert into eventlog.ended select %s, %s, %s, clock_timestamp(), max(name) from eventlog.partitions",
            (proof.stream, proof.seq, proof.digest),
        )
        assert any(each.stream == proof.stream.hex() for each in tamper.problems())


def test_restored_to_an_earlier_time(tamper: Tamper) -> None:
    """The chain is whole, and shorter than what was sealed."""
    with tamper.trial():
        tamper.conn.execute("delete from eventlog.events where thread_id = '0' and checkpoint_ns = '' and seq > 10")
        tamper.conn.execute(
            "delete from eventlog.checkpoints where thread_id = '0' and checkpoint_ns = '' and seq > 10"
        )
        tamper.conn.execute("delete from eventlog.snapshots where thread_id = '0' and checkpoint_ns = '' and seq > 10")
        tamper.conn.execute(
            """
            update eventlog.streams as s set seq = 10, digest = e.digest, updated_at = e.recorded_at
            from eventlog.events as e
            where
                s.thread_id = '0' and s.checkpoint_ns = ''
                and e.thread_id = '0' and e.checkpoint_ns = '' and e.seq = 10
            """
        )
        found = [each for each in tamper.problems() if "disagrees" not in each.what]
        assert [(each.thread_id, each.seal) for each in found] == [("0", 4)]
        assert "the stream's last number is smaller" in found[0].what


def forge_chain(tamper: Tamper) -> None:
    """Alter an event, and compute the stream's digests anew, as somebody can who may do everything."""
    tamper.conn.execute(
        "update eventlog.events set body = body || '\\x00' where thread_id = '0' and checkpoint_ns = '' and seq = 1"
    )
    tamper.conn.execute(
        """
        do $$
        declare
            v_digest bytea;
            v_event record;
        begin
            v_digest := '';
            for v_event in select * from eventlog.events where thread_id = '0' and checkpoint_ns = '' order by seq loop
                v_digest := sha256(
                    v_digest || int8send(v_event.seq) || timestamptz_send(v_event.recorded_at)
                    || eventlog.event_leaf_v1(
                        v_event.kind, v_event.thread_id, v_event.checkpoint_ns, v_event.checkpoint_id,
                        v_event.base_seq, v_event.body
                    )
                );
                update eventlog.events set digest = v_digest
                where thread_id = '0' and checkpoint_ns = '' and seq = v_event.seq;
            end loop;
            update eventlog.streams set digest = v_digest where thread_id = '0' and checkpoint_ns = '';
        end
        $$
        """
    )


def test_all_digests_computed_anew(tamper: Tamper) -> None:
    """The seals do not fit, until they are made anew too. The one that was kept elsewhere does not fit even then."""
    anchored: Seal = tamper.saver.seals(limit=1)[0]
    name = f"{anchored.number}:{anchored.digest.hex()}"
    assert tamper.problems(seal=name) == []
    assert tamper.problems(seal=anchored.digest.hex()) == []
    with tamper.trial():
        forge_chain(tamper)
        found = tamper.problems()
        assert {(each.thread_id, each.seal) for each in found} == {("0", 4)}
        for table in SEALED:
            tamper.conn.execute(sql.SQL("delete from eventlog.{}").format(sql.Identifier(table)))
        for _ in range(4):
            tamper.saver.seal()
        assert tamper.problems() == []
        for given in (name, anchored.digest.hex()):
            (problem,) = tamper.problems(seal=given)
            assert "not those that were anchored" in problem.what
        (problem,) = tamper.problems("0", seal=name)
        assert problem.seal == 4


def test_a_seal_of_another_number(tamper: Tamper) -> None:
    """The digest is there, under another number: one of the two was not copied well."""
    anchored = tamper.saver.seals(limit=1)[0]
    assert len(tamper.problems(seal=f"3:{anchored.digest.hex()}")) == 1
