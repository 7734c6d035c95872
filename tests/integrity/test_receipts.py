"""Receipts: what was erased, by whom and when, signed, without content."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventlog.errors import InvalidInputError, LogCorruptedError, ProofError, ThreadNotFoundError
from langgraph.checkpoint.eventlog import EventLogSaver, Receipt, verify_receipt
from tests.cli.command import clean_environment, documents, eventlog, uri
from tests.support.adapters import open_saver
from tests.support.aging import DAY, Log, log
from tests.support.checkpoints import Tables, checkpoint_of, config_of, put
from tests.support.signing import Keys, make_keys

__all__ = ["clean_environment", "log", "uri"]  # fixtures

POOLS = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return make_keys(tmp_path, "receipts")


async def receipt_of(log: Any, keys: Keys, thread_id: str = "secret-id", **options: Any) -> Receipt:
    document = await log.receipt(thread_id, key=keys.private, **options)
    for text in ("secret-id", "secret value", "secret run", "secret task"):
        assert text not in document
    return verify_receipt(document, keys.public)


async def fill(saver: Any, thread_id: str = "secret-id") -> None:
    config = config_of(thread_id)
    for number in range(4):
        metadata = {"run_id": f"secret run {number % 2}"}
        config = await put(saver, config, f"{number}", {"x": ["secret value"] * number}, metadata=metadata)
        await saver.aput_writes(config, [("x", "secret value")], "secret task")


@pytest.mark.attack("eraser")
@POOLS
async def test_a_receipt_says_what_each_operation_erased(kind: str, database_uri: str, keys: Keys) -> None:
    """Prune, delete by run, delete: each once, with its stubs, and by whom; an event under the first that erased it."""
    async with open_saver(kind, database_uri) as saver:
        await fill(saver)
        name = (await _names(database_uri))["secret-id"]
        await saver.log.prune(["secret-id"], keep_last=3, actor="Ann")
        await saver.log.delete_for_runs(["secret run 1"], actor="Bob")
        await saver.log.delete_thread("secret-id", actor="Cem")
        await saver.log.seal()
        receipt = await receipt_of(saver.log, keys, reason="request 17")
        assert receipt.reason == "request 17"
        assert receipt.partitions == ()
        prune, runs, delete = receipt.erasures
        assert [each.operation for each in receipt.erasures] == ["prune", "delete_for_runs", "delete_thread"]
        assert [each.actor for each in receipt.erasures] == ["Ann", "Bob", "Cem"]
        assert {each.by for each in receipt.erasures} == {"postgres"}
        assert {each.stream for each in receipt.erasures} == {name}
        assert prune.arguments == {"strategy": "keep_latest", "keep_last": 3}
        assert runs.arguments == delete.arguments == {}
        numbers = [seq for each in receipt.erasures for seq, _, _ in each.erased]
        assert sorted(numbers) == sorted(set(numbers))
        assert set(range(1, 9)) <= set(numbers)
        assert [seq for seq, _, _ in prune.erased] == [1, 2]
        assert all(at <= each.recorded_at for each in receipt.erasures for _, at, _ in each.erased)
        later = await receipt_of(saver.log, keys, since=delete.recorded_at)
        assert later.erasures == (delete,)
        assert (await saver.log.verify()).problems == []


async def _names(uri: str) -> dict[str, bytes]:
    return dict(Tables(uri).rows("select thread_id, name from {schema}.streams"))


@POOLS
async def test_a_receipt_of_retention_says_which_partitions_are_gone(log: Log, keys: Keys) -> None:
    """What is void goes with its partition; when the last record goes too, there is no receipt any more."""
    await log.grow("secret-id", "c1", "c2", "c3", days=2)
    await log.grow("other", "c1")
    await log.saver.log.retain(3 * DAY, actor="nightly")
    receipt = await receipt_of(log.saver.log, keys)
    (erasure,) = receipt.erasures
    assert (erasure.operation, erasure.actor) == ("retain", "nightly")
    assert erasure.before is not None
    assert receipt.partitions
    assert all(dropped_at is not None for _, dropped_at in receipt.partitions)

    await log.saver.log.expire(timedelta(0), limit=10, actor="expiry")
    assert (await receipt_of(log.saver.log, keys)).erasures[-1].operation == "expire"
    log.clock.advance(20 * DAY)
    await log.grow("third", "c9")
    await log.saver.log.retain(3 * DAY)
    with pytest.raises(ThreadNotFoundError, match="before retention drops the records"):
        await log.saver.log.receipt("secret-id", key=keys.private)


@POOLS
async def test_a_receipt_lists_the_partitions_of_the_threads_time_alone(log: Log, keys: Keys) -> None:
    """Those that were dropped before the thread began held nothing of it."""
    await log.grow("other", "c1", "c2", "c3", days=3)
    await log.saver.log.retain(5 * DAY)
    early = {name for (name,) in log.tables.rows("select name from {schema}.partitions where dropped_at is not null")}
    assert early
    begun = log.tables.one("select {schema}.clock_v1()")
    await log.grow("secret-id", "c1", "c2", "c3", "c4", days=3)
    await log.saver.log.retain(5 * DAY)
    receipt = await receipt_of(log.saver.log, keys)
    (before,) = {each.before for each in receipt.erasures}
    expected = log.tables.rows(
        "select name from {schema}.partitions where ends_at <= %s and ends_at > %s order by starts_at", before, begun
    )
    assert [name for name, _ in receipt.partitions] == [name for (name,) in expected]
    assert {name for name, _ in receipt.partitions}.isdisjoint(early)
    assert len(receipt.partitions) > 1


@POOLS
async def test_copied_stubs_stay_with_the_operation_that_erased_their_events(log: Log, keys: Keys) -> None:
    """A prune's record goes with its partition; the record of the retention that dropped it says what it said."""
    await log.grow("secret-id", "c1", "c2", "c3")
    await log.saver.log.prune(["secret-id"], keep_last=2, actor="Ann")
    await log.saver.log.delete_for_runs(["none"])
    pruned = await receipt_of(log.saver.log, keys)
    (prune,) = pruned.erasures
    assert [seq for seq, _, _ in prune.erased] == [1, 2]
    log.clock.advance(3 * DAY)
    await log.grow("secret-id", "c4", days=3)
    await log.saver.log.retain(2 * DAY, actor="nightly")
    records = log.tables.rows("select seq from {schema}.events where thread_id = 'secret-id' and kind > 2 order by seq")
    assert (prune.number,) not in records
    first, second = (await receipt_of(log.saver.log, keys)).erasures
    assert first == prune
    assert (second.operation, second.actor) == ("retain", "nightly")
    numbers = [seq for seq, _, _ in second.erased]
    assert prune.number in numbers
    assert not {1, 2} & set(numbers)
    # At the end of the thread, too; and once each where all records are there.
    await log.saver.log.delete_thread("secret-id", actor="Cem")
    receipt = await receipt_of(log.saver.log, keys)
    assert [each.operation for each in receipt.erasures] == ["prune", "retain", "delete_thread"]
    assert receipt.erasures[:2] == (first, second)
    numbers = [seq for each in receipt.erasures for seq, _, _ in each.erased]
    assert len(numbers) == len(set(numbers))
    assert (await log.saver.log.verify()).problems == []
    assert "earlier" not in ((await _last(log.saver.log.history("secret-id"))).operation or {})


async def _last(entries: Any) -> Any:
    return [each async for each in entries][-1]


@POOLS
async def test_bad_input_is_refused_with_the_next_step(
    kind: str, database_uri: str, keys: Keys, tmp_path: Path
) -> None:
    other = make_keys(tmp_path, "other")
    async with open_saver(kind, database_uri) as saver:
        await fill(saver)
        for thread_id, what in (("never", "does not exist"), ("secret-id", "nothing was erased")):
            with pytest.raises(ThreadNotFoundError, match=what):
                await saver.log.receipt(thread_id, key=keys.private)
        await saver.log.delete_thread("secret-id")
        future = datetime.now(timezone.utc) + timedelta(days=1)
        with pytest.raises(ThreadNotFoundError, match="nothing was erased"):
            await saver.log.receipt("secret-id", key=keys.private, since=future)
        for bad in (
            {"key": keys.public},
            {"key": None},
            {"key": keys.private, "reason": 1},
            {"key": keys.private, "reason": "a\0"},
            {"key": keys.private, "since": datetime(2026, 1, 1)},
            {"key": keys.private, "since": "2026"},
        ):
            with pytest.raises(InvalidInputError):
                await saver.log.receipt("secret-id", **bad)
        document = await saver.log.receipt("secret-id", key=keys.private)
    says = json.loads(document)
    with pytest.raises(ProofError, match="signer"):
        verify_receipt(document, other.public)
    for altered in (
        {**says, "reason": "another"},
        {**says, "erasures": []},
        {**says, "erasures": [{**says["erasures"][0], "actor": "Eve"}]},
        {**says, "signature": "00" * 64},
        {**says, "signature": None},
        {name: each for name, each in says.items() if name != "signature"},
    ):
        with pytest.raises(ProofError):
            verify_receipt(altered, keys.public)
    for bad in ("", "{}", "[]", {**says, "type": "eventlog seal 1"}):
        with pytest.raises(InvalidInputError):
            verify_receipt(bad, keys.public)  # type: ignore[arg-type]


@POOLS
async def test_a_damaged_record_makes_no_receipt(kind: str, database_uri: str, keys: Keys) -> None:
    """Whatever its ranges say: it is named, in bounded time."""
    async with open_saver(kind, database_uri) as saver:
        await fill(saver)
        await saver.log.delete_thread("secret-id")
        for says in (
            b'{"erased": [[1, 9000000000000000000]]}',
            b'{"erased": 7}',
            b'{"before": 7}',
            b'{"erased": [["a", 2]]}',
        ):
            body = b"\x02" + len(says).to_bytes(4, "big") + says
            with psycopg.connect(database_uri) as conn:
                conn.execute("set session_replication_role = replica")
                conn.execute("update eventlog.events set body = %s where kind = 3", (body,))
            with pytest.raises(LogCorruptedError, match="does not decode"):
                await saver.log.receipt("secret-id", key=keys.private)


@pytest.mark.portable
def test_the_command_makes_and_checks_receipts(uri: str, keys: Keys, tmp_path: Path) -> None:
    private, public, file = str(keys.private), str(keys.public), tmp_path / "receipt.json"
    assert eventlog(uri, "receipt", "sign", "old", "--key", private).exit_code == 1
    eventlog(uri, "delete", "old", "--yes", "--actor", "Ann")
    file.write_text(eventlog(uri, "receipt", "sign", "old", "--key", private, "--reason", "request 17").stdout)
    done = eventlog(None, "receipt", "verify", str(file), "--key", public)
    assert done.exit_code == 0, done.stderr
    assert "Reason: request 17" in done.stdout
    assert "Ann" in done.stdout
    assert "The signature holds: 1 erasure in log" in done.stdout
    (found,) = documents(eventlog(None, "receipt", "verify", str(file), "--key", public, "--json"))
    assert found["erasures"][0]["operation"] == "delete_thread"
    assert len(found["erasures"][0]["erased"]) == 6
    file.write_text(file.read_text().replace("Ann", "Eve"))
    assert eventlog(None, "receipt", "verify", str(file), "--key", public).exit_code == 1
    assert eventlog(None, "receipt", "verify", str(tmp_path / "none"), "--key", public).exit_code == 2
    assert eventlog(None, "receipt", "verify", str(file), "--key", private).exit_code == 2


def test_repeated_deletions_keep_records_small(database_uri: str) -> None:
    """A record says what the ones before it say only when these go."""
    with EventLogSaver.from_conn_string(database_uri) as saver:
        for number in range(12):
            saver.put(config_of("1"), checkpoint_of(f"{number:03}", {"x": 1}, {"x": "1"}), {}, {"x": "1"})
            saver.delete_thread("1")
    with psycopg.connect(database_uri) as conn:
        assert conn.execute("select max(length(body)) < 4000 from eventlog.events").fetchone() == (True,)
