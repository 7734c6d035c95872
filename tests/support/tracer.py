"""Counts our own functions on the way of a call: `python -m tests.support.tracer` prints them in order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import CO_GENERATOR
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
OWN = tuple(f"{ROOT / name}/" for name in ("eventlog", "langgraph", "projections", "snapshots"))

#: Parts of the function that they stand in, and from Python 3.12 on without frames of their own.
COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}


class Trace(NamedTuple):
    """The calls of own functions, in order: file and qualified name of each."""

    calls: list[tuple[str, str]]

    @property
    def functions(self) -> set[tuple[str, str]]:
        return set(self.calls)

    @property
    def files(self) -> set[str]:
        return {file for file, _ in self.calls}


def trace(call: Callable[[], Any]) -> Trace:
    """Run a call and record which of our functions it calls. A generator counts when it starts, not when it goes on."""
    calls: list[tuple[str, str]] = []
    started: list[FrameType] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        code: CodeType = frame.f_code
        if event != "call" or not code.co_filename.startswith(OWN) or code.co_name in COMPREHENSIONS:
            return
        if code.co_flags & CO_GENERATOR:
            if any(each is frame for each in started):
                return
            started.append(frame)
        calls.append((str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname))

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return Trace(calls)
