"""Upcasters: old values of a channel are read in the shape that the code has now, and the log stays as it was."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.types import Send
from pydantic import BaseModel

from eventlog.errors import InvalidInputError, MissingClassError, UpcastError
from langgraph.checkpoint.eventlog import EventLogSaver, Upcaster
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, listed, put

pytestmark = pytest.mark.portable

MODULE = "an_application"
TWO = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])


class Profile(BaseModel):
    """As it is now: `name` was split."""

    first: str
    last: str


@dataclass
class Order:
    """As it is now, in another module than before."""

    number: int
    lines: list[str]


@pytest.fixture
def application() -> Iterator[ModuleType]:
    """The module of an application's earlier version, with the classes that it had."""
    module = ModuleType(MODULE)

    class OldProfile(BaseModel):
        name: str

    @dataclass
    class OldOrder:
        number: int
        items: list[str]

    for name, each in (("Profile", OldProfile), ("Order", OldOrder)):
        each.__module__, each.__qualname__, each.__name__ = MODULE, name, name
        setattr(module, name, each)
    sys.modules[MODULE] = module
    yield module
    sys.modules.pop(MODULE, None)


def new_profile(value: Any) -> Any:
    """Of the old class, or of the one that there is now."""
    if "name" in value:
        first, _, last = value["name"].partition(" ")
        return Profile(first=first, last=last)
    return Profile(first=value["first"], last=value["last"])


def new_orders(value: Any) -> Any:
    return [Order(each["number"], each.get("items") or each["lines"]) for each in value]


UPCASTERS = [Upcaster("profile", new_profile), Upcaster("orders", new_orders)]
ADA = Profile(first="Ada", last="Lovelace")


async def fill(saver: Any, application: ModuleType, **metadata: Any) -> Any:
    """A thread of the old version: two checkpoints and a pending write."""
    orders = [application.Order(1, ["a"])]
    values = {"profile": application.Profile(name="Ada Lovelace"), "orders": orders, "messages": [HumanMessage("hi")]}
    first = await put(saver, config_of(), "1", values, metadata=metadata)
    orders = [*orders, application.Order(2, ["b"])]
    versions = {"profile": "1", "orders": "2", "messages": "1"}
    second = await put(saver, first, "2", {**values, "orders": orders}, versions=versions, new={"orders": "2"})
    await saver.aput_writes(second, [("orders", [application.Order(3, ["c"])]), ("other", 1)], "task")
    return second


@TWO
@pytest.mark.parametrize("is_gone", [False, True])
async def test_old_values_are_read_in_the_new_shape(
    kind: str, is_gone: bool, application: ModuleType, database_uri: str
) -> None:
    """By the saver and by the log, whether or not the old classes are still there; the log is as it was."""
    async with open_saver(kind, database_uri) as saver:
        await fill(saver, application)
    before = Tables(database_uri).rows("select * from {schema}.events order by position")
    if is_gone:
        del sys.modules[MODULE]
    async with open_saver(kind, database_uri, upcasters=UPCASTERS) as saver:
        found = await saver.aget_tuple(config_of())
        values = found.checkpoint["channel_values"]
        assert values["profile"] == ADA
        assert values["orders"] == [Order(1, ["a"]), Order(2, ["b"])]
        assert values["messages"][0].content == "hi"
        assert list(values) == ["profile", "orders", "messages"]
        assert found.pending_writes == [("task", "orders", [Order(3, ["c"])]), ("task", "other", 1)]
        newest, *_ = await listed(saver, config_of())
        assert newest.checkpoint["channel_values"] == values

        history = await saver.aget_delta_channel_history(config=found.config, channels=["orders"])
        assert history["orders"]["seed"] == [Order(1, ["a"])]

        log = saver.log
        difference = await log.diff("1", "1", "2")
        assert [each.after for each in difference.channels["orders"]] == [Order(2, ["b"])]
        changes = [each async for each in log.changes("1")]
        assert [value for change in changes for value in change.values if isinstance(value, Profile)] == [ADA]
        assert changes[1].values == [[Order(2, ["b"])]]
        written = [await log.decode(event) async for event in log.tail() if event.kind == 2]
        assert written[0].writes[0].value == [Order(3, ["c"])]
        time = changes[0].entry.time
        assert (await log.state_at("1", time)).checkpoint["channel_values"]["profile"] == ADA
        assert (await log.verify(states=True)).problems == []
        assert (await log.rebuild(check=True)).differences == []
    assert Tables(database_uri).rows("select * from {schema}.events order by position") == before


@TWO
async def test_what_is_put_next_has_the_new_shape(kind: str, application: ModuleType, database_uri: str) -> None:
    """It is a value like others; its function then gets the new shape."""
    async with open_saver(kind, database_uri) as saver:
        second = await fill(saver, application)
    async with open_saver(kind, database_uri, upcasters=UPCASTERS) as saver:
        values = (await saver.aget_tuple(config_of())).checkpoint["channel_values"]
        profile = Profile(first="Augusta", last="King")
        versions = {"profile": "3", "orders": "2", "messages": "1"}
        await put(saver, second, "3", {**values, "profile": profile}, versions=versions, new={"profile": "3"})
    async with open_saver(kind, database_uri, upcasters=UPCASTERS) as saver:
        values = (await saver.aget_tuple(config_of())).checkpoint["channel_values"]
        assert (values["profile"], values["orders"]) == (profile, [Order(1, ["a"]), Order(2, ["b"])])
        assert (await saver.log.verify(states=True)).problems == []


@TWO
async def test_up_to_a_version_the_functions_of_a_channel_run_in_their_order(kind: str, database_uri: str) -> None:
    """Each from the version after which it is not needed, recorded in the metadata, which can be listed by."""
    steps = [
        Upcaster("x", lambda value: [*value, "none to 1"], up_to=0),
        Upcaster("x", lambda value: [*value, "1 to 2"], up_to=1),
        Upcaster("x", lambda value: [*value, "always"]),
    ]
    for number, version in enumerate((None, 0, 1, 2)):
        async with open_saver(kind, database_uri, state_version=version) as saver:
            await put(saver, config_of(str(number)), "1", {"x": [version]}, metadata={"step": 1})
    async with open_saver(kind, database_uri, upcasters=steps) as saver:
        found = [(await saver.aget_tuple(config_of(str(number)))) for number in range(4)]
        assert [each.checkpoint["channel_values"]["x"] for each in found] == [
            [None, "none to 1", "1 to 2", "always"],
            [0, "none to 1", "1 to 2", "always"],
            [1, "1 to 2", "always"],
            [2, "always"],
        ]
        assert [each.metadata for each in found[:2]] == [{"step": 1}, {"step": 1, "state_version": 0}]
        old = await listed(saver, None, filter={"state_version": 1})
        assert [each.config["configurable"]["thread_id"] for each in old] == ["2"]


@TWO
@pytest.mark.parametrize("is_given", [True, False])
async def test_a_channel_that_did_not_change_is_of_its_checkpoints_version(
    kind: str, is_given: bool, application: ModuleType, database_uri: str
) -> None:
    """It would be inherited in its old shape by a checkpoint of the new version, and its function would not run."""
    ran: list[Any] = []

    def once(value: Any) -> Any:
        ran.append(value)
        return new_profile(value)

    upcasters = [Upcaster("profile", once, up_to=1)]
    async with open_saver(kind, database_uri, state_version=1) as saver:
        second = await fill(saver, application)
    plain = JsonPlusSerializer(allowed_msgpack_modules=[Profile])
    settings = {"upcasters": upcasters, "state_version": 2, "serde": plain}
    async with open_saver(kind, database_uri, **settings) as saver:
        values = (await saver.aget_tuple(config_of())).checkpoint["channel_values"]
        assert values["profile"] == ADA
        if not is_given:
            values = {name: value for name, value in values.items() if name != "profile"}
        versions = {"profile": "1", "orders": "3", "messages": "1"}
        await put(saver, second, "3", {**values, "orders": []}, versions=versions, new={"orders": "3"})
    ran.clear()
    async with open_saver(kind, database_uri, **settings) as saver:
        found = await saver.aget_tuple(config_of())
        assert found.checkpoint["channel_values"]["profile"] == ADA
        assert ran == []
        assert (await saver.log.verify(states=True)).problems == []


@TWO
async def test_a_channel_that_was_emptied_does_not_come_back(kind: str, database_uri: str) -> None:
    """It has a new version and no value, as a `DeltaChannel` has behind a snapshot."""
    async with open_saver(kind, database_uri, state_version=1) as saver:
        config = await put(saver, config_of(), "1", {"x": ["old"], "y": 1})
    settings = {"upcasters": [Upcaster("x", lambda value: [*value, "new"], up_to=1)], "state_version": 2}
    async with open_saver(kind, database_uri, **settings) as saver:
        await put(saver, config, "2", {"y": 2}, versions={"x": "2", "y": "2"}, new={"x": "2", "y": "2"})
        assert (await saver.aget_tuple(config_of())).checkpoint["channel_values"] == {"y": 2}


@TWO
async def test_a_value_is_inherited_from_the_parent_as_it_is_stored_now(kind: str, database_uri: str) -> None:
    """Another saver has put the parent again since this one cached it."""
    settings = {"upcasters": [Upcaster("x", lambda value: [*value, "new"], up_to=1)], "state_version": 2}
    large = ["old"] * 2000
    async with open_saver(kind, database_uri, state_version=1) as first:
        config = await put(first, config_of(), "1", {"x": large, "y": 1})
        async with open_saver(kind, database_uri, **settings) as saver:
            await saver.aget_tuple(config)
            await put(first, config_of(), "1", {"x": [*large, "again"], "y": 1})
            await put(saver, config, "2", {"y": 2}, versions={"x": "1", "y": "2"}, new={"y": "2"})
            found = (await saver.aget_tuple(config_of())).checkpoint["channel_values"]
            assert found == {"x": [*large, "again", "new"], "y": 2}


@TWO
async def test_a_saver_that_counts_no_versions_inherits_old_values(kind: str, database_uri: str) -> None:
    """Its checkpoints have no version either, so that the function runs on them: there is nothing to save again."""
    upcasters = [Upcaster("x", lambda value: [*value, "new"], up_to=1)]
    large = [f"old {number}" for number in range(1000)]
    async with open_saver(kind, database_uri) as saver:
        config = await put(saver, config_of(), "1", {"x": large, "y": 1})
    async with open_saver(kind, database_uri, upcasters=upcasters) as saver:
        values = (await saver.aget_tuple(config_of())).checkpoint["channel_values"]
        await put(saver, config, "2", {**values, "y": 2}, versions={"x": "1", "y": "2"}, new={"y": "2"})
        assert (await saver.aget_tuple(config_of())).checkpoint["channel_values"]["x"] == [*large, "new"]
        changes = [each async for each in saver.log.history("1")]
        assert [change.channel for change in changes[1].channels] == ["y"]


@TWO
async def test_a_function_that_fails_is_named_with_the_value_that_it_failed_on(
    kind: str, application: ModuleType, database_uri: str
) -> None:
    def broken(value: Any) -> Any:
        return value["surname"]

    async with open_saver(kind, database_uri) as saver:
        await fill(saver, application)
    async with open_saver(kind, database_uri, upcasters=[Upcaster("profile", broken)]) as saver:
        with pytest.raises(
            UpcastError, match=r"broken failed on channel 'profile' of checkpoint '2', thread '1'"
        ) as info:
            await saver.aget_tuple(config_of())
        assert isinstance(info.value.__cause__, KeyError)
        error = info.value
        assert (error.thread_id, error.checkpoint_ns, error.checkpoint_id, error.channel) == ("1", "", "2", "profile")
        with pytest.raises(UpcastError, match="checkpoint '1'"):
            _ = [each async for each in saver.log.changes("1")]


@TWO
async def test_a_class_that_is_gone_is_named(kind: str, application: ModuleType, database_uri: str) -> None:
    """With upcasters, or an empty list: in a channel, deep inside of a value, in a write. Without, nothing changes."""
    async with open_saver(kind, database_uri) as saver:
        stored = await fill(saver, application)
        await put(
            saver, config_of("deep"), "1", {"x": [Send("node", {"a": {"b": {1, 2}, "o": application.Order(1, [])}})]}
        )
        await put(saver, config_of("delta"), "1", {"x": _DeltaSnapshot([application.Order(1, [])])})
        await put(saver, config_of("write"), "1", {"x": 1})
        config = config_of("write", "1")
        await saver.aput_writes(config, [("x", application.Profile(name="A"))], "task")
    del sys.modules[MODULE]
    async with open_saver(kind, database_uri) as saver:
        assert (await saver.aget_tuple(stored)).checkpoint["channel_values"]["profile"] == {"name": "Ada Lovelace"}
    async with open_saver(kind, database_uri, upcasters=[Upcaster("profile", new_profile)]) as saver:
        with pytest.raises(MissingClassError, match="Register an upcaster") as info:
            await saver.aget_tuple(stored)
        error = info.value
        assert (error.thread_id, error.checkpoint_id, error.channel, error.class_name) == (
            "1", "2", "orders", f"{MODULE}.Order"
        )  # fmt: skip
    async with open_saver(kind, database_uri, upcasters=[]) as saver:
        for thread_id, name in (("deep", "Order"), ("delta", "Order"), ("write", "Profile")):
            with pytest.raises(MissingClassError, match=f"the class {MODULE}.{name} is gone, and channel 'x'"):
                await saver.aget_tuple(config_of(thread_id))
        # A reader that builds no types of the application's needs none.
        changes = [each async for each in saver.log.changes("deep")]
        assert changes[0].values[0][0].arg["a"]["o"] == {"$type": f"{MODULE}.Order", "number": 1, "items": []}


@TWO
async def test_a_delta_channels_snapshot_and_its_writes_are_upcast(kind: str, database_uri: str) -> None:
    """The function gets what is in the snapshot, and the values of writes."""
    async with open_saver(kind, database_uri) as saver:
        first = await put(saver, config_of(), "1", {"log": _DeltaSnapshot(["old 1"])})
        await saver.aput_writes(first, [("log", ["old 2"])], "task")
        await put(saver, first, "2", {}, versions={"log": "2"}, new={"log": "2"})
    seen = lambda value: [each.replace("old", "new") for each in value]  # noqa: E731
    async with open_saver(kind, database_uri, upcasters=[Upcaster("log", seen)]) as saver:
        assert (await saver.aget_tuple(first)).checkpoint["channel_values"]["log"] == _DeltaSnapshot(["new 1"])
        found = await saver.aget_delta_channel_history(config=config_of(), channels=["log"])
        assert found["log"] == {"seed": _DeltaSnapshot(["new 1"]), "writes": [("task", "log", ["new 2"])]}


@TWO
@pytest.mark.parametrize("is_object", [False, True])
async def test_the_input_of_a_graph_is_upcast_by_channel(
    kind: str, is_object: bool, application: ModuleType, database_uri: str
) -> None:
    """LangGraph keeps it in a channel of its own: a mapping, or an object of the state's class."""

    class Input(BaseModel):
        profile: Any
        note: str

    Input.__module__, Input.__qualname__ = MODULE, "Input"
    application.Input = Input  # type: ignore[attr-defined]
    given = {"profile": {"name": "Ada Lovelace"}, "note": "hi"}
    async with open_saver(kind, database_uri) as saver:
        await put(saver, config_of(), "1", {"__start__": Input(**given) if is_object else given})
    for is_gone in (False, True):
        if is_gone:
            del sys.modules[MODULE]
        async with open_saver(kind, database_uri, upcasters=UPCASTERS) as saver:
            found = (await saver.aget_tuple(config_of())).checkpoint["channel_values"]["__start__"]
            assert found == {"profile": ADA, "note": "hi"}


@TWO
async def test_values_of_an_encrypted_log_and_shared_ones_are_upcast(
    kind: str, application: ModuleType, database_uri: str
) -> None:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    async with open_saver(kind, database_uri, serde=serde) as saver:
        await fill(saver, application)
    async with open_saver(kind, database_uri, serde=serde, upcasters=UPCASTERS, share_history=True) as saver:
        for found in await listed(saver, config_of()):
            assert found.checkpoint["channel_values"]["profile"] == ADA


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"upcasters": Upcaster("x", str)}, "setting 'upcasters'"),
        ({"upcasters": [("x", str)]}, "setting 'upcasters"),
        ({"state_version": -1}, "setting 'state_version'"),
        ({"state_version": "1"}, "setting 'state_version'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message), EventLogSaver.from_conn_string("dbname=nowhere", **settings):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", str), "must be a channel's name"),
        ((1, str), "must be a channel's name"),
        (("x", "str"), "must be a function, not str"),
        (("x", str, "1"), "must be an int or None"),
        (("x", str, True), "must be an int or None"),
    ],
)
def test_wrong_upcasters_are_refused(arguments: Any, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Upcaster(*arguments)
