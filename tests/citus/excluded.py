"""Tests that `make test-citus` does not run, each with the reason why it cannot hold on Citus."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pytest

__all__ = ["EXCLUDED", "Exclusion"]

#: The beginning of a test's id -> the reason.
EXCLUDED: Final[dict[str, str]] = {}


class Exclusion:
    """Deselects those tests, and says so at the end of the run."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        excluded = {item: reason for item in items if (reason := _reason(item.nodeid)) is not None}
        self._reasons.update(excluded.values())
        if excluded:
            config.hook.pytest_deselected(items=list(excluded))
            items[:] = [item for item in items if item not in excluded]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        # A process of pytest-xdist, which collects all tests as each of the others does.
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output["not_on_citus"] = dict(self._reasons)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._reasons = Counter(getattr(node, "workeroutput", {}).get("not_on_citus", self._reasons))

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if self._reasons:
            terminalreporter.write_line(f"{self._reasons.total()} tests not run on Citus:")
            for reason, number in sorted(self._reasons.items()):
                terminalreporter.write_line(f"  {number}: {reason}")


def _reason(test_id: str) -> str | None:
    return next((reason for prefix, reason in EXCLUDED.items() if test_id.startswith(prefix)), None)
