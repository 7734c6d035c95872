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


@cache
def _root() -> Traversable:
    inside = resources.files("eventlog").joinpath("sql")
    return inside if inside.is_dir() else resources.files("eventlog").joinpath("..").joinpath("sql")


@cache
def _text(folder: str, name: str) -> LiteralString:
    return _root().joinpath(folder).joinpath(f"{name}.sql").read_text(encoding="utf-8")


def _names(folder: str) -> list[str]:
    """Without the ending, in order."""
    return sorted(
        path.name.removesuffix(".sql") for path in _root().joinpath(folder).iterdir() if path.name.endswith(".sql")
    )


@dataclass(frozen=True, slots=True)
class Script:
    """One step of `setup()`: a migration or a function."""

    name: str
    checksum: str
    statement: bytes


class Statements(dict[str, bytes]):
    """All statements, for one schema: a name leads to the file ``sql/queries/<name>.sql``, always as the same object.

    Args:
        schema: the schema's name, validated (`eventlog.settings.Settings`).
    """

    def __init__(self, schema: str) -> None:
        super().__init__()
        self.schema = schema
        self._identifier = sql.Identifier(schema)

    def compose(self, text: LiteralString, **parts: sql.Composable) -> bytes:
        """Fill in the schema and further parts of a statement."""
        return sql.SQL(text).format(schema=self._identifier, **parts).as_bytes(None)

    def template(self, name: str) -> LiteralString:
        """A named query's text, for those that have parts of their own to fill in."""
        return _text("queries", name)

    def __missing__(self, name: str) -> bytes:
        return self.setdefault(name, self.compose(self.template(name)))

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
                checksum=hashlib.sha256(_text(folder, name).encode()).hexdigest(),
                statement=self.run_script(self.compose(_text(folder, name)).decode()),
            )
            for folder in ("migrations", "functions")
            for name in _names(folder)
        )

    @staticmethod
    def run_script(script: str) -> bytes:
        """A single statement that runs a script."""
        block = sql.SQL("begin execute {}; end").format(sql.Literal(script))
        return sql.SQL("do {}").format(sql.Literal(block.as_string(None))).as_bytes(None)
