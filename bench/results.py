"""The results of a run of the suite: the models of its results file, and the ratios of the savers."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["EVENTLOG", "FLOOR", "POSTGRES", "Machine", "Measure", "Results", "Series", "measure_of"]

#: Names of savers. The first is this package, the second the incumbent; others are for orientation.
EVENTLOG = "eventlog"
POSTGRES = "postgres"
FLOOR = "floor"

Unit = Literal["ms", "s", "bytes", "MiB", "op/s"]

PACKAGES = (
    "langgraph",
    "langgraph-checkpoint",
    "langgraph-checkpoint-postgres",
    "langgraph-checkpoint-sqlite",
    "psycopg",
    "ormsgpack",
    "zstandard",
)


class Model(BaseModel):
    """The base of all models of the file, which contains no unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(Model):
    """Where it was measured."""

    cpu: str
    cores: int
    memory_gib: float
    system: str


class Series(Model):
    """A line of a plot: a saver's cost `y` at `x`."""

    saver: str
    x: list[float]
    y: list[float]


class Measure(Model):
    """One figure of one workload, for each saver that has it."""

    workload: str
    """As ``agent, 300 turns``."""
    name: str
    """As ``put``, ``get_tuple, latest``, ``WAL``."""
    unit: Unit
    eventlog: float
    postgres: float | None = None
    """The incumbent's; None where it has no such thing."""
    floor: float | None = None
    """The floor, the theoretical minimum; None if there is none. See `bench/floors.py`."""
    others: dict[str, float] = Field(default_factory=dict)
    """Savers with other guarantees, for orientation."""
    spread: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """The quartiles of a saver's samples, of which the figure is the median."""
    samples: int = 1
    """Of each saver."""
    series: list[Series] = Field(default_factory=list)
    """For the plots."""

    @property
    def ratio(self) -> float | None:
        """How many times better than the incumbent; None without one."""
        if self.postgres is None:
            return None
        return _times(self.postgres, self.eventlog, more=self.unit == "op/s")

    @property
    def over_floor(self) -> float | None:
        """How many times the floor it costs; None without one."""
        if self.floor is None:
            return None
        return _times(self.eventlog, self.floor, more=self.unit == "op/s")

    def of(self, saver: str) -> float | None:
        """The figure of a saver, by its name; None where there is none."""
        known = {EVENTLOG: self.eventlog, POSTGRES: self.postgres, FLOOR: self.floor}
        return known[saver] if saver in known else self.others.get(saver)


def _times(cost: float, by: float, *, more: bool) -> float | None:
    if more:
        cost, by = by, cost
    return cost / by if by else None


class Results(Model):
    """A results file."""

    measured_at: str
    """UTC, ISO 8601, to the second."""
    seconds: float
    """Of the whole run."""
    took: dict[str, float] = Field(default_factory=dict)
    """Of them, by the name of a workload."""
    machine: Machine
    versions: dict[str, str]
    options: dict[str, str | int | bool]
    measures: list[Measure]

    @classmethod
    def load(cls, path: Path) -> Results:
        """Raises `pydantic.ValidationError` for a file that is none of ours."""
        return cls.model_validate_json(path.read_text())

    def save(self, path: Path) -> None:
        """Write it so that it can be compared line by line."""
        path.write_text(self.model_dump_json(indent=1, exclude_defaults=True) + "\n")

    def find(self, workload: str, name: str) -> Measure | None:
        """The measure, by its workload and name."""
        found = [each for each in self.measures if (each.workload, each.name) == (workload, name)]
        return found[0] if found else None

    def workloads(self) -> dict[str, list[Measure]]:
        """Measures by workload, in the order of the run."""
        groups: dict[str, list[Measure]] = {}
        for each in self.measures:
            groups.setdefault(each.workload, []).append(each)
        return groups


def measure_of(
    workload: str,
    name: str,
    unit: Unit,
    samples: Mapping[str, Sequence[float]],
    *,
    scale: float = 1.0,
    series: Sequence[Series] = (),
) -> Measure:
    """A measure of samples by saver: medians, quartiles, and how many there were.

    Args:
        workload: what was done.
        name: what was measured.
        unit: of the figures, after they were multiplied by `scale` (1000 for samples in seconds and ``ms``).
        samples: by saver: `EVENTLOG`, and where there are such `POSTGRES`, `FLOOR` and others.
        scale: what each sample is multiplied by.
        series: for the plots, as they are.

    Raises:
        KeyError: without samples of `EVENTLOG`.
    """
    scaled = {who: [each * scale for each in all_of_it] for who, all_of_it in samples.items() if all_of_it}
    figures = {who: _short(median(all_of_it)) for who, all_of_it in scaled.items()}
    spread = {who: _quartiles(all_of_it) for who, all_of_it in scaled.items() if len(all_of_it) > 1}
    return Measure(
        workload=workload,
        name=name,
        unit=unit,
        eventlog=figures[EVENTLOG],
        postgres=figures.get(POSTGRES),
        floor=figures.get(FLOOR),
        others={who: value for who, value in figures.items() if who not in (EVENTLOG, POSTGRES, FLOOR)},
        spread=spread,
        samples=len(scaled[EVENTLOG]),
        series=list(series),
    )


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    low, _, high = quantiles(values, n=4, method="inclusive")
    return _short(low), _short(high)


def _short(value: float) -> float:
    """Five digits are more than the precision of any figure."""
    return float(f"{value:.5g}") if abs(value) < 100_000 else float(round(value))


def this_machine() -> Machine:
    """Facts about the machine that need no special rights."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = models[0] if models else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cpu=cpu,
        cores=os.cpu_count() or 1,
        memory_gib=round(memory / 2**30, 1),
        system=f"{platform.system()} {platform.release()}",
    )


def these_versions(server: str) -> dict[str, str]:
    """Versions by name: Python, PostgreSQL (as the caller read it), this package with its commit, and the packages."""
    ours = version("langgraph-checkpoint-eventlog")
    commit = _commit()
    versions = {
        "Python": platform.python_version(),
        "PostgreSQL": server,
        "langgraph-checkpoint-eventlog": f"{ours} ({commit})" if commit else ours,
    }
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _commit() -> str | None:
    """The commit of the code that runs; None outside of a repository."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=10)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None


def now() -> str:
    """UTC, ISO 8601, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0).isoformat()
