"""The logger: structured events through the standard library's ``eventlog`` logger.

A library must neither print nor decide how an application logs. A record's message is the event's name and its fields,
as ``name='value'``: logging's plain formatter shows all of it. In ``extra`` are the name, as ``event``, and each field.
"""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["logger"]


class _Logger:
    def __init__(self) -> None:
        self._logger = logging.getLogger("eventlog")

    def debug(self, event: str, **fields: Any) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log(logging.WARNING, event, fields)

    def _log(self, level: int, event: str, fields: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level):
            message = " ".join((event, *(f"{field}={value!r}" for field, value in fields.items())))
            # At the caller of the method above.
            self._logger.log(level, message, extra={"event": event, **fields}, stacklevel=3)


logger = _Logger()
