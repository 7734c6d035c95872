"""Threads that versions of the incumbent wrote read, from the log, as the incumbent reads them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from langgraph.checkpoint.eventlog import ImportedThread
from tests.support.adapters import KINDS, open_saver
from tests.support.pooler import direct
from tests.transfer.incumbent import DUMPS, ORDERS_WRITES, answers, encrypted, incumbent, load_dump, text_of

CASES = [(dump, kind) for dump in DUMPS for kind in ("sync-pool", "async-pool")]
CASES += [("3.2", kind) for kind in KINDS if not kind.endswith("pool")]


@pytest.mark.portable
@pytest.mark.parametrize(("dump", "kind"), CASES)
async def test_imported_threads_read_as_the_incumbent_reads_them(dump: str, kind: str, database_uri: str) -> None:
    load_dump(database_uri, dump)
    # Not through a pooler, of which an import takes as many connections as it has workers.
    source = direct(database_uri)
    is_shallow = dump.endswith("shallow")
    told: list[ImportedThread] = []
    async with open_saver(kind, database_uri, serde=encrypted()) as saver:
        done = await saver.log.import_from(source, on_thread=lambda each, _: told.append(each), actor="ada")
        assert {each.thread_id: each.detail for each in told if each.status != "imported"} == {}
        assert done.is_done
        assert done.threads == {"imported": len(told)}
        for options in ({"resume": True, "idle": timedelta(0)}, {}):
            again = await saver.log.import_from(source, **options)
            assert again.threads == {"equal": len(told)}
        assert (await saver.log.estimate_import(source, sample=3)).sample_threads == 3
        # The incumbent's own migrations come after: the import took the tables as they were.
        with incumbent(database_uri, is_shallow=is_shallow, serde=encrypted()) as old:
            ids = [row["thread_id"] for row in old.conn.execute("select distinct thread_id from checkpoints")]
            assert sorted(ids) == sorted(each.thread_id for each in told)
            for thread_id in ids:
                await compare(old, saver, thread_id, is_shallow=is_shallow)
            for thread_id, ns, checkpoint_id in checkpoints_with_deltas(database_uri):
                config = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ns, "checkpoint_id": checkpoint_id}}
                history = old.get_delta_channel_history(config=config, channels=["log", "messages"])
                found = await saver.aget_delta_channel_history(config=config, channels=["log", "messages"])
                if ORDERS_WRITES:
                    assert repr(found) == repr(history)
                else:
                    assert sorted(map(repr, found)) == sorted(map(repr, history))
        verified = await saver.log.verify(states=True)
        assert not verified.problems
        rebuilt = await saver.log.rebuild(check=True)
        assert not rebuilt.differences
        last = [entry async for entry in saver.log.history("chat")][-1]
        assert last.kind == "imported"
        assert last.operation is not None
        assert last.operation["from"]["schema"] == "public"
        assert last.operation["actor"] == "ada"
        assert last.operation["by"] == psycopg.conninfo.conninfo_to_dict(database_uri)["user"]


async def compare(old: Any, saver: Any, thread_id: str, *, is_shallow: bool) -> None:
    """Everything that the savers say of a thread: checkpoints, values, order, writes with their places."""
    wanted = list(answers(old, thread_id))
    found = [text_of(each) async for each in saver.alist({"configurable": {"thread_id": thread_id}})]
    assert len(found) == len(wanted)
    # Shallow tables are not listed in an order.
    sort = sorted if is_shallow else list
    assert all(map(str.__eq__, sort(found), sort(text for _, text in wanted))), f"{thread_id} is not the same"
    for config, text in wanted:
        assert text_of(await saver.aget_tuple(config)) == text
        places = [write[:4] for write in (await saver.log.inspect(config)).writes]
        assert places == [tuple(row.values()) for row in writes_of(old, config)]


def writes_of(old: Any, config: Any) -> list[dict[str, Any]]:
    """The places of the writes in the incumbent's table."""
    return list(
        old.conn.execute(
            "select task_path, task_id, idx, channel from checkpoint_writes where thread_id = %s and checkpoint_ns = %s"
            ' and checkpoint_id = %s order by task_path collate "C", task_id collate "C", idx',
            tuple(config["configurable"][name] for name in ("thread_id", "checkpoint_ns", "checkpoint_id")),
        )
    )


def checkpoints_with_deltas(uri: str) -> list[tuple[str, str, str]]:
    """The checkpoints of threads that have a DeltaChannel."""
    with psycopg.connect(direct(uri)) as conn:
        return conn.execute(
            "select thread_id, checkpoint_ns, checkpoint_id from eventlog.checkpoints where thread_id like 'delta%'"
        ).fetchall()
