"""A report for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.support.adapters import open_saver
from tests.telemetry.report import Report


@pytest.fixture
def report() -> Iterator[Report]:
    """What this test's savers report."""
    made = Report()
    yield made
    made.close()


@pytest.fixture
async def saver(kind: str, database_uri: str, report: Report) -> AsyncIterator[Any]:
    """A saver of each kind, with telemetry."""
    async with open_saver(kind, database_uri, telemetry=report.telemetry) as opened:
        yield opened
