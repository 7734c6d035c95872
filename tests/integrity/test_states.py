"""Verifying what readers get: states and writes against their digests, snapshots and projections against states."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

import snapshots.encode
from eventlog.errors import LogCorruptedError
from tests.integrity.attacks import recompute
from tests.support.adapters import open_saver
from tests.support.checkpoints import TEXTS, Tables, config_of, put

pytestmark = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])

KEY = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")


class World:
    """A log with snapshots, writes that repeat states, and what erasing and copying leaves."""

    def __init__(self, uri: str, saver: Any) -> None:
        self.uri, self.saver, self.tables = uri, saver, Tables(uri)

    async def grow(self, thread_id: str) -> None:
        config = config_of(thread_id)
        for number in range(20):
            state = {"x": [*TEXTS, number], "y": number}
            config = await put(self.saver, config, f"c{number:02}", state, metadata={"run_id": "r", "user_id": "ada"})
            await self.saver.aput_writes(config, [("x", [*TEXTS, number, "more"]), ("y", number)], "task")

    def tamper(self, *statements: str) -> None:
        """As a superuser does: the triggers are off."""
        with psycopg.connect(self.uri) as conn:
            conn.execute("set session_replication_role = replica")
            for statement in statements:
                conn.execute(statement.encode())

    async def problems(self, *, states: bool = True) -> list[str]:
        found = await self.saver.log.verify(states=states)
        assert found.states is states
        assert found.found == len(found.problems)
        return [each.what for each in found.problems]


@pytest.fixture(params=[None, KEY], ids=["plain", "encrypted"])
async def world(kind: str, database_uri: str, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with open_saver(kind, database_uri, serde=request.param, snapshot_floor_bytes=1000) as saver:
        world = World(database_uri, saver)
        await world.grow("1")
        assert world.tables.one("select count(*) from {schema}.snapshots where thread_id = '1'") >= 2
        yield world


async def test_states_fit_after_every_operation(world: World) -> None:
    """Relocated events say what the originals said, also where their parent was erased."""
    saver = world.saver
    await saver.acopy_thread("1", "2")
    await saver.log.prune(["2"], keep_last=3)
    await put(saver, config_of("2"), "c19", {"x": ["again"]})
    await saver.log.prune(["2"], keep_last=2)
    await saver.acopy_thread("2", "3")
    await world.grow("4")
    await saver.adelete_for_runs(["r"])
    await put(saver, config_of("4"), "d", {"x": 1})
    assert await world.problems() == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("metadata = '{{}}'", "metadata of c04"),
        ("parent_checkpoint_id = null", "parent_checkpoint_id of c04"),
        ("parent_checkpoint_id = 'c01'", "parent_checkpoint_id of c04"),
        ("run_id = null", "run_id of c04"),
        ("state_bytes = 1", "state_bytes of c04"),
    ],
)
async def test_a_row_of_checkpoints_that_says_something_else_is_found(world: World, change: str, expected: str) -> None:
    """Metadata that was changed would hide a thread from `list(filter=…)`, and from a deletion of a person's data."""
    world.tamper(f"update eventlog.checkpoints set {change.format()} where checkpoint_id = 'c04'")
    assert await world.problems(states=False) == []
    (what,) = await world.problems()
    assert what.endswith(expected)


async def test_a_snapshot_of_another_state_is_found(world: World) -> None:
    """A reader of the later checkpoints would get it."""
    world.tamper(
        "update eventlog.snapshots set body = (select s.body from eventlog.snapshots as s order by s.seq limit 1)"
        " where seq = (select max(seq) from eventlog.snapshots)"
    )
    assert await world.problems(states=False) == []
    (what,) = await world.problems()
    assert what == "`snapshots` disagrees with the log: different body"


async def test_each_row_is_named_once(world: World) -> None:
    """With states all that is found without them is found too: not twice."""
    await world.grow("lost")
    world.tamper(
        "update eventlog.checkpoints set metadata = '{}', first_at = first_at - interval '1 day'"
        " where checkpoint_id = 'c04' and thread_id = '1'",
        "delete from eventlog.checkpoints where checkpoint_id = 'c05' and thread_id = '1'",
        "update eventlog.streams set latest_checkpoint_id = 'c01' where thread_id = '1'",
        "insert into eventlog.snapshots select '1', '', 1000, now(), ''",
        "insert into eventlog.snapshots select 'no such thread', '', 1, now(), ''",
        "delete from eventlog.streams where thread_id = 'lost'",
    )
    assert len(await world.problems(states=False)) == 6
    assert sorted(await world.problems()) == [
        "`checkpoints` disagrees with the log: different first_at, metadata of c04",
        "`checkpoints` disagrees with the log: missing of c05",
        "`snapshots` disagrees with the log: surplus",
        "`snapshots` disagrees with the log: surplus",
        "`streams` disagrees with the log: different latest_checkpoint_id",
        "it has events, and its row in `streams` is missing",
    ]


@pytest.mark.attack("superuser")
@pytest.mark.parametrize("event", ["e.kind = 1 and e.seq = 1", "e.kind = 2 and e.seq = 4"])
async def test_an_event_with_the_body_of_another_one_is_found(world: World, event: str) -> None:
    """Without seals a chain that was computed again fits. The state digest, salted in the body, does not."""
    await world.grow("other")
    world.tamper(
        f"update eventlog.events as e set body = o.body from eventlog.events as o"
        f" where e.thread_id = '1' and {event} and o.thread_id = 'other' and o.seq = e.seq",
        recompute("1"),
    )
    assert await world.problems(states=False) == []
    (what,) = await world.problems()
    assert "does not have the state digest that was saved with it: it was altered, or its writer lied" in what
    with pytest.raises(LogCorruptedError, match="its writer lied"):
        await world.saver.log.rebuild(check=True)


async def test_states_are_verified_in_a_stream_with_a_broken_chain_too(world: World) -> None:
    """One problem does not hide the other."""
    await world.grow("other")
    world.tamper(
        "update eventlog.events set digest = sha256('') where thread_id = '1' and seq = 7",
        "update eventlog.events as e set body = o.body from eventlog.events as o"
        " where e.thread_id = '1' and e.seq = 1 and o.thread_id = 'other' and o.seq = 1",
    )
    found = await world.problems()
    assert [what for what in found if "its writer lied" in what]
    assert len(found) > len(await world.problems(states=False)) > 0


@pytest.mark.attack("stolen writer")
async def test_a_writer_that_lies_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database does not check a writer's body; its readers can."""
    with monkeypatch.context() as patch:
        patch.setattr(snapshots.encode, "state_digest", lambda *_: bytes(32))
        await put(world.saver, config_of("liar"), "c1", {"x": 1})
    assert await world.problems(states=False) == []
    (what,) = await world.problems()
    assert "'liar'" in what
    assert "its writer lied" in what


async def test_an_encrypted_log_needs_its_key_for_states_alone(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri, serde=KEY) as saver:
        await World(database_uri, saver).grow("1")
    async with open_saver(kind, database_uri) as saver:
        assert (await saver.log.verify()).problems == []
        (problem,) = (await saver.log.verify(states=True)).problems
        assert "give the saver the EncryptedSerializer" in problem.what
