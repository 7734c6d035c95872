"""Makes the dumps of this folder again: `python -m tests.transfer.dumps.make` (needs uv and a package index).

Each is what a version of langgraph-checkpoint-postgres stores, with the LangGraph of its time, in an environment of its
own. The SQL runs on every PostgreSQL that we support: tables as they are, without indexes, and rows as literals.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from tests.support.server import run_server

HERE = Path(__file__).parent

#: By the name of the dump: what is installed, and what `write.py` is told.
VERSIONS: Mapping[str, tuple[list[str], list[str]]] = {
    "2.0": (
        ["langgraph-checkpoint-postgres==2.0.0", "langgraph-checkpoint==2.0.0", "langgraph==0.2.34"],
        [],
    ),
    "2.0-shallow": (
        ["langgraph-checkpoint-postgres==2.0.13", "langgraph-checkpoint==2.0.10", "langgraph==0.2.70"],
        ["shallow"],
    ),
    "3.0": (["langgraph-checkpoint-postgres==3.0.0", "langgraph-checkpoint==3.0.0", "langgraph==1.0.1"], []),
    "3.2": (["langgraph-checkpoint-postgres==3.2.0", "langgraph-checkpoint==4.3.2", "langgraph==1.2.24"], []),
    "3.2-shallow": (
        ["langgraph-checkpoint-postgres==3.2.0", "langgraph-checkpoint==4.3.2", "langgraph==1.2.24"],
        ["shallow"],
    ),
}

TABLES = ("checkpoint_migrations", "checkpoints", "checkpoint_blobs", "checkpoint_writes")


def dump(uri: str) -> Iterator[str]:
    """The tables in the schema "public" as SQL."""
    with psycopg.connect(uri) as conn:
        for table in TABLES:
            columns: list[tuple[Any, ...]] = conn.execute(
                "select quote_ident(attname), format_type(atttypid, atttypmod), attnotnull"
                " from pg_attribute where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum",
                (table,),
            ).fetchall()
            ((key,),) = conn.execute(
                "select pg_get_constraintdef(oid) from pg_constraint where conrelid = %s::regclass and contype = 'p'",
                (table,),
            ).fetchall()
            types = ", ".join(f"{name} {type_}{' not null' if needed else ''}" for name, type_, needed in columns)
            yield f"create table {table} ({types}, {key});\n"
            row = sql.SQL("select concat_ws(', ', {}) from {} as t order by t::text").format(
                sql.SQL(", ").join(
                    sql.SQL("coalesce(quote_literal({}::text), 'null')").format(sql.SQL(name))  # type: ignore[arg-type]
                    for name, *_ in columns
                ),
                sql.Identifier(table),
            )
            for (values,) in conn.execute(row):
                yield f"insert into {table} values ({values});\n"


def main() -> None:
    """Make those that are named as arguments; all by default."""
    uv = Path(sys.executable).with_name("uv")
    with run_server() as server, tempfile.TemporaryDirectory() as home:
        for name in sys.argv[1:] or VERSIONS:
            packages, arguments = VERSIONS[name]
            python = Path(home, name, "bin", "python")
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, Path(home, name)], check=True)
            subprocess.run(
                [uv, "pip", "install", "--quiet", "--python", python, *packages, "psycopg[binary]", "pycryptodome"],
                check=True,
            )
            uri = server.uri(server.create_database(prefix="dump"))
            subprocess.run([python, "-W", "ignore", HERE / "write.py", uri, *arguments], check=True)
            text = "".join(dump(uri))
            (HERE / f"{name}.sql").write_text(text)
            print(f"{name}: {len(text):,} characters")


if __name__ == "__main__":
    main()
