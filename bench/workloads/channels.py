"""(b) Nine shapes of state, each on its own thread: the cost of a checkpoint, its writes and its reads.

LangGraph does not run here: each step is a `put` of the checkpoint with its new versions, as LangGraph makes it, and
the `put_writes` of the one task that makes the next step. Every fourth step, the latest state is read, and a random
state by its id. At the end, the latest state is read several times by a saver with an empty cache.
"""

from __future__ import annotations

import random
from typing import Any

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver

from bench.context import Context
from bench.race import BY_ID, LATEST, NOTHING_CACHED, Race, thread
from bench.results import Measure
from bench.savers import open_savers
from bench.shapes import SHAPES, Shape

__all__ = ["measure"]


def measure(context: Context) -> list[Measure]:
    """Each shape in a database of its own."""
    found: list[Measure] = []
    for shape in context.track(SHAPES):
        with (
            context.database() as uri,
            open_savers(uri, serde=shape.serde) as savers,
            Race(uri, savers) as race,
        ):
            found += _measure(race, shape, context)
    return found


def _measure(race: Race, shape: Shape, context: Context) -> list[Measure]:
    name = f"channels: {shape.name}"
    count = context.pick(*shape.sizes)
    drive(race, shape, count)
    latest = thread("shape")
    for _ in range(context.pick(9, 5, 1)):
        race.get(latest, name=NOTHING_CACHED, fresh=True)
    calls = ("put", "put_writes", LATEST, BY_ID, NOTHING_CACHED)
    return [*race.bytes(name), *(race.timings.measure(name, call) for call in calls)]


def drive(race: Race, shape: Shape, count: int) -> None:
    """Make the calls that LangGraph would."""
    next_version, choice = InMemorySaver().get_next_version, random.Random(1)
    config, ids = thread("shape"), list[str]()
    values: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    seen: dict[str, Any] = {}
    often = 4 if count > 20 else 1
    for number, step in enumerate(shape.steps(count)):
        if number:
            race.put_writes(config, step.writes, f"task-{number}", counted=number > 1)
        new = {channel: next_version(versions.get(channel), None) for channel in step.changed}
        values, versions = {**values, **step.changed}, {**versions, **new}
        checkpoint = {
            **empty_checkpoint(),
            "v": 4,
            "channel_values": values,
            "channel_versions": versions,
            "versions_seen": {"__input__": {}, "work": seen},
        }
        seen = {channel: versions[channel] for channel in list(step.changed)[:1]}
        metadata = {"source": "loop", "step": number, "parents": {}}
        # The first step creates the state, so it is not comparable with the others.
        config = race.put(config, checkpoint, metadata, new, counted=number > 0)
        ids.append(config["configurable"]["checkpoint_id"])
        if number % 50 == 10:
            race.analyze()
        if number % often == 0:
            race.get(thread("shape"), counted=number > 0)
            race.get(thread("shape", choice.choice(ids)), name=BY_ID, counted=number > 0)
