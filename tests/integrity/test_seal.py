"""Seals: what was in the log at one moment, in a line of text that can be kept elsewhere."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import psycopg
import pytest

from eventlog.errors import (
    InvalidInputError,
    LogBusyError,
    LogCorruptedError,
    SealNotFoundError,
    ThreadNotFoundError,
)
from eventlog.format.merkle import AuditPath, Tree, leaf_hash, root_by_path
from eventlog.seals import Seal
from langgraph.checkpoint.eventlog import EventLogSaver, verify_proof
from tests.support.adapters import open_saver
from tests.support.aging import DAY, Log, log
from tests.support.checkpoints import Tables, checkpoint_of, config_of, put

__all__ = ["log"]  # a fixture

POOLS = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])


# --- trees


def root_of(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    split = max(1 << power for power in range(32) if 1 << power < len(leaves))
    return sha256(b"\1" + root_of(leaves[:split]) + root_of(leaves[split:])).digest()


def path_of(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962, 2.1.1, word for word."""
    if len(leaves) == 1:
        return []
    split = max(1 << power for power in range(32) if 1 << power < len(leaves))
    if index < split:
        return [*path_of(index, leaves[:split]), root_of(leaves[split:])]
    return [*path_of(index - split, leaves[split:]), root_of(leaves[:split])]


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 100])
def test_roots_and_paths_follow_the_rfc(size: int) -> None:
    """Roots and paths are those of the RFC; a path leads nowhere from another leaf or another place."""
    leaves = [f"{number}".encode() for number in range(size)]
    hashes = [leaf_hash(leaf) for leaf in leaves]
    tree = Tree()
    for each in hashes:
        tree.add(each)
    root = tree.root()
    assert (tree.size, root) == (size, root_of(leaves))
    for index in range(size):
        path = AuditPath(index, size)
        for each in hashes:
            path.add(each)
        assert list(path.hashes()) == path_of(index, leaves)
        assert root_by_path(hashes[index], index, size, path.hashes()) == root
        assert root_by_path(leaf_hash(b"another"), index, size, path.hashes()) != root
        for other in range(-1, size + 1):
            if other != index:
                assert root_by_path(hashes[index], other, size, path.hashes()) != root
        assert root_by_path(hashes[index], index, size, (*path.hashes(), root)) is None
        assert size == 1 or root_by_path(hashes[index], index, size, path.hashes()[1:]) is None


def test_the_tree_equals_certificate_transparencys_example() -> None:
    """The tree of seven leaves that other implementations are tested with (certificate-transparency's)."""
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    tree = Tree()
    for leaf in leaves:
        tree.add(leaf_hash(bytes.fromhex(leaf)))
    assert tree.root().hex() == "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"


# --- sealing


def tree_over(rows: list[tuple[Any, ...]]) -> bytes:
    leaves = [(name, seq.to_bytes(8, "big", signed=True), digest) for name, seq, digest in rows]
    return root_of([b"".join(leaf) for leaf in sorted(leaves)])


TIPS = "select name, seq, digest from {schema}.streams"


async def test_a_seal_covers_all_streams_and_is_stored(kind: str, saver: Any, database_uri: str) -> None:
    """It covers all streams, as they are; and is stored."""
    tables = Tables(database_uri)
    for thread_id in "abcde":
        config = await put(saver, config_of(thread_id), "1", {"x": 1})
        await put(saver, config_of(thread_id, ns="sub"), "1", {"x": 1})
        await saver.aput_writes(config, [("x", 2)], "task")
    before = datetime.now(timezone.utc) - timedelta(minutes=1)
    first = await saver.log.seal(actor="a test")
    assert isinstance(first, Seal)
    assert (first.number, first.streams, first.changed, first.by, first.actor) == (1, 10, 10, "postgres", "a test")
    assert before < first.sealed_at
    assert first.previous == bytes(32)
    assert first.root == first.changes == tree_over(tables.rows(TIPS))

    await put(saver, config_of("f"), "1", {"x": 1})
    await put(saver, config_of("a"), "2", {"x": 1})
    second = await saver.log.seal()
    assert (second.number, second.streams, second.changed, second.actor) == (2, 11, 2, None)
    assert second.previous == first.digest
    assert second.root == tree_over(tables.rows(TIPS))
    changed = tables.rows(TIPS + " where checkpoint_ns = '' and thread_id in ('a', 'f')")
    assert second.changes == tree_over(changed)

    assert await saver.log.seals() == [second, first]
    assert await saver.log.seals(limit=1) == [second]
    assert await saver.log.seals(before=2) == [first]
    assert (await saver.log.verify()).problems == []


@POOLS
async def test_an_empty_or_unchanged_log_can_be_sealed(kind: str, database_uri: str) -> None:
    """An empty log can be sealed, and one that did not change: that is what the seal says."""
    async with open_saver(kind, database_uri) as saver:
        assert await saver.log.seals() == []
        empty = await saver.log.seal()
        assert (empty.streams, empty.changed) == (0, 0)
        assert empty.root == empty.changes == sha256(b"").digest()
        await put(saver, config_of(), "1")
        first, again = await saver.log.seal(), await saver.log.seal()
        assert (again.streams, again.changed, again.root) == (1, 0, first.root)
        assert again.digest != first.digest
        assert again.sealed_at >= first.sealed_at
        assert (await saver.log.verify()).problems == []


@POOLS
async def test_streams_are_sealed_in_pages_of_any_size(
    kind: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that is full, one that is not, pages on which no stream is left."""
    monkeypatch.setattr("eventlog.seals.PAGE", 3)
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as saver:
        for number in range(1, 11):
            await put(saver, config_of(f"{number}"), "1")
            sealed = await saver.log.seal()
            assert (sealed.streams, sealed.root) == (number, tree_over(tables.rows(TIPS)))
        for number in range(1, 11):
            assert verify_proof(await saver.log.prove(f"{number}"), sealed)
        # What a seal says does not change with what is sealed later.
        for old in await saver.log.seals():
            for number in range(1, 11):
                if number <= old.number:
                    assert verify_proof(await saver.log.prove(f"{number}", seal=old.number), old)
                else:
                    with pytest.raises(ThreadNotFoundError):
                        await saver.log.prove(f"{number}", seal=old.number)


@POOLS
async def test_proofs_hold_for_their_statement_alone(kind: str, database_uri: str) -> None:
    """They hold for what they say and for nothing else."""
    async with open_saver(kind, database_uri) as saver:
        for number in range(7):
            await put(saver, config_of(f"{number}"), "1")
            await put(saver, config_of(f"{number}", ns="sub|graph:1"), "1")
        seal = await saver.log.seal()
        ((seq, digest),) = Tables(database_uri).rows(
            "select seq, digest from {schema}.streams where thread_id = '3' and checkpoint_ns = 'sub|graph:1'"
        )
        proof = await saver.log.prove("3", "sub|graph:1")
        assert (proof.seq, proof.digest, proof.size) == (seq, digest, 14)
        assert verify_proof(proof, seal)
        other = await saver.log.prove("4")
        wrong: list[dict[str, Any]] = [
            {"seal": 2},
            {"stream": other.stream},
            {"seq": seq + 1},
            {"digest": other.digest},
            {"index": (proof.index + 1) % 14},
            {"size": 13},
            {"path": proof.path[1:]},
            {"path": (*proof.path[:-1], bytes(32))},
        ]
        for change in wrong:
            assert not verify_proof(dataclasses.replace(proof, **change), seal)
        assert not verify_proof(proof, seal._replace(actor="somebody else"))
        assert not verify_proof(proof, seal._replace(root=bytes(32)))
        assert not verify_proof(proof, seal._replace(sealed_at=seal.sealed_at + timedelta(microseconds=1)))


@POOLS
async def test_a_seal_with_an_altered_count_proves_nothing(kind: str, database_uri: str) -> None:
    """It says another number of streams than it has: there is nothing to be proven with it."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as saver:
        for number in range(3):
            await put(saver, config_of(f"{number}"), "1")
        await saver.log.seal()
        tables.drop_checks()
        for size in (-1, 0, 1, 2, 4, 5, 1 << 40):
            tables.run(f"update {{schema}}.seals set streams = {size}")  # type: ignore[arg-type]
            for number in range(3):
                with pytest.raises(LogCorruptedError, match=f"the seal counts {size} streams"):
                    await saver.log.prove(f"{number}")
        tables.run("update {schema}.seals set streams = 3")
        assert (await saver.log.prove("0")).size == 3


@POOLS
async def test_closed_streams_leave_the_tree_and_stay_vouched_for(log: Log) -> None:
    """With their last partition: they leave the tree, and what vouches for them stays."""
    for thread_id in ("1", "2", "3"):
        await log.grow(thread_id, "c1", "c2", days=1)
    first = await log.saver.log.seal()
    old = await log.saver.log.prove("1")
    await log.saver.adelete_thread("1")
    await log.saver.adelete_thread("2")
    log.clock.advance(10 * DAY)
    await put(log.saver, config_of("2"), "d1", {"x": 1})
    await log.saver.log.retain(2 * DAY)
    ended = log.tables.rows("select stream, seq from {schema}.ended")
    assert ended == [(old.stream, 5)]

    second = await log.saver.log.seal()
    assert (first.streams, second.streams, second.changed) == (3, 2, 3)
    for number in (None, 1):
        with pytest.raises(ThreadNotFoundError, match="it had no events then, or it ended since"):
            await log.saver.log.prove("1", seal=number)
    assert verify_proof(old, first)
    assert (await log.saver.log.verify()).problems == []

    # Under the same id another stream begins, with a name of its own.
    await put(log.saver, config_of("1"), "e1", {"x": 1})
    third = await log.saver.log.seal()
    assert (third.streams, third.changed) == (3, 1)
    again = await log.saver.log.prove("1")
    assert again.seq == 1
    assert again.stream != old.stream
    assert (await log.saver.log.verify()).problems == []

    # And ends between two seals, and begins once more.
    await log.saver.adelete_thread("1")
    log.clock.advance(10 * DAY)
    await log.saver.log.retain(2 * DAY)
    await put(log.saver, config_of("1"), "f1", {"x": 1})
    fourth = await log.saver.log.seal()
    assert fourth.streams == 3
    assert (await log.saver.log.verify()).problems == []
    assert (await log.saver.log.seal()).changed == 0


@POOLS
async def test_a_closing_before_the_seal_does_not_excuse_a_missing_stream(log: Log) -> None:
    """It does not excuse a later stream of the thread, which was sealed and taken out; nor does one that is made up."""
    await log.grow("other", "c1")
    for id_ in ("c1", "c2"):
        for number in range(3 if id_ == "c1" else 1):
            await put(log.saver, config_of("1"), f"{id_} {number}", {"x": 1})
        await log.saver.adelete_thread("1")
        log.clock.advance(10 * DAY)
        await log.saver.log.retain(2 * DAY)
    await put(log.saver, config_of("1"), "c3", {"x": 1})
    await log.saver.log.seal()
    assert (await log.saver.log.verify()).problems == []
    forged = (
        "insert into eventlog.ended"
        " select s.name, s.seq, s.digest, p.dropped_at, p.name, p.starts_at, '', '', '{}'"
        " from eventlog.streams as s, eventlog.partitions as p where s.thread_id = '2' and p.dropped_at is not null"
        " order by p.name limit 1"
    )
    await put(log.saver, config_of("2"), "c1", {"x": 1})
    await log.saver.log.seal()
    names = {(await log.saver.log.prove(each)).stream.hex() for each in ("1", "2")}
    with psycopg.connect(log.uri, autocommit=True) as conn:
        conn.execute("set session_replication_role = replica")
        assert conn.execute(forged).rowcount == 1
        for table in ("events", "streams", "checkpoints", "snapshots"):
            conn.execute(f"delete from eventlog.{table} where thread_id in ('1', '2')".encode())
    found = (await log.saver.log.verify()).problems
    assert {each.stream for each in found} == names


@POOLS
async def test_concurrent_seals_run_one_after_the_other(kind: str, database_uri: str) -> None:
    """One after the other: each covers what there is, while others append."""
    async with open_saver(kind, database_uri) as saver, open_saver(kind, database_uri) as writer:
        stopped = False

        async def write(thread_id: str) -> None:
            config, number = config_of(thread_id), 0
            while not stopped:
                config = await put(writer, config, f"{number:05}", {"x": number})
                number += 1

        writing = [asyncio.ensure_future(write(f"{each}")) for each in range(3)]
        try:
            seals = await asyncio.gather(*(saver.log.seal() for _ in range(5)))
        finally:
            stopped = True
            await asyncio.gather(*writing)
        assert sorted(each.number for each in seals) == [1, 2, 3, 4, 5]
        assert (await saver.log.verify()).problems == []


@POOLS
async def test_sealing_waits_for_a_running_seal_up_to_a_timeout(
    kind: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits, but not for ever."""
    monkeypatch.setattr("langgraph.checkpoint.eventlog.integrity.seal.ATTEMPTS", 2)
    monkeypatch.setattr("langgraph.checkpoint.eventlog.integrity.seal.PAUSE_SECONDS", 0.01)
    async with open_saver(kind, database_uri) as saver:
        with psycopg.connect(database_uri) as conn:
            conn.execute("select eventlog.begin_seal_v1()")
            with pytest.raises(LogBusyError, match="sealing"):
                await saver.log.seal()
            conn.rollback()
        assert (await saver.log.seal()).number == 1


@POOLS
async def test_bad_arguments_are_refused_and_nothing_is_sealed(kind: str, database_uri: str) -> None:
    """Says what it must be; nothing is sealed."""
    async with open_saver(kind, database_uri) as saver:
        with pytest.raises(SealNotFoundError):
            await saver.log.prove("1")
        for call in (
            lambda: saver.log.seal(actor=1),
            lambda: saver.log.seal(actor="\0"),
            lambda: saver.log.seals(limit=0),
            lambda: saver.log.seals(limit=1 << 63),
            lambda: saver.log.seals(before="1"),
            lambda: saver.log.prove(None),
            lambda: saver.log.prove("1", None),
            lambda: saver.log.prove("1", seal=0),
            lambda: saver.log.prove("1", seal="latest"),
        ):
            with pytest.raises(InvalidInputError):
                await call()
        assert await saver.log.seals() == []
        await saver.log.seal()
        with pytest.raises(SealNotFoundError, match="no seal 2"):
            await saver.log.prove("1", seal=2)
        with pytest.raises(ThreadNotFoundError):
            await saver.log.prove("1")


@POOLS
async def test_a_seal_and_a_partition_drop_run_one_after_the_other(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ends with it ends before the seal or after it."""
    monkeypatch.setattr("langgraph.checkpoint.eventlog.integrity.seal.ATTEMPTS", 2)
    monkeypatch.setattr("langgraph.checkpoint.eventlog.integrity.seal.PAUSE_SECONDS", 0.01)
    await log.grow("1", "c1")
    await log.saver.log.seal()
    await log.saver.adelete_thread("1")
    log.clock.advance(10 * DAY)
    await log.grow("2", "c1")
    drop = "select eventlog.drop_partition_v1(min(name), null) from eventlog.partitions"
    with psycopg.connect(log.uri) as conn:
        conn.execute(drop)
        with pytest.raises(LogBusyError):
            await log.saver.log.seal()
        conn.rollback()
        conn.execute("select 1 from eventlog.locks where name = 'seal' for update")
        with psycopg.connect(log.uri) as other, pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute(drop)
        conn.rollback()
        # The clock goes back.
        log.clock.advance(-20 * DAY)
        conn.execute(drop)
    ((is_after,),) = log.tables.rows(
        "select e.ended_at > s.sealed_at from {schema}.ended as e, {schema}.seals as s where s.number = 1"
    )
    assert is_after
    assert (await log.saver.log.verify()).problems == []
    assert (await log.saver.log.seal()).changed == 2
    assert (await log.saver.log.verify()).problems == []


@POOLS
async def test_a_transaction_that_a_seal_came_between_is_no_problem(kind: str, database_uri: str) -> None:
    """It took its time before the seal, and was committed after it. In it, its own events are verified too."""
    async with open_saver(kind, database_uri) as saver:
        await put(saver, config_of("before"), "1")
        with psycopg.connect(database_uri) as conn:
            other = EventLogSaver(conn)
            with conn.transaction():
                other.put(config_of("1"), checkpoint_of("1", {"x": 1}, {"x": "1"}), {}, {"x": "1"})
                assert other.log.verify().problems == []
                assert (await saver.log.seal()).streams == 1
        assert (await saver.log.verify()).problems == []
        assert (await saver.log.seal()).streams == 2


async def test_a_seal_rolls_back_with_the_users_transaction(database_uri: str) -> None:
    """Rolled back with it."""
    with psycopg.connect(database_uri) as conn:
        saver = EventLogSaver(conn)
        with conn.transaction(force_rollback=True):
            assert saver.log.seal().number == 1
        assert saver.log.seals() == []
