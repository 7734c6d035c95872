"""Custom projections beside others who erase, forget and rebuild; and several logs in one database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest

from eventlog.errors import InvalidInputError
from projections import projector
from projections.event import Event
from projections.usage import Usage
from tests.cli.command import documents, eventlog
from tests.feed.test_custom_projections import grow, seen, view
from tests.feed.test_usage import answer, used
from tests.support.adapters import POOLS, open_saver
from tests.support.checkpoints import TEXTS, config_of, put


@POOLS
async def test_projections_of_two_schemas_are_independent(kind: str, empty_database_uri: str) -> None:
    """A projection of one log does not touch the tables of another."""
    async with open_saver(kind, empty_database_uri) as one, open_saver(kind, empty_database_uri, schema="o") as other:
        for saver in (one, other):
            await saver.setup()
        await grow(one, "1", "a")
        await one.log.project(Usage())
        before = used(empty_database_uri)
        for call in (other.log.project, other.log.rebuild_projection):
            with pytest.raises(InvalidInputError, match="for the log in schema 'eventlog', and this is 'o'"):
                await call(Usage())
        await other.log.project(Usage("o"))
        assert used(empty_database_uri) == before


@POOLS
async def test_a_projection_begun_after_a_prune_counts_relocated_events(
    saver: Any, kind: str, database_uri: str
) -> None:
    """What survived as a restatement only is counted by a projection that begins, or begins again, after that."""
    config = config_of("1")
    for number in range(4):
        metadata = {"run_id": "r", "source": "loop"}
        config = await put(saver, config, f"c{number}", {"x": [*TEXTS, number]}, metadata=metadata)
    await saver.aprune(["1"])
    await saver.log.project(Usage())
    assert (used(database_uri)["1", "r"]["steps"], used(database_uri)["1", "r"]["events"]) == (1, 1)
    await saver.log.rebuild_projection(Usage())
    await saver.log.project(Usage())
    assert used(database_uri)["1", "r"]["steps"] == 1


@POOLS
async def test_messages_rewritten_in_a_copy_are_not_counted_again(saver: Any, kind: str, database_uri: str) -> None:
    """What was used before the copy is not used again by who writes it again, wherever batches end."""
    config = await put(saver, config_of("1"), "a", {}, metadata={"run_id": "r"})
    await saver.aput_writes(config, [("messages", [answer(1)])], "t1")
    await saver.acopy_thread("1", "2")
    await saver.log.project(Usage())
    await saver.aput_writes(config_of("2", "a"), [("messages", [answer(1), answer(2)])], "t2")
    await saver.log.project(Usage())
    in_parts = {key: row["total_tokens"] for key, row in used(database_uri).items()}
    assert in_parts == {("1", "r"): 15, ("2", "r"): 15}
    await saver.log.rebuild_projection(Usage())
    await saver.log.project(Usage())
    assert {key: row["total_tokens"] for key, row in used(database_uri).items()} == in_parts


@POOLS
async def test_forgetting_waits_for_the_running_batch(saver: Any, kind: str, database_uri: str) -> None:
    """It waits for the batch that is under way: afterwards there is a view, and no cursor."""
    await grow(saver, "1", "a")
    await saver.log.project(view(kind))
    with psycopg.connect(database_uri) as other:
        other.execute("select 1 from eventlog.projections where name = 'seen' for update")
        forgetting = asyncio.ensure_future(saver.log.forget_projection("seen"))
        await asyncio.sleep(0.5)
        assert not forgetting.done()
    await forgetting
    assert await saver.log.projections() == []
    assert len(seen(database_uri)) == 2


@POOLS
async def test_two_workers_begin_a_projection_once(saver: Any, kind: str, database_uri: str) -> None:
    """It has no row to lock yet: a worker that meets another one waits without a lock."""
    await grow(saver, "1", "a")
    told: list[bool] = []
    with psycopg.connect(database_uri) as other:
        other.execute("select eventlog.lock_projection_v1('another')")
        worker = asyncio.ensure_future(
            saver.log.project(view(kind), on_batch=lambda _, done: told.append(done.is_standby))
        )
        while told.count(True) < 2:
            await asyncio.sleep(0.01)
    assert await worker == {"seen": 2}


@POOLS
async def test_a_batch_with_an_erased_base_is_read_again(
    saver: Any, kind: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state that is erased between the page and a look at its write is no corruption: the batch is read again."""
    config = await put(saver, config_of("1"), "a", {"x": TEXTS}, metadata={"run_id": "r"})
    await saver.aput_writes(config, [("x", [*TEXTS, 2])], "t")
    await grow(saver, "2", "a")
    read, calls = projector.read_feed, []

    def read_and_erase(*args: Any, **options: Any) -> Any:
        page = yield from read(*args, **options)
        if not calls:
            calls.append(page)
            with psycopg.connect(database_uri) as conn:
                conn.execute("select eventlog.delete_thread_v1('1')")
        return page

    monkeypatch.setattr(projector, "read_feed", read_and_erase)
    await saver.log.project(view(kind))
    assert seen(database_uri) == ["2//1", "2//2", "1//3"]


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool", "sync-connection", "async-connection"])
async def test_a_batch_reads_through_the_saver_in_its_transaction(saver: Any, kind: str) -> None:
    """From within a batch, on one connection too: it is the same transaction there."""
    await grow(saver, "1", "a")
    found: list[Any] = []

    class Looking:
        name = "looking"
        version = 1

        def setup(self, conn: Any) -> None:
            pass

        def apply(self, conn: Any, events: Sequence[Event]) -> None:
            found.append(saver.sync.get_tuple(config_of("1")))

    class AsyncLooking(Looking):
        async def setup(self, conn: Any) -> None:  # type: ignore[override]
            pass

        async def apply(self, conn: Any, events: Sequence[Event]) -> None:  # type: ignore[override]
            found.append(await saver.aget_tuple(config_of("1")))

    looking = Looking() if kind.startswith("sync") else AsyncLooking()
    await asyncio.wait_for(saver.log.project(looking), 240)
    assert found[0].checkpoint["id"] == "a"
    assert (await saver.aget_tuple(config_of("1"))).checkpoint["id"] == "a"


async def test_a_rebuild_with_a_duplicate_name_is_refused_and_changes_nothing(database_uri: str) -> None:
    await _one_thread(database_uri)
    assert eventlog(database_uri, "project", "run", "usage", "--once").exit_code == 0
    done = eventlog(database_uri, "project", "rebuild", "usage", "usage")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "two projections have the name 'usage'" in done.stderr
    assert documents(eventlog(database_uri, "project", "list", "--json"))[0]["events"] == 2


async def _one_thread(uri: str) -> None:
    async with open_saver("sync-pool", uri) as saver:
        await grow(saver, "1", "a")
