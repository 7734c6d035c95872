"""(d) 1, 4, 16 and 64 workers on one saver with a pool of 16 connections: operations per second.

`bench/workers.py` has the workers; operations are a third `put`, a third `put_writes`, a third `get_tuple`. Each
worker has its own threads; or all put onto one thread, each as children of its own checkpoints. The savers take turns,
for a third of a second each, and the figures are medians of six such turns. Everything runs in one Python process, so
one core limits each saver.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import psycopg

from bench.context import Context
from bench.floors import Encoded, Floors
from bench.results import EVENTLOG, FLOOR, POSTGRES, Measure, Series, measure_of
from bench.savers import MeasuredSavers, open_async, open_savers
from bench.workers import AsyncFloor, Floor, Sizes, Worker, rate, rate_async, states

__all__ = ["measure"]

#: Of each pool.
CONNECTIONS = 16

WORKLOAD = "workers"

#: Of what one conversation appended.
BODIES = """
select percentile_disc(0.5) within group (order by octet_length(body)) from eventlog.events group by kind order by kind
"""

Samples = dict[tuple[str, int], dict[str, list[float]]]


class Plan:
    """What is measured, in turns.

    Args:
        context: says how much.
        kind: ``sync`` or ``async``.
        begin: how much of the workload is done before.
    """

    def __init__(self, context: Context, kind: str, begin: float) -> None:
        self.seconds = context.pick(0.3, 0.1, 0.01)
        self.states = states()
        self._kind = kind
        counts = context.pick((1, 4, 16, 64), (1, 4, 16), (1, 3))
        self._counts = counts
        rounds = context.pick(6, 2, 1)
        turns = [
            (about, count, number) for number in range(rounds) for count in counts for about in ("", ", one thread")
        ]
        self.turns = context.track(turns, begin, begin + 0.5)
        self.samples: Samples = defaultdict(lambda: defaultdict(list))

    def order(self, number: int) -> list[str]:
        """The order of the savers, which changes from turn to turn."""
        names = [EVENTLOG, POSTGRES, FLOOR]
        return names[number % 3 :] + names[: number % 3]

    def workers(self, about: str, count: int, number: int) -> list[Worker]:
        """For one turn of one saver."""
        name = f"{self._kind}{about}, {count}, {number}"
        if about:
            return [Worker(name, self.states, shares=True) for _ in range(count)]
        return [Worker(f"{name}, {worker}", self.states) for worker in range(count)]

    def measures(self) -> list[Measure]:
        """A figure for each number of workers, and the lines of the plot."""
        found = [
            measure_of(
                WORKLOAD, f"{count} {'worker' if count == 1 else 'workers'}, {self._kind}{about}", "op/s", samples
            )
            for (about, count), samples in sorted(self.samples.items())
        ]
        largest = found[len(self._counts) - 1]
        lines = [
            Series(
                saver=who,
                x=[float(count) for count in self._counts],
                y=[each.of(who) or 0.0 for each in found[: len(self._counts)]],
            )
            for who in (EVENTLOG, POSTGRES, FLOOR)
        ]
        return [*found, largest.model_copy(update={"name": f"throughput, {self._kind}", "series": lines})]


def measure(context: Context) -> list[Measure]:
    """The sync savers, then the async ones, each in a database of their own."""
    return [*_sync(context), *asyncio.run(_async(context))]


def _sync(context: Context) -> list[Measure]:
    plan = Plan(context, "sync", 0.0)
    with context.database() as uri, open_savers(uri, others=False, size=CONNECTIONS) as savers:
        floors = Floors(savers.pool, savers.serde)
        encoded = _encoded(savers, plan)
        for each in savers:
            rate([each.saver] * CONNECTIONS, plan.workers("", CONNECTIONS, -1), plan.seconds)
        sizes = _sizes(uri)
        for about, count, number in plan.turns:
            for who in plan.order(number):
                workers = plan.workers(about, count, number)
                called: list[Any] = (
                    [Floor(floors, encoded, sizes) for _ in workers] if who == FLOOR else [savers[who].saver] * count
                )
                plan.samples[about, count][who].append(rate(called, workers, plan.seconds))
    return plan.measures()


async def _async(context: Context) -> list[Measure]:
    plan = Plan(context, "async", 0.5)
    with context.database() as uri:
        async with open_async(uri, size=CONNECTIONS) as savers:
            encoded = _encoded(savers, plan)
            async with savers.pool.connection() as conn:
                await conn.execute("create table bench_floor (key text primary key, body bytea not null)")
            for each in savers:
                await rate_async([each.saver] * CONNECTIONS, plan.workers("", CONNECTIONS, -1), plan.seconds)
            sizes = _sizes(uri)
            for about, count, number in plan.turns:
                for who in plan.order(number):
                    workers = plan.workers(about, count, number)
                    called: list[Any] = (
                        [AsyncFloor(savers.pool, savers.serde, encoded, sizes) for _ in workers]
                        if who == FLOOR
                        else [savers[who].saver] * count
                    )
                    plan.samples[about, count][who].append(await rate_async(called, workers, plan.seconds))
    return plan.measures()


def _encoded(savers: MeasuredSavers, plan: Plan) -> list[Encoded]:
    return [[savers.serde.dumps_typed(messages)] for messages in plan.states]


def _sizes(uri: str) -> Sizes:
    with psycopg.connect(uri) as conn:
        (put,), (put_writes,) = conn.execute(BODIES).fetchall()
    return Sizes(put, put_writes)
