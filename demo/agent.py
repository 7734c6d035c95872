"""The agent of LangGraph's guide: one tool, with a scripted or a real model.

The scripted model uses the messages alone: it calls the tool, answers from the tool's result, and answers questions
about the conversation from the conversation. It has no memory, so all that it says about earlier turns came from the
checkpointer.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Literal

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph

__all__ = ["ModelUnavailableError", "ScriptedModel", "get_weather", "load_model", "weather_agent"]


@tool
def get_weather(city: Literal["nyc", "sf"]) -> str:
    """Use this to get weather information."""
    return {"nyc": "It might be cloudy in nyc", "sf": "It's always sunny in sf"}[city]


class ScriptedModel(BaseChatModel):
    """A chat model without a network."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """Store the tools' names for `_generate`."""
        return self.bind(tools=[each.name for each in tools])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        message = _answer(messages, kwargs.get("tools", ()))
        return ChatResult(generations=[ChatGeneration(message=message)])


def _answer(messages: list[BaseMessage], tools: Sequence[str]) -> AIMessage:
    last = messages[-1]
    if isinstance(last, ToolMessage):
        return AIMessage(f"{last.content}.")
    question = str(last.content).lower()
    if "which" in question:
        asked = [each for each in messages[:-1] if isinstance(each, HumanMessage)]
        cities = list(dict.fromkeys(city for each in asked if (city := _city(str(each.content)))))
        return AIMessage(f"You asked about {' and '.join(cities)}." if cities else "You asked about none yet.")
    city = _city(question)
    if city is None or "get_weather" not in tools:
        return AIMessage("I only know the weather in nyc and sf.")
    call = {"name": "get_weather", "args": {"city": city}, "id": f"call_{len(messages)}"}
    return AIMessage("", tool_calls=[call])


def _city(text: str) -> str | None:
    found = re.search(r"\b(nyc|sf)\b", text.lower())
    return found and found[0]


class ModelUnavailableError(Exception):
    """The requested model is not available."""


def load_model(name: str | None) -> BaseChatModel:
    """Return the scripted model, or the real model of this name, such as ``openai:gpt-4o-mini``.

    Raises:
        ModelUnavailableError: if a package or the key is missing.
    """
    if name is None:
        return ScriptedModel()
    openai = name.startswith("openai:")
    packages = ["langchain", "langchain-openai"] if openai else ["langchain"]
    missing = [f"package {each}" for each in packages if find_spec(each.replace("-", "_")) is None]
    if openai and not os.environ.get("OPENAI_API_KEY"):
        missing.append("environment variable OPENAI_API_KEY")
    if missing:
        raise ModelUnavailableError(
            f"the model {name!r} cannot be used here. Missing: {', '.join(missing)}. "
            "Without MODEL the demo uses a scripted model, which needs neither."
        )

    from langchain.chat_models import init_chat_model

    try:
        model: BaseChatModel = init_chat_model(name)
    except Exception as exc:
        # Each provider's package raises its own errors for names that it does not accept.
        raise ModelUnavailableError(f"the model {name!r} cannot be used: {exc}") from exc
    return model


def weather_agent(
    model: BaseChatModel, checkpointer: BaseCheckpointSaver[Any]
) -> CompiledStateGraph[Any, Any, Any, Any]:
    """Build the guide's agent."""
    from langgraph.prebuilt import create_react_agent

    with warnings.catch_warnings():
        # The function moved to `langchain`, which the demo does not need otherwise.
        warnings.simplefilter("ignore", DeprecationWarning)
        return create_react_agent(model, tools=[get_weather], checkpointer=checkpointer)
