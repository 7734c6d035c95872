"""The `eventlog` command: `show` and `stats`."""

from __future__ import annotations

import json
import operator
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt
from psycopg import sql

from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.cli._output import when
from tests.adapters import open_saver
from tests.checkpoints import config_of, put
from tests.command import MODULE, ODD, clean_environment, documents, eventlog, process
from tests.terminal import SGR, on_terminal
from tests.test_rights import as_role, role

__all__ = ["clean_environment", "role"]  # fixtures

CALLS = [{"name": "get_weather", "args": {"city": "SF"}, "id": "call_1"}]


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    seen: Annotated[list[Any], operator.add]


def ask(_: State) -> Any:
    usage = {"input_tokens": 52, "output_tokens": 12, "total_tokens": 64}
    return {"messages": [AIMessage("Let me look.", tool_calls=CALLS, usage_metadata=usage)]}  # type: ignore[arg-type]


def look(_: State) -> Any:
    return {"messages": [ToolMessage("sunny", tool_call_id="call_1", name="get_weather")], "seen": [b"\x89PNG"]}


def confirm(_: State) -> Any:
    return {"seen": [interrupt({"question": "Is it?"})]}


def note(value: Any) -> Any:
    return {"seen": [value]}


@pytest.fixture
def graph() -> StateGraph[Any, Any, Any, Any]:
    """Two nodes side by side, one that waits for both and then for somebody, and two tasks that are sent."""
    builder = StateGraph(State)
    for node in (ask, look, confirm, note):
        builder.add_node(node.__name__, node)
    builder.add_edge(START, "ask")
    builder.add_edge(START, "look")
    builder.add_edge(["ask", "look"], "confirm")
    builder.add_conditional_edges("confirm", lambda _: [Send("note", "one"), Send("note", 2)])
    return builder


@pytest.fixture
def uri(database_uri: str, graph: StateGraph[Any, Any, Any, Any]) -> str:
    """A log with a run that waits for an answer."""
    with EventLogSaver.from_conn_string(database_uri) as saver:
        config = {"configurable": {"thread_id": "1"}, "metadata": {"customer": "ada"}}
        graph.compile(checkpointer=saver).invoke({"messages": [("human", "What's the\nweather?")]}, config)
    return database_uri


def ids_of(uri: str, thread_id: str = "1") -> list[str]:
    """Newest first."""
    with EventLogSaver.from_conn_string(uri) as saver:
        return [each.checkpoint["id"] for each in saver.list(config_of(thread_id))]


# --- show, for people


def test_show(uri: str) -> None:
    """Where the checkpoint comes from, its channels as people read them, and what is pending."""
    done = eventlog(uri, "show", "1")
    assert (done.exit_code, done.stderr) == (0, "")
    latest, parent, *_ = ids_of(uri)
    identity, *blocks = done.stdout.split("\n\n")
    about = dict(re.split(r"  +", line, maxsplit=1) for line in identity.splitlines())
    assert about["checkpoint"] == latest
    assert about["thread"] == "1"
    assert about["parent"] == parent
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC, event \d", about["saved"])
    assert about["step"] == "1 loop"
    assert about["customer"] == "ada"
    assert about["next"] == "confirm"
    assert re.fullmatch(r"[\d.]+ (bytes|kB) in 3 channels, from \d events? since event \d", about["state"])
    messages, seen, own, pending = blocks
    assert messages.splitlines() == [
        messages.splitlines()[0],
        "  human",
        "    What's the",
        "    weather?",
        "  ai  tokens: 52 in, 12 out",
        "    Let me look.",
        "    → get_weather(city=SF)  call_1",
        "  tool  get_weather  call_1",
        "    sunny",
    ]
    assert re.fullmatch(r"messages  3 messages, \d+ bytes, version 3", messages.splitlines()[0])
    assert seen.splitlines()[1:] == ["  [<4 bytes: 89 50 4e 47>]"]
    assert own == "LangGraph's own: join:ask+look:confirm"
    assert re.fullmatch(
        r"Pending writes\n  task confirm  [0-9a-f-]{36}\n"
        r"    interrupt: \[Interrupt\(value=\{question: Is it\?\}, id=[0-9a-f]{32}\)\]\n",
        pending,
    )
    assert "join:ask+look:confirm  " in eventlog(uri, "show", "1", "--full").stdout


def test_next_is_what_langgraph_says(uri: str, graph: StateGraph[Any, Any, Any, Any]) -> None:
    """Without the graph: of every checkpoint of a run, the tasks that come next, and what waits for an answer."""
    with EventLogSaver.from_conn_string(uri) as saver:
        compiled = graph.compile(checkpointer=saver)
        (waiting,) = documents(eventlog(uri, "show", "1", "--json"))
        assert [each["value"] for each in waiting["interrupts"]] == [{"question": "Is it?"}]
        compiled.invoke(Command(resume="yes"), config_of("1"))
        history = list(compiled.get_state_history(config_of("1")))
    assert len(history) == 5
    for state in history:
        (found,) = documents(eventlog(uri, "show", "1", state.config["configurable"]["checkpoint_id"], "--json"))
        assert sorted(found["next"]) == sorted(state.next)
        assert found["interrupts"] == []
        assert found["step"] == state.metadata["step"]


def test_one_channel(uri: str) -> None:
    """Its value alone; one that is not there is a mistake."""
    done = eventlog(uri, "show", "1", "--channel", "seen")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "[<4 bytes: 89 50 4e 47>]\n", "")
    (found,) = documents(eventlog(uri, "show", "1", "--channel", "seen", "--json"))
    assert found["value"] == [{"$type": "bytes", "base64": "iVBORw=="}]
    done = eventlog(uri, "show", "1", "--channel", "none")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "it has: 'messages', 'join:ask+look:confirm', 'seen'" in done.stderr


def test_show_as_json(uri: str) -> None:
    """One document with everything, as a saver has it."""
    with EventLogSaver.from_conn_string(uri) as saver:
        expected = saver.get_tuple(config_of("1"))
    assert expected is not None
    (found,) = documents(eventlog(uri, "show", "1", "--json"))
    assert {**config_of("1")["configurable"], "checkpoint_id": found["checkpoint_id"]} == expected.config[
        "configurable"
    ]
    assert found["channel_versions"] == expected.checkpoint["channel_versions"]
    assert found["versions_seen"] == expected.checkpoint["versions_seen"]
    assert found["metadata"] == expected.metadata
    assert found["fields"]["ts"] == expected.checkpoint["ts"]
    assert list(found["channels"]) == list(expected.checkpoint["channel_values"])
    assert found["state_bytes"] == sum(each["bytes"] for each in found["channels"].values())
    human, ai, tool = found["channels"]["messages"]["value"]
    assert (human["type"], human["content"]) == ("human", "What's the\nweather?")
    assert (ai["type"], ai["tool_calls"][0]["args"], ai["usage_metadata"]["output_tokens"]) == (
        "ai",
        {"city": "SF"},
        12,
    )
    assert ai["id"] == expected.checkpoint["channel_values"]["messages"][1].id
    assert (tool["type"], tool["tool_call_id"]) == ("tool", "call_1")
    assert found["channels"]["join:ask+look:confirm"]["value"] == {"$type": "set", "value": ["ask", "look"]}
    assert expected.pending_writes is not None
    assert [(write["task_id"], write["channel"]) for write in found["writes"]] == [
        write[:2] for write in expected.pending_writes
    ]


async def test_a_channel_that_is_replayed(database_uri: str) -> None:
    """Of LangGraph's `DeltaChannel` a checkpoint may hold no value: it is named."""
    async with open_saver("sync-pool", database_uri) as saver:
        metadata = {"counters_since_delta_snapshot": {"log": [1, 2], "x": [0, 0]}}
        await put(saver, config_of("1"), "a", {"x": 1}, metadata=metadata)
    done = eventlog(database_uri, "show", "1")
    assert done.stdout.endswith("\n\nReplayed from earlier writes, not stored here: log\n")


# --- which checkpoint


def test_a_checkpoint_by_its_id(uri: str) -> None:
    """In its thread, alone, or by how it begins."""
    latest, parent, *_ = ids_of(uri)
    for arguments in (("1", parent), ("1", parent[:-3]), (parent,), (parent[:-3],)):
        (found,) = documents(eventlog(uri, "show", *arguments, "--json"))
        assert found["checkpoint_id"] == parent
    (found,) = documents(eventlog(uri, "show", "1", "--json"))
    assert found["checkpoint_id"] == latest


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_which_checkpoint_is_not_clear(uri: str, as_json: list[str]) -> None:
    """The message says which there are."""
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.copy_thread("1", "copy")
    latest, *_ = ids_of(uri)
    for arguments in ((latest,), ("1", latest[:2])):
        done = eventlog(uri, "show", *arguments, *as_json)
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"{latest} of thread '1'" in done.stderr
    assert f"{latest} of thread 'copy'" in eventlog(uri, "show", latest).stderr


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_what_is_not_there(uri: str, as_json: list[str]) -> None:
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.fork_thread("1", "fork", ids_of(uri)[1])
        saver.copy_thread("1", "deleted")
        saver.delete_thread("deleted")
    latest, *_ = ids_of(uri)
    for arguments, says in (
        (("none",), "there is no thread 'none', and no checkpoint whose id begins so"),
        (("none", "x"), "there is no thread 'none'"),
        (("1", "x"), "thread '1' has no checkpoint 'x'\n"),
        (("fork", latest), f"thread 'fork' has no checkpoint '{latest}'; there is {latest} of thread '1'"),
        (("1", latest, "--ns", "sub"), "in namespace 'sub'; there is"),
        (
            ("1", "--ns", "sub"),
            "thread '1' has no checkpoint in namespace 'sub'; it has some in '': name one with --ns",
        ),
        (("deleted",), "thread 'deleted' has no checkpoint in the root graph's namespace\n"),
        (("deleted", "x"), "thread 'deleted' has no checkpoint 'x'"),
    ):
        done = eventlog(uri, "show", *arguments, *as_json)
        assert (done.exit_code, done.stdout) == (1, ""), arguments
        assert done.stderr.startswith("Error: ")
        assert says in done.stderr


async def test_namespaces(database_uri: str) -> None:
    """A checkpoint of a thread is found in whatever namespace it is; a thread's latest is that of the root graph."""
    async with open_saver("sync-pool", database_uri) as saver:
        for ns, id_ in (("", "a"), ("sub", "b"), ("sub", "c"), ("", "c")):
            await put(saver, config_of("1", ns=ns), id_, {"x": f"{id_} of {ns}"})
        await put(saver, config_of("2", ns="sub"), "d", {"x": 1})
    for arguments, expected in (
        (["1"], ("", "c")),
        (["1", "--ns", "sub"], ("sub", "c")),
        (["1", "b"], ("sub", "b")),
        (["1", "c", "--ns", ""], ("", "c")),
        (["2", "--ns", "sub"], ("sub", "d")),
    ):
        (found,) = documents(eventlog(database_uri, "show", *arguments, "--json"))
        assert (found["checkpoint_ns"], found["checkpoint_id"]) == expected
    done = eventlog(database_uri, "show", "1", "c")
    assert done.exit_code == 2
    assert "c of thread '1', c of thread '1', namespace 'sub'" in done.stderr
    assert "it has some in 'sub'" in eventlog(database_uri, "show", "2").stderr


# --- data that nobody vouches for

EVIL = """
import dataclasses, enum, os, pathlib
from langchain_core.messages import AIMessage
from pydantic import BaseModel

def leave(name):
    if folder := os.environ.get("LEAVE"):
        pathlib.Path(folder, name).touch()

leave("imported")

@dataclasses.dataclass
class Data:
    text: str
    def __post_init__(self):
        leave("Data")

class Model(BaseModel):
    text: str
    def model_post_init(self, _):
        leave("Model")

class Spoken(AIMessage):
    def model_post_init(self, _):
        leave("Spoken")

class Set(set):
    def __init__(self, *a):
        leave("Set")
        super().__init__(*a)

class Choice(enum.Enum):
    ONE = 1
    @classmethod
    def _missing_(cls, value):
        leave("Choice")
"""


@pytest.fixture
async def evil(database_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    """A log with values whose classes leave files as they are made; yields the folder for these."""
    (tmp_path / "evil_things.py").write_text(textwrap.dedent(EVIL))
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = __import__("evil_things")
    values = {
        "data": module.Data("a text"),
        "messages": [module.Spoken("Hello."), AIMessage("Hi.", additional_kwargs={"data": module.Data("within")})],
        "model": module.Model(text="x"),
        "set": module.Set([1]),
        "choice": module.Choice.ONE,
    }
    async with open_saver("sync-pool", database_uri) as saver:
        config = await put(saver, config_of("1"), "a", values, metadata={"note": module.Data("in metadata")})
        await saver.aput_writes(
            config, [("data", module.Data("written")), ("__interrupt__", [module.Data("i")])], "task"
        )
    del sys.modules["evil_things"]
    folder = tmp_path / "left"
    folder.mkdir()
    monkeypatch.setenv("LEAVE", str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    yield folder
    sys.modules.pop("evil_things", None)


def left(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_no_code_of_the_data_runs(database_uri: str, evil: Path, as_json: list[str]) -> None:
    """Though the module can be imported; all values are shown with their types' names, and one line says which."""
    done = eventlog(database_uri, "show", "1", "--full", *as_json)
    assert done.exit_code == 0
    assert left(evil) == set()
    for text in ("a text", "Hello.", "written", "in metadata", "evil_things.Data", "evil_things.Choice"):
        assert text in done.stdout
    assert ("within" in done.stdout) is bool(as_json)
    assert done.stderr == (
        "Shown as data, as they are on no list of safe types (--allow, --trust): evil_things:Choice, "
        "evil_things:Data, evil_things:Model, evil_things:Set, evil_things:Spoken\n"
    )


def test_allow_and_trust(database_uri: str, evil: Path) -> None:
    """Only what was allowed is loaded, unless everything is trusted."""
    done = eventlog(database_uri, "show", "1", "--allow", "evil_things:Data")
    assert left(evil) == {"imported", "Data"}
    assert "evil_things:Data" not in done.stderr
    assert "evil_things:Model" in done.stderr
    done = process(database_uri, "show", "1", "--trust")
    assert (done.returncode, done.stderr) == (0, "")
    assert left(evil) == {"imported", "Data", "Model", "Spoken", "Set"}
    assert "evil_things.Data(text=a text)" in done.stdout
    done = eventlog(database_uri, "show", "1", "--allow", "evil_things.Data")
    assert (done.exit_code, done.stdout) == (2, "")


def test_langgraphs_own_setting_changes_nothing(database_uri: str, evil: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGGRAPH_STRICT_MSGPACK", "false")
    assert process(database_uri, "show", "1").returncode == 0
    assert left(evil) == set()


@pytest.mark.parametrize(
    "arguments", [["prune", "1", "--keep-last", "1"], ["delete-runs", "run"], ["verify"], ["copy", "1", "2"]]
)
async def test_nor_does_it_with_other_commands(database_uri: str, evil: Path, arguments: list[str]) -> None:
    """What they have to decode of a checkpoint may hold anything, too."""
    module: Any = __import__("evil_things")
    async with open_saver("sync-pool", database_uri) as saver:
        config = await put(saver, config_of("1", "a"), "b", {}, metadata={"run_id": "run"}, odd=module.Data("x"))
        await put(saver, config, "c", {}, odd=module.Data("x"))
    for name in left(evil):
        (evil / name).unlink()
    del sys.modules["evil_things"]
    done = eventlog(database_uri, *arguments, *(["--yes"] if arguments[0] in ("prune", "delete-runs") else []))
    assert (done.exit_code, done.stderr) == (0, "")
    assert left(evil) == set()


class Raw(SerializerProtocol):
    """Stores a type tag and bytes as they are: what a forger could write."""

    def dumps_typed(self, obj: Any) -> tuple[str, bytes]:
        return obj if isinstance(obj, tuple) else JsonPlusSerializer().dumps_typed(obj)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        return data


async def test_values_that_do_not_decode(database_uri: str) -> None:
    """They are named, and do not keep the others from being seen."""
    values = {
        "pickled": ("pickle", b"cos\nsystem\n(S'true'\ntR."),
        "broken": ("msgpack", b"\xc1"),
        "unknown": ("future", b"x"),
        "number": ("eventlog.int", b"zz"),
        "text": ("eventlog.str", b"\xff"),
        "plain": ("eventlog.json", b"{"),
        "good": "x",
    }
    async with open_saver("sync-pool", database_uri, serde=Raw()) as saver:
        config = await put(saver, config_of("1"), "a", values)
        await put(saver, config, "b", {"good": "y"}, new={"good": "b"})
    (found,) = documents(eventlog(database_uri, "show", "1", "a", "--json"))
    types = {name: channel["value"] for name, channel in found["channels"].items()}
    assert types.pop("good") == "x"
    assert {name: each["serialized_as"] for name, each in types.items()} == {name: values[name][0] for name in types}
    for arguments in ([], ["--trust"]):
        done = eventlog(database_uri, "show", "1", "a", *arguments)
        assert done.exit_code == 0
        assert done.stdout.count("undecodable") == 6
    # Where a whole history or difference is decoded, it ends there, with a message.
    for arguments in (["history", "1", "--changes"], ["diff", "1", "a", "b"]):
        done = eventlog(database_uri, *arguments)
        assert done.exit_code == 1
        assert "a value of type eventlog." in done.stderr


@pytest.mark.parametrize("arguments", [["show", "1"], ["show", "1", "--full"]])
async def test_nothing_controls_the_terminal(database_uri: str, arguments: list[str]) -> None:
    """Wherever it stands: ids, channels, tasks, metadata, values."""
    async with open_saver("sync-pool", database_uri) as saver:
        values = {ODD: {ODD: [ODD, ("human", ODD)]}, "messages": [AIMessage(ODD, name=ODD, tool_calls=CALLS)]}
        metadata = {ODD: ODD, "source": ODD, "run_id": ODD}
        config = await put(saver, config_of("1"), ODD, values, metadata=metadata)
        await saver.aput_writes(config, [(ODD, ODD), (ODD, ("x", [ODD]))], ODD, ODD)
    done = eventlog(database_uri, *arguments)
    assert done.exit_code == 0
    assert all(char.isprintable() for char in done.stdout.replace("\n", ""))
    assert "[red]odd[/red]\\x1b[31m" in done.stdout


# --- encrypted logs

KEY = "0123456789abcdef"


async def test_an_encrypted_log(database_uri: str, evil: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the key it is shown as any other, and as safely; without it an error says so."""
    module: Any = __import__("evil_things")
    serde = EncryptedSerializer.from_pycryptodome_aes(key=KEY.encode())
    async with open_saver("sync-pool", database_uri, serde=serde) as saver:
        await put(saver, config_of("2"), "a", {"data": module.Data("a secret")})
    del sys.modules["evil_things"]
    for name in left(evil):
        (evil / name).unlink()
    done = eventlog(database_uri, "show", "2")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "it is encrypted" in done.stderr
    monkeypatch.setenv("LANGGRAPH_AES_KEY", KEY)
    done = eventlog(database_uri, "show", "2")
    assert "evil_things.Data(text=a secret)" in done.stdout
    assert left(evil) == set()
    monkeypatch.setenv("LANGGRAPH_AES_KEY", KEY[::-1])
    done = eventlog(database_uri, "show", "2")
    assert (done.exit_code, done.stdout) == (1, "")
    assert KEY[::-1] not in done.stderr


# --- stats


@pytest.mark.parametrize("exact", [False, True])
def test_stats(uri: str, exact: bool) -> None:
    done = eventlog(uri, "stats", *(["--exact"] if exact else []))
    assert (done.exit_code, done.stderr) == (0, "")
    with EventLogSaver.from_conn_string(uri) as saver:
        found = saver.stats(exact=exact)
    about = "" if exact else "about "
    assert re.search(rf"^threads +{about}{found.threads:,}$", done.stdout, re.MULTILINE)
    assert re.search(rf"^events +{about}{found.events:,}$", done.stdout, re.MULTILINE)
    for each in found.relations:
        assert re.search(rf"^{each.name} +[\d,]+ +", done.stdout, re.MULTILINE)
    assert ("rows (about)" in done.stdout.split("Growth")[0].split("partition  ")[1]) is not exact
    assert f"a day since {when(found.growth.since)} UTC." in done.stdout
    assert re.search(r"at the median, at [\d,]+ at most for 19 of 20, at [\d,]+ at most\.", done.stdout)
    assert "Written whole at each step, the states would take" in done.stdout


@pytest.mark.parametrize("exact", [False, True])
def test_stats_as_json(uri: str, exact: bool) -> None:
    """The record's fields, but for the cache, which would be that of this command's own process."""
    with EventLogSaver.from_conn_string(uri) as saver:
        expected = saver.stats(exact=exact)
    (found,) = documents(eventlog(uri, "stats", "--json", *(["--exact"] if exact else [])))
    assert list(found) == [name for name in expected._fields if name != "cache"]
    for name in ("is_exact", "threads", "streams", "checkpoints", "events", "snapshots", "log_bytes", "states_bytes"):
        assert found[name] == getattr(expected, name)
    assert found["relations"] == [each._asdict() for each in expected.relations]
    assert found["replay"] == expected.replay._asdict()
    assert set(found["growth"]) == set(expected.growth._fields)
    assert [each["name"] for each in found["partitions"]] == [each.name for each in expected.partitions]


def test_stats_of_an_empty_log(database_uri: str) -> None:
    for arguments in ([], ["--exact"]):
        done = eventlog(database_uri, "stats", *arguments)
        assert done.exit_code == 0
        assert "the states would take" in done.stdout


def test_as_an_auditor(uri: str, role: str) -> None:
    """To read is right enough."""
    with psycopg.connect(uri, autocommit=True) as conn:
        name = sql.Identifier(role)
        conn.execute(sql.SQL("grant usage on schema eventlog to {}").format(name))
        conn.execute(sql.SQL("grant select on all tables in schema eventlog to {}").format(name))
    for arguments in (["stats"], ["stats", "--exact"], ["show", "1"], ["show", ids_of(uri)[0]]):
        assert eventlog(as_role(uri, role), *arguments).exit_code == 0


# --- terminals and pipes


@pytest.mark.parametrize("columns", [20, 60])
def test_on_a_terminal(uri: str, columns: int) -> None:
    """Coloured, and folded to its width; nothing is cut off."""
    seen = on_terminal(uri, "show", "1", columns=columns)
    assert seen.code == 0
    assert SGR.search(seen.raw)
    assert max(len(line.rstrip()) for line in seen.lines) <= columns
    assert "".join(ids_of(uri)[0].split()) in "".join("".join(seen.lines).split())
    assert "\x1b" not in SGR.sub("", seen.raw)


def test_on_a_terminal_without_colours(uri: str) -> None:
    seen = on_terminal(uri, "stats", columns=40, NO_COLOR="1")
    assert seen.code == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", seen.raw)


def test_into_a_closed_pipe(uri: str) -> None:
    for arguments in (["show", "1"], ["stats"]):
        read, write = os.pipe()
        os.close(read)
        try:
            done = process(uri, *arguments, capture_output=False, stdout=write, stderr=subprocess.PIPE)
        finally:
            os.close(write)
        assert (done.returncode, done.stderr) == (141, "")


async def test_head(database_uri: str) -> None:
    """More than a pipe holds, of which one line is read: it ends with 141, and says nothing."""
    async with open_saver("sync-pool", database_uri) as saver:
        await put(saver, config_of("1"), "a", {"x": [f"line {number}\n" * 10 for number in range(5000)]})
    done = subprocess.run(
        ["bash", "-c", '"$@" | head -1; echo "${PIPESTATUS[0]}"', "bash", *MODULE, "show", "1", "--full"],
        env={**os.environ, "EVENTLOG_DSN": database_uri},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.stdout, done.stderr) == ("checkpoint  a\n141\n", "")


def test_json_is_json_for_everybody(uri: str) -> None:
    """Strictly: no NaN, nothing but ASCII, one line."""
    done = eventlog(uri, "show", "1", "--json")
    assert done.stdout.isascii()
    assert len(done.stdout.splitlines()) == 1
    json.loads(done.stdout)
