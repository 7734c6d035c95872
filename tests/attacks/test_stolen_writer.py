"""The set `writer` in wrong hands: statements of its own against the append functions, and locks that it holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import psycopg
import pytest

from eventlog.errors import LogBusyError, LogCorruptedError, MigrationError, MissingGrantError
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.attacks.roles import APPEND_CHECKPOINT, APPEND_WRITES, Attacker, attacker, grow, role
from tests.support.checkpoints import config_of

__all__ = ["attacker", "role"]  # fixtures


MOST = 2**63 - 1


@pytest.fixture
def writer(attacker: Callable[..., Attacker]) -> Attacker:
    """A log with the threads '1' and '2', and who attacks it."""
    found = attacker("writer")
    with EventLogSaver.from_conn_string(found.owners_uri) as saver:
        grow(saver, "1")
        grow(saver, "2")
    return found


@pytest.mark.attack("stolen writer")
@pytest.mark.parametrize("number", [MOST, -MOST - 1, 0])
@pytest.mark.parametrize("name", ["base_seq", "epoch", "keyframe_seq", "state_bytes"])
def test_numbers_at_their_limits_harm_no_other_thread(writer: Attacker, name: str, number: int) -> None:
    """The append is refused; or the thread that it names does not read, and `verify` names it."""
    given = {**writer.event("2", 1), "thread_id": "1", "checkpoint_ns": "", "checkpoint_id": "z", "metadata": "{}"}
    given |= {"replaces": False, "is_keyframe": name == "state_bytes", "state_bytes": 1, name: number}
    if name != "base_seq":
        at, seq, epoch = writer.run(
            "select e.recorded_at, e.seq, s.epoch from eventlog.events as e"
            " inner join eventlog.streams as s using (thread_id) where e.thread_id = '1' and e.checkpoint_id = 'c'"
            " and e.kind = 1"
        )[0]
        given = {"parent_id": "c", "base_seq": seq, "base_at": at, "epoch": epoch, **given}
    before = writer.tables.contents()
    try:
        ((status, *_),) = writer.call("append_checkpoint_v1", APPEND_CHECKPOINT, given)
    except psycopg.DataError:
        status = "refused"
    with EventLogSaver.from_conn_string(writer.owners_uri) as saver:
        if status != "ok":
            assert writer.tables.contents() == before
        else:
            problems = saver.log.verify(states=True).problems
            assert {each.thread_id for each in problems} == {"1"}
        assert len(list(saver.list(config_of("2")))) == 3
        grow(saver, "2", "d")
        assert len(list(saver.log.tail())) == 14 + (status == "ok")
        saver.delete_thread("1")
        assert [each.thread_id for each in saver.log.verify(states=True).problems] == []


@pytest.mark.attack("stolen writer")
def test_times_that_it_gives_are_no_events_time(writer: Attacker) -> None:
    """It dates everything back that it can name: the event has the server's time."""
    past = datetime(2000, 1, 1, tzinfo=timezone.utc)
    given = {**writer.event("1", 1), "thread_id": "new", "checkpoint_ns": "", "checkpoint_id": "z", "metadata": "{}"}
    given |= {"base_at": past, "keyframe_at": past, "replaces": False, "is_keyframe": True, "state_bytes": 1}
    ((status, _, at, *_),) = writer.call("append_checkpoint_v1", APPEND_CHECKPOINT, given)
    assert status == "ok"
    ((times,),) = writer.tables.rows("select array_agg(recorded_at) from {schema}.events where thread_id = 'new'")
    assert times == [at]
    assert abs(datetime.now(timezone.utc) - at) < timedelta(days=1)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        writer.run("update eventlog.events set recorded_at = '2000-01-01'")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        writer.run("create or replace function eventlog.clock_v1() returns timestamptz language sql as 'select now()'")


@pytest.mark.attack("stolen writer")
def test_a_replayed_body_changes_nothing_that_readers_get(writer: Attacker) -> None:
    """Recorded calls, sent once more: a checkpoint is refused, and of repeated writes the first win."""
    with EventLogSaver.from_conn_string(writer.owners_uri) as saver:
        before = list(saver.list(config_of("1")))
        for seq in (1, 3, 5):
            given = {**writer.event("1", seq), "thread_id": "1", "checkpoint_ns": "", "metadata": "{}"}
            given |= {"epoch": 0}
            given |= {"replaces": False, "is_keyframe": seq == 1, "state_bytes": 1}
            ((status, *_),) = writer.call("append_checkpoint_v1", APPEND_CHECKPOINT, given)
            assert status == "exists"
        for seq in (2, 4, 6):
            given = {**writer.event("1", seq), "thread_id": "1", "checkpoint_ns": ""}
            ((status, *_),) = writer.call("append_writes_v1", APPEND_WRITES, given)
            assert status == "ok"
        assert list(saver.list(config_of("1"))) == before
        assert saver.log.verify(states=True).problems == []
        assert [each.seq for each in saver.log.history("1")] == list(range(1, 10))


@pytest.mark.attack("stolen writer")
def test_another_threads_body_that_needs_a_base_is_found(writer: Attacker) -> None:
    """A difference, appended where there is nothing to build on: the thread does not read, others do."""
    given = {**writer.event("1", 3), "thread_id": "new", "checkpoint_ns": "", "metadata": "{}"}
    given |= {"replaces": False, "is_keyframe": True, "state_bytes": 1}
    assert writer.call("append_checkpoint_v1", APPEND_CHECKPOINT, given)[0][0] == "ok"
    with EventLogSaver.from_conn_string(writer.owners_uri) as saver:
        with pytest.raises(LogCorruptedError, match="thread 'new'"):
            saver.get_tuple(config_of("new"))
        assert {each.thread_id for each in saver.log.verify(states=True).problems} == {"new"}
        assert len(list(saver.list(config_of("2")))) == 3


@pytest.mark.attack("stolen writer")
def test_a_row_that_it_holds_delays_its_thread_alone(writer: Attacker) -> None:
    """It appends and does not commit. Others of that thread get an error at `lock_timeout`, others go on."""
    limited = f"{writer.owners_uri}&options=-c%20lock_timeout%3D200"
    given = {**writer.event("1", 2), "thread_id": "1", "checkpoint_ns": ""}
    with (
        EventLogSaver.from_conn_string(limited) as saver,
        psycopg.connect(writer.uri) as holder,
    ):
        holder.execute(
            "select * from eventlog.append_writes_v1(%(thread_id)s, %(checkpoint_ns)s, %(checkpoint_id)s, null, null,"
            " null, null, %(state_digest)s, %(content)s, %(body)s)",
            given,
        )
        for refused in (lambda: grow(saver, "1", "d"), lambda: saver.delete_thread("1")):
            with pytest.raises(LogBusyError, match="lock timeout"):
                refused()
        assert len(list(saver.list(config_of("1")))) == 3
        grow(saver, "2", "d")
        assert saver.log.seal().number == 1
        holder.rollback()
        grow(saver, "1", "d")
        assert saver.log.verify(states=True).problems == []


@pytest.mark.attack("stolen writer")
def test_tables_that_it_may_read_it_may_not_lock_against_appends(writer: Attacker) -> None:
    """Locks that a reader may take stop no append; the others are refused."""
    modes = ("row exclusive", "share update exclusive", "share", "exclusive", "access exclusive")
    for mode in modes:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.run(f"lock table eventlog.streams in {mode} mode")
    for lock in ("for update", "for no key update", "for share", "for key share"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            writer.run(f"select from eventlog.streams {lock}")
    with psycopg.connect(writer.uri) as holder, EventLogSaver.from_conn_string(writer.owners_uri) as saver:
        holder.execute("lock table eventlog.events, eventlog.streams in access share mode")
        grow(saver, "1", "d")


@pytest.mark.attack("stolen writer")
def test_the_holder_of_the_setup_lock_is_named(writer: Attacker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any user may take an advisory lock: `setup()` gives up with the name of who did, and appends need none."""
    monkeypatch.setattr("eventlog.db.migrations.LOCK_TIMEOUT_SECONDS", 0.2)
    with psycopg.connect(writer.uri) as holder, EventLogSaver.from_conn_string(writer.owners_uri) as saver:
        holder.execute("select pg_advisory_xact_lock(hashtextextended('eventlog:eventlog', 0))")
        with pytest.raises(MigrationError, match=f"process {holder.info.backend_pid} of user '{writer.name}'"):
            saver.setup(partitions_ahead=9)
        grow(saver, "1", "d")


@pytest.mark.attack("stolen writer")
def test_temporary_objects_of_its_own_are_not_used(writer: Attacker) -> None:
    """They come first in its search path; functions of the log say which schema they mean."""
    event = {**writer.event("1", 2), "thread_id": "1", "checkpoint_ns": ""}
    with psycopg.connect(writer.uri) as conn:
        for table in ("events", "streams", "checkpoints", "snapshots", "pg_class"):
            conn.execute(f"create temp table {table} (thread_id text)".encode())
        conn.execute("create function pg_temp.sha256(bytea) returns bytea language sql as 'select 1/0; select $1'")
        conn.execute(
            "create function pg_temp.clock_timestamp() returns timestamptz language sql as 'select null::timestamptz'"
        )
        conn.execute("set search_path = pg_temp, pg_catalog")
        conn.execute(
            "select * from eventlog.append_writes_v1(%(thread_id)s, %(checkpoint_ns)s, %(checkpoint_id)s, null, null,"
            " null, null, %(state_digest)s, %(content)s, %(body)s)",
            event,
        )
    with EventLogSaver.from_conn_string(writer.owners_uri) as saver:
        assert saver.log.verify(states=True).problems == []
        assert len(list(saver.log.history("1"))) == 7


@pytest.mark.attack("stolen writer")
def test_the_functions_of_other_sets_are_refused(writer: Attacker) -> None:
    with EventLogSaver.from_conn_string(writer.uri) as saver:
        attempts: list[Callable[[], Any]] = [
            lambda: saver.delete_thread("1"),
            lambda: saver.log.prune(["1"], keep_last=1),
            lambda: saver.log.retain(timedelta(0)),
            lambda: saver.log.seal(),
            lambda: saver.log.rebuild(),
            lambda: saver.log.make_subscriber(),
            lambda: saver.log.grant("eraser", writer.name),
        ]
        before = writer.tables.contents()
        for attempt in attempts:
            with pytest.raises(MissingGrantError):
                attempt()
        assert writer.tables.contents() == before
