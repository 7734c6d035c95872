"""Estimating the storage of an import from a sample: threads are read and encoded, and nothing is written."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Script
from eventlog.errors import ThreadNotImportedError
from langgraph.checkpoint.eventlog._arguments import count_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog.transfer.import_threads import ImportedThread, encode_thread
from langgraph.checkpoint.eventlog.transfer.run import Selected, Sources, ThreadPages
from langgraph.checkpoint.eventlog.transfer.source import Source

__all__ = ["CHECKPOINT_BYTES", "EVENT_BYTES", "SAMPLE_THREADS", "ImportEstimate", "estimate_import"]

#: Threads of a sample.
SAMPLE_THREADS = 50

#: The bytes read after which a sample ends early.
SAMPLE_BYTES = 256 * 1024 * 1024

#: Bytes of an event beside its body, of a checkpoint beside that: rows, keys and entries of all indexes, with ids of
#: 36 characters (`make bench-import` compares it with what an import takes).
EVENT_BYTES = 400
CHECKPOINT_BYTES = 480


@dataclass(slots=True)
class ImportEstimate:
    """The estimated size of an import."""

    threads: int | None
    """Threads to import; None when the source does not tell."""
    source_bytes: int | None
    """Bytes of the threads on the source's disk; None when unknown."""
    log_bytes: int | None
    """Bytes of the threads in the log, with indexes, if all are like the sample; None when nothing could be sampled."""
    sample_threads: int = 0
    """Threads of the sample."""
    sample_source_bytes: int = 0
    """Bytes of the sample on the source's disk, without indexes; of a checkpointer, bytes of the values."""
    sample_log_bytes: int = 0
    """Bytes of the sample in the log, with indexes."""
    refused: list[ImportedThread] = field(default_factory=list)
    """Threads of the sample that could not be imported, with the reason."""


def estimate_import(
    context: Context,
    serde: SerializerProtocol,
    is_async: bool,
    given: Any,
    schema: Any,
    thread_ids: Any,
    idle: Any,
    part: Any,
    sample: Any,
) -> Script[ImportEstimate]:
    """Estimate. Validates at once; returns the script to run."""
    selected = Selected.parse(thread_ids, idle, part)
    sources = Sources(given, schema, is_async=is_async)
    return _estimate(context, serde, sources, selected, count_of(sample, "sample"))


def _estimate(
    context: Context, serde: SerializerProtocol, sources: Sources, selected: Selected, rows: int
) -> Script[ImportEstimate]:
    try:
        source: Source = yield sources.take
        disk_bytes: tuple[int, int] | None = None
        threads: int | None
        if selected == Selected(None, None, None):
            threads = yield source.count_threads
            disk_bytes = yield source.disk_bytes
            chosen: list[str] = yield partial(source.sample, rows)
        else:
            threads, chosen = yield from _choose(ThreadPages(context, source, selected), rows)
        done = ImportEstimate(threads, None if disk_bytes is None else disk_bytes[0], None)
        read: list[str] = []
        values = 0
        for thread_id in chosen:
            try:
                each: ImportedThread = yield partial(encode_thread, context, serde, source, thread_id)
            except ThreadNotImportedError as exc:
                done.refused.append(ImportedThread(thread_id, "refused", detail=str(exc)))
                continue
            read.append(thread_id)
            values += each.source_bytes
            done.sample_log_bytes += each.stored_bytes + each.events * EVENT_BYTES + each.checkpoints * CHECKPOINT_BYTES
            if values > SAMPLE_BYTES:
                break
        if read:
            stored: int | None = yield partial(source.thread_bytes, read)
            done.sample_threads, done.sample_source_bytes = len(read), values if stored is None else stored
            if disk_bytes is not None:
                # The size of the tables is the best measure: large threads are more likely to be in the sample.
                done.log_bytes = round(disk_bytes[1] * done.sample_log_bytes / max(1, done.sample_source_bytes))
            elif threads is not None:
                done.log_bytes = round(threads * done.sample_log_bytes / len(read))
                done.source_bytes = None if stored is None else round(threads * stored / len(read))
        return done
    finally:
        sources.close()


def _choose(pages: ThreadPages, rows: int) -> Script[tuple[int, list[str]]]:
    """The number of selected threads, and a random sample of them."""
    count = 0
    chosen: list[str] = []
    while page := (yield from pages.next_page()):
        for thread_id in page:
            count += 1
            if len(chosen) < rows:
                chosen.append(thread_id)
            elif (at := random.randrange(count)) < rows:
                chosen[at] = thread_id
    return count, chosen
