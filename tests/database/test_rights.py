"""Which rights setting up the log takes, and which using it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg import sql

from eventlog.errors import ConcurrentUpdateError, EventLogError, MissingGrantError
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, listed, put, values_of
from tests.support.pooler import direct
from tests.support.server import Server

pytestmark = [pytest.mark.portable, pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])]

# All that an application needs that did not set up the log itself. The docs list the same.
GRANTS = {
    "events": ["select", "insert", "delete"],
    "streams": ["select", "insert", "update"],
    # `update` for pruning, and for deleting by run.
    "checkpoints": ["select", "insert", "update", "delete"],
    "snapshots": ["select", "insert", "update", "delete"],
    # For `setup()`, which finds that there is nothing to do.
    "migrations": ["select"],
    "generations": ["select"],
    "rebuilds": ["select"],
    "partitions": ["select"],
}

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


async def use(saver: Any, thread_id: str = "1") -> None:
    """Everything that an application does, on a state that gets a snapshot."""
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
    await saver.log.prune([thread_id], keep_last=2)
    await saver.adelete_for_runs(["none"])
    assert await saver.log.expire(timedelta(days=1)) == []
    assert len(await saver.log.threads([thread_id, f"copy of {thread_id}"])) == 2
    assert (await saver.log.partitions()).partitions
    for each in (thread_id, f"copy of {thread_id}"):
        await saver.adelete_thread(each)


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


# --- using


@pytest.fixture
async def ordinary(kind: str, role: str, admin: Run, database_uri: str) -> AsyncIterator[Any]:
    """A saver of a role that has the grants above, where functions are not everybody's."""
    admin(
        "grant usage on schema eventlog to {role}",
        "revoke execute on all functions in schema eventlog from public",
        "grant execute on all functions in schema eventlog to {role}",
        *(f"grant {', '.join(rights)} on eventlog.{table} to {{role}}" for table, rights in GRANTS.items()),
    )
    async with open_saver(kind, as_role(database_uri, role), snapshot_floor_bytes=0) as saver:
        yield saver


async def test_an_ordinary_role_works_with_the_documented_grants(
    ordinary: Any, kind: str, role: str, database_uri: str
) -> None:
    """The grants are enough: the application owns nothing and may create nothing."""
    await use(ordinary)
    async with open_saver(kind, as_role(database_uri, role), concurrency="strict") as strict:
        await put(strict, config_of("kept"), "1", {"x": 1})
        with pytest.raises(ConcurrentUpdateError):
            await put(strict, config_of("kept"), "2", {"x": 1})

    tables = Tables(database_uri)
    kinds = tables.rows("select thread_id, kind from {schema}.events order by thread_id, seq")
    assert kinds == [("1", 4), ("1", 3), ("copy of 1", 5), ("copy of 1", 3), ("kept", 1)]


async def test_a_rebuild_keeps_the_rights(ordinary: Any, kind: str, database_uri: str) -> None:
    """Whoever could use the log before can use it after a rebuild, and nobody else may rebuild it."""
    await use(ordinary)
    async with open_saver(kind, database_uri) as owners:
        await owners.log.rebuild()
        await use(ordinary, "2")
        with pytest.raises(MissingGrantError, match="only the log's owner can rebuild"):
            await ordinary.log.rebuild()
        await owners.log.rebuild()
    await use(ordinary, "3")
    assert not any((await ordinary.log.rebuild(check=True)).differing.values())


async def test_each_documented_grant_is_needed(ordinary: Any, admin: Run, database_uri: str) -> None:
    """Without any one of them something is refused as just that, and nothing is left half done."""
    revocable = [f"{right} on eventlog.{table}" for table, rights in GRANTS.items() for right in rights]
    revocable += ["usage on schema eventlog", "execute on all functions in schema eventlog"]
    for number, grant in enumerate(revocable):
        admin(f"revoke {grant} from {{role}}")
        with pytest.raises(MissingGrantError):
            await use(ordinary, f"{number}")
        admin(f"grant {grant} to {{role}}")
    await use(ordinary)
    halves = Tables(database_uri).rows(
        """
        select s.thread_id from {schema}.streams as s
        where s.seq <> (select max(e.seq) from {schema}.events as e where e.thread_id = s.thread_id)
        """
    )
    assert halves == []


async def test_messages_hold_the_statements_that_grant_what_is_missing(
    kind: str, role: str, admin: Run, database_uri: str
) -> None:
    """A role without any right gets all that it needs by running what the errors say, each statement once."""
    admin("revoke execute on all functions in schema eventlog from public")
    ran: list[str] = []
    async with open_saver(kind, as_role(database_uri, role), snapshot_floor_bytes=0) as saver:
        for number in range(100):
            try:
                await use(saver, f"{number}")
                break
            except MissingGrantError as exc:
                message = str(exc)
            assert f"user {role!r} lacks a right: permission denied for " in message
            statement = message.split("Let its owner run: ")[1]
            assert statement not in ran
            admin(statement)
            ran.append(statement)
        else:
            pytest.fail("the rights are never enough")
    assert ran[0] == f'grant usage on schema "eventlog" to "{role}"'
    assert f'grant execute on function "eventlog"."append_checkpoint_v1" to "{role}"' in ran
    assert f'grant select, insert on "eventlog"."events" to "{role}"' in ran
    assert f'grant select, delete on "eventlog"."events" to "{role}"' in ran
    # None that the docs do not list.
    for statement in ran:
        if found := re.match(r'grant (.*) on "eventlog"\."(\w+)"', statement):
            assert set(found[1].split(", ")) <= set(GRANTS[found[2]]), statement


async def test_an_ordinary_role_cannot_change_the_log(ordinary: Any, role: str, database_uri: str) -> None:
    """Change the log, beyond what the functions do for it."""
    await put(ordinary, config_of(), "1", {"x": 1})
    for statement in (
        "update eventlog.events set body = ''",
        "truncate eventlog.events",
        "alter table eventlog.events disable trigger all",
        "set session_replication_role = replica",
        "delete from eventlog.events",
        "drop table eventlog.snapshots",
        "create table eventlog.mine (x int)",
    ):
        with psycopg.connect(as_role(database_uri, role)) as conn, pytest.raises(psycopg.Error):
            conn.execute(statement.encode())


async def test_only_the_owner_makes_partitions(ordinary: Any, database_uri: str) -> None:
    """When none is left for now, the role that may not make one hears who has to do what."""
    tables = Tables(database_uri)
    tables.drop_partitions()
    before = tables.contents()

    says = r"partition.*run setup\(\) as "
    with pytest.raises(MissingGrantError, match=says):
        await put(ordinary, config_of(), "1")
    with pytest.raises(MissingGrantError, match=says):
        await ordinary.setup()
    assert tables.contents() == before

    async with open_saver("sync-pool", database_uri) as owners:
        await owners.setup()
    await put(ordinary, config_of(), "1")
    await ordinary.setup()
    assert tables.events() == 1


# All that sealing the log needs. The docs list the same.
SEALER = {"streams": ["select"], "ended": ["select"], "seals": ["select", "insert"], "sealed": ["select", "insert"]}


async def test_sealing_needs_each_of_the_sealers_grants_and_no_other(
    kind: str, role: str, admin: Run, database_uri: str
) -> None:
    """Needs these rights, each of them, and no other."""
    async with open_saver("sync-pool", database_uri) as owners:
        await put(owners, config_of("1"), "1", {"x": 1})
    admin("grant usage on schema eventlog to {role}")
    granted = [f"{right} on eventlog.{table}" for table, rights in SEALER.items() for right in rights]
    admin(*(f"grant {each} to {{role}}" for each in granted))
    async with open_saver(kind, as_role(database_uri, role)) as saver:
        for each in granted:
            admin(f"revoke {each} from {{role}}")
            with pytest.raises(MissingGrantError):
                await saver.log.seal()
            admin(f"grant {each} to {{role}}")
        seal = await saver.log.seal()
        assert (seal.number, seal.streams, seal.by) == (1, 1, role)
        assert (await saver.log.prove("1")).seal == 1
        with pytest.raises(MissingGrantError):
            await saver.log.verify()


async def test_verifying_needs_the_right_to_read_alone(kind: str, role: str, admin: Run, database_uri: str) -> None:
    """May read, and nothing else: not in a transaction that could write, not by a function."""
    async with open_saver("sync-pool", database_uri) as owners:
        await put(owners, config_of("1"), "1", {"x": 1})
        seal = await owners.log.seal()
    admin("grant usage on schema eventlog to {role}", "grant select on all tables in schema eventlog to {role}")
    read_only = {"autocommit": True, "options": "-c default_transaction_read_only=on"}
    # Directly: poolers know few of the options that a session can begin with.
    async with open_saver(kind, as_role(direct(database_uri), role), connect=read_only) as saver:
        verified = await saver.log.verify(seal=f"1:{seal.digest.hex()}")
        assert (verified.streams, verified.seals, verified.problems) == (1, 1, [])
        assert (await saver.log.prove("1")).size == 1
        assert await saver.log.seals() == [seal]
        with pytest.raises(EventLogError):
            await saver.log.seal()
