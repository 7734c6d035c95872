"""The demo: LangGraph's Postgres guide on the event log, on a private PostgreSQL server. See `make demo`.

Starts an embedded PostgreSQL in a temporary directory, runs the guide's agent in all six ways, goes on with a thread
in a second process, travels in time, and shows what the log holds.
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
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="LangGraph's Postgres guide on an event log")
    parser.add_argument("--model", help="a real model, such as openai:gpt-4o-mini (default: a script)")
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

    # A package under the embedded server says this where no login session set the variable up, as in containers.
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
    with TemporaryDirectory(prefix="eventlog-demo-") as directory, embedded_server(Path(directory) / "data") as uri:
        run(uri, model, arguments.model)
    return 0


def run(uri: str, model: BaseChatModel, name: str | None) -> None:
    """The whole demo, on a server."""
    show.say(
        f"PostgreSQL {show.server_version(uri)} runs in a temporary directory, for this demo alone. "
        + (f"The model is {name}." if name else "The model is a script: nothing here needs a network.")
    )

    show.section(1, "Persist an agent, in six ways")
    told = six_ways(uri, model, GUIDE)
    show.six_ways(told)
    six_ways(uri, model, PLAIN)
    show.say(
        "All six ran with the guide's connection settings (autocommit=True, prepare_threshold=0, "
        "max_size=20), and again, in a log of their own, with no settings at all. Each time, what "
        "the saver returned was compared with what the agent had said: equal."
    )

    show.section(2, "Another process goes on with thread 1")
    show.say(f"Process {os.getpid()} asked: {SF}?")
    command = [sys.executable, __file__, "--continue", uri]
    subprocess.run([*command, "--model", name] if name else command, check=True)

    show.section(3, "Travel in time, and fork")
    time_travel(uri, model)

    show.section(4, "What the log holds")
    holdings(uri, model)


def six_ways(uri: str, model: BaseChatModel, connect: Connect) -> list[Told]:
    """All six, in the guide's order."""
    told = [way(uri, model, connect) for way in SYNC_WAYS]

    async def others() -> list[Told]:
        return [await way(uri, model, connect) for way in ASYNC_WAYS]

    return told + asyncio.run(others())


def continue_thread(uri: str, model: BaseChatModel) -> None:
    """The second process. All that it has in common with the first is the database."""
    with EventLogSaver.from_conn_string(uri) as checkpointer:
        graph = weather_agent(model, checkpointer)
        question = "which city did I ask about?"
        result = graph.invoke(ask(question), thread("1"))
    show.say(f"Process {os.getpid()} asked: {question}")
    show.say(f"The agent answered: {result['messages'][-1].content}")


def time_travel(uri: str, model: BaseChatModel) -> None:
    """Shows thread 1's checkpoints, and changes history at the one before the tool ran."""
    with EventLogSaver.from_conn_string(uri) as checkpointer:
        graph = weather_agent(model, checkpointer)
        states = list(graph.get_state_history(thread("1")))
        show.say("Thread 1, newest checkpoint first. Every one can be read, and continued:")
        show.history(states)

        earlier = next((state for state in reversed(states) if "tools" in state.next), None)
        if earlier is None:
            show.say("The model never called the tool, so there is no call to change.")
            return
        fork = graph.update_state(earlier.config, {"messages": [in_nyc(earlier.values["messages"][-1])]})
        result = graph.invoke(None, fork)
        number = earlier.config["configurable"]["checkpoint_id"][-6:]
        show.say(
            f"Fork at …{number}: the same tool call, but for nyc. The agent goes on from there: "
            f"{result['messages'][-1].content}"
        )

        unchanged = graph.get_state(states[0].config)
        branches = len(list(graph.get_state_history(thread("1")))) - len(states)
        number = states[0].config["configurable"]["checkpoint_id"][-6:]
        show.say(
            f"The fork added {branches} checkpoints. …{number} still ends as it did: "
            f"{unchanged.values['messages'][-1].content}"
        )


def in_nyc(message: AIMessage) -> AIMessage:
    """The same message (by its id, so that it replaces the original), with another city in its tool call."""
    calls: list[Any] = [{**call, "args": {"city": "nyc"}} for call in message.tool_calls]
    return AIMessage(message.content, id=message.id, tool_calls=calls)


def holdings(uri: str, model: BaseChatModel) -> None:
    """Counts and sizes of threads 1 to 6 and, with the scripted model, of one long conversation."""
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
        "An event holds what changed since the checkpoint before it, compressed. Rewriting the state at each step "
        "grows with the square of what is said: the last line adds up the serialized state of every checkpoint. "
        "('make bench' compares with the saver that this one replaces.)"
    )


if __name__ == "__main__":
    sys.exit(main())
