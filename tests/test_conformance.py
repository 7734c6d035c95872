"""LangGraph's own conformance suite, on both savers, on a pool and on a plain connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import (
    BASE_CAPABILITIES,
    EXTENDED_CAPABILITIES,
)
from langgraph.checkpoint.conformance.report import ProgressCallbacks

from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.adapters import open_saver

BASE = {capability.value for capability in BASE_CAPABILITIES}
EXTENDED = {capability.value for capability in EXTENDED_CAPABILITIES}


@pytest.mark.parametrize("kind", ["sync-pool", "sync-connection", "async-pool", "async-connection"])
async def test_conformance(kind: str, new_database: Callable[[], str]) -> None:
    """Every base capability is found and passes; so does every extended one that the saver has."""

    @checkpointer_test(name=kind)
    async def fresh() -> AsyncIterator[BaseCheckpointSaver[Any]]:
        async with open_saver(kind, new_database()) as saver:
            yield saver

    wanted = BASE | {capability for capability in EXTENDED if _implements(kind, capability)}
    report = await validate(fresh, capabilities=wanted, progress=ProgressCallbacks.verbose())

    report.print_report()
    results = {name: result for name, result in report.results.items() if name in wanted}
    failures = [line for result in results.values() for line in result.failures]
    assert not failures, "\n\n".join(failures)
    assert {name for name, result in results.items() if result.detected} == wanted
    assert {name for name, result in results.items() if result.passed} == wanted
    assert all(result.tests_passed for result in results.values())


def _implements(kind: str, capability: str) -> bool:
    """Whether the saver itself has the method; the sync one's adapter overrides them all."""
    saver = AsyncEventLogSaver if kind.startswith("async") else EventLogSaver
    name = f"a{capability}" if kind.startswith("async") else capability
    # Versions of LangGraph before a capability existed have no method to override.
    return getattr(saver, name, None) is not getattr(BaseCheckpointSaver, name, None)
