"""The SQL files, with the schema's name filled in.

Statements live in ``sql/`` and name the schema as ``{schema}``; `Statements` fills it in once, quoted. Files are read
through `importlib.resources`: a wheel carries them inside this package, a checkout has them beside it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import TYPE_CHECKING

from psycopg import sql
from typing_extensions import LiteralString

if TYPE_CHECKING:
    import sys

    if sys.version_info >= (3, 11):
        from importlib.resources.abc import Traversable
    else:
        from importlib.abc import Traversable

__all__ = ["Script", "Statements"]

#: What a query may have to be filled in beside the schema.
PARTS = ("{where}", "{table}")


@cache
def _root() -> Traversable:
    inside = resources.files("eventlog").joinpath("sql")
    return inside if inside.is_dir() else resources.files("eventlog").joinpath("..").joinpath("sql")


@cache
def _files(folder: str) -> dict[str, LiteralString]:
    """Name (without the ending) to text, in the order of the names."""
    entries = sorted(_root().joinpath(folder).iterdir(), key=lambda entry: entry.name)
    return {
        entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8")
        for entry in entries
        if entry.name.endswith(".sql")
    }


@dataclass(frozen=True, slots=True)
class Script:
    """One step of `setup()`: a migration or a function."""

    name: str
    checksum: str
    statement: bytes


class Statements:
    """All statements, for one schema.

    Args:
        schema: the schema's name, validated (`eventlog.settings.Settings`).
    """

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._identifier = sql.Identifier(schema)

    def compose(self, text: LiteralString, **parts: sql.Composable) -> bytes:
        """Fill in the schema and further parts of a statement."""
        return sql.SQL(text).format(schema=self._identifier, **parts).as_bytes(None)

    def template(self, name: str) -> LiteralString:
        """A named query's text, for those that have parts of their own to fill in."""
        return _files("queries")[name]

    def __getitem__(self, name: str) -> bytes:
        """A named query: the file ``sql/queries/<name>.sql``."""
        return self._queries[name]

    @cached_property
    def _queries(self) -> dict[str, bytes]:
        whole = {name: text for name, text in _files("queries").items() if not any(part in text for part in PARTS)}
        return {name: self.compose(text) for name, text in whole.items()}

    @cached_property
    def scripts(self) -> tuple[Script, ...]:
        """What `setup()` applies, in order: migrations, then functions.

        A script holds several statements. Wrapped in a ``DO`` block it is one, which every connection can run, one
        in pipeline mode too.
        """
        return tuple(
            Script(
                name=f"{folder}/{name}",
                # Of the text as it is in the repository: the same for every schema.
                checksum=hashlib.sha256(text.encode()).hexdigest(),
                statement=self.run_script(self.compose(text).decode()),
            )
            for folder in ("migrations", "functions")
            for name, text in _files(folder).items()
        )

    @staticmethod
    def run_script(script: str) -> bytes:
        """A single statement that runs a script."""
        block = sql.SQL("begin execute {}; end").format(sql.Literal(script))
        return sql.SQL("do {}").format(sql.Literal(block.as_string(None))).as_bytes(None)
