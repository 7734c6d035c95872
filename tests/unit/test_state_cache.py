"""The state cache: it forgets, but never lies, and never grows over its bound."""

from __future__ import annotations

import random
import sys
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from eventlog.format.contents import Serialized
from eventlog.streams import Stream
from snapshots.state import CheckpointState, StateCache

STREAMS = [Stream(thread, ns) for thread in ("a", "b") for ns in ("", "sub")]
IDS = [f"c{number}" for number in range(5)]


def state(checkpoint_id: str, size: int) -> CheckpointState:
    return CheckpointState(checkpoint_id, {"x": "1"}, {}, {"x": Serialized("bytes", bytes(size))})


WEIGHT = state("", 0).weight


class CacheMachine(RuleBasedStateMachine):
    """The cache against an ordered dictionary: oldest use first."""

    @initialize(limit=st.sampled_from([0, 1, WEIGHT, 4 * WEIGHT, 100 * WEIGHT]))
    def start(self, limit: int) -> None:
        self.limit = limit
        self.cache = StateCache(limit)
        self.model: OrderedDict[tuple[Stream, str], CheckpointState] = OrderedDict()
        self.last: dict[Stream, str] = {}

    def forget(self, key: tuple[Stream, str]) -> None:
        if self.model.pop(key, None) is not None and self.last.get(key[0]) == key[1]:
            del self.last[key[0]]

    @rule(
        stream=st.sampled_from(STREAMS),
        checkpoint_id=st.sampled_from(IDS),
        size=st.sampled_from([0, 1, WEIGHT, 3 * WEIGHT]),
        replaces=st.none() | st.sampled_from(IDS),
    )
    def put(self, stream: Stream, checkpoint_id: str, size: int, replaces: str | None) -> None:
        """A child takes its parent's place, then the least recently used make room."""
        new = state(checkpoint_id, size)
        self.cache.put(stream, new, replaces=replaces)
        self.forget((stream, checkpoint_id))
        if replaces is not None:
            self.forget((stream, replaces))
        if new.weight <= self.limit:
            self.model[stream, checkpoint_id] = new
            self.last[stream] = checkpoint_id
        while sum(each.weight for each in self.model.values()) > self.limit:
            self.forget(next(iter(self.model)))

    @rule(stream=st.sampled_from(STREAMS), checkpoint_id=st.none() | st.sampled_from(IDS))
    def get(self, stream: Stream, checkpoint_id: str | None) -> None:
        """A hit is the frame that was put, and makes it the most recently used."""
        wanted = checkpoint_id or self.last.get(stream, "")
        assert self.cache.get(stream, checkpoint_id) is self.model.get((stream, wanted))
        if (stream, wanted) in self.model:
            self.model.move_to_end((stream, wanted))

    @rule(stream=st.sampled_from(STREAMS), checkpoint_id=st.sampled_from(IDS))
    def drop(self, stream: Stream, checkpoint_id: str) -> None:
        self.cache.drop(stream, checkpoint_id)
        self.forget((stream, checkpoint_id))

    @rule(thread_id=st.sampled_from(["a", "b", "c"]))
    def drop_thread(self, thread_id: str) -> None:
        self.cache.drop_thread(thread_id)
        for key in [key for key in self.model if key[0].thread_id == thread_id]:
            self.forget(key)

    @invariant()
    def counts_what_it_has(self) -> None:
        assert self.cache.size_bytes == sum(each.weight for each in self.model.values())
        assert self.cache.size_bytes <= self.limit

    def teardown(self) -> None:
        for key, kept in self.model.items():
            assert self.cache.get(*key) is kept
        for thread_id in ("a", "b"):
            self.cache.drop_thread(thread_id)
        assert self.cache.size_bytes == 0


def test_the_cache_equals_its_model() -> None:
    """Bound, order of use, replacement and accounting, whatever is done in which order."""
    run_state_machine_as_test(
        CacheMachine,
        settings=settings(derandomize=True, database=None, deadline=None, max_examples=150, stateful_step_count=40),
    )


def test_the_weight_covers_values_and_channels() -> None:
    """The bound is on memory: values count in full, and many small channels are not free."""
    assert state("c", 10_000).weight - state("c", 0).weight == 10_000
    crowded = CheckpointState("c", {f"x{i}": "1" for i in range(100)}, {"n": {"x": "1"}}, {})
    assert crowded.weight > state("c", 0).weight * 10


def test_sixteen_threads_keep_the_cache_consistent() -> None:
    """16 threads on a cache for two states: nothing is lost from the account, no hit is another's."""
    cache = StateCache(2 * WEIGHT + 10)
    barrier = threading.Barrier(16)

    def work(number: int) -> None:
        rng = random.Random(number)
        barrier.wait()
        for _ in range(500):
            stream, checkpoint_id = rng.choice(STREAMS), rng.choice(IDS)
            cache.put(stream, state(checkpoint_id, rng.randrange(10)), rng.choice([None, *IDS]))
            found = cache.get(rng.choice(STREAMS), wanted := rng.choice(IDS))
            assert found is None or found.checkpoint_id == wanted
            if rng.random() < 0.1:
                cache.drop_thread(stream.thread_id)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # a thread is interrupted in the middle of almost everything
    try:
        with ThreadPoolExecutor(16) as threads:
            assert len(list(threads.map(work, range(16)))) == 16
    finally:
        sys.setswitchinterval(interval)
    assert cache.size_bytes <= 2 * WEIGHT + 10
    for stream in STREAMS:
        for checkpoint_id in IDS:
            cache.drop(stream, checkpoint_id)
    assert cache.size_bytes == 0
