"""The logger: structured events through the standard library's ``eventlog`` logger.

A library must neither print nor decide how an application logs, so structlog renders to `logging`. A record's message
is the event's name and its fields, as ``name='value'``: logging's plain formatter shows all of it. In ``extra`` are the
name, as ``event``, and each field.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from structlog.stdlib import BoundLogger

__all__ = ["logger"]


def _render(logger: logging.Logger, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The arguments of the standard library's logger."""
    import structlog

    rendered = structlog.stdlib.render_to_log_kwargs(logger, method, event)
    name, fields = rendered["msg"], rendered["extra"]
    message = " ".join((name, *(f"{field}={value!r}" for field, value in fields.items())))
    return {**rendered, "msg": message, "extra": {"event": name, **fields}}


@cache
def _logger() -> BoundLogger:
    import structlog

    logger = structlog.wrap_logger(
        logging.getLogger("eventlog"),
        wrapper_class=structlog.stdlib.BoundLogger,
        processors=[structlog.stdlib.filter_by_level, _render],
    )
    return cast("BoundLogger", logger)


class _Lazy:
    """structlog imports rich, where that is installed: a fifth of what it takes to import this package."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_logger(), name)


logger = cast("BoundLogger", _Lazy())
