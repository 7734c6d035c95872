"""A superuser who changes rows: numbers at their limits, swapped seals, a copy of the database, what was not sealed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from eventlog.errors import EventLogError, ProofError, StorageError
from eventlog.format import signature
from langgraph.checkpoint.eventlog import EventLogSaver, verify_receipt, verify_signed_seals
from tests.attacks.roles import grow
from tests.integrity.attacks import recompute
from tests.support.checkpoints import Tables, config_of
from tests.support.pooler import direct
from tests.support.server import Server
from tests.support.signing import make_keys

MOST = 2**63 - 1


def run(uri: str, statement: str) -> None:
    with psycopg.connect(direct(uri), autocommit=True) as conn:
        conn.execute("set session_replication_role = replica")
        conn.execute(statement.encode())


def two_threads(uri: str) -> None:
    """A log with two threads and a seal."""
    with EventLogSaver.from_conn_string(uri) as saver:
        grow(saver, "1")
        grow(saver, "2")
        saver.log.seal()


@pytest.fixture
def uri(database_uri: str) -> str:
    """`two_threads`, in a database of the test's own."""
    two_threads(database_uri)
    return database_uri


#: What is set, and whether the thread's next append, and those of other threads, are refused.
LIMITS = {
    "a stream's number": (f"update eventlog.streams set seq = {MOST} where thread_id = '1'", True, False),
    "a stream's epoch": (f"update eventlog.streams set epoch = {MOST} where thread_id = '1'", False, False),
    "a stream's xid": (
        "update eventlog.streams set xid = '18446744073709551615' where thread_id = '1'",
        False,
        False,
    ),
    "a stream's time": ("update eventlog.streams set updated_at = 'infinity' where thread_id = '1'", True, False),
    "a stream's year": ("update eventlog.streams set updated_at = '294000-01-01Z' where thread_id = '1'", True, False),
    "an event's number": (
        f"update eventlog.events set seq = {MOST} where thread_id = '1' and seq = 2",
        False,
        False,
    ),
    "an event's base": (
        f"update eventlog.events set base_seq = {MOST} where thread_id = '1' and seq = 3",
        False,
        False,
    ),
    "an event's xid": (
        "update eventlog.events set xid = '18446744073709551615' where thread_id = '1' and seq = 2",
        False,
        False,
    ),
    "the log's position": (
        f"select setval(pg_get_serial_sequence('eventlog.events', 'position'), {MOST})",
        True,
        True,
    ),
    "a checkpoint's size": (
        f"update eventlog.checkpoints set state_bytes = {MOST} where thread_id = '1'",
        False,
        False,
    ),
    "a checkpoint's keyframe": (
        f"update eventlog.checkpoints set keyframe_seq = {MOST} where thread_id = '1'",
        False,
        False,
    ),
    "a seal's number": (f"update eventlog.seals set number = {MOST}", False, False),
}


@pytest.mark.attack("superuser")
@pytest.mark.parametrize("what", LIMITS)
def test_numbers_at_their_limits_are_found_or_refused(what: str, uri: str) -> None:
    """Each call ends, and other threads read. What no append can go beyond is a clear error."""
    statement, refuses, refuses_all = LIMITS[what]
    run(uri, statement)
    with EventLogSaver.from_conn_string(uri) as saver:
        problems = saver.log.verify(states=True).problems
        assert bool(problems) is (what not in ("a stream's epoch", "the log's position"))
        for thread_id, is_refused in (("1", refuses), ("2", refuses_all)):
            if is_refused:
                with pytest.raises(StorageError, match=r"at its limit|no partition for the event's time"):
                    grow(saver, thread_id, "z")
            else:
                grow(saver, thread_id, "z")
        if what == "a seal's number":
            with pytest.raises(StorageError, match="at its limit"):
                saver.log.seal()
        else:
            assert saver.log.seal().number == 2
        assert len(list(saver.list(config_of("2")))) == 4 - refuses_all
        fed = {(each.thread_id, each.seq) for each in saver.log.tail()}
        assert (("1", 2) in fed) is (what not in ("an event's number", "an event's xid"))
        assert len(fed) > 8
        assert len(list(saver.log.history("1"))) > 5
        if not refuses and what != "a stream's epoch":
            saver.delete_thread("1")
    assert Tables(uri).one("select count(*) from {schema}.events where recorded_at > now() + interval '1 day'") == 0


@pytest.mark.attack("superuser")
def test_swapped_rows_of_seals_are_found(uri: str) -> None:
    """Each row as it was, under the other's number; with the numbers of what they list, and without."""
    with EventLogSaver.from_conn_string(uri) as saver:
        grow(saver, "1", "d")
        saver.log.seal()
        assert saver.log.verify().problems == []
        swap = "update eventlog.seals set number = 3 - number where number in (1, 2)"
        run(uri, f"alter table eventlog.seals drop constraint seals_pkey cascade; {swap}")
        assert {each.seal for each in saver.log.verify().problems} >= {1, 2}
        run(uri, "alter table eventlog.sealed drop constraint sealed_pkey; update eventlog.sealed set seal = 3 - seal")
        assert {each.seal for each in saver.log.verify().problems} >= {1, 2}


@pytest.mark.attack("superuser")
def test_a_change_behind_the_last_seal_is_found_by_nothing(uri: str) -> None:
    """What the threat model says it can: the same change of what is sealed is found."""
    take_out = (
        "delete from eventlog.events where thread_id = '{0}' and seq > {1};"
        "delete from eventlog.checkpoints where thread_id = '{0}' and seq > {1};"
        "update eventlog.streams as s set seq = e.seq, digest = e.digest, updated_at = e.recorded_at, active_at ="
        " e.recorded_at, latest_checkpoint_id = c.id, written_through = e.checkpoint_id, xid = e.xid"
        " from eventlog.events as e, (select max(checkpoint_id) as id from eventlog.checkpoints where thread_id ="
        " '{0}') as c where s.thread_id = '{0}' and e.thread_id = '{0}' and e.seq = {1}"
    )
    with EventLogSaver.from_conn_string(uri) as saver:
        grow(saver, "1", "de")
        (seal,) = saver.log.seals()
        run(uri, take_out.replace("{0}", "1").replace("{1}", "8"))
        run(uri, recompute("1"))
        assert [each.config["configurable"]["checkpoint_id"] for each in saver.list(config_of("1"))] == list("dcba")
        assert saver.log.verify(states=True, seal=f"1:{seal.digest.hex()}").problems == []
        saver.log.seal()
        assert saver.log.verify(states=True).problems == []
        run(uri, take_out.replace("{0}", "2").replace("{1}", "4"))
        assert {(each.thread_id, each.seal) for each in saver.log.verify().problems} == {("2", 1)}


@pytest.mark.attack("superuser")
def test_a_copy_of_the_database_that_goes_on_is_found(
    server: Server, template: str, new_database: Callable[..., str], tmp_path: Path
) -> None:
    """Both are the same log by its id. Signed seals of both do not fit, and a seal of one is not in the other."""
    keys = make_keys(tmp_path)
    # Copied while no connection is open: a pooler keeps some.
    original = server.filled(two_threads, template)
    uri, copy = new_database(original), new_database(original)
    documents = {}
    for each, thread_id in ((uri, "1"), (copy, "2")):
        with EventLogSaver.from_conn_string(each) as saver:
            grow(saver, thread_id, "x")
            documents[each] = saver.log.seal(key=keys.private).document
            assert saver.log.verify(states=True, seal=documents[each], public_key=keys.public).problems == []
    with pytest.raises(ProofError, match="two seals 2 of this log: it went on in two copies"):
        verify_signed_seals(documents.values(), keys.public)
    with EventLogSaver.from_conn_string(copy) as saver:
        problems = saver.log.verify(seal=documents[uri], public_key=keys.public).problems
        assert [each for each in problems if "seal 2" in each.what or each.seal == 2]


@pytest.mark.attack("superuser")
def test_receipts_and_seals_of_another_key_are_refused(uri: str, tmp_path: Path) -> None:
    """Made up, with a key of the attacker's own, or under the id of the right one."""
    keys, own = make_keys(tmp_path), make_keys(tmp_path, "own")
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.delete_thread("1")
        receipt = json.loads(saver.log.receipt("1", key=keys.private, reason="request 17"))
        seal = json.loads(saver.log.seal(key=keys.private).document)
    for document, check in (
        (receipt, lambda given: verify_receipt(given, keys.public)),
        (seal, lambda given: verify_signed_seals([given], keys.public)),
    ):
        check(document)
        says = {name: each for name, each in document.items() if name not in ("key", "signature")}
        forged = json.loads(signature.sign(says, signature.private_key(own.private)))
        with pytest.raises(ProofError, match="give the public key of its signer"):
            check(forged)
        with pytest.raises(ProofError, match="altered"):
            check({**forged, "key": document["key"]})
        with pytest.raises(EventLogError):
            check({**forged, "type": "eventlog proof 1"})


@pytest.mark.attack("superuser")
def test_a_view_that_shows_another_log_is_named(uri: str) -> None:
    """Views and row security stand in the way of readers and of digests alike: `verify` compares what they are."""
    run(uri, "alter table eventlog.checkpoints rename to theirs")
    run(uri, "create view eventlog.checkpoints as select * from eventlog.theirs where thread_id <> '2'")
    with EventLogSaver.from_conn_string(uri) as saver:
        assert list(saver.list(config_of("2"))) == []
        assert [each for each in saver.log.verify().problems if "relation checkpoints was altered: kind v" in each.what]
