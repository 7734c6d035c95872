"""Better matches for the functions and operators that our SQL uses, planted by a user who may create in a schema.

PostgreSQL takes the function with the best argument types, of all schemas of the search path: `format(text, text)` in
`public` before its own `format(text, variadic "any")`. A user who may create there would have the code run by those who
call ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

from eventlog.db.statements import named_queries

__all__ = ["calls", "operators", "plant", "scripts"]

SQL = Path(__file__).parents[2] / "sql"

#: The types that our statements deal with.
TYPES = (
    *("text", "name", "smallint", "integer", "bigint", "numeric", "double precision", "boolean", "bytea", "jsonb"),
    *("timestamptz", "interval", "oid", "xid8", "regclass", "text[]", "bigint[]"),
)

#: What looks like a call and is the grammar's.
GRAMMAR = frozenset(
    re.findall(
        r"\w+",
        "all and any array as between by case cast check coalesce conflict cross distinct else exists extract filter "
        "for from greatest group having if in inner insert into is key lateral least left limit materialized not "
        "nullif on or over partition primary range returns row select set system table then union unique using values "
        "when where with within ",
    )
)

#: With several arrays it is the grammar's too, which takes PostgreSQL's own; with its schema it would not be found.
_UNNEST = re.compile(r"unnest\s*\((?:[^(),]|\([^()]*\))*,")

_NOISE = re.compile(r"--[^\n]*|'(?:[^']|'')*'")
_CALL = re.compile(r'(?P<schema>[\w{}"]+\.)?"?(?P<name>[a-z_]\w*)"?\s*\(')
_OPERATOR = re.compile(r"[-+*/<>=~!@#%^&|`?]+")


def scripts() -> Iterator[tuple[str, str]]:
    """The texts of all functions and queries, by name."""
    for path in (SQL / "functions").glob("*.sql"):
        yield path.stem, path.read_text()
    yield from named_queries().items()


def calls(text: str, catalog: set[str]) -> Iterator[tuple[str, bool]]:
    """The functions of PostgreSQL that a text calls, each with whether it says of which schema."""
    bare = _NOISE.sub("''", text)
    for match in _CALL.finditer(bare):
        is_alias = re.search(r"\b(as|into|recursive)\s+$", bare[: match.start()]) is not None
        is_grammar = match["name"] in GRAMMAR or _UNNEST.match(bare, match.start("name"))
        if match["name"] in catalog and not is_grammar and not is_alias:
            yield match["name"], match["schema"] is not None


def operators() -> set[str]:
    """The operators that our SQL uses."""
    found: set[str] = set()
    for _, text in scripts():
        bare = re.sub(r"%\(\w+\)s|%\w|:=|\.\.|=>|\$\w*\$", " ", _NOISE.sub("''", text))
        found.update(_OPERATOR.findall(bare))
    return found


def plant(uri: str, *, takes_precedence: bool) -> None:
    """Plant functions and operators in `public` that fail when they are run.

    Args:
        uri: of a user who may create there, and has no other right.
        takes_precedence: also those that PostgreSQL has with just these types: where `public` comes first in the search
            path, they are found before.
    """
    with psycopg.connect(uri) as conn:
        conn.execute("set search_path = pg_catalog")
        ours = set(operators())
        names = [name for (name,) in conn.execute("select distinct proname from pg_proc where pronamespace = 11")]
        used = {name for _, text in scripts() for name, _ in calls(text, set(names))}
        known = {
            (name, left, right)
            for name, left, right in conn.execute(
                "select oprname, format_type(oprleft, null), format_type(oprright, null) from pg_operator"
            )
        }
        have = {
            (name, types) for name, types in conn.execute("select proname, oidvectortypes(proargtypes) from pg_proc")
        }
        body = "language plpgsql as $body$ begin raise exception using message = 'planted: {}'; end $body$"
        statements: list[str] = []
        for operator in sorted(ours):
            result = "boolean" if re.search("[=<>]", operator) and "-" not in operator else "text"
            for left in TYPES:
                for right in TYPES:
                    full = tuple(each.replace("timestamptz", "timestamp with time zone") for each in (left, right))
                    if (operator, *full) in known and not takes_precedence:
                        continue
                    # `nullif` cannot name its operator; the statement that appends has one.
                    if (operator, left, right) == ("=", "bytea", "bytea"):
                        continue
                    function = f'public."{operator} of {left}, {right}"'
                    statements.append(
                        f"create function {function} ({left}, {right}) returns {result} "
                        + body.format(f"{left} {operator} {right}")
                    )
                    statements.append(
                        f"create operator public.{operator} "
                        f"(function = {function}, leftarg = {left}, rightarg = {right})"
                    )
        for name in sorted(used):
            for count in range(5):
                for kind in ("text", "bigint", "timestamptz", "bytea", "jsonb", "integer", "oid", "text[]"):
                    types = ", ".join([kind] * count)
                    full_types = types.replace("timestamptz", "timestamp with time zone")
                    if (name, full_types) in have and not takes_precedence:
                        continue
                    statements.append(
                        f'create or replace function public."{name}" ({types}) returns text '
                        + body.format(f"{name}({types})")
                    )
        for start in range(0, len(statements), 500):
            conn.execute(sql.SQL("; ").join(sql.SQL(each) for each in statements[start : start + 500]))  # type: ignore[arg-type]
