"""The main results in plain words: the table at the beginning of docs/benchmarks.md, and the README's part of it."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

from bench.results import Measure, Model, Results

__all__ = ["HEADLINES", "Headline", "find", "read_reasons"]


class Headline(Model):
    """One row: a figure of one workload, in the user's words."""

    key: str
    """The key of its reason in `bench/reasons.md`; several rows may share a reason."""
    says: str
    workload: str
    """A pattern of `fnmatch`: the first workload that matches has the figure."""
    name: str
    """The measure's name; also a pattern."""
    is_in_readme: bool = False

    @property
    def has_delta_channel(self) -> bool:
        """Whether both savers run a graph with `DeltaChannel`: the README has a column for it."""
        return self.workload.startswith(("DeltaChannel", "Deep Agent"))


def _row(key: str, says: str, workload: str, name: str, *, readme: bool = False) -> Headline:
    return Headline(key=key, says=says, workload=workload, name=name, is_in_readme=readme)


HEADLINES: tuple[Headline, ...] = (
    _row("agent", "A conversation of 300 turns: bytes of WAL", "agent, 300 turns", "WAL", readme=True),
    _row("agent", "– its tables and indexes", "agent, 300 turns", "tables", readme=True),
    _row("agent", "– saving a checkpoint, turns 151 to 300", "agent, 300 turns", "put", readme=True),
    _row("small-writes", "– saving a task's writes", "agent, 300 turns", "put_writes"),
    _row("agent", "– reading its latest state", "agent, 300 turns", "get_tuple, latest", readme=True),
    _row("agent", "– reading an older state by its id", "agent, 300 turns", "get_tuple, by id"),
    _row("agent", "– listing its last 20 checkpoints", "list, *", "list(limit=20)", readme=True),
    _row("agent", "– listing all of them", "list, *", "list()"),
    _row("agent", "– a whole turn in LangGraph, turns 1 to 150", "agent in LangGraph*", "turn", readme=True),
    _row("delta", "An agent with `DeltaChannel`: a turn", "DeltaChannel, frequency 100*", "turn", readme=True),
    _row("delta", "– the last 50 states of its history", "DeltaChannel, frequency 100*", "last 50 states", readme=True),
    _row("deep", "A Deep Agent: one of the last 10 turns of 60", "Deep Agent*", "turn, last *", readme=True),
    _row("deep", "– opening its state", "Deep Agent*", "get_state", readme=True),
    _row("deep", "– the last 30 states of its history", "Deep Agent*", "last 30 states"),
    _row("deep", "– bytes of WAL", "Deep Agent*", "WAL"),
    _row(
        "chats",
        "Short chats: one alone, its three turns",
        "short chats",
        "chat, sync saver, durability sync",
        readme=True,
    ),
    _row("chats", '– with durability "async"', "short chats", "chat, sync saver, durability async"),
    _row("chats", "– on the async saver", "short chats", "chat, async saver"),
    _row("chats", "– 16 at once, event loop", "short chats", "turns, 16 at once, *", readme=True),
    _row("chats", "– 16 in each of 4 processes", "short chats", "turns, 4 processes *"),
    _row("fan-out", "A step of 100 parallel tasks: threads", "fan-out, 100 tasks", "step, sync"),
    _row("fan-out", "– event loop", "fan-out, 100 tasks", "step, async", readme=True),
    _row("workers", "Workers that save and read small states: one", "workers", "1 worker, sync"),
    _row("workers", "– 16 threads", "workers", "16 workers, sync"),
    _row("workers", "– 16 tasks of an event loop", "workers", "16 workers, async", readme=True),
    _row("workers", "– 64 threads", "workers", "64 workers, sync"),
    _row("small-put", "A state of a few bytes: saving a checkpoint", "channels: small state", "put", readme=True),
    _row("small-writes", "– saving a task's writes", "channels: small state", "put_writes", readme=True),
    _row("small-get", "– reading the latest state", "channels: small state", "get_tuple, latest"),
    _row("by-id", "– reading an older state by its id", "channels: small state", "get_tuple, by id", readme=True),
    _row("by-id", "A state of 200 channels: reading an older one", "channels: 200 channels*", "get_tuple, by id"),
    _row("by-id", "Encrypted messages: reading an older state", "channels: encrypted*", "get_tuple, by id"),
    _row("large", "A value of 5 MB, replaced: saving a checkpoint", "channels: 5 MB*", "put"),
    _row("large", "– saving a task's writes", "channels: 5 MB*", "put_writes"),
    _row("filter", "Finding checkpoints by metadata: 50 of 30,000", "list(filter*", "50 hits"),
    _row("filter", "– the first 20 of 500", "list(filter*", "500 hits, limit=20"),
    _row("cold", "A new process: its first read", "cold process*", "read"),
    _row("memory", "Memory for states of 5 MB: a reader", "memory", "reader, get_tuple"),
    _row("memory", "– a writer", "memory", "writer, *"),
    _row("network", "1 ms of network: saving a checkpoint", "1 ms of delay", "put"),
    _row("network", "– reading the latest state", "1 ms of delay", "get_tuple, latest"),
    _row("pooler", "Through PgBouncer: saving a checkpoint", "PgBouncer", "put"),
    _row("pooler", "– reading the latest state", "PgBouncer", "get_tuple, latest"),
)


def find(headline: Headline, results: Results) -> Measure | None:
    """The row's figure; None where it was not measured."""
    for measure in results.measures:
        if fnmatchcase(measure.workload, headline.workload) and fnmatchcase(measure.name, headline.name):
            return measure
    return None


def read_reasons(text: str) -> dict[str, str]:
    """Reasons by key, each on one line: the texts under the headings.

    Raises:
        ValueError: for a heading that is no row's key.
    """
    _, *sections = re.split(r"^## +", text, flags=re.MULTILINE)
    reasons = {}
    for section in sections:
        key, _, reason = section.partition("\n")
        reasons[key.strip()] = " ".join(reason.split())
    if unknown := set(reasons) - {headline.key for headline in HEADLINES}:
        raise ValueError(f"no row has the key {', '.join(sorted(unknown))}")
    return reasons
