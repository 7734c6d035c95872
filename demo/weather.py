"""The demo: LangGraph's Postgres guide on the event log, on a private PostgreSQL server. See `make demo`.

Starts an embedded PostgreSQL in a temporary directory, runs the guide's agent in six ways, continues a thread in a
second process, travels in time, and shows counts and sizes of the log.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import show
from agent import ModelUnavailableError, ScriptedModel, load_model, weather_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from ways import ASYNC_WAYS, GUIDE, NYC, PLAIN, SF, SYNC_WAYS, Connect, Told, ask, thread

from langgraph.checkpoint.eventlog import EventLogSaver, embedded_server

LONG_THREAD = "long"
LONG_QUESTIONS = 60


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(description="LangGraph's Postgres guide on an event log")
    parser.add_argument("--model", help="a real model, such as openai:gpt-4o-mini (default: the scripted model)")
    parser.add_argument("--continue", dest="uri", help=argparse.SUPPRESS)  # the second process
    arguments = parser.parse_args()
    try:
        model = load_model(arguments.model)
    except ModelUnavailableError as exc:
        print(f"demo: {exc}", file=sys.stderr)
        return 2
    if arguments.uri:
        continue_thread(arguments.uri, model)
        return 0

    # The embedded server's package warns where no login session has set the variable, as in containers.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
    with TemporaryDirectory(prefix="eventlog-demo-") as directory, embedded_server(Path(directory) / "data") as uri:
        run(uri, model, arguments.model)
    return 0


def run(uri: str, model: BaseChatModel, name: str | None) -> None:
    """Run all sections of the demo on a server."""
    show.say(
        f"PostgreSQL {show.server_version(uri)} runs in a temporary directory, for this demo only. "
        + (f"The model is {name}." if name else "The model is scripted: the demo needs no network.")
    )

    show.section(1, "Persist an agent, in six ways")
    told = six_ways(uri, model, GUIDE)
    show.six_ways(told)
    six_ways(uri, model, PLAIN)
    show.say(
        "All six ran with the guide's connection settings (autocommit=True, prepare_threshold=0, "
        "max_size=20), and again in another log without any settings. Each time, the saver returned "
        "the messages that the agent had returned."
    )

    show.section(2, "Another process continues thread 1")
    show.say(f"Process {os.getpid()} asked: {SF}?")
    command = [sys.executable, __file__, "--continue", uri]
    subprocess.run([*command, "--model", name] if name else command, check=True)

    show.section(3, "Travel in time, and fork")
    time_travel(uri, model)

    show.section(4, "Counts and sizes of the log")
    holdings(uri, model)


def six_ways(uri: str, model: BaseChatModel, connect: Connect) -> list[Told]:
    """Run all six ways, in the guide's order."""
    told = [way(uri, model, connect) for way in SYNC_WAYS]

    async def others() -> list[Told]:
        return [await way(uri, model, connect) for way in ASYNC_WAYS]

    return told + asyncio.run(others())


def continue_thread(uri: str, model: BaseChatModel) -> None:
    """Continue thread 1 in a second process, which shares only the database with the first."""
    with EventLogSaver.from_conn_string(uri) as checkpointer:
        graph = weather_agent(model, checkpointer)
        question = "which city did I ask about?"
        result = graph.invoke(ask(question), thread("1"))
    show.say(f"Process {os.getpid()} asked: {question}")
    show.say(f"The agent answered: {result['messages'][-1].content}")


def time_travel(uri: str, model: BaseChatModel) -> None:
    """Show thread 1's checkpoints, and fork the thread at the checkpoint before the tool ran."""
    with EventLogSaver.from_conn_string(uri) as checkpointer:
        graph = weather_agent(model, checkpointer)
        states = list(graph.get_state_history(thread("1")))
        show.say("Thread 1, newest checkpoint first. You can read and continue each checkpoint:")
        show.history(states)

        earlier = next((state for state in reversed(states) if "tools" in state.next), None)
        if earlier is None:
            show.say("The model never called the tool, so there is no call to change.")
            return
        fork = graph.update_state(earlier.config, {"messages": [in_nyc(earlier.values["messages"][-1])]})
        result = graph.invoke(None, fork)
        number = earlier.config["configurable"]["checkpoint_id"][-6:]
        show.say(
            f"Fork at …{number}: the same tool call, but for nyc. The agent continues from there: "
            f"{result['messages'][-1].content}"
        )

        unchanged = graph.get_state(states[0].config)
        branches = len(list(graph.get_state_history(thread("1")))) - len(states)
        number = states[0].config["configurable"]["checkpoint_id"][-6:]
        show.say(
            f"The fork added {branches} checkpoints. …{number} is unchanged: {unchanged.values['messages'][-1].content}"
        )


def in_nyc(message: AIMessage) -> AIMessage:
    """Return the message with another city in its tool call, under the same id so that it replaces the original."""
    calls: list[Any] = [{**call, "args": {"city": "nyc"}} for call in message.tool_calls]
    return AIMessage(message.content, id=message.id, tool_calls=calls)


def holdings(uri: str, model: BaseChatModel) -> None:
    """Show counts and sizes of threads 1 to 6 and, with the scripted model, of one long conversation."""
    groups = [("threads 1 to 6", show.held(uri, GUIDE.schema, list("123456")))]
    if isinstance(model, ScriptedModel):
        with EventLogSaver.from_conn_string(uri) as checkpointer:
            graph = weather_agent(model, checkpointer)
            for number in range(LONG_QUESTIONS):
                graph.invoke(ask(NYC if number % 2 else SF), thread(LONG_THREAD))
        name = f"one thread, {LONG_QUESTIONS} questions"
        groups.append((name, show.held(uri, GUIDE.schema, [LONG_THREAD])))
    show.holdings(groups)
    show.say(
        "An event holds the compressed changes since the checkpoint before it. A saver that rewrites the state at each "
        "step grows with the square of the conversation: the last line is the sum of the serialized states of all "
        "checkpoints. ('make bench' compares with PostgresSaver.)"
    )


if __name__ == "__main__":
    sys.exit(main())
