"""What a checkpointer promises to LangGraph: which checkpoint is read, and which are listed."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from tests.support.adapters import open_saver
from tests.support.checkpoints import (
    Tables,
    checkpoint_of,
    config_of,
    exactly,
    listed,
    listed_ids,
    put,
    values_of,
)

pytestmark = pytest.mark.portable

NAN = float("nan")


async def test_a_checkpoint_is_returned_with_all_fields_and_configs(saver: Any) -> None:
    """All of a checkpoint, unknown fields included; config and parent's config."""
    parent = await put(saver, config_of(), "1")
    checkpoint = checkpoint_of(
        "2",
        {"x": 1},
        {"x": "1", "without value": "1"},
        ts="not even a time",
        versions_seen={"node": {"x": "1", "y": 2}, "idle": {}},
        updated_channels=["x"],
        unknown={"kept": [None, 1.5, b"bytes"]},
    )

    stored = await saver.aput(parent, checkpoint, {"source": "loop", "step": 1}, {"x": "1"})
    found = await saver.aget_tuple(stored)

    assert stored == config_of("1", "2")
    assert exactly(dict(found.checkpoint), {key: checkpoint[key] for key in found.checkpoint})
    assert found.checkpoint.keys() == checkpoint.keys()
    assert found.metadata == {"source": "loop", "step": 1}
    assert found.config == stored
    assert found.parent_config == parent
    assert found.pending_writes == []
    assert await listed(saver, stored) == [found]
    assert (await saver.aget_tuple(parent)).parent_config is None
    assert await saver.aget(stored) == found.checkpoint


async def test_unknown_threads_namespaces_and_ids_return_nothing(saver: Any) -> None:
    """Other threads, namespaces and ids are not there, and that is no error."""
    await put(saver, config_of(), "5")

    for config in (
        config_of("2"),
        config_of("1", ns="other"),
        config_of("1", "4"),
        config_of("1", "5", ns="other"),
    ):
        assert await saver.aget_tuple(config) is None
        assert await listed(saver, config) == []


async def test_latest_is_the_greatest_id(saver: Any) -> None:
    """Of the namespace, by code point, whatever came last."""
    for checkpoint_id in ("a3", "Z9", "a1"):
        await put(saver, config_of(), checkpoint_id, {"x": checkpoint_id})
    await put(saver, config_of(ns="child"), "zz", {"x": "child"})
    await put(saver, config_of("2"), "zzz", {"x": "thread"})
    # Replacing an older one does not make it the latest.
    await put(saver, config_of(), "a1", {"x": "again"})

    # Most collations other than "C" have "Z9" last.
    assert await values_of(saver, config_of()) == {"x": "a3"}
    # As LangGraph asks: with no namespace, or with an id that is empty.
    assert await values_of(saver, config_of(ns=None)) == {"x": "a3"}
    assert await values_of(saver, config_of("1", "")) == {"x": "a3"}
    assert await values_of(saver, config_of(ns="child")) == {"x": "child"}
    assert await listed_ids(saver, config_of()) == ["a3", "a1", "Z9"]


async def test_list_is_newest_first_and_takes_before_and_limit(saver: Any) -> None:
    """Newest first, in one namespace, all of a thread's, or all threads; `before` and `limit`."""
    for thread_id, ns, ids in (("1", "", "1359"), ("1", "child", "24"), ("2", "", "678")):
        config = config_of(thread_id, ns=ns)
        for checkpoint_id in ids:
            config = await put(saver, config, checkpoint_id, {"x": checkpoint_id})

    async def ids(*args: Any, **criteria: Any) -> str:
        return "".join(await listed_ids(saver, *args, **criteria))

    assert await ids(None) == "987654321"
    assert await ids({}) == "987654321"
    assert await ids(config_of("1", ns=None)) == "954321"
    assert await ids(config_of("1")) == "9531"
    assert await ids(config_of("1", ns="child")) == "42"
    assert await ids(config_of("2", ns="child")) == ""
    assert await ids(config_of("1", "5")) == "5"
    assert await ids(config_of("1", "4", ns=None)) == "4"

    assert await ids(None, before=config_of("1", "5")) == "4321"
    # The checkpoint itself need not be there.
    assert await ids(config_of("1"), before=config_of("1", "6")) == "531"
    assert await ids(config_of("2"), before=config_of("2", "0")) == ""

    assert await ids(config_of("1"), limit=0) == ""
    assert await ids(config_of("1"), limit=1) == "9"
    assert await ids(config_of("1"), limit=4) == "9531"
    assert await ids(None, limit=50) == "987654321"
    assert await ids(None, before=config_of("1", "8"), limit=3) == "765"
    assert await ids(config_of("1", ns=None), before=config_of("1", "9"), limit=2) == "54"


async def test_list_yields_what_get_tuple_returns(saver: Any) -> None:
    """Values, metadata, parents and writes; with forks, over more than one chunk."""
    configs = [await put(saver, config_of(), "00", {"log": ["0" * 100], "x": 0})]
    for number in range(1, 24):
        # Every third forks off an old checkpoint.
        parent = configs[number // 3 if number % 3 == 0 else -1]
        log = [*(await values_of(saver, parent))["log"], f"{number}" * 100]
        config = await put(
            saver,
            parent,
            f"{number:02}",
            {"log": log},
            versions={"log": f"{number:02}", "x": "00"},
            new={"log": f"{number:02}"},
            metadata={"step": number},
        )
        await saver.aput_writes(config, [("log", number)], f"task {number}")
        configs.append(config)

    found = await listed(saver, config_of())

    assert [each.checkpoint["id"] for each in found] == [f"{n:02}" for n in reversed(range(24))]
    assert found == [await saver.aget_tuple(config) for config in reversed(configs)]
    assert found[0].checkpoint["channel_values"]["x"] == 0
    assert found[0].pending_writes == [("task 23", "log", 23)]


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_list_pages_join_without_gaps_and_repeats(saver: Any) -> None:
    """Pages join without gaps and repeats, where ids are the same in many threads too."""
    wanted = []
    for number in range(100):
        for thread_id in ("a", "b", "c"):
            await put(saver, config_of(thread_id), f"{number:03}", {"x": f"{thread_id} {number}"})
            wanted.append((f"{number:03}", thread_id))

    found = await listed(saver, None)
    first = await listed(saver, None, limit=260)

    ids = [(one.checkpoint["id"], one.config["configurable"]["thread_id"]) for one in found]
    assert ids == sorted(wanted, reverse=True)
    assert first == found[:260]


FILTERS: list[tuple[Any, str]] = [
    (None, "54321"),
    ({}, "54321"),
    ({"source": "loop"}, "432"),
    ({"source": "loop", "step": 2}, "3"),
    ({"step": None}, "5"),
    # JSON has one kind of number, and truth is none of them.
    ({"step": 1.0}, "2"),
    ({"flag": True}, "2"),
    ({"flag": 1}, "3"),
    ({"missing": None}, ""),
    # Containment goes into mappings and lists.
    ({"nested": {}}, "43"),
    ({"nested": {"a": {"b": 1}}}, "3"),
    ({"nested": {"tags": ["y"]}}, "43"),
    ({"nested": {"tags": ["y", "x"]}}, "3"),
    ({"nested": {"tags": "y"}}, ""),
    # What a config brings along: its metadata and its own keys.
    ({"run_id": "run 1"}, "43"),
    ({"user": "ann"}, "4"),
    ({"user": "ann", "step": 3}, "4"),
    # Neither identifies a checkpoint, and LangGraph leaves them out.
    ({"thread_id": "1"}, ""),
    ({"checkpoint_ns": ""}, ""),
    ({"__private": 1}, ""),
    ({"list": [1]}, ""),
    # Text that only looks like JSON or SQL.
    ({"text": "it's 100% {\"a\": '%s'} ü\\n"}, "1"),
    ({"text": "it's"}, ""),
]


async def test_filter_is_jsonb_containment_over_metadata(saver: Any) -> None:
    """JSONB containment over metadata and what the config adds to it."""
    run = {"run_id": "run 1"}
    for checkpoint_id, config, metadata in (
        ("1", config_of(), {"text": "it's 100% {\"a\": '%s'} ü\\n"}),
        ("2", config_of(), {"source": "loop", "step": 1, "flag": True}),
        (
            "3",
            {**config_of(), "metadata": run},
            {"source": "loop", "step": 2, "flag": 1, "nested": {"a": {"b": 1}, "tags": ["x", "y"]}},
        ),
        (
            "4",
            {**config_of(user="ann", __private=1, list=[1]), "metadata": {**run, "step": 7}},
            {"source": "loop", "step": 3, "nested": {"tags": ["y"]}},
        ),
        ("5", config_of(), {"source": "input", "step": None}),
    ):
        await put(saver, config, checkpoint_id, metadata=metadata)

    for wanted, ids in FILTERS:
        found = await listed_ids(saver, config_of(), filter=wanted)
        assert "".join(found) == ids, wanted
    page = await listed_ids(saver, None, filter={"source": "loop"}, before=config_of("1", "4"), limit=1)
    assert page == ["3"]


async def test_an_escaped_nul_in_a_filter_is_text(saver: Any) -> None:
    """The six characters of an escaped NUL are not a NUL."""
    await put(saver, config_of(), "1", metadata={"text": r"\u0000", "step": 1})

    assert await listed_ids(saver, None, filter={"step": 1}) == ["1"]
    assert await listed_ids(saver, None, filter={"text": r"\u0000"}) == ["1"]


async def test_metadata_from_the_config_is_stored_and_searched(saver: Any) -> None:
    """It is returned as well as searched; the checkpoint's own wins; only plain values are taken."""
    config = {
        **config_of(user="a\0nn", step=9, plain=1.5, obj=[1], __internal="x", langgraph_node="n"),
        "metadata": {"run_id": UUID(int=5), "tag": "t", "step": 8, "langgraph_step": 1},
    }

    await put(saver, config, "1", metadata={"step": 1, "writes": {"dropped": "by LangGraph"}})

    found = await saver.aget_tuple(config_of())
    # The order is LangGraph's: its own, the config's metadata, what is configurable.
    assert list(found.metadata.items()) == [
        ("step", 1),
        ("tag", "t"),
        ("user", "ann"),
        ("plain", 1.5),
    ]


async def test_metadata_that_json_cannot_hold_is_returned_exactly(saver: Any) -> None:
    """JSON can hold none of it, a reader gets all of it, and the rest of it can be searched."""
    metadata = {
        "source": "loop",
        "nul": "a\0b",
        "nan": NAN,
        "infinite": [float("inf"), -float("inf")],
        "nested": {"a\0": {"b": ["\0", NAN, -0.0]}},
        "set": {1},
        "bytes": b"\xff\0",
        "keys": {1: "one", None: "none", (1, 2): "pair"},
        "large": 2**63,
    }

    stored = await put(saver, config_of(), "1", metadata=metadata)

    assert exactly((await saver.aget_tuple(stored)).metadata, {**metadata})
    (found,) = await listed(saver, None, filter={"source": "loop", "large": 2**63})
    assert exactly(found.metadata, metadata)
    assert await listed_ids(saver, None, filter={"source": "input"}) == []


# The last one is two characters: together, in UTF-16, they would be one.
@pytest.mark.parametrize("metadata", [{"a": "x\ud800y"}, {"a": {"b": ["\udfff"]}}, {"a": "\ud83d\ude00"}], ids=ascii)
async def test_metadata_with_lone_surrogates_is_returned_exactly(saver: Any, metadata: dict[str, Any]) -> None:
    """They come from broken text that models and tools return."""
    await put(saver, config_of(), "1", metadata={**metadata, "step": 1})

    (found,) = await listed(saver, None, filter={"step": 1})

    assert found.metadata == {**metadata, "step": 1}


async def test_a_second_put_of_an_id_replaces_it_for_readers(saver: Any, database_uri: str) -> None:
    """Another put of an id replaces it for readers; the log keeps both, children keep theirs."""
    tables = Tables(database_uri)
    old = {"x": ["old" * 100], "y": "old"}
    first = await put(saver, config_of(), "1", old, metadata={"step": 1, "only": "old"})
    await saver.aput_writes(first, [("x", "written")], "task")
    child = await put(saver, first, "2", {"x": ["old" * 100, "child"]}, versions={"x": "2", "y": "1"}, new={"x": "2"})

    again = await put(saver, config_of(), "1", {"x": ["new" * 100]}, metadata={"step": 5})

    assert again == first
    for read in (await saver.aget_tuple(first), (await listed(saver, first))[0]):
        assert read.checkpoint["channel_values"] == {"x": ["new" * 100]}
        assert read.checkpoint["channel_versions"] == {"x": "1"}
        assert read.metadata == {"step": 5}
        assert read.pending_writes == [("task", "x", "written")]
    assert await listed_ids(saver, None, filter={"only": "old"}) == []
    assert await listed_ids(saver, None) == ["2", "1"]
    # The child was made from what was there then.
    assert await values_of(saver, child) == {"x": ["old" * 100, "child"], "y": "old"}
    # A new child builds on what is there now.
    late = await put(saver, first, "3", {}, versions={"x": "1"}, new={})
    assert await values_of(saver, late) == {"x": ["new" * 100]}
    assert tables.events() == 5
    assert [child, late] == [config_of("1", "2"), config_of("1", "3")]


async def test_a_put_under_its_own_config_keeps_id_and_parent(saver: Any, database_uri: str) -> None:
    """A put under the config that the first put returned: the same checkpoint, the same parent."""
    parent = await put(saver, config_of(), "1", {"x": 1})
    stored = await put(saver, parent, "2", {"x": 2})

    again = await put(saver, stored, "2", {"x": 3})

    found = await saver.aget_tuple(again)
    assert found.checkpoint["channel_values"] == {"x": 3}
    assert found.parent_config == parent
    await put(saver, stored, "2", {"x": 3})
    assert Tables(database_uri).events() == 3


async def test_an_identical_put_appends_nothing(saver: Any, database_uri: str) -> None:
    """A put that is sent twice (its answer was lost, say) appends nothing, nor changes anything."""
    tables = Tables(database_uri)
    values = {"x": [1], "nan": NAN, "text": "\ud800"}
    metadata = {"step": 1, "nan": NAN}
    root = await put(saver, config_of(), "1", values, metadata=metadata)
    await put(saver, root, "2", {"x": [1, 2]}, versions={"x": "2", "nan": "1"}, new={"x": "2"})
    before = tables.contents()

    for _ in range(2):
        again = await put(saver, config_of(), "1", values, metadata=metadata)
        assert again == root
        await put(saver, root, "2", {"x": [1, 2]}, versions={"x": "2", "nan": "1"}, new={"x": "2"})
        # As LangGraph's own copies look: every value is given, and none is new.
        await put(saver, root, "2", {"x": [1, 2], "nan": NAN}, versions={"x": "2", "nan": "1"}, new={"x": "2"})

    assert tables.contents() == before
    assert tables.events() == 2


async def test_an_identical_put_by_another_saver_appends_nothing(kind: str, database_uri: str) -> None:
    """Also one that has nothing in its cache."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as saver:
        root = await put(saver, config_of(), "1", {"x": "a" * 5000})
        await put(saver, root, "2", {"y": [2]}, versions={"x": "1", "y": "2"}, new={"y": "2"})
    before = tables.contents()

    async with open_saver(kind, database_uri, state_cache_bytes=0) as saver:
        await put(saver, root, "2", {"y": [2]}, versions={"x": "1", "y": "2"}, new={"y": "2"})
        await put(saver, config_of(), "1", {"x": "a" * 5000})
        assert tables.contents() == before
        # One that differs in no more than a field, its metadata, what was seen or its parent, is another.
        value = {"x": "a" * 5000}
        await put(saver, config_of(), "1", value, ts="later")
        await put(saver, config_of(), "1", value, ts="later", metadata={"step": 1})
        await put(saver, config_of(), "1", value, ts="later", metadata={"step": 1}, versions_seen={"node": {}})
        assert tables.events() == 5
        await put(saver, config_of(), "2", {**value, "y": [2]}, versions={"x": "1", "y": "2"})
        assert tables.events() == 6
        assert (await saver.aget_tuple(config_of())).parent_config is None


async def test_thread_ids_of_any_type_mean_their_text(saver: Any) -> None:
    """A str, an int or a UUID means its text."""
    uuid = UUID(int=2**127 + 7)
    for given, text in ((7, "7"), (0, "0"), (-1, "-1"), (uuid, str(uuid)), ("ü 'q\"", "ü 'q\"")):
        stored = await put(saver, config_of(given), "1", {"x": text})
        await saver.aput_writes(config_of(given, "1"), [("x", 1)], "task")

        assert stored == config_of(text, "1")
        for thread_id in (given, text):
            found = await saver.aget_tuple(config_of(thread_id))
            assert found.config == stored
            assert found.checkpoint["channel_values"] == {"x": text}
            assert found.pending_writes == [("task", "x", 1)]
            assert await listed_ids(saver, config_of(thread_id)) == ["1"]
    await saver.adelete_thread(uuid)
    await saver.adelete_thread(7)
    assert await saver.aget_tuple(config_of(str(uuid))) is None
    assert sorted(await listed_ids(saver, None)) == ["1", "1", "1"]
