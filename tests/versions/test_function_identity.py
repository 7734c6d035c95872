"""A function is known by its name and version: a later revision may change its text, a release may retire it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from eventlog.db import statements
from eventlog.errors import DatabaseTooNewError, MigrationError
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, put, values_of

pytestmark = pytest.mark.portable

POOL = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])

IS_THERE = "select count(*) from pg_proc where proname = %s and pronamespace = '{schema}'::regnamespace"

CHANGED = "select prosrc ~ 'of a later revision' from pg_proc where proname = 'was_erased_v1'"


@contextmanager
def build(*, revision: int = 1, changes: bool = False, retires: tuple[str, ...] = ()) -> Iterator[None]:
    """Within it, `setup()` is that of another build: with another text of a function, or without a function."""
    original = statements._function

    def function(name: str) -> str:
        text = original(name)
        return text.replace("begin\n", "begin\n    -- of a later revision\n", 1) if name == "was_erased_v1" else text

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statements, "FUNCTIONS_REVISION", revision)
        patch.setattr(statements, "RETIRED", retires)
        if changes:
            patch.setattr(statements, "_function", function)
        yield


@POOL
async def test_a_later_revision_replaces_a_function_and_an_earlier_one_leaves_it(kind: str, database_uri: str) -> None:
    """Replicas of both may start again in any order, and both append."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as earlier, open_saver(kind, database_uri) as later:
        with build(revision=2, changes=True):
            await later.setup()
        assert tables.one(CHANGED)

        await earlier.setup()
        assert tables.one(CHANGED)
        first = await put(earlier, config_of(), "1", {"x": 1})
        await put(later, first, "2", {"x": 2})
        assert await values_of(earlier, config_of()) == {"x": 2}

        # What must know everything does not work with the earlier one.
        with pytest.raises(DatabaseTooNewError, match=r"revision 2, this version's 1"):
            await earlier.log.rebuild(check=True)


@POOL
async def test_another_text_of_the_same_revision_is_refused(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        with build(changes=True), pytest.raises(MigrationError, match="checksum mismatch for was_erased_v1"):
            await saver.setup()
    assert not Tables(database_uri).one(CHANGED)


@POOL
async def test_a_retired_function_is_gone_from_fresh_and_upgraded_databases(
    kind: str, database_uri: str, empty_database_uri: str
) -> None:
    """And an earlier version does not bring it back."""
    old = Tables(database_uri)
    old.run("create function {schema}.append_v0() returns void language sql as 'select'")
    for uri in (database_uri, empty_database_uri):
        tables = Tables(uri)
        async with open_saver(kind, uri) as saver:
            with build(revision=2, retires=("append_v0", "append_checkpoint_strict_v1")):
                await saver.setup()
            assert tables.one(IS_THERE, "append_v0") == tables.one(IS_THERE, "append_checkpoint_strict_v1") == 0
        async with open_saver(kind, uri) as earlier:
            await earlier.setup()
        assert tables.one(IS_THERE, "append_checkpoint_strict_v1") == 0
