"""All names of spans, attributes and metrics, with their meaning. docs/reference/spans-and-metrics.md shows them.

Names that begin with ``db.``, ``server.``, ``error.`` or ``gen_ai.`` are OpenTelemetry's semantic conventions, as of
version 1.33; all others are ours. An attribute of a metric has few values: no id of a thread, checkpoint or run.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

__all__ = ["METRICS", "SCHEMA_URL", "SCOPE", "SPAN_ATTRIBUTES", "Metric", "prometheus_names"]

#: The instrumentation scope of all spans and metrics.
SCOPE: Final = "langgraph.checkpoint.eventlog"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.33.0"

#: A call's span is called this and the method's name: ``eventlog.put``. (`aput` is ``eventlog.put`` too.)
SPAN_PREFIX: Final = "eventlog."

# --- attributes of a call's span

THREAD_ID: Final = "gen_ai.conversation.id"
CHECKPOINT_NS: Final = "langgraph.checkpoint_ns"
CHECKPOINT_ID: Final = "langgraph.checkpoint_id"
STEP: Final = "langgraph.step"
SOURCE: Final = "langgraph.source"
RUN_ID: Final = "langgraph.run_id"

# --- attributes of a statement's span, and of database metrics

DB_SYSTEM: Final = "db.system.name"
POSTGRESQL: Final = "postgresql"
DB_NAMESPACE: Final = "db.namespace"
DB_SUMMARY: Final = "db.query.summary"
DB_OPERATION: Final = "db.operation.name"
DB_PROCEDURE: Final = "db.stored_procedure.name"
DB_BATCH_SIZE: Final = "db.operation.batch.size"
DB_STATUS: Final = "db.response.status_code"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
POOL_NAME: Final = "db.client.connection.pool.name"
POOL_STATE: Final = "db.client.connection.state"

# --- attributes of our metrics

SCHEMA: Final = "eventlog.schema"
KIND: Final = "eventlog.event.kind"
ACTION: Final = "eventlog.snapshot.action"
REASON: Final = "eventlog.conflict.reason"
OPERATION: Final = "eventlog.operation"
PROJECTION: Final = "eventlog.projection"

# --- events on a call's span

RETRY_EVENT: Final = "eventlog.retry"
RETRY_ATTEMPT: Final = "eventlog.retry.attempt"
RETRY_WAIT: Final = "eventlog.retry.wait"
BATCH_EVENT: Final = "eventlog.group_commit"

#: The attributes that spans may have, with their meaning. No others are ever set.
SPAN_ATTRIBUTES: Final[dict[str, str]] = {
    THREAD_ID: "the thread's id",
    CHECKPOINT_NS: "the namespace: empty for the root graph",
    CHECKPOINT_ID: "the checkpoint that the call puts, reads or finds, or that `put_writes` writes to",
    STEP: "the step in the checkpoint's metadata",
    SOURCE: "the source in the checkpoint's metadata: `input`, `loop`, `update` or `fork`",
    RUN_ID: "the run in the checkpoint's metadata, or in the config's",
    ERROR_TYPE: "the SQLSTATE, or else the class of the error; never its message",
    DB_SYSTEM: "`postgresql`",
    DB_NAMESPACE: "the database and the log's schema, separated by a vertical bar",
    DB_SUMMARY: "the query's name in `sql/queries`, or else the statement's first word",
    DB_OPERATION: "the statement's first word: `SELECT`",
    DB_PROCEDURE: "the log's function that the statement calls",
    DB_BATCH_SIZE: "the number of appends in a statement of a group commit",
    DB_STATUS: "the SQLSTATE of a statement that failed",
    SERVER_ADDRESS: "the host, or the folder of the unix socket",
    SERVER_PORT: "the port",
    RETRY_ATTEMPT: "of the event `eventlog.retry`: the number of the next try",
    RETRY_WAIT: "of the event `eventlog.retry`: the seconds until the next try",
}


class Metric(NamedTuple):
    """A metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram", "updowncounter"]
    unit: str
    """UCUM: s, By, or the counted things in braces."""
    description: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...] | None = None


#: Buckets for waits and statements, in seconds, from the semantic conventions.
_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_COUNTS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_EVENTS: Final = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

DURATION: Final = "db.client.operation.duration"
POOL_COUNT: Final = "db.client.connection.count"
POOL_MAX: Final = "db.client.connection.max"
POOL_PENDING: Final = "db.client.connection.pending_requests"
POOL_TIMEOUTS: Final = "db.client.connection.timeouts"
POOL_WAIT: Final = "db.client.connection.wait_time"
POOL_USE: Final = "db.client.connection.use_time"
APPENDED_EVENTS: Final = "eventlog.append.events"
APPENDED_SIZE: Final = "eventlog.append.size"
STATE_SIZE: Final = "eventlog.append.state_size"
CONFLICTS: Final = "eventlog.append.conflicts"
GROUP_SIZE: Final = "eventlog.group_commit.size"
REPLAYED: Final = "eventlog.read.events"
SNAPSHOTS: Final = "eventlog.snapshots"
CACHE_HITS: Final = "eventlog.cache.hits"
CACHE_MISSES: Final = "eventlog.cache.misses"
RETRIES: Final = "eventlog.retries"
LAG: Final = "eventlog.feed.lag"
LAG_TIME: Final = "eventlog.feed.lag_time"
PARTITIONS_AHEAD: Final = "eventlog.partitions.ahead"
RUNWAY: Final = "eventlog.partitions.runway"
ERASURES: Final = "eventlog.erasures"
ERASED_EVENTS: Final = "eventlog.erased.events"

_DB = (DB_SYSTEM, DB_NAMESPACE)
_POOL = (DB_SYSTEM, POOL_NAME)

#: All metrics, by name.
METRICS: Final[dict[str, Metric]] = {
    each.name: each
    for each in (
        Metric(
            DURATION,
            "histogram",
            "s",
            "how long a statement took, without the wait for a connection",
            (*_DB, DB_SUMMARY, DB_OPERATION, DB_PROCEDURE, SERVER_ADDRESS, SERVER_PORT, DB_STATUS, ERROR_TYPE),
            _SECONDS,
        ),
        Metric(
            POOL_COUNT,
            "updowncounter",
            "{connection}",
            "the pool's connections, `idle` or `used`",
            (*_POOL, POOL_STATE),
        ),
        Metric(POOL_MAX, "updowncounter", "{connection}", "the most connections that the pool may have", _POOL),
        Metric(POOL_PENDING, "updowncounter", "{request}", "calls that wait for a connection of the pool", _POOL),
        Metric(
            POOL_TIMEOUTS,
            "counter",
            "{timeout}",
            "requests that the pool did not serve: timeouts and a full queue",
            _POOL,
        ),
        Metric(POOL_WAIT, "histogram", "s", "how long the log waited for a connection of the pool", _POOL, _SECONDS),
        Metric(POOL_USE, "histogram", "s", "how long the log kept a connection of the pool", _POOL, _SECONDS),
        Metric(APPENDED_EVENTS, "counter", "{event}", "events appended: `checkpoint` or `writes`", (SCHEMA, KIND)),
        Metric(
            APPENDED_SIZE,
            "counter",
            "By",
            "bytes appended, as stored: of events of kind `checkpoint` and `writes`, and of each `snapshot`",
            (SCHEMA, KIND),
        ),
        Metric(
            STATE_SIZE,
            "counter",
            "By",
            "bytes of the appended checkpoints' states, each counted whole and not compressed",
            (SCHEMA,),
        ),
        Metric(
            CONFLICTS,
            "counter",
            "{conflict}",
            "appends that the log declined, by reason",
            (SCHEMA, REASON),
        ),
        Metric(GROUP_SIZE, "histogram", "{append}", "appends that share a statement and a commit", (SCHEMA,), _COUNTS),
        Metric(REPLAYED, "histogram", "{event}", "checkpoint events that a read replayed", (SCHEMA,), _EVENTS),
        Metric(SNAPSHOTS, "counter", "{snapshot}", "snapshots, `written` or `read`", (SCHEMA, ACTION)),
        Metric(CACHE_HITS, "counter", "{lookup}", "lookups of a state that the cache had", (SCHEMA,)),
        Metric(CACHE_MISSES, "counter", "{lookup}", "lookups of a state that the cache did not have", (SCHEMA,)),
        Metric(
            RETRIES, "counter", "{retry}", "tries after the first, by the error of the try before", (SCHEMA, ERROR_TYPE)
        ),
        Metric(
            LAG,
            "gauge",
            "{event}",
            "settled events that a projection has not applied, counted up to 10,000, as last read",
            (SCHEMA, PROJECTION),
        ),
        Metric(
            LAG_TIME,
            "gauge",
            "s",
            "the age of the first settled event that a projection has not applied; 0 if there is none",
            (SCHEMA, PROJECTION),
        ),
        Metric(
            PARTITIONS_AHEAD,
            "gauge",
            "{partition}",
            "partitions after the current one, without a gap, as last read",
            (SCHEMA,),
        ),
        Metric(RUNWAY, "gauge", "s", "the time until the partitions end, as last read", (SCHEMA,)),
        Metric(
            ERASURES,
            "counter",
            "{erasure}",
            "erasures of a thread, or of a part of one of its namespaces, by operation",
            (SCHEMA, OPERATION),
        ),
        Metric(ERASED_EVENTS, "counter", "{event}", "events that were erased, by operation", (SCHEMA, OPERATION)),
    )
}

#: How exporters to Prometheus spell units.
_UNITS: Final = {"s": "_seconds", "By": "_bytes"}
_SUFFIXES: Final = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


def prometheus_names(metric: Metric) -> list[str]:
    """The metric's time series in Prometheus, as OpenTelemetry's exporter and the collector's call them."""
    name = metric.name.replace(".", "_") + _UNITS.get(metric.unit, "")
    return [name + suffix for suffix in _SUFFIXES.get(metric.kind, ("",))]
