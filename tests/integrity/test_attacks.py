"""Thirty-eight changes by a superuser, and what finds each: `docs/explanation/proof.md` has the same list."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.integrity.bounds import TOLERANCE
from tests.integrity.attacks import ATTACKS, RESEAL, Attack
from tests.support.checkpoints import TEXTS, Tables, checkpoint_of, config_of
from tests.support.clock import Clock
from tests.support.server import Server

DAY = timedelta(days=1)
DOC = Path(__file__).parents[2] / "docs" / "explanation" / "proof.md"
KEY = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
LEVELS = ("verify()", "states", "seals", "anchor")


def open_log(uri: str) -> Any:
    return EventLogSaver.from_conn_string(uri, serde=KEY, snapshot_floor_bytes=1000)


def grow(saver: EventLogSaver, thread_id: str, numbers: range) -> None:
    config = config_of(thread_id, f"c{numbers[0] - 1}" if numbers[0] else None)
    for number in numbers:
        versions = {"x": f"c{number}"}
        checkpoint = checkpoint_of(f"c{number}", {"x": [*TEXTS, number]}, versions)
        config = saver.put(config, checkpoint, {"step": number}, versions)
        saver.put_writes(config, [("x", number)], "task")


def build(uri: str) -> None:
    clock = Clock(uri, behind=20 * DAY)
    with open_log(uri) as saver:
        saver.setup(partition_interval="day", partitions_ahead=1)
        for thread_id in ("plain", "pruned", "again"):
            grow(saver, thread_id, range(4))
        saver.log.seal()
        saver.delete_thread("again")
        clock.advance(9 * DAY)
        grow(saver, "plain", range(4, 8))
        grow(saver, "pruned", range(4, 8))
        saver.log.retain(5 * DAY)
        saver.log.prune(["pruned"], keep_last=2)
        grow(saver, "again", range(20))
        grow(saver, "alone", range(8))
        clock.advance(2 * TOLERANCE)
        saver.log.seal()


@pytest.fixture(scope="module")
def built(server: Server) -> Iterator[str]:
    name = server.create_database(prefix="attacks")
    build(server.uri(name))
    Tables(server.uri(name)).drop_checks()
    yield name
    server.drop_database(name)


@pytest.fixture
def attacked(server: Server, built: str) -> Iterator[str]:
    """A copy."""
    name = server.create_database(built, prefix="attacked")
    yield server.uri(name)
    server.drop_database(name)


def run(uri: str, statement: str) -> None:
    with psycopg.connect(uri) as conn:
        conn.execute("set session_replication_role = replica")
        conn.execute(statement.encode())


def found_by(uri: str, anchor: str) -> str:
    """The least that finds a change."""
    with open_log(uri) as saver:
        in_database = saver.log.verify()
        everything = saver.log.verify(states=True)
        anchored = saver.log.verify(seal=anchor)
        run(uri, RESEAL)
        without = saver.log.verify()
        states = saver.log.verify(states=True)
    assert bool(everything.found) >= bool(in_database.found)
    found = (without, states, in_database, anchored)
    return next((level for level, each in zip(LEVELS, found, strict=True) if each.found), "never")


@pytest.mark.attack("superuser")
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each.what)
def test_a_change_is_found_as_the_docs_say(attack: Attack, attacked: str) -> None:
    with open_log(attacked) as saver:
        (seal,) = saver.log.seals(limit=1)
    anchor = f"{seal.number}:{seal.digest.hex()}"
    run(attacked, attack.statement)
    if RESEAL in attack.statement:
        with open_log(attacked) as saver:
            saver.log.seal()
            saver.log.seal()
    assert found_by(attacked, anchor) == attack.found_by


def test_the_untouched_log_verifies(attacked: str) -> None:
    with open_log(attacked) as saver:
        assert saver.log.verify(states=True).problems == []
        assert len(saver.log.seals()) == 2


def test_the_docs_list_each_change_and_what_finds_it() -> None:
    names = {"states": "`verify(states=True)`", "verify()": "`verify()`", "seals": "`verify()`, after a seal"}
    names |= {"anchor": "`verify(seal=…)`", "never": "nothing"}
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", DOC.read_text(encoding="utf-8"), re.MULTILINE)
    assert [row for row in rows if row[0] in {each.what for each in ATTACKS}] == [
        (each.what, names[each.found_by]) for each in ATTACKS
    ]
