"""The sets `eraser` and `auditor` in wrong hands."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.attacks.roles import Attacker, attacker, grow, role
from tests.support.checkpoints import config_of

__all__ = ["attacker", "role"]  # fixtures


@pytest.fixture
def uri(database_uri: str) -> str:
    """A log with two threads."""
    with EventLogSaver.from_conn_string(database_uri) as saver:
        grow(saver, "1")
        grow(saver, "2")
    return database_uri


RELOCATE = (
    "select eventlog.relocate_events_v1('1', '', {at}, '-infinity', 'infinity', array[1]::bigint[],"
    " array[{body}]::bytea[])"
)
ANOTHER_BODY = "(select body from eventlog.events where thread_id = ''2'' and seq = 5)".replace("''", "'")


@pytest.mark.attack("eraser")
def test_another_body_in_place_of_an_events_is_found(uri: str, attacker: Callable[..., Attacker]) -> None:
    """The function that writes events again takes bodies: state digests tell one that says something else."""
    eraser = attacker("eraser")
    eraser.run(RELOCATE.replace("{at}", "clock_timestamp()").replace("{body}", ANOTHER_BODY))
    with EventLogSaver.from_conn_string(uri) as saver:
        problems = saver.log.verify(states=True).problems
        assert {each.thread_id for each in problems} == {"1"}
        assert len(list(saver.list(config_of("2")))) == 3


@pytest.mark.attack("eraser")
@pytest.mark.parametrize("at", ["'2000-01-01Z'", "'infinity'", "clock_timestamp() + interval '1 day'", "null"])
def test_relocated_events_get_no_other_time_than_now(uri: str, attacker: Callable[..., Attacker], at: str) -> None:
    eraser = attacker("eraser")
    before = eraser.tables.contents()
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="not a valid time for the next event of thread 1"):
        eraser.run(RELOCATE.replace("{at}", at).replace("{body}", "null"))
    assert eraser.tables.contents() == before


@pytest.mark.attack("eraser")
def test_a_partition_in_use_is_not_dropped(uri: str, attacker: Callable[..., Attacker]) -> None:
    """Not by the function that retention calls last, nor as a table."""
    eraser = attacker("eraser")
    ((name,),) = eraser.tables.rows(
        "select p.name from {schema}.partitions as p where now() between p.starts_at and p.ends_at"
    )
    before = eraser.tables.contents()
    with pytest.raises((psycopg.errors.ObjectInUse, psycopg.errors.ObjectNotInPrerequisiteState)):
        eraser.run("select * from eventlog.drop_partition_v1(%s, 'Ann')", name)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        eraser.run(f'drop table eventlog."{name}"')
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        eraser.run(f'truncate eventlog."{name}"')
    assert eraser.tables.contents() == before


@pytest.mark.attack("eraser")
def test_the_session_setting_of_an_erasure_opens_nothing(uri: str, attacker: Callable[..., Attacker]) -> None:
    """Functions set it around their deletes; set by the eraser itself, it gives no right to delete."""
    eraser = attacker("eraser")
    before = eraser.tables.contents()
    for statement in ("delete from eventlog.events", "delete from eventlog.streams where thread_id = '1'"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            eraser.run(f"set eventlog.erasing = 'on'; {statement}")
    assert eraser.tables.contents() == before


@pytest.mark.attack("eraser")
def test_an_erasure_in_anothers_name_is_recorded_with_its_own(uri: str, attacker: Callable[..., Attacker]) -> None:
    """The actor is what the caller says; the user is the session's, whatever role is set."""
    eraser = attacker("eraser")
    eraser.run("select * from eventlog.delete_thread_v1('1', 'expire', 'Ann', null, null)")
    with EventLogSaver.from_conn_string(uri) as saver:
        *_, entry = saver.log.history("1")
        assert (entry.kind, entry.operation["by"], entry.actor) == ("deleted", eraser.name, "Ann")


@pytest.mark.attack("auditor")
def test_no_function_of_another_set_runs(uri: str, attacker: Callable[..., Attacker]) -> None:
    """Each function of the log that the auditor may execute changes nothing: none runs with its owner's rights."""
    auditor = attacker("auditor")
    executable = auditor.run(
        "select proname, prosecdef from pg_proc where pronamespace = 'eventlog'::regnamespace"
        " and has_function_privilege(oid, 'execute')"
    )
    assert len(executable) > 10
    assert [name for name, is_definer in executable if is_definer] == []


@pytest.mark.attack("auditor")
def test_a_lock_that_an_auditor_can_take_stops_no_append(uri: str, attacker: Callable[..., Attacker]) -> None:
    """It keeps a transaction open on all tables. Appends and erasures go on."""
    auditor = attacker("auditor")
    with psycopg.connect(auditor.uri) as holder, EventLogSaver.from_conn_string(uri) as saver:
        tables = [name for (name,) in holder.execute("select tablename from pg_tables where schemaname = 'eventlog'")]
        for table in tables:
            holder.execute(f'select from eventlog."{table}"'.encode())
        grow(saver, "1", "d")
        saver.delete_thread("2")
        assert saver.log.seal().number == 1
