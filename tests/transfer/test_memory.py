"""The memory that an import takes depends on the largest state, not on the thread."""

from __future__ import annotations

import tracemalloc

import pytest

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.transfer.incumbent import load_dump
from tests.transfer.test_import import change

MIB = 1024 * 1024

#: The bytes of the value that each checkpoint has of its own.
VALUE = MIB // 2

#: A page of the source, a batch, both as they were read and as they are read back, and what is kept of each.
MOST = 90 * MIB


@pytest.mark.parametrize(("namespaces", "checkpoints"), [(1, 400), (40, 8)])
def test_a_large_thread_is_imported_in_pages(database_uri: str, namespaces: int, checkpoints: int) -> None:
    load_dump(database_uri, "3.2")
    of_each = f"generate_series(1, {namespaces}) as ns, generate_series(1, {checkpoints}) as n"
    change(
        database_uri,
        "insert into checkpoint_blobs select 'large', ns::text, 'x', n::text, 'bytes',"
        f" decode(repeat(md5(ns || '/' || n), {VALUE // 16}), 'hex') from {of_each}",
    )
    change(
        database_uri,
        "insert into checkpoints select 'large', ns::text, to_char(n, 'FM0000'),"
        " to_char(nullif(n, 1) - 1, 'FM0000'), null,"
        " jsonb_build_object('v', 4, 'id', to_char(n, 'FM0000'), 'ts', '2026-01-01T00:00:00+00:00', 'versions_seen',"
        " jsonb_build_object(), 'channel_versions', jsonb_build_object('x', n::text), 'channel_values',"
        f" jsonb_build_object()), '{{}}' from {of_each}",
    )
    with EventLogSaver.from_conn_string(database_uri, state_cache_bytes=0) as saver:
        saver.log.import_from(database_uri, thread_ids=["chat"])
        tracemalloc.start()
        try:
            done = saver.log.import_from(database_uri, thread_ids=["large"])
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert done.threads == {"imported": 1}
    assert done.checkpoints == namespaces * checkpoints
    assert done.source_bytes == namespaces * checkpoints * VALUE
    assert peak < MOST
