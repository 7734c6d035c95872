"""The web viewer of a log (extra ``ui``): its threads, their checkpoints, and what proves them, in a browser.

    from langgraph.checkpoint.eventlog.ui import eventlog_ui

    app.mount("/eventlog", eventlog_ui(checkpointer.log))

Read only. Each page is also JSON, under its path with ``.json``.
"""

from langgraph.checkpoint.eventlog.ui.app import eventlog_ui

__all__ = ["eventlog_ui"]
