"""What versions of PostgresSaver wrote goes into the log and back, and is taken over by MigratingSaver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.postgres.shallow import AsyncShallowPostgresSaver, ShallowPostgresSaver

from tests.support.adapters import AsyncFace, open_saver
from tests.support.checkpoints import everything, listed, listed_ids
from tests.support.pooler import direct
from tests.support.scenarios import MODES, Mode
from tests.transfer.incumbent import DUMPS, answers, encrypted, incumbent, load_dump, text_of
from tests.transfer.migrating import migrating, native, open_migrating, put_up_fence
from tests.transfer.old_savers import open_old, set_up

pytestmark = pytest.mark.parametrize("mode", MODES)

#: The shallow saver's tables keep one checkpoint of a thread: there is no way back to them.
FULL = [name for name in DUMPS if not name.endswith("shallow")]


def everything_in(uri: str) -> dict[str, list[str]]:
    """What the incumbent answers, by thread."""
    with incumbent(uri, serde=encrypted()) as old:
        ids = [row["thread_id"] for row in old.conn.execute("select distinct thread_id from checkpoints")]
        return {id_: [text for _, text in answers(old, id_)] for id_ in ids}


@pytest.mark.parametrize("dump", FULL)
async def test_imported_threads_go_back_as_they_came(mode: Mode, dump: str, new_database: Callable[..., str]) -> None:
    there, back = new_database(), new_database()
    load_dump(there, dump)
    set_up(back)
    async with open_saver(f"{mode}-pool", there, serde=encrypted()) as saver:
        assert (await saver.log.import_from(there)).is_done
        expected = everything_in(there)
        exported = await saver.log.export_to(back)
        assert exported.refused == []
        assert exported.threads == len(expected)
        found = everything_in(back)
        assert found.keys() == expected.keys()
        for thread_id, texts in expected.items():
            assert all(map(str.__eq__, texts, found[thread_id])), thread_id
        # Into the tables that they came from: all is there, laid out as it was then.
        same = await saver.log.export_to(there)
        assert (same.threads, same.equal, same.refused) == (0, len(expected), [])


@pytest.mark.parametrize("dump", DUMPS)
async def test_old_tables_are_taken_over_as_they_are(mode: Mode, dump: str, database_uri: str) -> None:
    """Without `setup()` of a newer PostgresSaver."""
    load_dump(database_uri, dump)
    await put_up_fence(database_uri)
    with psycopg.connect(direct(database_uri)) as conn:
        ids = [id_ for (id_,) in conn.execute("select distinct thread_id from checkpoints")]
    async with open_migrating(f"{mode}-pool", database_uri, serde=encrypted()) as saver:
        read: dict[str, list[str]] = {}
        for id_ in ids:
            assert await saver.aget_tuple({"configurable": {"thread_id": id_}}) is not None
            read[id_] = [text_of(each) async for each in saver.alist({"configurable": {"thread_id": id_}})]
        assert len(await everything(saver.new_face)) == sum(map(len, read.values()))
    if not dump.endswith("shallow"):
        expected: Any = everything_in(database_uri)
        assert read.keys() == expected.keys()
        for thread_id, texts in expected.items():
            assert all(map(str.__eq__, texts, read[thread_id])), thread_id


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("dump", [name for name in DUMPS if name.endswith("shallow")])
async def test_a_shallow_saver_may_be_the_old_one(mode: Mode, dump: str, database_uri: str) -> None:
    """It lists in no order, and does not delete."""
    load_dump(database_uri, dump)
    with incumbent(database_uri, is_shallow=True, serde=encrypted()):
        """Brings the tables up to date."""
    await put_up_fence(database_uri)
    kinds: dict[str, Any] = {"sync": ShallowPostgresSaver, "async": AsyncShallowPostgresSaver}
    async with (
        open_old(f"{mode}-pool", database_uri) as other,
        open_saver(f"{mode}-pool", database_uri, serde=encrypted()) as new,
    ):
        shallow = kinds[mode](native(other).conn, serde=encrypted())
        saver = migrating(mode, AsyncFace(shallow) if mode == "sync" else shallow, new)
        before = await listed(saver, None)
        assert [each.checkpoint["id"] for each in before] == sorted(
            (each.checkpoint["id"] for each in before), reverse=True
        )
        first, *others = before
        assert (
            await listed_ids(saver, None, before=first.config, limit=2)
            == [each.checkpoint["id"] for each in others][:2]
        )
        for each in before:
            assert (await saver.aget_tuple(each.config)).checkpoint["channel_values"] == each.checkpoint[
                "channel_values"
            ]
        assert len(await listed(new, None)) == len(before)
        for thread_id in {each.config["configurable"]["thread_id"] for each in before}:
            await saver.adelete_thread(thread_id)
        assert await listed_ids(saver, None) == []
        assert everything_gone(database_uri)


def everything_gone(uri: str) -> bool:
    with psycopg.connect(direct(uri)) as conn:
        return conn.execute("select count(*) from checkpoints").fetchone() == (0,)
