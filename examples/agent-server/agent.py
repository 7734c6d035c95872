"""A shop's assistant that asks a person before it refunds an order. LangGraph's server runs `graph`.

By default the model is scripted and needs no key and no network. To use a real model, set the environment variable
MODEL, such as ``openai:gpt-4o-mini``, install `langchain` and the provider's package, and set the provider's key.
"""

from __future__ import annotations

import os
import re
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import interrupt

__all__ = ["graph"]


@tool
def refund(order: str) -> str:
    """Refund an order after a person has approved it."""
    # The run ends here. A run with `command={"resume": …}` starts the tool again, and `interrupt` returns its value.
    approved = interrupt({"question": f"Refund order {order}?"})
    return f"Order {order} was refunded" if approved is True else f"Order {order} was not refunded"


class ScriptedModel(BaseChatModel):
    """Calls the tool for the order in the last message, and repeats the tool's answer."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """Ignore the tools: the script knows its tool."""
        return self.bind()

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=_answer(messages))])


def _answer(messages: list[BaseMessage]) -> AIMessage:
    last = messages[-1]
    if isinstance(last, ToolMessage):
        return AIMessage(f"{last.content}.")
    found = re.search(r"\d+", str(last.content))
    if found is None:
        return AIMessage("Which order?")
    return AIMessage("", tool_calls=[{"name": "refund", "args": {"order": found[0]}, "id": f"call_{len(messages)}"}])


def load_model() -> BaseChatModel:
    """The model that MODEL names, or the scripted model without MODEL."""
    name = os.environ.get("MODEL")
    if not name:
        return ScriptedModel()
    from langchain.chat_models import init_chat_model

    model: BaseChatModel = init_chat_model(name)
    return model


assistant = load_model().bind_tools([refund])


async def answer(state: MessagesState) -> dict[str, list[BaseMessage]]:
    """Add the model's next message."""
    return {"messages": [await assistant.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node(answer)
builder.add_node("tools", ToolNode([refund]))
builder.add_edge(START, "answer")
builder.add_conditional_edges("answer", tools_condition)
builder.add_edge("tools", "answer")

# Without a checkpointer: the server adds the one in langgraph.json.
graph = builder.compile()
