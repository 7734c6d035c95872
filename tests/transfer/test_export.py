"""Threads of the log in PostgresSaver's tables: the real PostgresSaver reads them, and goes on with them."""

from __future__ import annotations

import math
import operator
from importlib.metadata import version
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.graph import START, StateGraph
from langgraph.types import Command, Send, interrupt

from eventlog.errors import InvalidInputError, NotSetUpError, ThreadNotFoundError
from langgraph.checkpoint.eventlog import Exported, ExportedThread
from langgraph.checkpoint.eventlog.transfer import export
from tests.saver.test_delta_channels import build as build_delta_graph
from tests.saver.test_delta_channels import scenario as delta_scenario
from tests.support.adapters import AsyncFace, open_saver
from tests.support.checkpoints import (
    TEXTS,
    Key,
    config_of,
    converse,
    everything,
    exactly,
    key_of,
    listed,
    put,
    tangle,
)
from tests.support.pooler import direct
from tests.support.scenarios import MODES, Mode, Run, in_context
from tests.transfer.old_savers import open_incumbent, open_old, open_pool

__all__ = ["in_context"]  # a fixture

pytestmark = pytest.mark.parametrize("mode", MODES)

#: The version of langgraph-checkpoint-postgres that is installed.
INCUMBENT = tuple(int(part) for part in version("langgraph-checkpoint-postgres").split(".")[:2])

AES = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")


async def export_all(mode: Mode, saver: Any, uri: str, *args: Any, **options: Any) -> Exported:
    async with open_pool(mode, uri) as pool:
        result: Exported = await saver.log.export_to(pool, *args, **options)
        return result


async def assert_same_as_in_log(mode: Mode, saver: Any, uri: str, **given: Any) -> dict[Key, Any]:
    """All checkpoints and writes, through PostgresSaver."""
    expected = await everything(saver)
    async with open_old(f"{mode}-pool", uri, **given) as old:
        listed_there = await listed(old, None)
        assert [key_of(each.config)[2] for each in listed_there] == sorted((key[2] for key in expected), reverse=True)
        assert {key_of(each.config) for each in listed_there} == expected.keys()
        for key, wanted in expected.items():
            found = await old.aget_tuple(config_of(key[0], key[2], ns=key[1]))
            for name, one in wanted._asdict().items():
                other = getattr(found, name)
                assert exactly(plain(other), plain(one)), f"{name} of {key} is\n{other}\nnot\n{one}"
    return expected


def plain(value: Any) -> Any:
    """Without what the savers differ in: the order of a checkpoint's keys."""
    if isinstance(value, dict):
        return {key: plain(value[key]) for key in sorted(value)}
    return value


@pytest.mark.portable
async def test_checkpoints_forks_and_writes_read_as_in_the_log(mode: Mode, uri: str) -> None:
    async with open_saver(f"{mode}-pool", uri, snapshot_floor_bytes=1000) as saver:
        await tangle(saver, "tangle")
        await converse(saver, "long", ids="abcdefghijklmnopqrstuvwxyz")
        await converse(saver, "long", ns="child:1|grandchild:2")
        await saver.aput_writes(config_of("writes alone", "a"), [("x", 1), ("__interrupt__", "ask")], "task", "path")
        told: list[ExportedThread] = []
        exported = await export_all(mode, saver, uri, on_thread=told.append)

        assert exported == Exported(3, 0, 10 + 26 + 8, exported.bytes, [])
        assert exported.bytes > 26 * len(TEXTS[0])
        assert {(each.thread_id, each.outcome) for each in told} == {
            ("tangle", "exported"),
            ("long", "exported"),
            ("writes alone", "exported"),
        }
        await assert_same_as_in_log(mode, saver, uri)
    with psycopg.connect(direct(uri)) as conn:
        orphans = (
            "select thread_id, channel, task_path from checkpoint_writes where thread_id = 'writes alone' order by idx"
        )
        assert conn.execute(orphans).fetchall() == [
            ("writes alone", "__interrupt__", "path"),
            ("writes alone", "x", "path"),
        ]


VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "text": "Zürich 😀",
    "empty": "",
    "nul": "a\0b",
    "int": 3,
    "negative": -40_000,
    "float": 1.0,
    "small": 1e-7,
    "large": 1e22,
    "minus zero": -0.0,
    "infinite": math.inf,
    "nan": math.nan,
    "beyond 64 bits": 1 << 80,
    "bytes": b"\0\1",
    "list": [1, None, {"a": (1, 2)}],
    "message": AIMessage("hi", id="1"),
}


async def test_values_of_every_kind_are_exact(mode: Mode, uri: str) -> None:
    """What JSON does not hold gets a row of its own."""
    async with open_saver(f"{mode}-pool", uri) as saver:
        config = await put(saver, config_of("1"), "a", VALUES, metadata={"step": 1, "nested": {"a": [1.5, None]}})
        await put(saver, config, "b", {**VALUES, "int": 4}, versions={**dict.fromkeys(VALUES, "a"), "int": "b"})
        writes = [(channel, value) for channel, value in VALUES.items() if channel != "beyond 64 bits"]
        await saver.aput_writes(config, writes, "task")
        assert (await export_all(mode, saver, uri)).refused == []
        await assert_same_as_in_log(mode, saver, uri)
    with psycopg.connect(direct(uri)) as conn:
        (inline,) = (
            conn.execute("select checkpoint -> 'channel_values' from checkpoints where checkpoint_id = 'a'").fetchone()
            or ()
        )
    inlined = {"none", "true", "text", "empty", "int", "negative", "float", "small", "beyond 64 bits"}
    assert inline == {name: VALUES[name] for name in inlined}


async def test_versions_that_are_numbers_find_their_values(mode: Mode, uri: str) -> None:
    async with open_saver(f"{mode}-pool", uri) as saver:
        config = await put(saver, config_of("1"), "a", {"x": [1], "y": [2]}, versions={"x": 1, "y": 1.0})
        await put(saver, config, "b", {"x": [3]}, versions={"x": 2, "y": 1.0}, new={"x": 2})
        await saver.log.export_to(uri, schema="public")
        await assert_same_as_in_log(mode, saver, uri)


@pytest.mark.portable
async def test_encrypted_values_stay_encrypted(mode: Mode, uri: str) -> None:
    async with open_saver(f"{mode}-pool", uri, serde=AES) as saver:
        config = await put(saver, config_of("1"), "a", {"text": "secret text", "list": ["secret list"], "none": None})
        await saver.aput_writes(config, [("text", "secret write")], "task")
        assert (await export_all(mode, saver, uri)).threads == 1
        await assert_same_as_in_log(mode, saver, uri, serde=AES)
        assert (await export_all(mode, saver, uri)).equal == 1
    with psycopg.connect(direct(uri)) as conn:
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes"):
            for (row,) in conn.execute(f"select t::text from {table} as t").fetchall():
                assert "secret" not in row
                assert b"secret".hex() not in row


class Work(TypedDict, total=False):
    items: Annotated[list[str], operator.add]


def fan_out() -> Any:
    """Tasks of Sends, a node that asks, and a subgraph that asks."""

    def ask(state: Work) -> Work:
        return {"items": [f"told {interrupt('tell me')}"]}

    inner = StateGraph(Work)
    inner.add_node("ask within", ask)
    inner.add_edge(START, "ask within")
    builder = StateGraph(Work)
    builder.add_node("split", lambda state: {"items": ["split"]})
    builder.add_node("work", lambda item: {"items": [f"worked on {item}"]})
    builder.add_node("ask", ask)
    builder.add_node("inner", inner.compile())
    builder.add_edge(START, "split")
    builder.add_conditional_edges("split", lambda state: [Send("work", n) for n in range(3)], ["work"])
    builder.add_edge("work", "ask")
    builder.add_edge("ask", "inner")
    return builder


@pytest.mark.usefixtures("in_context")
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
async def test_a_graph_goes_on_from_where_it_was_exported(mode: Mode, stop: int, uri: str) -> None:
    """Between Sends and their tasks, at an interrupt, and at one in a subgraph."""
    builder = fan_out()
    steps: list[Any] = [{"items": ["start"]}, None, Command(resume="one"), Command(resume="two")]

    async def run_steps(saver: Any, some: list[Any]) -> Any:
        run = Run(builder.compile(checkpointer=saver, interrupt_before=["work"]), mode)
        for each in some:
            await run.invoke(each)
        return await run.state()

    async with open_saver(f"{mode}-pool", uri) as saver, open_old(f"{mode}-pool", uri) as old:
        native, native_old = (each.sync if isinstance(each, AsyncFace) else each for each in (saver, old))
        before = await run_steps(native, steps[:stop])
        assert (await export_all(mode, saver, uri)).threads == 1
        after = await run_steps(native_old, [])
        assert (after.values, after.next, after.config) == (before.values, before.next, before.config)
        assert after.interrupts == before.interrupts
        ended = await run_steps(native_old, steps[stop:])
    assert ended.values["items"][-2:] == ["told one", "told two"]
    assert ended.next == ()


@pytest.mark.skipif(INCUMBENT < (3, 2), reason="PostgresSaver puts writes in an order of its own before 3.2")
@pytest.mark.usefixtures("in_context")
@pytest.mark.parametrize("durability", ["sync", "exit"])
async def test_delta_channels_go_on(mode: Mode, durability: str, uri: str) -> None:
    async with open_saver(f"{mode}-pool", uri) as saver, open_old(f"{mode}-pool", uri) as old:
        native, native_old = (each.sync if isinstance(each, AsyncFace) else each for each in (saver, old))
        run, run_old = Run(build_delta_graph(native), mode), Run(build_delta_graph(native_old), mode)
        await delta_scenario(run, durability)
        assert (await export_all(mode, saver, uri)).threads == 1
        keys = await assert_same_as_in_log(mode, saver, uri)
        assert len(keys) > 20
        for mine, theirs in zip(await run.history(), await run_old.history(), strict=True):
            assert (mine.values, mine.config, mine.next) == (theirs.values, theirs.config, theirs.next)
        for key in keys:
            config, channels = config_of(key[0], key[2], ns=key[1]), ["often", "seldom", "never", "plain"]
            mine, theirs = [
                await each.aget_delta_channel_history(config=config, channels=channels) for each in (saver, old)
            ]
            assert mine == theirs, key
        for each in (run, run_old):
            await each.invoke({"often": ["after"]}, durability=durability)
        assert (await run.state()).values == (await run_old.state()).values


async def test_exporting_again_skips_what_is_equal_and_completes_what_went_on(mode: Mode, uri: str) -> None:
    async with open_saver(f"{mode}-pool", uri) as saver:
        await converse(saver, "1", ids="abcd")
        await converse(saver, "2", ids="abcd")
        assert (await export_all(mode, saver, uri))[:3] == (2, 0, 8)
        await put(saver, config_of("1", "d"), "e", {"x": ["went on"]})
        await saver.aput_writes(config_of("1", "d"), [("late", 1)], "late task")
        told: list[ExportedThread] = []
        assert (await export_all(mode, saver, uri, on_thread=told.append))[:3] == (1, 1, 9)
        assert {(each.thread_id, each.outcome) for each in told} == {("1", "exported"), ("2", "equal")}
        assert (await export_all(mode, saver, uri))[:2] == (0, 2)
        await assert_same_as_in_log(mode, saver, uri)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("update checkpoints set metadata = '{}' where checkpoint_id = 'b'", "of checkpoint b, it has other metadata"),
        (
            "update checkpoints set parent_checkpoint_id = null where checkpoint_id = 'b'",
            "its parent is None there, and a",
        ),
        ("update checkpoints set checkpoint = jsonb_set(checkpoint, '{ts}', '1')", "other fields or versions"),
        (
            "update checkpoints set checkpoint = jsonb_set(checkpoint, '{channel_values,y}', '1')",
            "channel 'y' has another",
        ),
        ("update checkpoint_blobs set blob = blob || '1' where version = 'c'", "channel 'x' has another value there"),
        ("update checkpoint_writes set blob = '1' where checkpoint_id = 'c'", "to checkpoint c differs"),
        (
            "update checkpoint_writes set checkpoint_id = 'z' where checkpoint_id = 'c'",
            "4 checkpoints and 15 writes, of",
        ),
        ("update checkpoints set checkpoint_id = 'z' where checkpoint_id = 'd'", "5 checkpoints and 12 writes, of"),
    ],
)
async def test_a_thread_that_is_another_there_is_named_and_left_alone(
    mode: Mode, change: str, why: str, uri: str
) -> None:
    async with open_saver(f"{mode}-pool", uri) as saver:
        await converse(saver, "1", ids="abcd")
        await export_all(mode, saver, uri)
        with psycopg.connect(direct(uri), autocommit=True) as conn:
            conn.execute(change.encode())
            before = rows(conn)
            await converse(saver, "2", ids="ab")
            exported = await export_all(mode, saver, uri, thread_ids=["1", "2"])
            assert exported[:2] == (1, 0)
            (refused,) = exported.refused
            assert refused[:2] == ("1", "refused")
            assert why in str(refused.reason)
            conn.execute("delete from checkpoints where thread_id = '2'")
            conn.execute("delete from checkpoint_blobs where thread_id = '2'")
            conn.execute("delete from checkpoint_writes where thread_id = '2'")
            assert rows(conn) == before


def rows(conn: psycopg.Connection[Any]) -> list[Any]:
    """All rows of the tables."""
    return [
        conn.execute(f"select t::text from {table} as t order by 1".encode()).fetchall()
        for table in ("checkpoints", "checkpoint_blobs", "checkpoint_writes")
    ]


@pytest.mark.parametrize(
    ("values", "metadata", "writes", "why"),
    [
        ({"x": "a\ud800"}, {}, [], "channel 'x' has a value that LangGraph's serializer refuses"),
        ({}, {"a": math.nan}, [], "the metadata of checkpoint a has under 'a' what JSON does not hold"),
        ({}, {"a": HumanMessage("object")}, [], "has an object in it"),
        ({}, {}, [("x", 1 << 80)], "the write of task task to channel 'x' has a value that"),
    ],
)
async def test_what_the_tables_cannot_hold_is_refused_and_named(
    mode: Mode, values: Any, metadata: Any, writes: Any, why: str, uri: str
) -> None:
    async with open_saver(f"{mode}-pool", uri) as saver:
        config = await put(saver, config_of("1"), "a", values, metadata=metadata)
        if writes:
            await saver.aput_writes(config, writes, "task")
        await converse(saver, "2", ids="ab")
        exported = await export_all(mode, saver, uri)
        assert exported[:2] == (1, 0)
        assert why in str(exported.refused[0].reason)
    with psycopg.connect(direct(uri)) as conn:
        for table in rows(conn):
            assert not any(row.startswith("(1,") for (row,) in table)


async def test_two_values_under_one_version_are_refused(mode: Mode, uri: str) -> None:
    async with open_saver(f"{mode}-pool", uri) as saver:
        await put(saver, config_of("1"), "a", {"x": ["one"]}, versions={"x": "1"})
        await put(saver, config_of("1"), "b", {"x": ["other"]}, versions={"x": "1"})
        (refused,) = (await export_all(mode, saver, uri)).refused
        assert "under its version in another checkpoint" in str(refused.reason)


async def test_nul_characters_in_metadata_are_left_out(mode: Mode, uri: str) -> None:
    async with open_saver(f"{mode}-pool", uri) as saver, open_old(f"{mode}-pool", uri) as old:
        await put(saver, config_of("1"), "a", {"x": 1}, metadata={"note": "a\0b", "deep": {"k\0": ["\0"]}})
        assert (await export_all(mode, saver, uri)).refused == []
        found = await old.aget_tuple(config_of("1"))
    assert found.metadata == {"note": "ab", "deep": {"k": [""]}}


@pytest.mark.portable
async def test_a_fence_lets_an_exported_thread_go(mode: Mode, uri: str) -> None:
    async def copy(_: Any) -> None:
        """The log has it."""

    async with (
        open_saver(f"{mode}-pool", uri) as saver,
        open_old(f"{mode}-pool", uri) as old,
        open_incumbent(mode, uri) as incumbent,
    ):
        await converse(saver, "1", ids="ab")
        await converse(saver, "2", ids="ab")
        await put(saver, config_of("2", "b"), "c", {"x": "a\ud800"})
        await incumbent.install_fence()
        for thread_id in "12":
            await incumbent.move(thread_id, "the event log", copy)
        with psycopg.connect(direct(uri), autocommit=True) as conn:
            conn.execute("update moved set state = 'moving' where thread_id = '1'")
            moving = await export_all(mode, saver, uri, thread_ids=["1"])
            assert "run `eventlog fence settle` and try again" in str(moving.refused[0].reason)
            conn.execute("update moved set state = 'moved' where thread_id = '1'")
        exported = await export_all(mode, saver, uri)
        assert [each.thread_id for each in exported.refused] == ["2"]
        assert (await incumbent.fence_status()).moved == 1
        await put(old, config_of("1", "b"), "c", {"x": ["goes on"]})
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            await put(old, config_of("2"), "a", {"x": 1})


async def test_bad_targets_get_an_error_that_says_what_to_do(mode: Mode, uri: str, empty_database_uri: str) -> None:
    async with open_saver(f"{mode}-pool", uri) as saver:
        await converse(saver, "1", ids="ab")
        with pytest.raises(NotSetUpError, match=r"Run PostgresSaver\.setup\(\) there"):
            await export_all(mode, saver, empty_database_uri)
        with pytest.raises(ThreadNotFoundError, match="the log has no thread 'x'"):
            await export_all(mode, saver, uri, thread_ids=["1", "x"])
        with pytest.raises(InvalidInputError, match="workers must be at least 1"):
            await export_all(mode, saver, uri, workers=0)
        with pytest.raises(InvalidInputError, match="int was given, but"):
            await saver.log.export_to(1)
        with pytest.raises(InvalidInputError, match="not a PostgreSQL connection string"):
            await saver.log.export_to("nonsense")
        with psycopg.connect(direct(uri), autocommit=True) as conn:
            assert rows(conn) == [[], [], []]
            conn.execute("delete from checkpoint_migrations where v = 9")
            with pytest.raises(NotSetUpError, match="of schema version 8, and rows are written for version 9"):
                await export_all(mode, saver, uri)
            conn.execute("insert into checkpoint_migrations values (9)")
            conn.execute("alter table checkpoints drop column checkpoint_id cascade")
            with pytest.raises(InvalidInputError, match="ShallowPostgresSaver"):
                await export_all(mode, saver, uri)


async def test_threads_are_exported_page_by_page(mode: Mode, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PAGE", 3)
    monkeypatch.setattr(export, "CHUNK", 2)
    async with open_saver(f"{mode}-pool", uri) as saver:
        for number in range(7):
            await converse(saver, f"thread {number}", ids="abcdefg"[: number + 1])
        assert (await export_all(mode, saver, uri))[:3] == (7, 0, 28)
        await assert_same_as_in_log(mode, saver, uri)


async def test_a_text_with_lone_surrogates_is_not_exported(mode: Mode, uri: str) -> None:
    """PostgresSaver could not read it."""
    async with open_saver(f"{mode}-pool", uri) as saver:
        await put(saver, config_of("1"), "a", {"x": {"l": ["a\ud800b"]}})
        (refused,) = (await export_all(mode, saver, uri)).refused
        assert "lone surrogates" in str(refused.reason)
