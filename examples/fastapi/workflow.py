"""The graph: a refund that a person approves.

Three steps: `assess` computes the amount, `approve` waits for a person, `pay` pays if the person approved.
"""

from __future__ import annotations

from typing import Any, TypedDict

from langgraph.config import get_stream_writer
from langgraph.graph import START, StateGraph
from langgraph.types import interrupt

__all__ = ["Refund", "builder"]


class Refund(TypedDict, total=False):
    """The state of a refund."""

    order: str
    euros: int
    approved: bool
    outcome: str


def assess(state: Refund) -> Refund:
    """Compute the amount. A real shop would look it up."""
    write = get_stream_writer()
    write(f"looking up order {state['order']}")
    return {"euros": 10 * len(state["order"])}


def approve(state: Refund) -> Refund:
    """End the run at the question. The run that resumes the thread starts here again, with the person's answer."""
    answer: Any = interrupt({"question": f"Refund {state['euros']} euros for order {state['order']}?"})
    return {"approved": answer is True}


def pay(state: Refund) -> Refund:
    """Pay. A real shop would call its payment service here, with an idempotency key such as the order.

    A step may run twice: a worker dies during the payment, or two runs begin the step and the saver refuses one later.
    """
    if not state["approved"]:
        return {"outcome": "declined"}
    return {"outcome": f"{state['euros']} euros paid"}


builder = StateGraph(Refund)
builder.add_node(assess)
builder.add_node(approve)
builder.add_node(pay)
builder.add_edge(START, "assess")
builder.add_edge("assess", "approve")
builder.add_edge("approve", "pay")
