"""The documentation is tested like code: its snippets run, and it names everything there is.

Every ```python block of a document runs on the real server, in order, in one namespace per document; so does every
```sql block, as the superuser. A block may `await`. What a line such as ``print(x)  # 3`` says that it prints, it must
print, and a block ```sql rows: 0 must return so many. Three things differ from what a reader has, and only these:

* ``postgresql://user:password@localhost:5432/app`` becomes the connection string of the same user to a database of the
  document's own, without a password;
* the name ``model`` is the demo's scripted chat model;
* the working directory is a temporary one.

A block that cannot run here says so, with its reason: ```python no-run: needs an API key.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from langgraph.checkpoint import eventlog as face
from psycopg import sql

from demo.agent import ScriptedModel
from eventlog import errors
from eventlog.settings import Settings
from langgraph.checkpoint.eventlog import aio, ui
from tests.support import schema_page
from tests.support.server import Server, new_directory

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
EXAMPLES = CHECKOUT / "examples"
PAGES = sorted([*CHECKOUT.glob("*.md"), *DOCS.rglob("*.md"), *EXAMPLES.rglob("*.md")])
REFERENCE = DOCS / "reference"

RUN = {"python", "sql"}
SHOWN = {"text", "console", "diff", "ini", "json", "yaml"}

CONNECTION = re.compile(r"postgresql://(\w+):\w+@localhost:5432/app\b")
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
PRINTS = re.compile(r"^\s*print\(.*\)  # (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    note: str
    text: str
    line: int
    """Of its first line of text."""


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        language, _, note = match["info"].strip().partition(" ")
        found.append(Block(language, note, match["text"], text.count("\n", 0, match.start()) + 2))
    return found


def prose(page: Path) -> str:
    """A page without its blocks."""
    return FENCE.sub("", page.read_text())


def named(page: Path) -> str:
    return page.relative_to(CHECKOUT).as_posix()


# --- snippets


@pytest.fixture
def new_roles(server: Server) -> Iterator[None]:
    """Roles belong to the server: those that a document makes are dropped after it, when its database is gone."""

    def roles() -> set[str]:
        with psycopg.connect(server.uri("postgres")) as conn:
            return {name for (name,) in conn.execute("select rolname from pg_roles")}

    before = roles()
    yield
    server.finish_dropping()
    with psycopg.connect(server.uri("postgres")) as conn:
        for name in roles() - before:
            conn.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's: each session that starts closes their parent to the user that an embedded server runs as."""
    made = new_directory()
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("page", [page for page in PAGES if RUN & {b.language for b in blocks(page)}], ids=named)
def test_snippets_run(
    page: Path, new_roles: None, empty_database_uri: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each document works from its first line to its last, starting from an empty database."""
    monkeypatch.chdir(folder)
    module = type(sys)("document")
    # Pydantic and dataclasses look up a class's module by name.
    monkeypatch.setitem(sys.modules, module.__name__, module)
    namespace = vars(module)
    namespace["model"] = ScriptedModel()
    loop = asyncio.new_event_loop()
    try:
        for block in blocks(page):
            where = f"{named(page)}:{block.line}"
            if block.language == "sql":
                _run_sql(block, empty_database_uri, where)
            elif block.language == "python" and not block.note:
                _run_python(block, _connected(block.text, empty_database_uri), page, namespace, loop)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _connected(text: str, uri: str) -> str:
    return CONNECTION.sub(lambda match: uri.replace("//postgres@", f"//{match[1]}@"), text)


def _run_sql(block: Block, uri: str, where: str) -> None:
    try:
        with psycopg.connect(uri, autocommit=True) as conn:
            found = conn.execute(block.text.encode())
    except psycopg.Error as exc:
        raise AssertionError(f"{where}: {exc}") from exc
    if block.note:
        assert f"rows: {found.rowcount}" == block.note, where


def _run_python(
    block: Block, text: str, page: Path, namespace: dict[str, Any], loop: asyncio.AbstractEventLoop
) -> None:
    # Blank lines before it, so that a traceback names the document's line.
    source = "\n" * (block.line - 1) + text
    code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        result = eval(code, namespace)
        if inspect.iscoroutine(result):
            loop.run_until_complete(result)
    if promised := PRINTS.findall(block.text):
        assert printed.getvalue().splitlines() == promised, f"{named(page)}:{block.line} prints something else"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_code_blocks_are_labelled_and_parse(page: Path) -> None:
    """Nothing escapes the test above by its label, and what does not run is at least Python."""
    for block in blocks(page):
        where = f"{named(page)}:{block.line}"
        assert block.language in RUN | SHOWN, f"{where}: language {block.language!r}"
        if block.note and block.language == "sql":
            assert re.fullmatch(r"rows: \d+", block.note), where
        elif block.note:
            assert block.language == "python", where
            assert re.fullmatch(r"no-run: \w.+", block.note), f"{where}: {block.note!r} is not 'no-run: reason'"
            compile(block.text, where, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    assert page.read_text().count("\n```") % 2 == 0, "a block is not closed"


# --- the demo


def _demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    return subprocess.run(
        [sys.executable, CHECKOUT / "demo" / "weather.py", *arguments],
        env={**kept, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def test_the_demo_runs_without_a_network() -> None:
    """It runs without a network, says what it should, and fits on a screen or two."""
    done = _demo()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert len(lines) < 60
    assert max(map(len, lines)) <= 80
    for number, method in enumerate(("get", "get_tuple", "list", "aget", "aget_tuple", "alist"), start=1):
        assert any(line.split()[:1] == [str(number)] and method in line.split() for line in lines), method
    assert "The agent answered: You asked about sf." in lines


def test_the_demo_refuses_an_unavailable_model() -> None:
    """It says what is missing, and does not run with another model instead."""
    done = _demo("--model", "openai:gpt-4o-mini")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "OPENAI_API_KEY" in done.stderr
    assert "Traceback" not in done.stderr


# --- completeness


def test_settings_are_documented() -> None:
    """Each in a section of its own, which begins with its default."""
    text = prose(REFERENCE / "settings.md")
    sections = dict(re.findall(r"^### `(\w+)`\n\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == {field.alias or name for name, field in Settings.model_fields.items()}
    for name, field in Settings.model_fields.items():
        begins = " ".join(sections[field.alias or name].split())
        assert begins.startswith(f"Default `{field.default!r}`"), name


def test_errors_are_documented() -> None:
    """Each in a section of its own, which begins with its bases."""
    text = prose(REFERENCE / "errors.md")
    sections = dict(re.findall(r"^### `(\w+)`\n\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    assert set(sections) == set(errors.__all__)
    for name, section in sections.items():
        bases = [base.__name__ for base in getattr(errors, name).__bases__]
        assert section.startswith(f"{', '.join(f'`{base}`' for base in bases)}."), name


def test_schema_is_documented(database_uri: str) -> None:
    """Each table and each function once, as the database's comments describe it; each index and trigger of the log."""
    pages = {page: page.read_text() for page in schema_page.PAGES}
    text = "".join(pages.values())
    with psycopg.connect(database_uri) as conn:
        described = schema_page.Described(conn)
        names = conn.execute(
            """
            select t.tgname from pg_trigger as t where t.tgrelid = 'eventlog.events'::regclass
            union
            select i.indexname from pg_indexes as i where i.schemaname = 'eventlog' and i.tablename = 'events'
            """
        ).fetchall()
    assert {name: schema_page.fill(page, described) for name, page in pages.items()} == pages, "run `make schema`"
    assert sorted(re.findall(r"<!-- table: (\w+) -->", text)) == sorted(described.tables)
    listed = re.findall(r"<!-- functions: ([\w ]+) -->", text)
    assert sorted(" ".join(listed).split()) == sorted(described.functions)
    assert {name for (name,) in names if f"`{name}`" not in text} == set()


# --- imports

#: Where users import from, and nowhere else.
PUBLIC = {module.__name__: set(module.__all__) for module in (face, aio, ui)}
# Its SDK is not installed with the lowest versions: it asks for newer ones of what we depend on.
PUBLIC[f"{face.__name__}.mcp_server"] = {"mcp_server"}


def _imports(source: str) -> Iterator[tuple[str, str | None, int]]:
    """Modules of ours that are imported, each with a name from it and the line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found = [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found = [(alias.name, None) for alias in node.names]
        else:
            continue
        for module, name in found:
            if module.split(".")[0] in ("eventlog", "projections", "snapshots") or module.startswith(face.__name__):
                yield module, name, node.lineno


def _sources() -> Iterator[tuple[str, str]]:
    """What users may copy: Python in documents, what a diff adds, and the demo."""
    for page in PAGES:
        for block in blocks(page):
            if block.language == "python":
                yield f"{named(page)}:{block.line}", block.text
            elif block.language == "diff":
                added = [line[1:] for line in block.text.splitlines() if re.match(r"\+(from|import) ", line)]
                yield f"{named(page)}:{block.line}", "\n".join(added)
    for folder in ("demo", "examples"):
        for path in (CHECKOUT / folder).rglob("*.py"):
            yield named(path), path.read_text()


def test_users_import_from_the_public_modules_alone() -> None:
    found = [(where, *each) for where, source in _sources() for each in _imports(source)]
    assert len(found) > 30, "the search finds nothing"
    assert not [each for each in found if each[1] not in PUBLIC or each[2] not in PUBLIC[each[1]]]


def test_errors_are_public() -> None:
    assert set(errors.__all__) <= PUBLIC[face.__name__]


# --- links


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_resolve(page: Path) -> None:
    """Links between documents, and to headings in them."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert linked.is_relative_to(CHECKOUT), target
        if anchor:
            assert anchor in _anchors(linked), target


def test_every_page_is_linked() -> None:
    """A reader who starts at the README finds all of them."""
    links: Callable[[Path], set[Path]] = lambda page: {  # noqa: E731
        (page.parent / target).resolve() for target in re.findall(r"\]\(([^)\s#:]+\.md)(?:#[^)]*)?\)", prose(page))
    }
    reached, left = set(), {CHECKOUT / "README.md"}
    while left:
        page = left.pop()
        reached.add(page)
        left |= {each for each in links(page) if each.exists()} - reached
    assert {*DOCS.rglob("*.md"), *EXAMPLES.rglob("*.md")} <= reached


def test_make_targets_in_docs_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"\bmake ([a-z][a-z-]+)", _commands(page))) <= targets, named(page)


def test_tests_named_in_docs_exist() -> None:
    """What the promises of reliability are proved by."""
    tests = {name for file in (CHECKOUT / "tests").rglob("*.py") for name in _functions(file)}
    for page in PAGES:
        assert set(re.findall(r"`(test_\w+)`", prose(page))) <= tests, named(page)


def _functions(file: Path) -> list[str]:
    return re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)


def _commands(page: Path) -> str:
    """What a page shows as code: its blocks, and what stands between backticks."""
    shown = [block.text for block in blocks(page)] + re.findall(r"`([^`\n]+)`", prose(page))
    return "\n".join(shown)
