"""The parts of the reference that the database itself writes: tables and functions, from their comments.

On a page they stand between `<!-- table: events -->` or `<!-- functions: clock_v1 … -->` and `<!-- end -->`.
``python -m tests.support.schema_page`` (`make schema`) writes them; a test compares them.
"""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.server import run_server

__all__ = ["PAGES", "Described", "fill"]

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGES = [
    REFERENCE / name for name in ("schema.md", "operational-tables.md", "functions.md", "functions-several-servers.md")
]

RIGHTS = ("writer", "eraser", "sealer", "auditor", "projector", "importer")

_PART = re.compile(r"(<!-- (table|functions): ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)

_COLUMNS = """
    select
        c.relname, a.attname, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), a.atttypmod),
        col_description(c.oid, a.attnum), obj_description(c.oid, 'pg_class'),
        (
            select array_agg(k.attname order by array_position(i.indkey::int2[], k.attnum))
            from pg_index as i
            inner join pg_attribute as k on k.attrelid = i.indrelid and k.attnum = any(i.indkey)
            where i.indrelid = c.oid and i.indisprimary
        )
    from pg_class as c
    inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    inner join pg_type as t on a.atttypid = t.oid
    where c.relnamespace = 'eventlog'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
    order by c.relname, a.attnum
"""

_FUNCTIONS = """
    select
        p.proname, obj_description(p.oid, 'pg_proc'),
        array(
            select r.name from unnest(%s::text[]) with ordinality as r (name, number)
            where has_function_privilege('schema_page_' || r.name, p.oid, 'execute')
            order by r.number
        )
    from pg_proc as p
    where p.pronamespace = 'eventlog'::regnamespace
"""


class Described:
    """The tables and functions of a log as Markdown, each by its name."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self.tables: dict[str, list[str]] = {}
        for table, column, kind, comment, about, key in conn.execute(_COLUMNS):
            start = [f"{about} Primary key `({', '.join(key)})`.", "", "| column | type | |", "| --- | --- | --- |"]
            kind = kind.replace("timestamp with time zone", "timestamptz")
            self.tables.setdefault(table, start).append(f"| `{column}` | {kind} | {comment} |")
        self.functions: dict[str, str] = {}
        with conn.transaction(force_rollback=True):
            for rights in RIGHTS:
                conn.execute(f"create role schema_page_{rights}")
                conn.execute("select eventlog.grant_rights_v1(%s, %s, 'views')", (rights, f"schema_page_{rights}"))
            for name, comment, granted in conn.execute(_FUNCTIONS, (list(RIGHTS),)).fetchall():
                summary = re.split(r"(?<=\.)\s", comment)[0]
                self.functions[name] = f"| `{name}` | {_who(granted)} | {summary} |"

    def part(self, kind: str, names: str) -> str:
        if kind == "table":
            return "\n".join(["", *self.tables[names], "", ""])
        rows = [self.functions[name] for name in names.split()]
        return "\n".join(["", "| function | granted to | |", "| --- | --- | --- |", *rows, "", ""])


def _who(granted: list[str]) -> str:
    others = [rights for rights in RIGHTS if rights not in granted]
    if len(others) <= 1:
        return " ".join(["all", *(f"but {rights}" for rights in others)])
    return ", ".join(granted) or "owner"


def fill(page: str, described: Described) -> str:
    """The page with its parts as the database has them."""
    return _PART.sub(lambda match: match[1] + described.part(match[2], match[3]) + match[4], page)


if __name__ == "__main__":
    with run_server(newest=True) as server:
        uri = server.uri(server.create_database())
        with EventLogSaver.from_conn_string(uri) as saver:
            saver.setup()
        with psycopg.connect(uri) as conn:
            described = Described(conn)
    for path in PAGES:
        path.write_text(fill(path.read_text(encoding="utf-8"), described), encoding="utf-8")
