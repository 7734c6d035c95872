"""A log's content as documents of plain JSON: for the web viewer, the MCP server and exports.

`Reader` wraps an `EventLog` or an `AsyncEventLog`. Each document is a coroutine function that takes a reader, reads the
content of one page, and returns a mapping of JSON values: times are ISO 8601 in UTC with milliseconds, sizes are bytes,
values are trees (`viewing.plain`). Nothing here writes, and no code runs that stored data names.
"""

from langgraph.checkpoint.eventlog.viewing.checkpoint import channel, checkpoint
from langgraph.checkpoint.eventlog.viewing.comparing import diff
from langgraph.checkpoint.eventlog.viewing.errors import error_document
from langgraph.checkpoint.eventlog.viewing.export import export, export_lines, export_text
from langgraph.checkpoint.eventlog.viewing.moments import at
from langgraph.checkpoint.eventlog.viewing.overview import log
from langgraph.checkpoint.eventlog.viewing.proof import proof, verify
from langgraph.checkpoint.eventlog.viewing.reader import Reader
from langgraph.checkpoint.eventlog.viewing.threads import threads
from langgraph.checkpoint.eventlog.viewing.timeline import thread

__all__ = [
    "Reader",
    "at",
    "channel",
    "checkpoint",
    "diff",
    "error_document",
    "export",
    "export_lines",
    "export_text",
    "log",
    "proof",
    "thread",
    "threads",
    "verify",
]
