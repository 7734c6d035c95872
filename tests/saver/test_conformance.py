"""LangGraph's own conformance suite, on both savers, on a pool and on a plain connection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability
from langgraph.checkpoint.conformance.report import ProgressCallbacks

from tests.support.adapters import open_saver

pytestmark = pytest.mark.portable

EVERY = {capability.value for capability in Capability}


@pytest.mark.parametrize("kind", ["sync-pool", "sync-connection", "async-pool", "async-connection"])
async def test_every_conformance_capability_passes(kind: str, new_database: Callable[[], str]) -> None:
    """Every capability is found and passes, the optional ones too."""

    @checkpointer_test(name=kind)
    async def fresh() -> AsyncIterator[BaseCheckpointSaver[Any]]:
        async with open_saver(kind, new_database()) as saver:
            yield saver

    report = await validate(fresh, capabilities=EVERY, progress=ProgressCallbacks.verbose())

    report.print_report()
    failures = [line for result in report.results.values() for line in result.failures]
    assert not failures, "\n\n".join(failures)
    assert {name for name, result in report.results.items() if result.detected} == EVERY
    assert {name for name, result in report.results.items() if result.passed} == EVERY
    assert all(result.tests_passed for result in report.results.values())
