"""The next version of this package, for tests of upgrades: today's scripts and queries, a migration, a new function."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventlog.db import statements

__all__ = ["ADDED", "newer_version"]

#: What a migration may do while the version before is at work: it adds, and what it adds may be left out.
MIGRATION = """
alter table {schema}.streams add column label text;
alter table {schema}.checkpoints add column label text;
alter table {schema}.events add column trace uuid;
create index checkpoints_label_idx on {schema}.checkpoints (label) where label is not null;
"""

ADDED = ["labels_1", "append_checkpoint_v2"]


@contextmanager
def newer_version(folder: Path, migrations: Sequence[str] = (MIGRATION,)) -> Iterator[None]:
    """Within it, what is read of `sql/` is the next version's. Its append function fills in a column that is new.

    Savers that have composed a statement keep it: those of the version before go on with what they have used.
    """
    sql = folder / "sql"
    shutil.copytree(str(statements.sql_root()), sql)
    added = [f"labels_{number}" for number in range(1, len(migrations) + 1)]
    for name, migration in zip(added, migrations, strict=True):
        (sql / "migrations" / f"{name}.sql").write_text(migration)
    text = (
        (sql / "functions" / "append_checkpoint_v1.sql")
        .read_text()
        .replace("append_checkpoint_v1", "append_checkpoint_v2")
    )
    columns, values = "base_seq, state_digest, digest, body)\n", "p_state_digest, o_digest, p_body\n"
    assert text.count(columns) == text.count(values) == 1
    text = text.replace(columns, columns.replace(")", ", trace)"))
    text = text.replace(values, values.replace("\n", ", gen_random_uuid()\n"))
    (sql / "functions" / "append_checkpoint_v2.sql").write_text(text)
    query = sql / "queries" / "append.sql"
    query.write_text(query.read_text().replace("append_checkpoint_v1(", "append_checkpoint_v2("))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(statements, "sql_root", lambda: sql)
        patched.setattr(statements, "MIGRATIONS", (*statements.MIGRATIONS, *added))
        for cached in (statements._text, statements.named_queries):
            cached.cache_clear()
        try:
            yield
        finally:
            for cached in (statements._text, statements.named_queries):
                cached.cache_clear()
