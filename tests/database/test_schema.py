"""The schema in the database: described in `sql/schema.sql`, and in the database itself."""

from __future__ import annotations

import re

import psycopg
import pytest
from psycopg import errors as pg

from eventlog.db.statements import named_queries, sql_root
from tests.support.checkpoints import Tables
from tests.support.schema_file import CODE_FILE, SCHEMA_FILE, describe_code, dump_schema

# Everything in the schema that has no comment. Partitions have that of their parent.
UNCOMMENTED = """
    select c.relname || coalesce('.' || a.attname, '')
    from pg_class as c
    left join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where
        c.relnamespace = 'eventlog'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
        and (col_description(c.oid, a.attnum) is null or obj_description(c.oid, 'pg_class') is null)
    union all
    select p.oid::regprocedure::text from pg_proc as p
    where p.pronamespace = 'eventlog'::regnamespace and obj_description(p.oid, 'pg_proc') is null
"""


@pytest.mark.lint
def test_the_schema_file_is_what_a_fresh_setup_leaves() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == dump_schema(), "run `make schema` and commit sql/schema.sql"
    assert CODE_FILE.read_text(encoding="utf-8") == describe_code(), "run `make schema` and commit sql/code.json"


def test_tables_columns_and_functions_have_comments(database_uri: str) -> None:
    assert Tables(database_uri).rows(UNCOMMENTED) == []


@pytest.mark.lint
def test_every_query_has_a_comment() -> None:
    files = sql_root().joinpath("queries").iterdir()
    texts = "".join(path.read_text(encoding="utf-8") for path in files)
    uncommented = [name for name in named_queries() if not re.search(rf"-- name: {name}\n-- (?!{name}\b)", texts)]
    assert uncommented == []


@pytest.mark.parametrize("kind", [0, 7, 9])
def test_an_unknown_kind_of_event_violates_a_constraint(kind: int, database_uri: str) -> None:
    with psycopg.connect(database_uri) as conn, pytest.raises(pg.CheckViolation, match="event_kind_check"):
        conn.execute(
            "insert into eventlog.events"
            " (thread_id, checkpoint_ns, seq, recorded_at, kind, checkpoint_id, state_digest, digest, body)"
            " values ('t', '', 1, now(), %s, '1', case when %s <= 2 then ''::bytea end, '', '')",
            (kind, kind),
        )
