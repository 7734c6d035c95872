"""The instruments, one set for each meter provider, and their sources: pools, caches, and the last readings of the log.

The counters of pools and caches are read when the metrics are. Gauges show the last reading of the log, as a reader of
metrics should not wait for a database: each run of `maintain` takes one, and so does each call of `partitions` and
`lag`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final, Protocol
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation

from eventlog.telemetry import names

if TYPE_CHECKING:
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from eventlog.statistics import CacheStats

__all__ = ["VERSION", "Cache", "Instruments"]

#: The version of the instrumentation scope.
VERSION: Final = metadata.version("langgraph-checkpoint-eventlog")

#: The global meter provider's key.
_GLOBAL: Final = type("Global", (), {})()

_LOCK = threading.Lock()
_MADE: WeakKeyDictionary[Any, Instruments] = WeakKeyDictionary()


class Cache(Protocol):
    """A cache that counts its hits and misses."""

    @property
    def stats(self) -> CacheStats:
        """The counts."""
        ...


class Totals:
    """Sums of counters that begin at 0 and belong to short-lived objects: a sum never decreases."""

    def __init__(self) -> None:
        self._last: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._sums: dict[Any, int] = {}

    def add(self, key: Any, of: Any, count: int) -> None:
        """Add an object's counts so far."""
        before = self._last.get(of, 0)
        # A pool's statistics can be reset.
        self._sums[key] = self._sums.get(key, 0) + (count - before if count >= before else count)
        self._last[of] = count

    def items(self) -> list[tuple[Any, int]]:
        """The sums, by key."""
        return list(self._sums.items())


class Instruments:
    """All instruments of one meter provider.

    Args:
        provider: None: the global one, which may be set later.
    """

    @staticmethod
    def of(provider: Any) -> Instruments:
        """The instruments of a meter provider, created once: a second instrument of the same name would not be
        observed."""
        key = _GLOBAL if provider is None else provider
        with _LOCK:
            found = _MADE.get(key)
            if found is None:
                found = _MADE[key] = Instruments(provider)
            return found

    def __init__(self, provider: Any) -> None:
        self._meter = metrics.get_meter(names.SCOPE, VERSION, provider, names.SCHEMA_URL)
        self._lock = threading.Lock()
        self._pools: WeakSet[ConnectionPool[Any] | AsyncConnectionPool[Any]] = WeakSet()
        self._caches: WeakKeyDictionary[Cache, str] = WeakKeyDictionary()
        self._looks: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
        self._timeouts, self._hits, self._misses = Totals(), Totals(), Totals()

        self.duration = self._histogram(names.DURATION)
        self.wait_time = self._histogram(names.POOL_WAIT)
        self.use_time = self._histogram(names.POOL_USE)
        self.group_size = self._histogram(names.GROUP_SIZE)
        self.replayed = self._histogram(names.REPLAYED)
        self.appended_events = self._counter(names.APPENDED_EVENTS)
        self.appended_size = self._counter(names.APPENDED_SIZE)
        self.state_size = self._counter(names.STATE_SIZE)
        self.conflicts = self._counter(names.CONFLICTS)
        self.snapshots = self._counter(names.SNAPSHOTS)
        self.retries = self._counter(names.RETRIES)
        self.erasures = self._counter(names.ERASURES)
        self.erased_events = self._counter(names.ERASED_EVENTS)

        self._observe(names.POOL_COUNT, self._counts)
        self._observe(names.POOL_MAX, lambda: self._of_pools(lambda pool, _: pool.max_size))
        self._observe(names.POOL_PENDING, lambda: self._of_pools(lambda _, stats: stats.get("requests_waiting", 0)))
        self._observe(names.POOL_TIMEOUTS, self._pool_timeouts)
        self._observe(names.CACHE_HITS, lambda: self._of_caches(self._hits, lambda stats: stats.hits))
        self._observe(names.CACHE_MISSES, lambda: self._of_caches(self._misses, lambda stats: stats.misses))
        for name in (names.LAG, names.LAG_TIME, names.PARTITIONS_AHEAD, names.RUNWAY):
            self._observe(name, lambda name=name: self._last_looks(name))  # type: ignore[misc]

    # --- making them

    def _histogram(self, name: str) -> Histogram:
        metric = names.METRICS[name]
        return self._meter.create_histogram(
            name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
        )

    def _counter(self, name: str) -> Counter:
        metric = names.METRICS[name]
        return self._meter.create_counter(name, metric.unit, metric.description)

    def _observe(self, name: str, observe: Callable[[], Iterable[Observation]]) -> None:
        metric = names.METRICS[name]
        create: Any = {
            "counter": self._meter.create_observable_counter,
            "updowncounter": self._meter.create_observable_up_down_counter,
            "gauge": self._meter.create_observable_gauge,
        }[metric.kind]

        def callback(_: CallbackOptions) -> Iterable[Observation]:
            return list(observe())

        create(name, [callback], metric.unit, metric.description)

    # --- their sources

    def watch_pool(self, pool: ConnectionPool[Any] | AsyncConnectionPool[Any]) -> None:
        """Observe a pool for as long as it lives."""
        with self._lock:
            self._pools.add(pool)

    def watch_cache(self, cache: Cache, schema: str) -> None:
        """Observe a cache for as long as it lives."""
        with self._lock:
            self._caches[cache] = schema

    def look(self, name: str, value: float, attributes: Mapping[str, str]) -> None:
        """Store a gauge's value."""
        self._looks[name, tuple(attributes.items())] = value

    def forget_projections(self, name: str, schema: str) -> None:
        """Drop a gauge's values of all projections of a log: some may have been removed."""
        for key in list(self._looks):
            attributes = dict(key[1])
            if key[0] == name and names.PROJECTION in attributes and attributes[names.SCHEMA] == schema:
                self._looks.pop(key, None)

    def _last_looks(self, name: str) -> Iterable[Observation]:
        return [
            Observation(value, dict(attributes)) for (of, attributes), value in list(self._looks.items()) if of == name
        ]

    def _open_pools(self) -> list[ConnectionPool[Any] | AsyncConnectionPool[Any]]:
        with self._lock:
            return [pool for pool in self._pools if not pool.closed]

    def _of_pools(self, value: Callable[[Any, dict[str, int]], int]) -> Iterable[Observation]:
        for pool in self._open_pools():
            yield Observation(value(pool, pool.get_stats()), pool_attributes(pool))

    def _counts(self) -> Iterable[Observation]:
        for pool in self._open_pools():
            stats = pool.get_stats()
            idle = stats.get("pool_available", 0)
            for state, count in (("idle", idle), ("used", max(0, stats.get("pool_size", 0) - idle))):
                yield Observation(count, {**pool_attributes(pool), names.POOL_STATE: state})

    def _pool_timeouts(self) -> Iterable[Observation]:
        for pool in self._open_pools():
            self._timeouts.add(pool.name, pool, pool.get_stats().get("requests_errors", 0))
        for name, count in self._timeouts.items():
            yield Observation(count, {names.DB_SYSTEM: names.POSTGRESQL, names.POOL_NAME: name})

    def _of_caches(self, totals: Totals, count: Callable[[CacheStats], int]) -> Iterable[Observation]:
        with self._lock:
            caches = list(self._caches.items())
        for cache, schema in caches:
            totals.add(schema, cache, count(cache.stats))
        return [Observation(value, {names.SCHEMA: schema}) for schema, value in totals.items()]


def pool_attributes(pool: ConnectionPool[Any] | AsyncConnectionPool[Any]) -> dict[str, str]:
    """The name of a pool in metrics."""
    return {names.DB_SYSTEM: names.POSTGRESQL, names.POOL_NAME: pool.name}
