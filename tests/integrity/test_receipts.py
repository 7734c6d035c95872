"""Receipts: what was erased, by whom and when, signed, without content."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventlog.errors import InvalidInputError, LogCorruptedError, ProofError, ThreadNotFoundError
from langgraph.checkpoint.eventlog import Receipt, verify_receipt
from tests.cli.command import clean_environment, documents, eventlog, uri
from tests.support.adapters import open_saver
from tests.support.aging import DAY, Log, log
from tests.support.checkpoints import Tables, config_of, put
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
