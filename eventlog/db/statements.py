"""The SQL files, with the schema's name filled in.

Statements live in ``sql/`` and name the schema as ``{schema}``; `Statements` fills it in once, quoted. Files are read
through `importlib.resources`: a wheel carries them inside this package, a checkout has them beside it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from itertools import takewhile
from typing import TYPE_CHECKING

from psycopg import sql
from typing_extensions import LiteralString

if TYPE_CHECKING:
    from importlib.abc import Traversable

__all__ = ["FUNCTIONS_REVISION", "MIGRATIONS", "RETIRED", "Script", "Statements", "named_queries", "sql_root"]

#: The files of ``sql/migrations``: each is applied once, in this order. A release appends to it.
MIGRATIONS: tuple[LiteralString, ...] = ("tables", "guard", "generations", "rebuild", "seals", "projections")

#: Functions of earlier releases that no supported release calls: `setup()` drops them.
RETIRED: tuple[LiteralString, ...] = ()

#: A release that changes the text of a released function raises it: `setup()` replaces functions of an earlier
#: revision, and keeps those of a later one.
FUNCTIONS_REVISION = 1

#: The line that begins a query in its file. Comment lines follow it, which are not sent.
_NAME = re.compile(r"^-- name: (\w+)\n(?:--.*\n)*", re.MULTILINE)

_END = re.compile(r";(\s*-- noqa.*)?\s*$")


@cache
def sql_root() -> Traversable:
    """The folder of the SQL files, and of `code.json`."""
    inside = resources.files("eventlog").joinpath("sql")
    return inside if inside.is_dir() else resources.files("eventlog").joinpath("..").joinpath("sql")


@cache
def named_queries() -> dict[str, LiteralString]:
    """All queries of ``sql/queries``, by name."""
    found: dict[str, LiteralString] = {}
    for path in sql_root().joinpath("queries").iterdir():
        _, *parts = _NAME.split(path.read_text(encoding="utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            assert name not in found, f"two queries are called {name}"
            found[name] = _END.sub("", text)
    return found


@cache
def _text(folder: str, name: str) -> LiteralString:
    return sql_root().joinpath(folder).joinpath(f"{name}.sql").read_text(encoding="utf-8")


# A member of the owner's role may run setup(). A function runs with its owner's rights, which must be those of the
# log's owner.
_OWNED = """
revoke all on function {{schema}}.{name} from public;
do $owner$ begin
    execute pg_catalog.format(
        'alter function {{schema}}.{name} owner to %s',
        (
            select c.relowner::pg_catalog.regrole from pg_catalog.pg_class as c
            where c.oid = '{{schema}}.events'::pg_catalog.regclass
        )
    );
end $owner$;
"""


def _block(text: str) -> bytes:
    """Several statements as one."""
    block = sql.SQL("begin execute {}; end").format(sql.Literal(text))
    return sql.SQL("do {}").format(sql.Literal(block.as_string(None))).as_bytes(None)


def _function(name: str) -> LiteralString:
    """A function's text and the statements common to all: the comment at the top of its file becomes the database's
    comment on it; the log's owner owns it, and only the owner may call it until a role is granted it
    (`eventlog.rights`).
    """
    text = _text("functions", name)
    opening = takewhile(lambda line: line.startswith("--"), text.splitlines())
    comment = " ".join(line.removeprefix("--").strip() for line in opening)
    for character, doubled in (("'", "''"), ("{", "{{"), ("}", "}}")):
        comment = comment.replace(character, doubled)
    return f"{text}\ncomment on function {{schema}}.{name} is '{comment}';\n{_OWNED.format(name=name)}"


@dataclass(frozen=True, slots=True)
class Script:
    """One step of `setup()`."""

    name: str
    """The migration's name, or the function's with its version: it identifies the script in every database."""
    checksum: str
    """Of its text in the repository: the same for every schema."""
    statement: bytes
    """A script holds several statements. A ``DO`` block makes it one statement, which every connection can run, even in
    pipeline mode."""
    revision: int | None
    """For functions; None for a migration."""
    text: str
    """The text that the statement runs."""


class Statements(dict[str, bytes]):
    """All queries of ``sql/queries`` by name, for one schema (a valid name): each is always the same object."""

    def __init__(self, schema: str) -> None:
        super().__init__()
        self.schema = schema
        self._identifier = sql.Identifier(schema)

    def compose(self, text: LiteralString, **parts: sql.Composable) -> bytes:
        """Fill in the schema and further parts of a statement."""
        return sql.SQL(text).format(schema=self._identifier, **parts).as_bytes(None)

    def template(self, name: str) -> LiteralString:
        """A named query's text, with parts to fill in."""
        return named_queries()[name]

    def __missing__(self, name: str) -> bytes:
        return self.setdefault(name, self.compose(self.template(name)))

    def block(self, folder: str, *names: str) -> bytes:
        """Files of ``sql/`` as one statement, which every connection can run, even in pipeline mode."""
        return _block("\n".join(self.compose(_text(folder, name)).decode() for name in names))

    @cached_property
    def scripts(self) -> tuple[Script, ...]:
        """The scripts of `setup()`: migrations in their order, then functions.

        Functions need no order, as their bodies are not checked when they are created.
        """
        paths = sql_root().joinpath("functions").iterdir()
        functions = {path.name.removesuffix(".sql") for path in paths if path.name.endswith(".sql")}
        return (
            *(self._script(name, _text("migrations", name), None) for name in MIGRATIONS),
            *(
                self._script(name, _function(name), FUNCTIONS_REVISION)
                for name in sorted(functions.difference(RETIRED))
            ),
            *(self._script(name, f"drop function if exists {{schema}}.{name}", FUNCTIONS_REVISION) for name in RETIRED),
        )

    def _script(self, name: str, text: LiteralString, revision: int | None) -> Script:
        composed = self.compose(text).decode()
        return Script(name, hashlib.sha256(text.encode()).hexdigest(), _block(composed), revision, composed)
