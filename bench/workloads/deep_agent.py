"""(m) A Deep Agent (`deepagents`) as its users run it: todos, files and messages, the last two in `DeltaChannel`s.

The model is scripted: in each turn it writes its list of todos, then a file of about a kilobyte, and answers. LangGraph
runs the agent on each saver, turn by turn. Then, on the finished threads: the latest state (`get_state`), and the last
30 states of `get_state_history`. All channels are as `deepagents` makes them. It needs Python 3.11.
"""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.base import BaseCheckpointSaver

from bench.context import Context
from bench.conversation import prose, question
from bench.race import thread
from bench.results import Measure
from bench.savers import open_savers
from bench.server_figures import Server
from bench.timings import Timings

__all__ = ["measure"]

TURN = "turn"
STATE = "get_state"
STATES = "last 30 states"
LAST = 10


class Planner(BaseChatModel):
    """Writes todos, then a file, then an answer."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Planner:
        """Ignores the tools: the script names the calls."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        turn = sum(isinstance(each, HumanMessage) for each in messages)
        step = len(messages) - max(at for at, each in enumerate(messages) if isinstance(each, HumanMessage))
        # After the question: a call, its result, a call, its result.
        calls: dict[int, tuple[str, dict[str, Any]]] = {
            1: (
                "write_todos",
                {"todos": [{"content": prose((turn, n), 60), "status": "pending"} for n in range(4)]},
            ),
            3: ("write_file", {"file_path": f"/notes/{turn}.md", "content": prose(("file", turn), 1000)}),
        }
        if step in calls:
            name, arguments = calls[step]
            message = AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": f"call {turn}, {step}"}])
        else:
            message = AIMessage(prose(("answer", turn), 300))
        return ChatResult(generations=[ChatGeneration(message=message)])


def _agent(saver: BaseCheckpointSaver[Any]) -> Any:
    # Imported here: the other workloads run on Python 3.10 as well.
    from deepagents import create_deep_agent

    return create_deep_agent(model=Planner(), checkpointer=saver)


def measure(context: Context) -> list[Measure]:
    """One thread."""
    turns = context.pick(60, 20, 2)
    name = f"Deep Agent, {turns} turns"
    with context.database() as uri, open_savers(uri, others=False) as savers:
        server = Server(uri)
        timings = Timings(server.wal)
        agents = {each.name: _agent(each.saver) for each in savers}
        for number in context.track(range(turns), 0.0, 0.7):
            timings.time(
                TURN, {who: partial(each.invoke, question(number), thread("deep")) for who, each in agents.items()}
            )
            if number % 20 == 10:
                server.tidy()
        tables = {each.name: server.tables(each.tables) for each in savers}
        for number in context.track(range(context.pick(9, 3, 1) + 1), 0.7, 1.0):
            for step, read in ((STATE, _state), (STATES, _states)):
                told = timings.time(
                    step, {who: partial(read, each) for who, each in agents.items()}, counted=number > 0
                )
                if len({str(each) for each in told.values()}) > 1:
                    raise SystemExit(f"the savers disagree about {step}")
        wal = timings.wal
        server.close()
    last = (turns - min(LAST, turns), turns)
    return [
        timings.measure(name, TURN),
        timings.measure(name, TURN, between=last, label=f"{TURN}, last {last[1] - last[0]}"),
        timings.measure(name, STATE),
        timings.measure(name, STATES),
        Measure(workload=name, name="WAL", unit="bytes", eventlog=wal["eventlog"], postgres=wal["postgres"]),
        Measure(workload=name, name="tables", unit="bytes", eventlog=tables["eventlog"], postgres=tables["postgres"]),
    ]


def _state(agent: Any) -> tuple[int, list[str]]:
    return _told(agent.get_state(thread("deep")))


def _states(agent: Any) -> list[tuple[int, list[str]]]:
    return [_told(each) for each in islice(agent.get_state_history(thread("deep")), 30)]


def _told(state: Any) -> tuple[int, list[str]]:
    """The number of messages, and the names of files."""
    return len(state.values.get("messages", ())), sorted(state.values.get("files") or ())
