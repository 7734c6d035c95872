"""The logger: structured events through the standard library's ``eventlog`` logger.

A library must neither print nor decide how an application logs, so structlog renders to `logging`: an application
that configured either sees the event's name as the message and its fields in ``extra``.
"""

from __future__ import annotations

import logging
from typing import cast

import structlog

__all__ = ["logger"]

logger = cast(
    "structlog.stdlib.BoundLogger",
    structlog.wrap_logger(
        logging.getLogger("eventlog"),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
    ),
)
