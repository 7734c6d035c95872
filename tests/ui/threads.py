"""A log to look at: threads of an agent that serves customers, as real graphs write them.

The model is a script, so that no network is needed: everything else is LangGraph's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, interrupt

from langgraph.checkpoint.eventlog import EventLogSaver

__all__ = ["BIDI", "HOSTILE", "HOSTILE_ID", "LONG", "config_of", "support_agent", "write_threads"]

#: A customer of the list's many threads, for the tests of filters.
CUSTOMERS = ("ada", "grace", "edsger", "barbara")

BIDI = "invoice\u202efdp.exe"
HOSTILE = {
    "script": "<script>window.ran = 'script'</script><img src=x onerror=\"window.ran = 'image'\">",
    "attribute": "\" onmouseover=\"window.ran = 'attribute'\" x='",
    "closing": "</style></textarea></title></pre></details><svg onload=window.ran='svg'>",
    "htmx": '<div hx-get="/threads" hx-trigger="load" hx-on:load="window.ran=1"></div>',
    "template": "{{ 7 * 7 }} {% raw %} ${7*7}",
    "ansi": "\x1b[31mred\x1b[0m \x07 \x00",
    "bidi": BIDI,
    "hidden": "zero\u200bwidth\ufeff \u2066isolated\u2069",
    "arabic": "مرحبا بالعالم 👩‍👩‍👧",
    "surrogate": "lone \ud800 half",
    "wide": "W" * 5_000,
}
LONG = "long line " * 104_858  # 1 MB
HOSTILE_ID = "a/b?c=d#e%2F <b>\"'&\u202e x"

TRACEBACK_OF = "the carrier does not answer"


class Order(TypedDict, total=False):
    """The state of the agent."""

    messages: Annotated[list[AnyMessage], add_messages]
    order: dict[str, Any]
    notes: list[str]
    refund: dict[str, Any]


class Payment(TypedDict, total=False):
    """The state of the subgraph."""

    order: dict[str, Any]
    refund: dict[str, Any]
    steps: list[str]


ORDERS: dict[str, dict[str, Any]] = {
    "1043": {"id": "1043", "item": "desk lamp", "price": 89.0, "currency": "EUR", "state": "delivered"},
    "1041": {"id": "1041", "item": "bookshelf", "price": 240.0, "currency": "EUR", "state": "in transit"},
}


def config_of(thread_id: str, **configurable: Any) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread_id, **configurable}}


def _said(text: str, read: int, written: int, **fields: Any) -> AIMessage:
    usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
    return AIMessage(text, usage_metadata=usage, response_metadata={"model_name": "gpt-5"}, **fields)


def _model(state: Order) -> dict[str, Any]:
    """Does what a model would do with two tools, from the messages alone."""
    messages = state["messages"]
    last, read = messages[-1], 180 + 60 * len(messages)
    if isinstance(last, ToolMessage):
        if last.name == "track_parcel":
            return {"messages": [_said("The parcel is on its way, and due tomorrow.", read, 21)]}
        order = state["order"]
        text = f"Order {order['id']}, a {order['item']}, is {order['state']}. What can I do for you?"
        return {"messages": [_said(text, read, 34)]}
    text = str(last.content).lower()
    if "where" in text:
        call = {"name": "track_parcel", "args": {"order_id": "1041"}, "id": f"call_{len(messages)}"}
    elif "broken" in text or "refund" in text:
        return {"messages": [_said("I am sorry. I will ask for a refund.", read, 12)], "refund": {"asked": True}}
    elif "order" in text:
        call = {"name": "find_order", "args": {"order_id": "1043", "with_history": True}, "id": f"call_{len(messages)}"}
    else:
        return {"messages": [_said("You are welcome.", read, 6)]}
    return {"messages": [_said("Let me look.", read, 18, tool_calls=[call])]}


def _tools(state: Order) -> dict[str, Any]:
    (call,) = state["messages"][-1].tool_calls  # type: ignore[union-attr]
    if call["name"] == "track_parcel" and len(state["messages"]) > 4:
        raise ConnectionError(TRACEBACK_OF)
    order = ORDERS[call["args"]["order_id"]]
    message = ToolMessage(f"{order}", name=call["name"], tool_call_id=call["id"])
    return {"messages": [message], "order": order, "notes": [*state.get("notes", []), f"looked up {order['id']}"]}


def _after_model(state: Order) -> str:
    last = state["messages"][-1]
    if isinstance(last, AIMessage) and last.tool_calls:
        return "tools"
    return "refund" if state.get("refund") == {"asked": True} else END


def _approve(state: Payment) -> dict[str, Any]:
    order = state["order"]
    answer = interrupt(
        {
            "question": f"Refund {order['price']:.2f} {order['currency']} for order {order['id']}?",
            "amount": order["price"],
            "allowed": ["approve", "edit", "reject"],
        }
    )
    return {"refund": {"asked": True, "answer": answer}, "steps": [*state.get("steps", []), f"answer: {answer}"]}


def _pay(state: Payment) -> dict[str, Any]:
    return {"refund": {**state["refund"], "paid": state["order"]["price"]}, "steps": [*state.get("steps", []), "paid"]}


def _confirm(state: Order) -> dict[str, Any]:
    paid = state["refund"].get("paid")
    text = f"{paid:.2f} EUR are on their way to your account." if paid else "The refund was declined."
    return {"messages": [_said(text, 420, 19)]}


def support_agent(saver: Any) -> CompiledStateGraph[Any, Any, Any, Any]:
    """An agent with tools, one of which fails, and a subgraph that asks a person before it pays."""
    payment = StateGraph(Payment)
    payment.add_node("approve", _approve)
    payment.add_node("pay", _pay)
    payment.add_edge(START, "approve")
    payment.add_conditional_edges(
        "approve", lambda state: "pay" if state["refund"]["answer"] == "approve" else END, ["pay", END]
    )
    builder = StateGraph(Order)
    builder.add_node("model", _model)
    builder.add_node("tools", _tools)
    builder.add_node("refund", payment.compile())
    builder.add_node("confirm", _confirm)
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", _after_model, ["tools", "refund", END])
    builder.add_edge("tools", "model")
    builder.add_edge("refund", "confirm")
    return builder.compile(checkpointer=saver)


def _asked(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def write_threads(uri: str, *, many: int = 0, attacks: bool = True) -> None:
    """Fill a log that is set up.

    Args:
        many: so many short threads more, for the pages of the list.
        attacks: with the thread of hostile texts, and the long one.
    """
    with EventLogSaver.from_conn_string(uri) as saver:
        agent = support_agent(saver)
        for number in range(many):
            config = config_of(f"chat-{number:04d}", actor=CUSTOMERS[number % 4])
            config["metadata"] = {"customer": CUSTOMERS[number % 4]}
            agent.invoke(_asked("Thanks!"), config)
        if attacks:
            _hostile(saver)
            _long(saver)
        _history_of_records(saver, agent)
        _forked(agent)
        _failed(agent)
        _answered(agent)
        _waiting(agent)


def _waiting(agent: Any) -> None:
    config = config_of("order-1043", actor="ada")
    config["metadata"] = {"customer": "ada", "channel": "web"}
    agent.invoke(_asked("Hello, I have a question about my order 1043."), config)
    agent.invoke(_asked("The lamp arrived broken. I want a refund."), config)


def _answered(agent: Any) -> None:
    config = config_of("order-1042", actor="grace")
    config["metadata"] = {"customer": "grace", "channel": "mail"}
    agent.invoke(_asked("What about my order 1043?"), config)
    agent.invoke(_asked("It is broken."), config)
    agent.invoke(Command(resume="approve"), config_of("order-1042", actor="clerk@shop.example"))


def _failed(agent: Any) -> None:
    config = config_of("order-1041", actor="edsger")
    config["metadata"] = {"customer": "edsger", "channel": "web"}
    # The steps wait for their checkpoints: else the writes of all tasks may be committed before these.
    agent.invoke(_asked("Where is my parcel?"), config, durability="sync")
    with pytest.raises(ConnectionError, match=TRACEBACK_OF):
        agent.invoke(_asked("And where is it now?"), config, durability="sync")


def _forked(agent: Any) -> None:
    config = config_of("order-1040", actor="barbara")
    config["metadata"] = {"customer": "barbara", "channel": "web"}
    agent.invoke(_asked("What about my order 1043?"), config)
    before = next(state for state in agent.get_state_history(config) if state.next == ("tools",))
    edited = agent.update_state(before.config, {"notes": ["edited by hand"]}, as_node="tools")
    agent.invoke(None, edited)
    again = agent.update_state(before.config, {"notes": ["a third way"]}, as_node="tools")
    agent.invoke(None, again)
    agent.invoke(_asked("Thanks!"), config)


def _history_of_records(saver: EventLogSaver, agent: Any) -> None:
    config = config_of("order-1039", actor="ada")
    for text in ("What about my order 1043?", "Thanks!", "Thanks again!"):
        agent.invoke(_asked(text), config)
    saver.log.prune(["order-1039"], keep_last=3, actor="retention")
    agent.invoke(_asked("Bye!"), config)
    saver.log.copy_thread("order-1039", "order-1039-copy", actor="support")
    saver.log.copy_thread("order-1039", "order-1038", actor="support")
    saver.log.delete_thread("order-1038", actor="privacy@shop.example")


class Anything(TypedDict, total=False):
    """A state of any values."""

    values: dict[str, Any]
    messages: Annotated[list[AnyMessage], add_messages]


def _plain_graph(saver: Any, name: str = "node") -> CompiledStateGraph[Any, Any, Any, Any]:
    builder = StateGraph(Anything)
    builder.add_node(name, lambda state: {"values": {**state.get("values", {}), "seen": True}})
    builder.add_edge(START, name)
    return builder.compile(checkpointer=saver)


def _hostile(saver: Any) -> None:
    """Texts that attack pages, in every place that takes a text."""
    graph = _plain_graph(saver, "<b>node</b> & \u202e")
    messages = [*_hostile_messages()]
    values = {**HOSTILE, HOSTILE["script"]: 1, "deep": _deep(60), "megabyte": LONG}
    config = config_of(HOSTILE_ID, actor=HOSTILE["script"])
    config["metadata"] = {"<script>": HOSTILE["script"], "attack": "yes"}
    graph.invoke({"values": values, "messages": messages}, config)


def _hostile_messages() -> Iterator[AnyMessage]:
    for name, text in HOSTILE.items():
        yield HumanMessage(text, id=f"{name}-{HOSTILE['attribute']}")
    call = {"name": HOSTILE["script"], "args": {"<img onerror=x>": HOSTILE["closing"]}, "id": HOSTILE["attribute"]}
    yield AIMessage("", tool_calls=[call])
    yield ToolMessage(HOSTILE["script"], name="<i>", tool_call_id=HOSTILE["attribute"])


def _deep(levels: int) -> Any:
    value: Any = "<deep>"
    for level in range(levels):
        value = {"level": [level, value]}
    return value


def _long(saver: Any) -> None:
    """More steps than one page has, and a list that is cut."""
    graph = _plain_graph(saver)
    config = config_of("long", actor="ada")
    for number in range(70):
        graph.invoke({"values": {"number": number, "list": list(range(300))}}, config)
