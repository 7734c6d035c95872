"""Verifying the log, stream by stream, as a script."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from eventlog import verifying
from eventlog.errors import InvalidInputError
from eventlog.identity import Stream
from eventlog.operations import Script
from eventlog.verifying import Problem
from langgraph.checkpoint.eventlog._arguments import ids_of
from langgraph.checkpoint.eventlog._operations import Context

__all__ = ["OnStream", "Verified", "verify"]

#: Told of each stream (thread and namespace) when it is done, and what does not fit in it.
OnStream = Callable[[str, str, list[Problem]], None]

#: Streams that are looked for at a time.
PAGE = 500


@dataclass(slots=True)
class Verified:
    """What verifying found."""

    streams: int = 0
    events: int = 0
    problems: list[Problem] = field(default_factory=list)
    """By thread, namespace and number. None: the log is whole."""


def verify(context: Context, thread_ids: Any, after: Any, on_stream: OnStream | None) -> Script[Verified]:
    """Verify threads, or all of them. Validates at once; returns the script to run."""
    threads = None if thread_ids is None else ids_of(thread_ids, "thread_ids")
    if after is None:
        return _verify(context, threads, Stream("", ""), on_stream)
    if threads is not None:
        raise InvalidInputError("give thread_ids or after, not both")
    if not isinstance(after, tuple) or len(after) != 2 or not all(isinstance(each, str) for each in after):
        raise InvalidInputError("after must be a tuple of thread id and namespace, as `on_stream` is told them")
    return _verify(context, None, Stream(*after), on_stream)


def _verify(context: Context, threads: list[str] | None, after: Stream, on_stream: OnStream | None) -> Script[Verified]:
    verified = Verified()
    while True:
        page = yield partial(verifying.streams_to_verify, context.statements, threads, after, PAGE)
        for stream in page:
            events, problems = yield partial(verifying.verify_stream, context.statements, stream)
            verified.streams += 1
            verified.events += events
            verified.problems += problems
            if on_stream is not None:
                on_stream(stream.thread_id, stream.checkpoint_ns, problems)
        if len(page) < PAGE:
            break
        after = page[-1]
    for lost in (yield partial(verifying.lost_streams, context.statements, threads)):
        verified.streams += 1
        verified.problems.append(lost)
        if on_stream is not None:
            on_stream(lost.thread_id, lost.checkpoint_ns, [lost])
    return verified
