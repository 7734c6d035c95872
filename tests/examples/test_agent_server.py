"""LangGraph's own server on `examples/agent-server`, driven with its SDK. `make test-agent-server` runs these.

The server has an environment of its own, with its programs in the folder that EVENTLOG_TEST_AGENT_SERVER names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient

from langgraph.checkpoint.eventlog import EventLog, EventLogSaver, HistoryEntry, ThreadDeletedError
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.examples.servers import EXAMPLES, PATIENCE, environment, free_port, running_server
from tests.support.server import Server

PROGRAMS = Path(os.environ["EVENTLOG_TEST_AGENT_SERVER"])

#: Nothing leaves the machine: no traces, no usage statistics, no look for newer versions.
OFFLINE = {
    "LANGSMITH_TRACING": "false",
    "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    "LANGGRAPH_NO_VERSION_CHECK": "true",
}
FLAGS = ("--host", "127.0.0.1", "--no-browser", "--no-reload")


class Running:
    """The server, and the database that its checkpointer writes to.

    Args:
        folder: a copy of the example, with the graphs of the tests beside its own.
    """

    def __init__(self, folder: Path, uri: str) -> None:
        self.folder, self.uri, self.log = folder, uri, folder / "server.log"
        self.env = {**OFFLINE, "EVENTLOG_DSN": uri}
        self.url = ""

    def history(self, thread_id: str, *kinds: str) -> list[HistoryEntry]:
        """What the log says of a thread, without the server."""
        with EventLog.from_conn_string(self.uri) as log:
            return list(log.history(thread_id, kinds=kinds or None))

    def ids(self, thread_id: str) -> list[str]:
        """A thread's checkpoints in the log, newest first."""
        with EventLogSaver.from_conn_string(self.uri) as saver:
            return [each.checkpoint["id"] for each in saver.list({"configurable": {"thread_id": thread_id}})]


@pytest.fixture(scope="module")
def running(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server on a database of its own, on which only the example's checkpointer runs `setup()`."""
    folder = tmp_path_factory.mktemp("agent") / "server"
    shutil.copytree(EXAMPLES / "agent-server", folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    shutil.copy(Path(__file__).with_name("graphs.py"), folder)
    config = json.loads((folder / "langgraph.json").read_text())
    config["graphs"] |= {"delta": "./graphs.py:delta", "slow": "./graphs.py:slow"}
    (folder / "langgraph.json").write_text(json.dumps(config))
    name = server.create_database(prefix="agent_server")
    made = Running(folder, server.saver_uri(name))
    with _serve(made) as made.url:
        yield made
    server.drop_database(name)


def _serve(running: Running) -> AbstractContextManager[str]:
    port = free_port()
    command: list[str | Path] = [PROGRAMS / "langgraph", "dev", *FLAGS, "--port", str(port)]
    return running_server(command, port, "/ok", folder=running.folder, log=running.log, env=running.env)


@pytest.fixture
async def client(running: Running) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=running.url, api_key=None) as opened:
        yield opened


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def by(actor: str) -> Any:
    """The config of a run on behalf of an actor."""
    return {"configurable": {"actor": actor}}


async def asked(client: LangGraphClient, order: str = "17") -> str:
    """A thread that waits for an answer."""
    thread_id: str = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread_id, "refunds", input=said(f"Refund order {order}"), config=by("Ada"))
    return thread_id


async def running_run(client: LangGraphClient, running: Running, thread_id: str) -> str:
    """The id of a run that has saved a checkpoint and goes on until it is cancelled."""
    run_id: str = (await client.runs.create(thread_id, "slow", input={"notes": ["in vain"]}))["run_id"]
    until = time.monotonic() + PATIENCE
    while not any(each.run_id == run_id and each.step for each in running.history(thread_id, "checkpoint")):
        assert time.monotonic() < until, "the run does not begin"
    return run_id


# --- what every server does


async def test_a_run_streams_waits_for_a_person_and_goes_on(client: LangGraphClient, running: Running) -> None:
    """The log knows who asked and who approved."""
    thread_id = (await client.threads.create())["thread_id"]
    stream = client.runs.stream(
        thread_id, "refunds", input=said("Refund order 17"), stream_mode=["updates", "values"], config=by("Ada")
    )
    events = [(part.event, part.data) async for part in stream]
    updates = [key for event, data in events if event == "updates" for key in data]
    assert updates == ["answer", "__interrupt__"]
    assert events[-1][1]["__interrupt__"][0]["value"] == {"question": "Refund order 17?"}
    state = await client.threads.get_state(thread_id)
    assert (state["next"], len(state["interrupts"])) == (["tools"], 1)

    result: Any = await client.runs.wait(thread_id, "refunds", command={"resume": True}, config=by("Bob"))
    assert result["messages"][-1]["content"] == "Order 17 was refunded."
    checkpoints = running.history(thread_id, "checkpoint")
    assert [each.actor for each in checkpoints] == ["Ada"] * 3 + ["Bob"] * 2
    answers = [each for each in running.history(thread_id, "writes") if each.actor == "Bob"]
    assert "__resume__" in {channel.channel for each in answers for channel in each.channels}


async def test_the_history_is_that_of_the_log(client: LangGraphClient, running: Running) -> None:
    thread_id = await asked(client)
    history = await client.threads.get_history(thread_id, limit=100)
    assert [state["checkpoint"]["checkpoint_id"] for state in history] == running.ids(thread_id)
    assert [state["metadata"]["step"] for state in history] == [1, 0, -1]  # type: ignore[index]
    before: Any = {"configurable": history[0]["checkpoint"]}
    page = await client.threads.get_history(thread_id, limit=1, before=before)
    assert [state["checkpoint"] for state in page] == [history[1]["checkpoint"]]


async def test_going_back_starts_a_branch(client: LangGraphClient, running: Running) -> None:
    """A run from an older checkpoint, and an edit of one, keep what was there."""
    thread_id = await asked(client)
    before = await client.threads.get_history(thread_id)

    declined: Any = await client.runs.wait(thread_id, "refunds", command={"resume": False})
    assert declined["messages"][-1]["content"] == "Order 17 was not refunded."
    again: Any = await client.runs.wait(thread_id, "refunds", input=None, checkpoint=before[1]["checkpoint"])
    assert again["__interrupt__"][0]["value"] == {"question": "Refund order 17?"}
    approved: Any = await client.runs.wait(thread_id, "refunds", command={"resume": True})
    assert approved["messages"][-1]["content"] == "Order 17 was refunded."

    question: Any = before[1]["values"]
    edited = {**question["messages"][0], "content": "Refund order 18"}
    fork = await client.threads.update_state(thread_id, {"messages": [edited]}, checkpoint=before[1]["checkpoint"])
    other: Any = await client.runs.wait(thread_id, "refunds", input=None, checkpoint=fork["checkpoint"])
    assert other["__interrupt__"][0]["value"] == {"question": "Refund order 18?"}

    assert set(running.ids(thread_id)) > {state["checkpoint"]["checkpoint_id"] for state in before}
    unchanged = await client.threads.get_state(thread_id, checkpoint=before[0]["checkpoint"])
    assert unchanged["values"] == before[0]["values"]
    assert [each.fork for each in running.history(thread_id, "checkpoint")].count(True) == 2


async def test_delta_channels_are_replayed(client: LangGraphClient) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    result: Any = None
    for turn in range(3):
        result = await client.runs.wait(thread_id, "delta", input={"notes": [f"turn {turn}"]})
    expected = ["turn 0", "begun with 1", "turn 1", "begun with 3", "turn 2", "begun with 5"]
    assert result["notes"] == expected
    assert (await client.threads.get_state(thread_id))["values"] == {"notes": expected}


async def test_threads_survive_a_restart(client: LangGraphClient, running: Running) -> None:
    """`langgraph dev` may forget its list of threads; the log has them, under the same ids."""
    thread_id = await asked(client)
    config = json.loads((running.folder / "langgraph.json").read_text())
    (running.folder / "langgraph.json").write_text(json.dumps({**config, "disable_persistence": True}))
    with _serve(running) as url:
        async with get_client(url=url, api_key=None) as other:
            assert not [each for each in await other.threads.search() if each["thread_id"] == thread_id]
            await other.threads.create(thread_id=thread_id, graph_id="refunds")
            assert len((await other.threads.get_state(thread_id))["interrupts"]) == 1
            result: Any = await other.runs.wait(thread_id, "refunds", command={"resume": True})
            assert result["messages"][-1]["content"] == "Order 17 was refunded."


# --- what takes copy_thread, delete_for_runs, delete_thread and prune


async def test_a_copy_is_made_in_the_database(client: LangGraphClient, running: Running) -> None:
    thread_id = await asked(client)
    copy: Any = await client.threads.copy(thread_id)
    assert running.ids(copy["thread_id"]) == running.ids(thread_id)
    (record,) = running.history(copy["thread_id"], "copied")
    assert record.operation is not None
    assert record.operation["source"] == thread_id

    result: Any = await client.runs.wait(copy["thread_id"], "refunds", command={"resume": True})
    assert result["messages"][-1]["content"] == "Order 17 was refunded."
    assert len((await client.threads.get_state(thread_id))["interrupts"]) == 1


@pytest.mark.parametrize("way", ["a run with multitask_strategy", "cancel"])
async def test_a_rollback_erases_what_the_run_saved(client: LangGraphClient, running: Running, way: str) -> None:
    thread_id = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread_id, "delta", input={"notes": ["kept"]})
    before = await client.threads.get_state(thread_id)
    run_id = await running_run(client, running, thread_id)
    if way == "cancel":
        await client.runs.cancel(thread_id, run_id, action="rollback", wait=True)
        expected = ["kept", "begun with 1"]
    else:
        await client.runs.wait(thread_id, "delta", input={"notes": ["next"]}, multitask_strategy="rollback")
        expected = ["kept", "begun with 1", "next", "begun with 3"]

    until = time.monotonic() + PATIENCE
    while not (erased := running.history(thread_id, "erased")):
        assert time.monotonic() < until, "nothing was erased"
    state = await client.threads.get_state(thread_id)
    assert state["values"] == {"notes": expected}
    assert (state["checkpoint"] == before["checkpoint"]) == (way == "cancel")
    assert run_id not in {each.run_id for each in running.history(thread_id, "checkpoint")}
    assert erased[0].operation is not None
    assert (erased[0].operation["operation"], erased[0].operation["runs"]) == ("delete_for_runs", [run_id])


async def test_deleting_a_run_erases_what_it_saved(client: LangGraphClient, running: Running) -> None:
    """Its checkpoints. What it wrote to a checkpoint of another run stays: the question counts as answered."""
    thread_id = await asked(client)
    before = running.ids(thread_id)
    await client.runs.wait(thread_id, "refunds", command={"resume": True})
    (resumed, *_) = await client.runs.list(thread_id)
    await client.runs.delete(thread_id, resumed["run_id"])
    assert running.ids(thread_id) == before
    assert (await client.threads.get_state(thread_id))["interrupts"] == []
    again: Any = await client.runs.wait(thread_id, "refunds", input=None)
    assert again["messages"][-1]["content"] == "Order 17 was refunded."


@pytest.mark.parametrize("way", ["delete", "prune"])
async def test_a_deleted_thread_leaves_a_tombstone(client: LangGraphClient, running: Running, way: str) -> None:
    thread_id = await asked(client)
    (*_, last) = running.ids(thread_id)
    if way == "delete":
        await client.threads.delete(thread_id)
    else:
        assert await client.threads.prune([thread_id], strategy="delete") == {"pruned_count": 1}
    assert running.ids(thread_id) == []
    assert [each.kind for each in running.history(thread_id)] == ["deleted"]
    config = {"configurable": {"thread_id": thread_id, "checkpoint_ns": "", "checkpoint_id": last}}
    with EventLogSaver.from_conn_string(running.uri) as saver, pytest.raises(ThreadDeletedError):
        saver.put_writes(config, [("messages", "late")], "a run that does not know")


@pytest.mark.parametrize(("strategy", "left"), [("KEEP_LATEST", 1), ("DELETE_ALL", 0)])
async def test_the_production_servers_prune_keeps_what_it_says(
    client: LangGraphClient, running: Running, strategy: str, left: int
) -> None:
    """`langgraph dev` refuses `keep_latest`; the production server asks the checkpointer for it by gRPC."""
    thread_id, other = await asked(client), await asked(client)
    with pytest.raises(Exception, match="not supported in in-memory runtime"):
        await client.threads.prune([thread_id], strategy="keep_latest")
    before = running.ids(thread_id)

    program = Path(__file__).with_name("over_grpc.py")
    done = subprocess.run(
        [PROGRAMS / "python", program, strategy, thread_id],
        cwd=running.folder,
        env=environment(running.env),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert running.ids(thread_id) == before[:left]
    assert len(running.ids(other)) == len(before)
    if left:
        result: Any = await client.runs.wait(thread_id, "refunds", command={"resume": True})
        assert result["messages"][-1]["content"] == "Order 17 was refunded."


async def test_the_server_misses_no_method(client: LangGraphClient, running: Running) -> None:
    """As it starts it warns of each that a checkpointer lacks."""
    await asked(client)
    written = running.log.read_text()
    assert "Using custom checkpointer: AsyncEventLogSaver" in written
    assert "checkpointer missing" not in written


def test_what_other_savers_have_is_what_the_docs_say() -> None:
    """By the server's own rule: a method that overrides the base class's."""
    page = (EXAMPLES.parent / "docs" / "how-to" / "agent-server.md").read_text()
    methods = ("adelete_thread", "adelete_for_runs", "acopy_thread", "aprune")
    for saver in (AsyncEventLogSaver, AsyncPostgresSaver, AsyncSqliteSaver, InMemorySaver):
        has = [getattr(saver, name) is not getattr(BaseCheckpointSaver, name) for name in methods]
        row = f"| `{saver.__name__}` | {' | '.join('yes' if each else 'no' for each in has)} |"
        assert row in page


def test_the_log_is_sound(running: Running) -> None:
    """After all of this."""
    with EventLog.from_conn_string(running.uri) as log:
        found = log.verify(states=True)
    assert found.events > 0
    assert found.problems == []
