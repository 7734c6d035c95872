"""Which rights setting up the log takes, and which using it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg import sql

from eventlog.db.errors import _SET_OF
from eventlog.errors import ConcurrentUpdateError, EventLogError, InvalidInputError, MissingGrantError
from eventlog.rights import Rights
from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.adapters import open_saver, store
from tests.support.checkpoints import Tables, config_of, listed, put, values_of
from tests.support.clock import Clock
from tests.support.pooler import direct
from tests.support.server import Server

pytestmark = [pytest.mark.portable, pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])]

_numbers = count(1)


@pytest.fixture
def role(server: Server) -> str:
    """A role without rights of its own. It ends with the server."""
    name = f"Role {next(_numbers)}"
    with psycopg.connect(server.uri("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
    return name


def as_role(uri: str, role: str) -> str:
    return uri.replace("postgres@", role.replace(" ", "%20") + "@")


Run = Callable[..., None]


@pytest.fixture
def admin(role: str, request: pytest.FixtureRequest) -> Run:
    """Runs statements as the superuser; `{role}` stands for the role."""
    name = "empty_database_uri" if "empty_database_uri" in request.fixturenames else "database_uri"
    uri: str = request.getfixturevalue(name)

    def run(*statements: str) -> None:
        with psycopg.connect(uri, autocommit=True) as conn:
            for statement in statements:
                names = {"role": sql.Identifier(role), "database": sql.Identifier(conn.info.dbname)}
                conn.execute(sql.SQL(statement).format(**names))  # type: ignore[arg-type]

    return run


def grant(uri: str, role: str, *sets: Rights) -> None:
    """As the log's owner does."""
    with psycopg.connect(direct(uri), autocommit=True) as conn:
        log = EventLogSaver(conn).log
        for rights in sets:
            log.grant(rights, role)


async def write(saver: Any, thread_id: str = "1") -> None:
    """All that an application does that erases nothing, on a state that gets a snapshot."""
    await saver.setup()
    config = config_of(thread_id)
    for number in range(1, 5):
        config = await put(saver, config, f"{number}", {"x": f"{number}" * 2000, "y": 1})
    assert await put(saver, config, "4", {"x": "replaced"}) == config
    await saver.aput_writes(config, [("x", 1)], "task")
    assert await values_of(saver, config) == {"x": "replaced"}
    assert len(await listed(saver, config_of(thread_id))) == 4
    await saver.aget_delta_channel_history(config=config, channels=["x"])
    await saver.acopy_thread(thread_id, f"copy of {thread_id}")
    assert len(await saver.log.threads([thread_id, f"copy of {thread_id}"])) == 2
    assert (await saver.log.partitions()).partitions


async def erase(saver: Any, thread_id: str = "1") -> None:
    """All that an administrator does that erases something."""
    await saver.log.prune([thread_id], keep_last=2)
    await saver.adelete_for_runs(["none"])
    assert await saver.log.expire(timedelta(days=1)) == []
    for each in (thread_id, f"copy of {thread_id}"):
        await saver.adelete_thread(each)


async def use(saver: Any, thread_id: str = "1") -> None:
    await write(saver, thread_id)
    await erase(saver, thread_id)


# --- setting up


async def test_setup_without_the_right_to_create_names_the_statement_to_run(
    kind: str, role: str, admin: Run, empty_database_uri: str
) -> None:
    """Without the right to it, the error is the statement that an administrator has to run."""
    async with open_saver(kind, as_role(empty_database_uri, role)) as saver:
        with pytest.raises(MissingGrantError, match=r"grant create on database .* to ") as caught:
            await saver.setup()
        statement = str(caught.value).split("Let an administrator run: ")[1]
        admin(statement)

        await use(saver)
        await saver.setup()

    assert Tables(empty_database_uri).one("select nspowner::regrole::text from pg_namespace where nspname='eventlog'")


async def test_setup_in_an_existing_schema_needs_no_right_on_the_database(
    kind: str, role: str, admin: Run, empty_database_uri: str
) -> None:
    """Then the right to create schemas is not needed, only that to create in this one."""
    admin('create schema "An eventlog"')
    async with open_saver(kind, as_role(empty_database_uri, role), schema="An eventlog") as saver:
        for granted in (
            (),
            ("grant usage on schema {schema} to {role}",),
            ("grant create on schema {schema} to {role}",),
        ):
            admin(
                'revoke all on schema "An eventlog" from {role}',
                *(statement.replace("{schema}", '"An eventlog"') for statement in granted),
            )
            with pytest.raises(MissingGrantError, match='grant usage, create on schema "An eventlog" to ') as caught:
                await saver.setup()
        admin(str(caught.value).split("Let an administrator run: ")[1])

        await use(saver)


async def test_functions_made_by_a_member_of_the_owner_are_the_owners(
    kind: str, role: str, admin: Run, empty_database_uri: str
) -> None:
    """They run with their owner's rights, so a member's own would not do."""
    admin("create schema eventlog authorization {role}", "create role deployer login", "grant {role} to deployer")
    try:
        async with open_saver(kind, as_role(empty_database_uri, role)) as owners:
            await owners.setup()
        admin(
            "drop function eventlog.begin_seal_v1",
            "delete from eventlog.migrations where name = 'begin_seal_v1'",
            "grant create on schema eventlog to {role}",
        )
        async with open_saver(kind, as_role(empty_database_uri, "deployer")) as saver:
            await saver.setup()
        owned = "select distinct proowner::regrole::text from pg_proc where pronamespace = '{schema}'::regnamespace"
        assert Tables(empty_database_uri).rows(owned) == [(f'"{role}"',)]
    finally:
        admin("drop role deployer")


# --- sets of rights


async def test_an_owner_without_superuser_grants_sets_at_setup(
    kind: str, role: str, admin: Run, empty_database_uri: str, server: Server
) -> None:
    """The owner may create neither roles nor schemas: these are an administrator's, and the error says which."""
    roles = [f"{each} of {role}" for each in ("app", "admin", "worker")]
    with psycopg.connect(server.uri("postgres"), autocommit=True) as conn:
        for each in roles:
            conn.execute(sql.SQL("create role {} login").format(sql.Identifier(each)))
    admin("create schema eventlog authorization {role}")
    app, eraser, worker = roles
    async with open_saver(kind, as_role(empty_database_uri, role)) as owners:
        with pytest.raises(InvalidInputError, match="role 'nobody' does not exist"):
            await owners.setup(grant={"writer": "nobody"})
        with pytest.raises(InvalidInputError, match="no set of rights 'reader': writer, eraser"):
            await owners.setup(grant={"reader": app})
        await owners.setup(grant={"writer": [app, eraser], "eraser": eraser})
        with pytest.raises(MissingGrantError) as caught:
            await owners.setup(grant={"projector": worker})
        admin(str(caught.value).split("Let an administrator run: ")[1])
        await owners.setup(grant={"projector": worker})
        await owners.setup()
    async with open_saver(kind, as_role(empty_database_uri, eraser)) as saver:
        await use(saver)
    async with open_saver(kind, as_role(empty_database_uri, app)) as saver:
        await write(saver, "2")
        with pytest.raises(MissingGrantError, match="only the log's owner can grant"):
            await saver.log.grant("eraser", app)
    remembered = Tables(empty_database_uri).rows("select role_name, rights from {schema}.grants order by 1, 2")
    assert remembered == [(eraser, "eraser"), (eraser, "writer"), (app, "writer"), (worker, "projector")]


@pytest.mark.attack("stolen writer")
async def test_a_writer_writes_and_does_not_erase(kind: str, role: str, database_uri: str) -> None:
    """The application owns nothing and may create, change and erase nothing."""
    grant(database_uri, role, "writer")
    async with open_saver(kind, as_role(database_uri, role), snapshot_floor_bytes=0) as saver:
        await write(saver)
        for refused in (
            saver.adelete_thread("1"),
            saver.log.prune(["1"], keep_last=1),
            saver.log.retain(timedelta(0)),
        ):
            with pytest.raises(MissingGrantError, match=f"eventlog grant eraser {shlex.quote(role)}"):
                await refused
        with pytest.raises(MissingGrantError, match="eventlog grant sealer"):
            await saver.log.seal()
        with pytest.raises(MissingGrantError, match="only the log's owner can"):
            await saver.log.make_partitions(100)
    async with open_saver(kind, as_role(database_uri, role), concurrency="strict") as strict:
        await put(strict, config_of("kept"), "1", {"x": 1})
        with pytest.raises(ConcurrentUpdateError):
            await put(strict, config_of("kept"), "2", {"x": 1})
    grant(database_uri, role, "eraser")
    async with open_saver(kind, as_role(database_uri, role)) as saver:
        await erase(saver)
    kinds = Tables(database_uri).rows("select thread_id, kind from {schema}.events order by thread_id, seq")
    assert kinds == [("1", 4), ("1", 3), ("copy of 1", 5), ("copy of 1", 3), ("kept", 1)]


async def test_messages_name_the_sets_that_are_missing(kind: str, role: str, database_uri: str) -> None:
    """A role without any right gets all that it needs by what the errors say, each set once."""
    granted: list[Any] = []
    async with open_saver(kind, as_role(database_uri, role), snapshot_floor_bytes=0) as saver:
        for number in range(10):
            try:
                await use(saver, f"{number}")
                break
            except MissingGrantError as exc:
                message = str(exc)
            assert f"user {role!r} " in message
            *_, rights, to = shlex.split(message.split("run: eventlog grant ")[1])
            assert to == role
            assert rights not in granted
            grant(database_uri, role, rights)
            granted.append(rights)
    assert sorted(granted) == ["auditor", "eraser", "writer"]


@pytest.mark.parametrize("rights", ["writer", "eraser", "sealer", "auditor", "projector", "importer"])
async def test_errors_name_a_set_for_each_function_that_it_has(
    kind: str, role: str, rights: Rights, database_uri: str
) -> None:
    grant(database_uri, role, rights)
    executable = "select proname from pg_proc where pronamespace = '{schema}'::regnamespace and has_function_privilege"
    found = Tables(database_uri).rows(executable + "(%s, oid, 'execute')", role)
    named = {name.rsplit("_v", 1)[0] for (name,) in found}
    assert named <= _SET_OF.keys()
    assert {name for name, first in _SET_OF.items() if first == rights} <= named


@pytest.mark.attack("application bug")
@pytest.mark.attack("eraser")
@pytest.mark.parametrize("rights", ["writer", "eraser", "sealer", "auditor", "projector", "importer"])
async def test_no_set_has_rights_to_change_tables(kind: str, role: str, rights: Rights, database_uri: str) -> None:
    """What changes the log goes through functions: not by insert, update, delete, or what they do not do."""
    async with open_saver("sync-pool", database_uri) as owners:
        await put(owners, config_of(), "1", {"x": 1})
    grant(database_uri, role, rights)
    tables = Tables(database_uri)
    found = tables.rows(
        "select c.relname, p.privilege from pg_class as c"
        " cross join unnest(array['insert', 'update', 'delete', 'truncate', 'references', 'trigger']) as p (privilege)"
        " where c.relnamespace = '{schema}'::regnamespace and c.relkind in ('r', 'p')"
        " and has_table_privilege(%s, c.oid, p.privilege)",
        role,
    )
    assert found == []
    before = tables.contents()
    for statement in (
        "set session_replication_role = replica",
        "drop table eventlog.snapshots",
        "create table eventlog.mine (x int)",
        "select eventlog.record_operation_v1('1', '', 4::smallint, '', null, 'x', 'y', '{}')",
        "select eventlog.ensure_partitions_v1(now(), 900, 'day')",
        "select eventlog.grant_rights_v1('eraser', current_user, 'eventlog_views')",
        "select eventlog.take_over_v1()",
        "select eventlog.make_subscriber_v1()",
        "select eventlog.advance_stream_v1('1', '', '', null, null, null, null, null, false)",
    ):
        with psycopg.connect(as_role(database_uri, role)) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(statement.encode())
    assert tables.contents() == before


async def test_retention_without_the_right_names_the_command_with_the_schema(
    kind: str, role: str, database_uri: str
) -> None:
    async with open_saver(kind, database_uri, schema="other log") as owners:
        await owners.setup(grant={"auditor": role})
    async with open_saver(kind, as_role(database_uri, role), schema="other log") as saver:
        with pytest.raises(MissingGrantError, match=f"eventlog grant eraser .*{role}.* --schema 'other log'"):
            await saver.log.retain(timedelta(days=1))


async def test_functions_are_nobodys_but_the_owners_until_granted(kind: str, role: str, database_uri: str) -> None:
    """EXECUTE is PUBLIC's by PostgreSQL's default: no script leaves it."""
    open_to_all = "select proname from pg_proc where pronamespace = '{schema}'::regnamespace and has_function_privilege"
    assert Tables(database_uri).rows(open_to_all + "(%s, oid, 'execute')", role) == []


async def test_a_writer_survives_the_ends_of_months_alone(kind: str, role: str, timed_uri: str) -> None:
    """It makes the partitions for the present and those ahead by itself, and no others."""
    clock = Clock(timed_uri)
    grant(timed_uri, role, "writer")
    store(timed_uri, partitions_ahead=1)
    async with open_saver(kind, as_role(timed_uri, role)) as saver:
        for number in range(4):
            await put(saver, config_of(), f"{number}", {"x": number})
            assert len((await saver.log.partitions()).partitions) >= 2
            clock.advance(timedelta(days=92))
        assert len(await listed(saver, config_of())) == 4
    owners = "select distinct relowner::regrole::text from pg_class where relnamespace = '{schema}'::regnamespace"
    assert Tables(timed_uri).rows(owners) == [("postgres",)]


@pytest.mark.attack("stolen writer")
@pytest.mark.attack("eraser")
async def test_records_name_the_user_of_the_session_and_not_what_the_caller_says(
    kind: str, role: str, database_uri: str
) -> None:
    """Functions run as the owner: who called them is the session's user. Details that say otherwise do not win."""
    grant(database_uri, role, "writer", "eraser")
    async with open_saver(kind, as_role(database_uri, role)) as saver:
        await put(saver, config_of(), "1", {"x": 1})
        await saver.acopy_thread("1", "2")
        await saver.adelete_thread("1")
    lies = '{"by": "somebody else", "operation": "none", "actor": "ada", "before": "2020-01-01"}'
    with psycopg.connect(as_role(database_uri, role)) as conn:
        conn.execute(
            "select eventlog.copy_stream_v1('2', '3', '', null, null, 'copy_thread', 'bob', %s::jsonb)", (lies,)
        )
    tables = Tables(database_uri)
    records = [record for thread_id in "123" for record in tables.records(thread_id)]
    assert {record["by"] for record in records} == {role}
    assert (records[-1]["operation"], records[-1]["actor"], records[-1].get("before")) == ("copy_thread", "bob", None)


async def test_a_later_setup_grants_what_a_set_has_got_since(kind: str, role: str, database_uri: str) -> None:
    """Remembered: a new version's functions reach the role, and a role that is gone is left out."""
    grant(database_uri, role, "writer")
    tables = Tables(database_uri)
    with psycopg.connect(database_uri, autocommit=True) as conn:
        conn.execute(sql.SQL("revoke execute on all functions in schema eventlog from {}").format(sql.Identifier(role)))
        conn.execute("insert into eventlog.grants (role_name, rights) values ('gone', 'auditor')")
    async with open_saver(kind, as_role(database_uri, role)) as saver:
        with pytest.raises(MissingGrantError):
            await put(saver, config_of(), "1")
        async with open_saver(kind, database_uri) as owners:
            await owners.setup()
        await put(saver, config_of(), "1")
    assert tables.events() == 1


async def test_setup_closes_functions_that_a_restore_opened(kind: str, role: str, database_uri: str) -> None:
    """Restored without privileges, functions that run as the owner would be everybody's."""
    with psycopg.connect(database_uri, autocommit=True) as conn:
        conn.execute("grant execute on all functions in schema eventlog to public")
        conn.execute("revoke execute on function eventlog.refuse_change from public")
    async with open_saver(kind, database_uri) as owners:
        await owners.setup()
    open_to_all = "select proname from pg_proc where pronamespace = '{schema}'::regnamespace and has_function_privilege"
    assert Tables(database_uri).rows(open_to_all + "(%s, oid, 'execute')", role) == []


async def test_sealing_needs_the_sealers_set_alone(kind: str, role: str, database_uri: str) -> None:
    async with open_saver("sync-pool", database_uri) as owners:
        await put(owners, config_of("1"), "1", {"x": 1})
    grant(database_uri, role, "sealer")
    async with open_saver(kind, as_role(database_uri, role)) as saver:
        seal = await saver.log.seal()
        assert (seal.number, seal.streams, seal.by) == (1, 1, role)
        for refused in (saver.log.prove("1"), saver.log.verify()):
            with pytest.raises(MissingGrantError):
                await refused
        with pytest.raises(MissingGrantError):
            await put(saver, config_of("1"), "2")


@pytest.mark.attack("auditor")
async def test_an_auditor_reads_everything_and_changes_nothing(kind: str, role: str, database_uri: str) -> None:
    """Not in a transaction that could write, not by a function. Tables that come later are read too."""
    async with open_saver("sync-pool", database_uri) as owners:
        await put(owners, config_of("1"), "1", {"x": 1})
        seal = await owners.log.seal()
    grant(database_uri, role, "auditor")
    read_only = {"autocommit": True, "options": "-c default_transaction_read_only=on"}
    # Directly: poolers know few of the options that a session can begin with.
    async with open_saver(kind, as_role(direct(database_uri), role), connect=read_only) as saver:
        verified = await saver.log.verify(seal=f"1:{seal.digest.hex()}")
        assert (verified.streams, verified.seals, verified.problems) == (1, 1, [])
        assert (await saver.log.prove("1")).size == 1
        assert await saver.log.seals() == [seal]
        assert not any((await saver.log.rebuild(check=True)).differing.values())
        assert await values_of(saver, config_of("1", "1")) == {"x": 1}
        with pytest.raises(EventLogError):
            await saver.log.seal()
        async with open_saver("sync-pool", database_uri) as owners:
            made = await owners.log.make_partitions(6)
    with psycopg.connect(database_uri, autocommit=True) as conn:
        conn.execute("create table eventlog.later (x int)")
    with psycopg.connect(as_role(database_uri, role)) as conn:
        for table in ("later", *made):
            assert conn.execute(f"select count(*) from eventlog.{table}".encode()).fetchone() == (0,)


async def test_setup_warns_where_everybody_may_create_in_a_schema_of_the_path(
    kind: str, role: str, admin: Run, database_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As PostgreSQL 14 has it by default, and clusters that were upgraded from it."""
    async with open_saver(kind, database_uri) as saver:
        admin("revoke create on schema public from public")
        await saver.setup()
        assert not [each for each in caplog.records if each.event == "eventlog.open_schema"]
        admin("grant create on schema public to public")
        await saver.setup()
    (warned,) = [each for each in caplog.records if each.event == "eventlog.open_schema"]
    assert (warned.schema, warned.is_before_pg_catalog) == ("public", False)
    assert warned.advice == 'revoke create on schema "public" from public'
