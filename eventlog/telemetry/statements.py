"""The names of statements in spans and metrics: the name in `sql/queries`, the first word, the function that it
calls."""

from __future__ import annotations

import re
from string import Formatter
from typing import NamedTuple

from psycopg import sql

from eventlog.db.statements import named_queries
from eventlog.telemetry.names import DB_OPERATION, DB_PROCEDURE, DB_SUMMARY

__all__ = ["StatementName", "StatementNames"]

#: A log's functions end with their version.
_FUNCTION = re.compile(rb'"\.(\w+_v\d+)\s*\(')
_VERB = re.compile(rb"(?:\s|--[^\n]*\n)*([A-Za-z]+)")

#: Remember at most this many statements: a log has about a hundred, but those of a purge contain table names.
MOST_REMEMBERED = 1000


class StatementName(NamedTuple):
    """A statement's name."""

    query: str | None
    """The name in `sql/queries`; None for other statements, such as migrations."""
    summary: str
    attributes: dict[str, str]


class StatementNames(dict[bytes, StatementName]):
    """The names of statements of one log.

    Args:
        schema: the log's.
    """

    def __init__(self, schema: str) -> None:
        super().__init__()
        self._whole: dict[bytes, str] = {}
        self._patterns: list[tuple[re.Pattern[bytes], str]] = []
        identifier = sql.Identifier(schema).as_string(None)
        for name, text in named_queries().items():
            parts = [""]
            for literal, placeholder, _, _ in Formatter().parse(text):
                parts[-1] += literal
                if placeholder == "schema":
                    parts[-1] += identifier
                elif placeholder is not None:
                    parts.append("")
            if len(parts) == 1:
                self._whole[parts[0].encode()] = name
            else:
                # Some of its parts vary.
                pattern = b".+".join(re.escape(each.encode()) for each in parts)
                self._patterns.append((re.compile(pattern, re.DOTALL), name))

    def __missing__(self, statement: bytes) -> StatementName:
        found = self._name(statement)
        if len(self) < MOST_REMEMBERED:
            self[statement] = found
        return found

    def _name(self, statement: bytes) -> StatementName:
        query = self._whole.get(statement)
        if query is None:
            query = next((name for pattern, name in self._patterns if pattern.fullmatch(statement)), None)
        match = _VERB.match(statement)
        verb = "SELECT" if match is None or match[1].lower() == b"with" else match[1].decode().upper()
        summary = query or verb
        attributes = {DB_SUMMARY: summary, DB_OPERATION: verb}
        functions = set(_FUNCTION.findall(statement)) if query is not None else set()
        if len(functions) == 1:
            attributes[DB_PROCEDURE] = functions.pop().decode()
        return StatementName(query, summary, attributes)
