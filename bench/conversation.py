"""The workload: a tool-calling agent with a scripted model, so that only the checkpointer differs between runs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.prebuilt import ToolNode, tools_condition

_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
_VOCABULARY = 20_000


def _vocabulary() -> list[str]:
    letters = random.Random(1)
    weights = range(len(_LETTERS), 0, -1)
    return ["".join(letters.choices(_LETTERS, weights, k=letters.randint(2, 9))) for _ in range(_VOCABULARY)]


_WORDS = _vocabulary()

#: Set by ``--incompressible``: hexadecimal noise instead of prose, which no server can compress.
incompressible = False

# Zipf's law: about ten bits a word, as in English, so that the text compresses about as English does.
_FREQUENCY = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(_VOCABULARY)))


def prose(seed: object, size: int) -> str:
    """Text of about `size` characters, the same for the same seed."""
    choice = random.Random(str(seed))
    if incompressible:
        return choice.randbytes(size // 2).hex()
    return " ".join(choice.choices(_WORDS, cum_weights=_FREQUENCY, k=size // 6))


@tool
def look_up(topic: str) -> str:
    """Look a topic up: about a kilobyte of text."""
    return prose(topic, 1000)


class ScriptedModel(BaseChatModel):
    """Calls the tool once for every question, and answers from its result."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> ScriptedModel:
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            answer = AIMessage(prose(f"answer {len(messages)}", 200))
        else:
            call = {"name": "look_up", "args": {"topic": f"{last.content}"[:60]}, "id": f"call_{len(messages)}"}
            answer = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])


def agent(checkpointer: BaseCheckpointSaver[Any] | None) -> CompiledStateGraph[Any, Any, Any, Any]:
    """human → model → tool → model, persisted by the checkpointer; None: by the checkpointer of the enclosing graph."""
    model = ScriptedModel()

    def call_model(state: MessagesState) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", call_model)
    builder.add_node("tools", ToolNode([look_up]))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition, {"tools": "tools", END: END})
    builder.add_edge("tools", "model")
    return builder.compile(checkpointer=checkpointer)


def question(turn: int) -> dict[str, Any]:
    """The input of one turn."""
    return {"messages": [HumanMessage(prose(f"question {turn}", 80))]}
