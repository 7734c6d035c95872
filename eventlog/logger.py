"""The logger: structured events through the standard library's ``eventlog`` logger.

A library must neither print nor decide how an application logs, so structlog renders to `logging`: an application
that configured either sees the event's name as the message and its fields in ``extra``.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from structlog.stdlib import BoundLogger

__all__ = ["logger"]


@cache
def _logger() -> BoundLogger:
    import structlog

    logger = structlog.wrap_logger(
        logging.getLogger("eventlog"),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
    )
    return cast("BoundLogger", logger)


class _Lazy:
    """structlog imports rich, where that is installed: a fifth of what it takes to import this package."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_logger(), name)


logger = cast("BoundLogger", _Lazy())
