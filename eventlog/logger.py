"""The logger: structured events through the standard library's ``eventlog`` logger.

A library must neither print nor decide how an application logs, so structlog renders to `logging`. A record's message
is the event's name and its fields, as ``name='value'``, so that logging's plain formatter shows all of it. ``extra``
has the name, as ``event``, and each field.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, MutableMapping

    from structlog.stdlib import BoundLogger

__all__ = ["CALL_FIELDS", "About", "lines_about", "logger"]

#: Returns fields for log lines.
About: TypeAlias = "Callable[[], Mapping[str, Any]]"

#: Fields about the call in which a line is logged: thread and namespace, and the trace if there is one.
CALL_FIELDS: ContextVar[About | None] = ContextVar("CALL_FIELDS", default=None)


@contextmanager
def lines_about(fields: About | None) -> Iterator[None]:
    """Lines logged inside this context have these fields, unless they have fields of a call already."""
    if fields is None or CALL_FIELDS.get() is not None:
        yield
        return
    token = CALL_FIELDS.set(fields)
    try:
        yield
    finally:
        CALL_FIELDS.reset(token)


def _render(logger: logging.Logger, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The arguments of the standard library's logger."""
    import structlog

    if (of_call := CALL_FIELDS.get()) is not None:
        event.update({name: value for name, value in of_call().items() if name not in event})
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
    """structlog imports rich if it is installed, which takes a fifth of the time to import this package."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_logger(), name)


logger = cast("BoundLogger", _Lazy())
