"""An event-sourced checkpointer for LangGraph on PostgreSQL.

    from langgraph.checkpoint.eventlog import EventLogSaver

    with EventLogSaver.from_conn_string("postgresql://…") as checkpointer:
        checkpointer.setup()
        graph = builder.compile(checkpointer=checkpointer)

The async saver is `langgraph.checkpoint.eventlog.aio.AsyncEventLogSaver`.
"""

from langgraph.checkpoint.eventlog import _rooms  # noqa: F401,I001 -- first: it explains what a shadowed import would hide
from eventlog.inventory import Partition, Partitions, ThreadSummary
from eventlog.lifecycle import Erased
from eventlog.verifying import Problem
from langgraph.checkpoint.eventlog._retention import Retained
from langgraph.checkpoint.eventlog._saver import EventLogSaver
from langgraph.checkpoint.eventlog._verifying import Verified
from projections.comparing import Difference
from projections.rebuild import RebuildProgress, Rebuilt

__all__ = [
    "Difference",
    "Erased",
    "EventLogSaver",
    "Partition",
    "Partitions",
    "Problem",
    "RebuildProgress",
    "Rebuilt",
    "Retained",
    "ThreadSummary",
    "Verified",
]
