"""(b) States of other shapes than a conversation: the content of a channel, and its change in a step."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import BaseModel

from bench.conversation import prose

__all__ = ["SHAPES", "Shape", "Step"]


class Step(NamedTuple):
    """One superstep: the writes of its task, and the changed channels with their new values."""

    writes: list[tuple[str, Any]]
    changed: dict[str, Any]


class Shape(NamedTuple):
    """A kind of state."""

    name: str
    steps: Callable[[int], Iterator[Step]]
    """Yields a number of steps; the first brings the state up to its size. The same in every run."""
    sizes: tuple[int, int, int]
    """How many steps in a full, a quick and a tiny run; three at least."""
    serde: Callable[[], SerializerProtocol] = JsonPlusSerializer


def small(count: int) -> Iterator[Step]:
    """A counter and a short text."""
    for number in range(count):
        changed = {"counter": number, "answer": f"answer {number}"}
        yield Step(list(changed.items()), changed)


def document(count: int) -> Iterator[Step]:
    """A text of 1 MB, in which 1 KB changes in each step, at a place of chance; the task writes all of it."""
    choice = random.Random(1)
    text = prose("document", 1_000_000)
    for number in range(count):
        place = choice.randrange(len(text) - 1_000)
        text = text[:place] + prose(("document", number), 1_000) + text[place + 1_000 :]
        yield Step([("document", text)], {"document": text})


def blob(count: int) -> Iterator[Step]:
    """5 MB of incompressible bytes, others in each step."""
    choice = random.Random(2)
    for _ in range(count):
        image = choice.randbytes(5_000_000)
        yield Step([("image", image)], {"image": image})


def many(count: int) -> Iterator[Step]:
    """200 channels of about 100 characters, of which 3 change in each step."""
    choice = random.Random(3)
    names = [f"channel_{number:03}" for number in range(200)]
    for number in range(count):
        chosen = names if number == 0 else choice.sample(names, 3)
        changed = {name: prose((name, number), 100) for name in chosen}
        yield Step(list(changed.items()), changed)


def growing(count: int) -> Iterator[Step]:
    """A dictionary that gains a key with a text of 300 characters; the task writes that alone."""
    facts: dict[str, str] = {}
    for number in range(count):
        fact = {f"fact {number}": prose(("fact", number), 300)}
        facts = {**facts, **fact}
        yield Step([("facts", fact)], {"facts": facts})


def _message(number: int, size: int = 500) -> AnyMessage:
    kind = HumanMessage if number % 2 else AIMessage
    return kind(prose(("message", number), size), id=f"message-{number}")


def rolling(count: int) -> Iterator[Step]:
    """The last 40 messages of a conversation: each step adds one at the end and drops one at the head."""
    messages = [_message(-number) for number in range(40)]
    for number in range(count):
        new = _message(number + 1)
        messages = [*messages[1:], new]
        yield Step([("messages", [new])], {"messages": messages})


def edited(count: int) -> Iterator[Step]:
    """60 messages, of which each step replaces one, by its id, somewhere in the middle."""
    choice = random.Random(4)
    messages = [_message(number) for number in range(60)]
    for number in range(count):
        place = choice.randrange(15, 45)
        new = messages[place].model_copy(update={"content": prose(("edit", number), 500)})
        messages = [*messages[:place], new, *messages[place + 1 :]]
        yield Step([("messages", [new])], {"messages": messages})


class Finding(BaseModel):
    """Part of a report."""

    title: str
    text: str
    scores: dict[str, float]


class Report(BaseModel):
    """A channel's value that is a model, with models in it."""

    topic: str
    findings: list[Finding]
    done: bool = False


def models(count: int) -> Iterator[Step]:
    """A pydantic model that gains a model in each step; the task writes all of it."""
    report = Report(topic="prose", findings=[])
    for number in range(count):
        scores = {"truth": number / 7, "style": number / 3}
        finding = Finding(title=f"finding {number}", text=prose(("finding", number), 400), scores=scores)
        report = Report(topic=report.topic, findings=[*report.findings, finding])
        yield Step([("report", report)], {"report": report})


def conversation(count: int) -> Iterator[Step]:
    """A list of messages that gains one in each step."""
    messages: list[AnyMessage] = []
    for number in range(count):
        new = _message(number)
        messages = [*messages, new]
        yield Step([("messages", [new])], {"messages": messages})


def _for_models() -> SerializerProtocol:
    allowed = [(each.__module__, each.__name__) for each in (Report, Finding)]
    return JsonPlusSerializer(allowed_msgpack_modules=allowed)


def _encrypting() -> SerializerProtocol:
    return EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")


SHAPES: tuple[Shape, ...] = (
    Shape("small state", small, (250, 60, 3)),
    Shape("document of 1 MB, 1 KB changes", document, (25, 5, 3)),
    Shape("5 MB that change wholly", blob, (12, 4, 3)),
    Shape("200 channels, 3 change", many, (120, 25, 3)),
    Shape("dictionary gains a key", growing, (200, 50, 3)),
    Shape("rolling window of 40 messages", rolling, (120, 25, 3)),
    Shape("messages edited in the middle", edited, (120, 25, 3)),
    Shape("pydantic models", models, (120, 25, 3), _for_models),
    Shape("encrypted messages", conversation, (150, 30, 3), _encrypting),
)
