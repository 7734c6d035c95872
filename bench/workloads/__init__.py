"""The workloads, in the order in which they are measured. Each is a function from a context to measures."""

from __future__ import annotations

from collections.abc import Callable

from bench.context import Context
from bench.results import Measure
from bench.workloads import (
    agent,
    channels,
    chats,
    cold,
    deep_agent,
    delta,
    fanout,
    growth,
    listing,
    network,
    partitions,
    workers,
)

__all__ = ["WORKLOADS", "Workload"]

Workload = Callable[[Context], list[Measure]]

#: By the name that `suite.py --only` knows it by.
WORKLOADS: list[tuple[str, Workload]] = [
    ("agent", agent.measure),
    ("langgraph", agent.in_langgraph),
    ("chats", chats.measure),
    ("channels", channels.measure),
    ("delta", delta.measure),
    ("deep-agent", deep_agent.measure),
    ("fan-out", fanout.measure),
    ("workers", workers.measure),
    ("cold", cold.measure),
    ("memory", cold.memory),
    ("list", listing.measure),
    ("filter", listing.filtered),
    ("partitions", partitions.measure),
    ("growth", growth.measure),
    ("network", network.measure),
]
