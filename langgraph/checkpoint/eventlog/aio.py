"""The public names of the async face: awaited twins. All others are in `langgraph.checkpoint.eventlog`."""

from langgraph.checkpoint.eventlog._async_log import AsyncEventLog
from langgraph.checkpoint.eventlog._async_migrating import AsyncMigratingSaver
from langgraph.checkpoint.eventlog._async_saver import AsyncEventLogSaver

__all__ = ["AsyncEventLog", "AsyncEventLogSaver", "AsyncMigratingSaver"]
