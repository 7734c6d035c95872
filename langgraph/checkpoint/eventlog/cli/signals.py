"""SIGINT and SIGTERM: a command ends cleanly at the first one, and at once at the second.

An exception raised by a handler may be lost: Python swallows those that arrive while a destructor or a callback runs.
So a command that follows the log (`following`) gets none; it looks at a flag between its steps and in its pauses. If it
does not come by within some seconds, because the server is away, it is interrupted like all other commands: by an
exception, which is raised again every second until the command ends.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn

__all__ = ["SIGNALS", "InterruptedBySignal"]

#: How long a command may take to come by the flag, in seconds. Containers are killed ten seconds after SIGTERM.
PATIENCE: Final = 5.0

#: A lost exception is raised again after so many seconds.
REPEATED: Final = 1.0


class InterruptedBySignal(KeyboardInterrupt):
    """The command was sent a signal."""


class _Signals:
    """The signals of this process. Until `install` is called there are none."""

    def __init__(self) -> None:
        self.first: int | None = None
        """The number of the first signal that came."""
        self._is_flag_enough = False

    def install(self) -> None:
        """Handle SIGINT and SIGTERM from now on. Does nothing outside of the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)
        if hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, self._interrupt)

    @property
    def exit_code(self) -> int:
        """As shells know it, for a command that was interrupted."""
        return 128 + (self.first or signal.SIGINT)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Meanwhile, the first signal only sets the flag."""
        self._is_flag_enough = True
        try:
            yield
        finally:
            self._is_flag_enough = False

    def received(self) -> bool:
        """Whether a signal has come: what a loop looks at."""
        return self.first is not None

    def finished(self) -> None:
        """The command is about to end: nothing is raised any more."""
        self._remind(0)

    def _handle(self, number: int, frame: Any) -> None:
        if self.first is not None:
            os._exit(128 + number)
        self.first = number
        if self._is_flag_enough:
            self._remind(PATIENCE)
        else:
            self._interrupt(number, frame)

    def _interrupt(self, number: int, frame: Any) -> NoReturn:
        self._remind(REPEATED)
        raise InterruptedBySignal

    def _remind(self, seconds: float) -> None:
        # Windows has no such timer.
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, seconds)


SIGNALS: Final = _Signals()
