"""An object with a saver's operations, and no connection."""

from __future__ import annotations

import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph.checkpoint.eventlog._operations import Context, Operations


@pytest.fixture
def operations() -> Operations:
    """A saver's operations, with an empty cache."""
    return Operations(Context.create({}), JsonPlusSerializer())


@pytest.fixture
def other_operations() -> Operations:
    """Those of another process, whose cache is empty."""
    return Operations(Context.create({}), JsonPlusSerializer())
