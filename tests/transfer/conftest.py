"""Databases that have both: PostgresSaver's tables, and a log."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.transfer.migrating import put_up_fence
from tests.transfer.old_savers import set_up


@pytest.fixture
def uri(new_database: Callable[..., str]) -> str:
    """The connection string of a database with PostgresSaver's tables and a log."""
    made = new_database()
    set_up(made)
    return made


@pytest.fixture
async def fenced_uri(uri: str) -> str:
    """The same, with a fence."""
    await put_up_fence(uri)
    return uri
