"""An event-sourced checkpointer for LangGraph on PostgreSQL.

    from langgraph.checkpoint.eventlog import EventLogSaver

    with EventLogSaver.from_conn_string("postgresql://…") as checkpointer:
        checkpointer.setup()
        graph = builder.compile(checkpointer=checkpointer)

The log behind it, for audits and reader, is `checkpointer.log`, or an `EventLog` opened alone. The async twins are
`AsyncEventLogSaver` and `AsyncEventLog` in `langgraph.checkpoint.eventlog.aio`. All other public names are here.
"""

from langgraph.checkpoint.eventlog import _import_guard  # noqa: F401,I001 -- first: it explains what a shadowed import would hide
from eventlog import errors
from eventlog.archive import VerifiedArchive
from eventlog.db.retry import RetryPolicy
from eventlog.embedded import embedded_server
from eventlog.errors import *  # noqa: F403 -- all errors are public
from eventlog.format.upcasting import Upcaster
from eventlog.events import Cursor, Kind, StoredEvent
from eventlog.feed import Holder, Lag
from eventlog.partitions import Partition, Partitions
from eventlog.read import CheckpointName
from eventlog.records import Erased
from eventlog.retention import Retention
from eventlog.seals import Proof, Seal, SignedSeal, verify_proof
from eventlog.settings import Settings, Telemetry
from eventlog.statistics import CacheStats, Growth, Relation, Replay, Stats
from eventlog.threads import ThreadSummary
from langgraph.checkpoint.eventlog._log import EventLog
from langgraph.checkpoint.eventlog._maintain import Maintained
from langgraph.checkpoint.eventlog._migrating import MigratingSaver
from langgraph.checkpoint.eventlog._saver import EventLogSaver
from langgraph.checkpoint.eventlog.audit.inspect import Inspected, StepCheckpoint, StoredChannel
from langgraph.checkpoint.eventlog.audit.status import PendingTask, ThreadStatus
from langgraph.checkpoint.eventlog.integrity.chain import Problem
from langgraph.checkpoint.eventlog.integrity.receipts import Erasure, Receipt, verify_receipt
from langgraph.checkpoint.eventlog.integrity.signed import read_proof, verify_signed_seals
from langgraph.checkpoint.eventlog.integrity.verify import Coverage, Verified
from langgraph.checkpoint.eventlog.lifecycle.prune_all import Pruned
from langgraph.checkpoint.eventlog.lifecycle.purge import Purged, PurgedTable
from langgraph.checkpoint.eventlog.lifecycle.retain import Retained
from langgraph.checkpoint.eventlog.transfer.export import Exported, ExportedThread
from langgraph.checkpoint.eventlog.transfer.estimate import ImportEstimate
from langgraph.checkpoint.eventlog.transfer.import_threads import ImportedThread
from langgraph.checkpoint.eventlog.transfer.run import Imported, ImportProgress
from projections.compare import RowDifference
from projections.custom import Applied, Projection, ProjectionState
from projections.diff import Difference, Undecodable, ValueDifference
from projections.event import Event, Write
from projections.history import Change, ChannelChange, FeedChange, HistoryEntry
from projections.rebuild import RebuildProgress, Rebuilt
from projections.set_aside import Retried, SetAside
from projections.tuples import StoredWrite
from projections.usage import Usage

__all__ = [
    "Applied",
    "CacheStats",
    "Change",
    "ChannelChange",
    "CheckpointName",
    "Coverage",
    "Cursor",
    "Difference",
    "Erased",
    "Erasure",
    "Event",
    "EventLog",
    "EventLogSaver",
    "Exported",
    "ExportedThread",
    "FeedChange",
    "Growth",
    "HistoryEntry",
    "Holder",
    "ImportEstimate",
    "ImportProgress",
    "Imported",
    "ImportedThread",
    "Inspected",
    "Kind",
    "Lag",
    "Maintained",
    "MigratingSaver",
    "Partition",
    "Partitions",
    "PendingTask",
    "Problem",
    "Projection",
    "ProjectionState",
    "Proof",
    "Pruned",
    "Purged",
    "PurgedTable",
    "RebuildProgress",
    "Rebuilt",
    "Receipt",
    "Relation",
    "Replay",
    "Retained",
    "Retention",
    "Retried",
    "RetryPolicy",
    "RowDifference",
    "Seal",
    "SetAside",
    "Settings",
    "SignedSeal",
    "Stats",
    "StepCheckpoint",
    "StoredChannel",
    "StoredEvent",
    "StoredWrite",
    "Telemetry",
    "ThreadStatus",
    "ThreadSummary",
    "Undecodable",
    "Upcaster",
    "Usage",
    "ValueDifference",
    "Verified",
    "VerifiedArchive",
    "Write",
    "embedded_server",
    "read_proof",
    "verify_proof",
    "verify_receipt",
    "verify_signed_seals",
]
__all__ += errors.__all__
