"""An object with a saver's operations, and no connection."""

from __future__ import annotations

import pytest
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._put import Writer


@pytest.fixture
def writer() -> Writer:
    """A saver's operations, with an empty cache."""
    return Writer(Context.create({}), JsonPlusSerializer())


@pytest.fixture
def other_writer() -> Writer:
    """Those of another process, with an empty cache."""
    return Writer(Context.create({}), JsonPlusSerializer())
