"""Logs of every released version, restored from their dumps and brought up to date by this one."""

from __future__ import annotations

from importlib import metadata

import pytest

from eventlog.db.statements import Statements
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables
from tests.support.full_log import SETTINGS, assert_goes_on, assert_verified
from tests.versions.upgrades import VERSIONS, expected, read_as_data, restore

pytestmark = pytest.mark.portable

COMMAND = "python -m tests.versions.upgrades.make"

versions = pytest.mark.parametrize("version", VERSIONS)


def test_this_versions_log_is_stored_for_later_upgrades() -> None:
    """The next one will have to take over its logs."""
    version = metadata.version("langgraph-checkpoint-eventlog")
    assert version in VERSIONS, f"tests/versions/upgrades has no log of {version}: run {COMMAND} and commit it"


@versions
async def test_a_stored_log_upgrades_and_works(version: str, empty_database_uri: str) -> None:
    """It reads as it did when it was stored, is sound and verifies, and everything can be done with it."""
    uri = empty_database_uri
    restore(version, uri)
    async with open_saver("async-string", uri, **SETTINGS) as saver:
        await saver.setup()
    reading, data = await read_as_data(uri)
    assert data == expected(version)
    await assert_verified(uri, reading.seals)
    await assert_goes_on(uri, reading)


@versions
def test_released_scripts_are_not_edited(version: str, empty_database_uri: str) -> None:
    """A script that was applied somewhere will not be applied there again, whatever it says now."""
    restore(version, empty_database_uri)
    applied = dict(Tables(empty_database_uri).rows("select name, checksum from {schema}.migrations"))
    there = {script.name: script.checksum for script in Statements("eventlog").scripts}
    edited = sorted(name for name in applied if applied[name] != there.get(name))
    assert not edited, (
        f"{', '.join(edited)}: not what version {version} has applied to databases. If {version} is released, put what "
        "has changed into a new script: a migration with a new number, a function under a new name (append_…_v2), and "
        f"leave these as they were. As long as it is not released, store its log again: {COMMAND}"
    )
