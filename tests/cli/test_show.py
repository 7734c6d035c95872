"""The `eventlog` command: `show`. Its treatment of untrusted data is in test_cli_untrusted.py."""

from __future__ import annotations

import json
import operator
import os
import re
import subprocess
from pathlib import Path
from typing import Annotated, Any, TypedDict

import psycopg
import pytest
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Command, Send, interrupt

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.cli.command import MODULE, clean_environment, documents, eventlog, process
from tests.cli.terminal import SGR, on_terminal
from tests.database.test_rights import as_role, role
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, put

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
    """Two nodes side by side, one that waits for both and then for an answer, and two tasks that are sent."""
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


def test_show_prints_origin_channels_and_pending_writes(uri: str) -> None:
    """Where the checkpoint comes from, its channels as people read them, and what is pending."""
    done = eventlog(uri, "show", "1")
    assert (done.exit_code, done.stderr) == (0, "")
    latest, parent, *_ = ids_of(uri)
    identity, *blocks = done.stdout.split("\n\n")
    about = dict(re.split(r"  +", line, maxsplit=1) for line in identity.splitlines())
    assert about["checkpoint"] == latest
    assert about["thread"] == "1"
    assert about["parent"] == parent
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC, event \d", about["saved"])
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
        "    → get_weather (call_1): {'city': 'SF'}",
        "  tool  get_weather  call_1",
        "    sunny",
    ]
    assert re.fullmatch(r"messages  3 messages, \d+ bytes, version 3", messages.splitlines()[0])
    assert seen.splitlines()[1:] == ["  [bytes(base64='iVBORw==')]"]
    assert own == "LangGraph's own: join:ask+look:confirm"
    assert re.fullmatch(
        r"Pending writes\n  task confirm  [0-9a-f-]{36}\n"
        r"    interrupt: \[Interrupt\(value=\{'question': 'Is it\?'\}, id='[0-9a-f]{32}'\)\]\n",
        pending,
    )
    assert "join:ask+look:confirm  " in eventlog(uri, "show", "1", "--full").stdout


def test_show_names_the_next_nodes_that_langgraph_names(uri: str, graph: StateGraph[Any, Any, Any, Any]) -> None:
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


def _asked_twice(_: State) -> Any:
    return {"seen": [interrupt("first?"), interrupt("second?")]}


def _sent(value: Any) -> Any:
    return {"seen": [interrupt(f"{value}?") if value == "asks" else value]}


@pytest.fixture
def waiting_graph() -> StateGraph[Any, Any, Any, Any]:
    """Tasks side by side, of which some finish (one with no output) and others wait for answers."""
    builder = StateGraph(State)
    builder.add_node("quick", lambda _: {"seen": ["quick"]})
    builder.add_node("silent", lambda _: None)
    builder.add_node("asks", _asked_twice)
    builder.add_node("sent", _sent)
    for node in ("quick", "silent", "asks"):
        builder.add_edge(START, node)
    builder.add_conditional_edges("asks", lambda _: [Send("sent", each) for each in ("asks", "goes on", "asks")])
    return builder


def test_a_task_is_finished_when_it_has_an_output(
    database_uri: str, waiting_graph: StateGraph[Any, Any, Any, Any]
) -> None:
    """As LangGraph has it: what tells of a task (errors, interrupts, answers) is none, wherever it is numbered."""
    with EventLogSaver.from_conn_string(database_uri) as saver:
        compiled = waiting_graph.compile(checkpointer=saver)
        compiled.invoke({"seen": []}, config_of("1"))
        for expected, answer in (
            (["first?"], "one"),
            (["second?"], "two"),
            (["asks?", "asks?"], None),
        ):
            state = compiled.get_state(config_of("1"))
            (found,) = documents(eventlog(database_uri, "show", "1", "--json"))
            assert [each["value"] for each in found["interrupts"]] == expected
            assert sorted(each.value for each in state.interrupts) == expected
            assert sorted(found["next"]) == sorted(state.next)
            if answer is not None:
                compiled.invoke(Command(resume=answer), config_of("1"))
        assert found["next"] == ["sent", "sent"]

        # The name of an error's source is numbered as outputs are.
        failed = {"configurable": {**state.config["configurable"]}}
        saver.put_writes(failed, [("__error_source_node__", "sent")], "failed", "~__pregel_pull, sent")
        saver.put_writes(failed, [("__interrupt__", ["of a task that failed"])], "failed", "~__pregel_pull, sent")
    (found,) = documents(eventlog(database_uri, "show", "1", "--json"))
    assert "of a task that failed" in found["interrupts"]


def test_the_paths_of_tasks_show_the_node(database_uri: str) -> None:
    """Also with the durability "exit", where LangGraph puts the step before the path of a task of a later step."""
    with EventLogSaver.from_conn_string(database_uri) as saver:
        builder = StateGraph(State)
        builder.add_node("look", look)
        builder.add_edge(START, "look")
        graph = builder.compile(checkpointer=saver)
        graph.invoke({"seen": []}, config_of("1"))
        latest = graph.get_state(config_of("1")).config
        for number, path in enumerate(("~__pregel_pull, look", "~~0000000007~__pregel_pull, ask, and more", "~~odd")):
            saver.put_writes(latest, [("seen", number)], f"task {number}", path)
    done = eventlog(database_uri, "show", "1")
    for number, name in enumerate(("look", "ask, and more", "~~odd")):
        assert f"task {name}  task {number}\n" in done.stdout
    assert "writes of ask, and more" in eventlog(database_uri, "history", "1").stdout


async def test_show_with_upcasters_shows_old_values_in_the_new_shape(
    database_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of channels and of writes; with --raw, beside what is stored."""
    (tmp_path / "shop_upcasters.py").write_text(
        "from langgraph.checkpoint.eventlog import Upcaster\n"
        "UPCASTERS = [Upcaster('name', lambda value: {'first': value['name']})]\n"
        "BROKEN = [Upcaster('name', lambda value: value['none'])]\n"
    )
    monkeypatch.chdir(tmp_path)
    async with open_saver("sync-pool", database_uri) as saver:
        config = await put(saver, config_of("1"), "a", {"name": {"name": "Ada"}, "other": 1})
        await saver.aput_writes(config, [("name", {"name": "Bob"})], "task")
    upcasters = ["--upcasters", "shop_upcasters:UPCASTERS"]
    (plain,) = documents(eventlog(database_uri, "show", "1", "--json"))
    assert plain["channels"]["name"]["value"] == {"name": "Ada"}
    assert "raw" not in plain["channels"]["name"]
    (found,) = documents(eventlog(database_uri, "show", "1", "--json", *upcasters))
    assert found["channels"]["name"]["value"] == {"first": "Ada"}
    (found,) = documents(eventlog(database_uri, "show", "1", "--json", "--raw", *upcasters))
    name, write = found["channels"]["name"], found["writes"][0]
    assert (name["value"], name["raw"]) == ({"first": "Ada"}, {"name": "Ada"})
    assert (write["value"], write["raw"]) == ({"first": "Bob"}, {"name": "Bob"})
    assert found["channels"]["other"]["value"] == found["channels"]["other"]["raw"] == 1
    shown = eventlog(database_uri, "show", "1", "--raw", *upcasters).stdout
    assert "  {'first': 'Ada'}\n  as stored:\n    {'name': 'Ada'}\n" in shown
    assert "    name: {'first': 'Bob'}\n      as stored: {'name': 'Bob'}\n" in shown
    assert eventlog(database_uri, "show", "1", "--channel", "name", "--raw", *upcasters).stdout == (
        "{'first': 'Ada'}\nas stored:\n  {'name': 'Ada'}\n"
    )
    for arguments, code, message in (
        (["--raw"], 2, "--raw needs --upcasters"),
        (["--upcasters", "shop_upcasters"], 2, "is not upcasters: write package.module:Name"),
        (["--upcasters", "shop_upcasters:NONE"], 2, "cannot be imported"),
        (["--upcasters", "shop_upcasters:Upcaster"], 2, "setting 'upcasters'"),
        (["--upcasters", "shop_upcasters:BROKEN"], 1, "failed on channel 'name' of checkpoint 'a'"),
    ):
        done = eventlog(database_uri, "show", "1", *arguments)
        assert (done.exit_code, done.stdout) == (code, "")
        assert message in done.stderr


def test_show_channel_prints_that_value_alone(uri: str) -> None:
    """Its value alone; one that is not there is a mistake."""
    done = eventlog(uri, "show", "1", "--channel", "seen")
    assert (done.exit_code, done.stdout, done.stderr) == (
        0,
        "[bytes(base64='iVBORw==')]\n",
        "",
    )
    (found,) = documents(eventlog(uri, "show", "1", "--channel", "seen", "--json"))
    assert found["value"] == [{"$type": "bytes", "base64": "iVBORw=="}]
    done = eventlog(uri, "show", "1", "--channel", "none")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "it has: 'messages', 'join:ask+look:confirm', 'seen'" in done.stderr


def test_show_json_has_all_that_a_saver_has(uri: str) -> None:
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


async def test_show_names_a_delta_channel_without_a_stored_value(database_uri: str) -> None:
    """Of LangGraph's `DeltaChannel` a checkpoint may hold no value: it is named."""
    async with open_saver("sync-pool", database_uri) as saver:
        metadata = {"counters_since_delta_snapshot": {"log": [1, 2], "x": [0, 0]}}
        await put(saver, config_of("1"), "a", {"x": 1}, metadata=metadata)
    done = eventlog(database_uri, "show", "1")
    assert done.stdout.endswith("\n\nReplayed from earlier writes, not stored here: log\n")


# --- which checkpoint


def test_a_checkpoint_is_found_by_its_id_or_the_beginning_of_it(uri: str) -> None:
    """In its thread, alone, or by how it begins."""
    latest, parent, *_ = ids_of(uri)
    for arguments in (("1", parent), ("1", parent[:-3]), (parent,), (parent[:-3],)):
        (found,) = documents(eventlog(uri, "show", *arguments, "--json"))
        assert found["checkpoint_id"] == parent
    (found,) = documents(eventlog(uri, "show", "1", "--json"))
    assert found["checkpoint_id"] == latest


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_an_ambiguous_checkpoint_id_is_refused_with_the_candidates(uri: str, as_json: list[str]) -> None:
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
def test_show_of_a_missing_thread_or_checkpoint_says_what_is_there(uri: str, as_json: list[str]) -> None:
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.log.fork_thread("1", "fork", ids_of(uri)[1])
        saver.copy_thread("1", "deleted")
        saver.delete_thread("deleted")
    latest, *_ = ids_of(uri)
    for arguments, says in (
        (("none",), "no thread has the id 'none', and no checkpoint id begins with it"),
        (("none", "x"), "no thread has the id 'none'"),
        (("1", "x"), "thread '1' has no checkpoint 'x'\n"),
        (("fork", latest), f"thread 'fork' has no checkpoint '{latest}'; the log has {latest} of thread '1'"),
        (("1", latest, "--ns", "sub"), "in namespace 'sub'; the log has"),
        (
            ("1", "--ns", "sub"),
            "thread '1' has no checkpoint in namespace 'sub'; it has checkpoints in '': give one of them with --ns",
        ),
        (("deleted",), "thread 'deleted' has no checkpoint in the root graph's namespace\n"),
        (("deleted", "x"), "thread 'deleted' has no checkpoint 'x'"),
    ):
        done = eventlog(uri, "show", *arguments, *as_json)
        assert (done.exit_code, done.stdout) == (1, ""), arguments
        assert done.stderr.startswith("Error: ")
        assert says in done.stderr


async def test_a_checkpoint_is_found_in_any_namespace_and_the_latest_in_the_root(database_uri: str) -> None:
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
    assert "it has checkpoints in 'sub'" in eventlog(database_uri, "show", "2").stderr


# --- rights


def test_show_needs_only_the_right_to_read(uri: str, role: str) -> None:
    """To read is right enough."""
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute("select eventlog.grant_rights_v1('auditor', %s, 'eventlog_views')", (role,))
    for arguments in (["show", "1"], ["show", ids_of(uri)[0]]):
        assert eventlog(as_role(uri, role), *arguments).exit_code == 0


# --- terminals and pipes


@pytest.mark.parametrize("columns", [20, 60])
def test_show_folds_to_the_width_of_a_terminal(uri: str, columns: int) -> None:
    """Coloured, and folded to its width; nothing is cut off."""
    seen = on_terminal(uri, "show", "1", columns=columns)
    assert seen.code == 0
    assert SGR.search(seen.raw)
    assert max(len(line.rstrip()) for line in seen.lines) <= columns
    assert "".join(ids_of(uri)[0].split()) in "".join("".join(seen.lines).split())
    assert "\x1b" not in SGR.sub("", seen.raw)


def test_no_color_switches_colours_off(uri: str) -> None:
    seen = on_terminal(uri, "stats", columns=40, NO_COLOR="1")
    assert seen.code == 0
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", seen.raw)


def test_show_into_a_closed_pipe_ends_with_141(uri: str) -> None:
    for arguments in (["show", "1"], ["stats"]):
        read, write = os.pipe()
        os.close(read)
        try:
            done = process(uri, *arguments, capture_output=False, stdout=write, stderr=subprocess.PIPE)
        finally:
            os.close(write)
        assert (done.returncode, done.stderr) == (141, "")


async def test_show_into_head_ends_with_141(database_uri: str) -> None:
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


def test_show_json_is_one_line_of_ascii(uri: str) -> None:
    """Strictly: no NaN, nothing but ASCII, one line."""
    done = eventlog(uri, "show", "1", "--json")
    assert done.stdout.isascii()
    assert len(done.stdout.splitlines()) == 1
    json.loads(done.stdout)


async def test_line_breaks_in_ids_are_escaped(database_uri: str) -> None:
    """Escaped, and not made spaces: it is another id with a space."""
    async with open_saver("sync-string", database_uri) as saver:
        config = await put(saver, config_of("two\nlines", ns="a\tb"), "an\nid", {"x": 1})
        await saver.aput_writes(config, [("x", 1)], "task\n1")
    done = eventlog(database_uri, "show", "two\nlines", "--ns", "a\tb")
    assert done.exit_code == 0, done.stderr
    for text in (r"an\nid", r"two\nlines", r"a\tb", r"task\n1"):
        assert text in done.stdout
    assert r"an\nid" in eventlog(database_uri, "history", "two\nlines", "--changes").stdout
    assert r"an\nid" in eventlog(database_uri, "history", "two\nlines", "--tree").stdout
