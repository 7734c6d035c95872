"""Time the savers against each other: one call each, in an order that changes, so that noise affects all alike."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from bench.results import Measure, Series, Unit, measure_of

__all__ = ["Timings"]

T = TypeVar("T")


class Timings:
    """Seconds of each saver, by the step measured; and bytes of WAL, for savers on PostgreSQL."""

    def __init__(self, wal: Callable[[], int] | None = None) -> None:
        self._wal = wal
        self._count = 0
        self.seconds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.wal: dict[str, int] = defaultdict(int)
        """WAL of the whole server while a saver was running, by saver."""

    def time(self, name: str, runs: Mapping[str, Callable[[], T]], *, counted: bool = True) -> dict[str, T]:
        """Run each saver's call once, and time it.

        Args:
            name: what is measured.
            runs: by saver, what to call. The order changes from round to round.
            counted: False for a warm-up call; its WAL counts nevertheless.

        Returns:
            By saver, what its call returned.
        """
        answers: dict[str, T] = {}
        for who in self._order(list(runs)):
            run = runs[who]
            wal = self._wal() if self._wal else 0
            started = time.perf_counter()
            answers[who] = run()
            took = time.perf_counter() - started
            if self._wal:
                self.wal[who] += self._wal() - wal
            if counted:
                self.seconds[name][who].append(took)
        return answers

    async def time_async(
        self, name: str, runs: Mapping[str, Callable[[], Awaitable[T]]], *, counted: bool = True
    ) -> dict[str, T]:
        """As `time`, for calls to await. WAL is not counted: reading it would block the event loop."""
        answers: dict[str, T] = {}
        for who in self._order(list(runs)):
            started = time.perf_counter()
            answers[who] = await runs[who]()
            took = time.perf_counter() - started
            if counted:
                self.seconds[name][who].append(took)
        return answers

    def _order(self, names: list[str]) -> list[str]:
        """Rotated by one each time, and the other way round after every full turn."""
        if len(names) < 2:
            return names
        turn, place = divmod(self._count, len(names))
        self._count += 1
        rotated = names[place:] + names[:place]
        return rotated[::-1] if turn % 2 else rotated

    def measure(
        self,
        workload: str,
        name: str,
        *,
        unit: Unit = "ms",
        between: tuple[int, int] | None = None,
        label: str | None = None,
        savers: Sequence[str] | None = None,
        series: Iterable[Series] = (),
    ) -> Measure:
        """The medians of the timings under a name.

        Args:
            workload: what was done.
            name: as given to `time`.
            unit: ``ms`` or ``s``.
            between: only rounds from the first number to before the second.
            label: the measure's name, if it is another one.
            savers: only these; None: all.
            series: for the plots.
        """
        which = slice(*between) if between else slice(None)
        found = self.seconds[name]
        samples = {who: found[who][which] for who in savers or found}
        scale = 1000.0 if unit == "ms" else 1.0
        return measure_of(workload, label or name, unit, samples, scale=scale, series=list(series))

    def count(self, name: str) -> int:
        """How many rounds were counted under the name."""
        return max((len(all_of_it) for all_of_it in self.seconds[name].values()), default=0)
