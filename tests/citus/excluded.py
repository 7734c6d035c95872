"""Tests that `make test-citus` does not run, each with the reason why it cannot hold on Citus."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pytest

__all__ = ["EXCLUDED", "Exclusion"]

#: The beginning of a test's id -> the reason.
EXCLUDED: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "tests/audit/test_inspect.py::test_estimates_are_close_once_statistics_are_up_to_date",
            "tests/audit/test_inspect.py::test_estimates_stay_close_after_a_rebuild",
        ),
        "reads the planner's statistics of one server: test_reads.py has the sums over all nodes",
    ),
    **dict.fromkeys(
        (
            "tests/rebuild/test_rebuild_losses.py::test_numbers_go_on_where_a_streams_row_was_deleted",
            "tests/rebuild/test_rebuild_losses.py::test_a_rebuild_during_which_rows_of_streams_are_deleted_must_be_run",
            "tests/rebuild/test_rebuild_losses.py::test_numbers_go_on_where_a_log_was_restored_without_streams",
        ),
        "a trigger, or a row's xmin, marks the log as needing a rebuild: on Citus verify and rebuild find the loss",
    ),
    # The one that creates a trigger.
    "tests/rebuild/test_rebuild_online.py::test_what_depends_on_the_tables_stays[statement1]": (
        "Citus distributes no table with a trigger"
    ),
}


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
