"""An event-sourced checkpointer for LangGraph on PostgreSQL.

    from langgraph.checkpoint.eventlog import EventLogSaver

    with EventLogSaver.from_conn_string("postgresql://…") as checkpointer:
        checkpointer.setup()
        graph = builder.compile(checkpointer=checkpointer)

The async saver is `langgraph.checkpoint.eventlog.aio.AsyncEventLogSaver`.
"""

from langgraph.checkpoint.eventlog import _import_guard  # noqa: F401,I001 -- first: it explains what a shadowed import would hide
from eventlog.db.retry import RetryPolicy
from eventlog.events import Cursor, StoredEvent
from eventlog.lag import Holder, Lag
from eventlog.partitions import Partition, Partitions
from eventlog.read import CheckpointName
from eventlog.records import Erased
from eventlog.seals import Proof, Seal, verify_proof
from eventlog.statistics import CacheStats, Growth, Relation, Replay, Stats
from eventlog.threads import ThreadSummary
from langgraph.checkpoint.eventlog._saver import EventLogSaver
from langgraph.checkpoint.eventlog.audit.inspect import Inspected, StoredChannel, StoredWrite
from langgraph.checkpoint.eventlog.integrity.chain import Problem
from langgraph.checkpoint.eventlog.integrity.verify import Verified
from langgraph.checkpoint.eventlog.lifecycle.retain import Retained
from projections.changes import Change
from projections.compare import RowDifference
from projections.diff import Difference, ValueDifference
from projections.history import ChannelChange, HistoryRecord
from projections.rebuild import RebuildProgress, Rebuilt

__all__ = [
    "CacheStats",
    "Change",
    "ChannelChange",
    "CheckpointName",
    "Cursor",
    "Difference",
    "Erased",
    "EventLogSaver",
    "Growth",
    "HistoryRecord",
    "Holder",
    "Inspected",
    "Lag",
    "Partition",
    "Partitions",
    "Problem",
    "Proof",
    "RebuildProgress",
    "Rebuilt",
    "Relation",
    "Replay",
    "Retained",
    "RetryPolicy",
    "RowDifference",
    "Seal",
    "Stats",
    "StoredChannel",
    "StoredEvent",
    "StoredWrite",
    "ThreadSummary",
    "ValueDifference",
    "Verified",
    "verify_proof",
]
