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
from eventlog.events import Cursor, Kind, StoredEvent
from eventlog.feed import Holder, Lag
from eventlog.partitions import Partition, Partitions
from eventlog.read import CheckpointName
from eventlog.records import Erased
from eventlog.seals import Proof, Seal, SignedSeal, verify_proof
from eventlog.settings import Settings
from eventlog.statistics import CacheStats, Growth, Relation, Replay, Stats
from eventlog.statistics import ThreadSummary
from langgraph.checkpoint.eventlog._log import EventLog
from langgraph.checkpoint.eventlog._saver import EventLogSaver
from langgraph.checkpoint.eventlog.audit.inspect import Inspected, StoredChannel
from langgraph.checkpoint.eventlog.integrity.chain import Problem
from langgraph.checkpoint.eventlog.integrity.receipts import Erasure, Receipt, verify_receipt
from langgraph.checkpoint.eventlog.integrity.signed import read_proof, verify_signed_seals
from langgraph.checkpoint.eventlog.integrity.verify import Verified
from langgraph.checkpoint.eventlog.lifecycle.purge import Purged, PurgedTable
from langgraph.checkpoint.eventlog.lifecycle.retain import Retained
from projections.compare import RowDifference
from projections.custom import Applied, Projection, ProjectionState
from projections.diff import Difference, ValueDifference
from projections.event import Event, Write
from projections.history import Change, ChannelChange, HistoryEntry
from projections.rebuild import RebuildProgress, Rebuilt
from projections.tuples import StoredWrite
from projections.usage import Usage

__all__ = [
    "Applied",
    "CacheStats",
    "Change",
    "ChannelChange",
    "CheckpointName",
    "Cursor",
    "Difference",
    "Erased",
    "Erasure",
    "Event",
    "EventLog",
    "EventLogSaver",
    "Growth",
    "HistoryEntry",
    "Holder",
    "Inspected",
    "Kind",
    "Lag",
    "Partition",
    "Partitions",
    "Problem",
    "Projection",
    "ProjectionState",
    "Proof",
    "Purged",
    "PurgedTable",
    "RebuildProgress",
    "Rebuilt",
    "Receipt",
    "Relation",
    "Replay",
    "Retained",
    "RetryPolicy",
    "RowDifference",
    "Seal",
    "Settings",
    "SignedSeal",
    "Stats",
    "StoredChannel",
    "StoredEvent",
    "StoredWrite",
    "ThreadSummary",
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
