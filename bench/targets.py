"""What the package promises to be, as data, and the judge of whether it is."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from bench.results import Measure, Model, Results
from bench.show import times

__all__ = ["TARGETS", "Outcome", "Target", "Verdict", "judge"]

Outcome = Literal["met", "missed", "not measured"]


class Target(Model):
    """One promise, about all measures whose workload, name and unit match: patterns of `fnmatch`, `|` between them."""

    key: str
    """By which a reason is given in `bench/reasons.toml`."""
    says: str
    workload: str
    name: str
    unit: str = "*"
    at_least: float | None = None
    """Times better than the incumbent, at least, by two digits behind the point."""
    at_most_floor: float | None = None
    """Times the floor, at most."""
    base: str | None = None
    """Another workload, whose measures of the same names are compared with."""
    at_most_base: float | None = None
    """Times those of `base`, at most, both our own."""


class Verdict(NamedTuple):
    """What became of a target."""

    outcome: Outcome
    measured: str
    """The figure that is furthest from the promise, and where, when there are several."""
    missed: tuple[str, ...]
    """Workload and name of what missed it."""


def _target(key: str, says: str, workload: str, name: str, **fields: object) -> Target:
    return Target.model_validate({"key": key, "says": says, "workload": workload, "name": name, **fields})


AGENT = "agent, 300 turns"
SMALL = "channels: small state"
CHANNELS = "channels: *"
DELTA = "DeltaChannel,*"
FAN_OUT = "fan-out, 100 tasks"
LISTING = "list, 1,500 checkpoints"
WORKERS = "workers"
FULL_LOG = "36 partitions, a million events"
EMPTY_LOG = "an empty log"
MEMORY = "memory"

BYTES = "WAL|tables"
PUT = "put|put,*"
WRITES = "put_writes|put_writes,*"
GET = "get_tuple, latest|get_tuple, by id"
NEW = "get_tuple, nothing cached"
CALLS = f"{PUT}|{WRITES}|{GET}"

#: What was set out for the suite, each as it was set there; the reads of who is new to a thread are told apart.
TARGETS: tuple[Target, ...] = (
    _target("agent-bytes", "bytes, agent, 300 turns: ≥ 75× less", AGENT, BYTES, at_least=75),
    _target(
        "agent-growth",
        "bytes, agent, 600 turns: ≤ 2.1× those of 300",
        "agent, 600 turns",
        BYTES,
        base=AGENT,
        at_most_base=2.1,
    ),
    _target("agent-put", "`put`, agent, 300 turns: ≥ 4× faster", AGENT, "put", at_least=4),
    _target("agent-put-floor", "`put`, agent, 300 turns: ≤ 1.5× the floor", AGENT, "put", at_most_floor=1.5),
    _target("small-put", "`put`, small states: ≥ 1.3× faster", SMALL, "put", at_least=1.3),
    _target("small-writes", "`put_writes`, small states: ≥ 1.3× faster", SMALL, "put_writes", at_least=1.3),
    _target("puts", "`put`, every workload: not slower", "*", PUT, unit="ms", at_least=1),
    _target("writes", "`put_writes`, every workload: not slower", "*", WRITES, unit="ms", at_least=1),
    _target("get", "`get_tuple`, latest and by id, every workload: never slower", "*", GET, unit="ms", at_least=1),
    _target("get-floor", "`get_tuple`, every workload: ≤ 1.25× the floor", "*", GET, unit="ms", at_most_floor=1.25),
    _target("new", "`get_tuple`, a saver that is new to the thread: never slower", "*", NEW, unit="ms", at_least=1),
    _target("cold", "first read of a cold process: never slower", "cold process*", "read", unit="ms", at_least=1),
    _target("list-20", "`list(limit=20)`: ≥ 2× faster", LISTING, "list(limit=20)", at_least=2),
    _target("list-20-floor", "`list(limit=20)`: ≤ 1.2× decoding", LISTING, "list(limit=20)", at_most_floor=1.2),
    _target("list-all", "`list()` of 1,500 checkpoints: ≥ 3× faster", LISTING, "list()", at_least=3),
    _target("list-all-floor", "`list()` of 1,500 checkpoints: ≤ 1.2× decoding", LISTING, "list()", at_most_floor=1.2),
    _target("workers-sync", "16 workers on a pool, sync: ≥ 3× op/s", WORKERS, "16 workers, sync", at_least=3),
    _target("workers-async", "16 workers on a pool, async: ≥ 3× op/s", WORKERS, "16 workers, async", at_least=3),
    _target("delta-turn", "`DeltaChannel`, whole turn: not slower", DELTA, "turn|turn,*", at_least=1),
    _target(
        "delta-history", "`DeltaChannel`, history of a channel: not slower", DELTA, "history of a channel", at_least=1
    ),
    _target("delta-states", "`DeltaChannel`, 50 states: ≥ 2× faster", DELTA, "last 50 states", at_least=2),
    _target("fan-out", "100 parallel tasks, sync and async: ≥ 3× faster", FAN_OUT, "step, *", at_least=3),
    _target(
        "partitions",
        "36 partitions, a million events: ≤ 1.2× the time on an empty log",
        FULL_LOG,
        "*",
        unit="ms",
        base=EMPTY_LOG,
        at_most_base=1.2,
    ),
    _target("channels-bytes", "other shapes of state: smaller, each", CHANNELS, BYTES, at_least=1),
    _target("channels-time", "other shapes of state: not slower, each", CHANNELS, CALLS, unit="ms", at_least=1),
    _target("memory", "memory of a reader and a writer: ≤ 4× the state", MEMORY, "*", unit="MiB", at_most_floor=4),
)


def judge(target: Target, results: Results) -> Verdict:
    """Compare a target with what was measured; the worst figure speaks for all."""
    judged = [
        (distance, f"{each.workload}, {each.name}", value)
        for each in results.measures
        if _matches(target, each)
        for distance, value in _distances(target, each, results)
    ]
    if not judged:
        return Verdict("not measured", "–", ())
    missed = tuple(where for distance, where, _ in judged if distance > 1)
    _, where, value = max(judged, key=lambda each: each[0])
    measured = times(value) if len(judged) == 1 else f"{times(value)} ({where})"
    return Verdict("missed" if missed else "met", measured, missed)


def _matches(target: Target, measure: Measure) -> bool:
    pairs = ((measure.workload, target.workload), (measure.name, target.name), (measure.unit, target.unit))
    return all(any(fnmatchcase(text, pattern) for pattern in patterns.split("|")) for text, patterns in pairs)


def _distances(target: Target, measure: Measure, results: Results) -> list[tuple[float, float]]:
    """For each thing that the target promises of a measure: how far it is (above 1 is missed), and the figure."""
    found = []
    if target.at_least is not None and measure.ratio is not None:
        ratio = round(measure.ratio, 2)
        found.append((target.at_least / ratio if ratio else float("inf"), ratio))
    if target.at_most_floor is not None and measure.over_floor is not None:
        over = round(measure.over_floor, 2)
        found.append((over / target.at_most_floor, over))
    if target.at_most_base is not None and target.base is not None:
        base = results.find(target.base, measure.name)
        if base is not None and base.eventlog:
            grown = round(measure.eventlog / base.eventlog, 2)
            found.append((grown / target.at_most_base, grown))
    return found
