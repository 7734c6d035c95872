"""Which of our own functions a call passes through."""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import CO_GENERATOR
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
OWN = tuple(f"{ROOT / name}/" for name in ("eventlog", "langgraph", "projections", "snapshots"))

#: Parts of the function that they stand in; from Python 3.12 on, most have no frames of their own.
COMPREHENSIONS = {"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"}


class Trace(NamedTuple):
    """Calls of our own functions, in order: file, name and line of each."""

    calls: list[tuple[str, str, int]]

    @property
    def functions(self) -> list[tuple[str, str, int]]:
        """Each once, in the order of their first calls."""
        return list(dict.fromkeys(self.calls))

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(file for file, _, _ in self.calls))

    def __str__(self) -> str:
        sizes = f"{len(self.functions)} functions in {len(self.files)} files, {len(self.calls)} calls"
        return "\n".join((sizes, *(f"{file}:{line} {name}" for file, name, line in self.calls)))


def trace(call: Callable[[], Any]) -> Trace:
    """Run a call and record which of our functions it enters; a generator only when it starts."""
    calls: list[tuple[str, str, int]] = []
    started: list[FrameType] = []

    def profile(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(OWN) or code.co_name in COMPREHENSIONS:
            return
        if code.co_flags & CO_GENERATOR:
            if any(each is frame for each in started):
                return
            started.append(frame)
        calls.append((str(Path(code.co_filename).relative_to(ROOT)), code.co_name, code.co_firstlineno))

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return Trace(calls)
