"""The log that the command's reference pages use in their examples, and how their output is compared."""

from __future__ import annotations

import re
import shlex
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.types import Interrupt

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.cli.command import eventlog
from tests.support.checkpoints import checkpoint_of, config_of
from tests.support.clock import Clock
from tests.support.pooler import direct
from tests.support.signing import make_keys
from tests.transfer.incumbent import incumbent

__all__ = ["NOT_RUN", "make_log", "make_source", "masked", "run"]

#: Commands that run until they are told to end.
NOT_RUN = {"ui", "mcp"}

#: When the examples run, by the log's clock: how many partitions there are depends on the date.
NOW = datetime(2026, 11, 22, 10, 28, 12, tzinfo=timezone.utc)

RUN = "4f1c9c0e-2f7e-4a58-9d5e-6a1f0f3f9b10"
CALLS: list[Any] = [{"name": "get_weather", "args": {"city": "SF"}, "id": "call_1"}]
USAGE: Any = {"input_tokens": 52, "output_tokens": 12, "total_tokens": 64}

#: What differs from run to run, in the order in which it is looked for.
MASKS = {
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?)?(?:\+00:00|Z)?": "TIME",
    r"events_\d{8}": "PARTITION",
    r"\b[0-9a-f]{16,}\b": "HEX",
    r"\b\d+-\d+-\d+\b": "CURSOR",
    r"\b[\d.,]+ (?:bytes?|[kMG]B)": "SIZE",
    r'("\w*bytes"): \d+': r"\1: SIZE",
    r"\b\d+d(?: \d+[hm])?|\b\d+h(?: \d+m)?": "SPAN",
    r"\b[\d.,]+ (?:ms|s)\b": "SECONDS",
    r"(?:about )?[\d,]+ with data": "N with data",
    r"about [\d,]+": "about N",
    r"(stream  \w+), \d+ of": r"\1, N of",
    r"\b[\d.]+%": "N%",
    r"(transaction is) \d+: process \d+": r"\1 N: process N",
    r"─+": "─",
    r" {2,}": "  ",
}


def masked(text: str) -> str:
    """A command's output without what differs from run to run: times, sizes, hashes, cursors, widths of columns."""
    for pattern, name in MASKS.items():
        text = re.sub(pattern, name, text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def make_log(uri: str, folder: Path) -> None:
    """A log of a hundred days, with a role, and keys to sign with."""
    clock = Clock(uri)
    clock.set(NOW - timedelta(days=100))
    with psycopg.connect(direct(uri), autocommit=True) as conn:
        conn.execute("create role agent_app login")
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.setup()
        _line(saver, "order-1041", 12, runs=2)
        _line(saver, "order-1042", 2)
        clock.set(NOW)
        saver.setup()
        _conversation(saver)
    for name in ("seal", "receipts"):
        make_keys(folder, name)


def _line(saver: EventLogSaver, thread_id: str, length: int, *, runs: int = 0) -> None:
    """A line of checkpoints; the first `runs` are of the run `RUN`."""
    config, texts = config_of(thread_id), list[str]()
    for number in range(length):
        texts = [*texts, f"text {number}"]
        checkpoint = checkpoint_of(f"1f1d0000-{number:04x}-6b02-8000-99d6592a4974", {"x": texts}, {"x": str(number)})
        about: Any = {"source": "loop", "step": number, "user_id": "bob", **({"run_id": RUN} if number < runs else {})}
        config = saver.put(config, checkpoint, about, {"x": str(number)})
        saver.put_writes(config, [("x", f"text {number + 1}")], f"task {number}")


def _conversation(saver: EventLogSaver) -> None:
    """A thread with a run that waits for an answer, and with a fork."""
    question, look = (
        HumanMessage("What's the weather in SF?", id="m1"),
        AIMessage("Let me look.", tool_calls=CALLS, usage_metadata=USAGE, id="m2"),
    )
    answer, other = AIMessage("It is sunny.", id="m3"), AIMessage("Ask me tomorrow.", id="m3")
    waits = {"branch:to:confirm": None}
    notes: dict[str, Any] = {"notes": ["asked before"]}

    def put(parent: Any, id_: str, source: Any, step: int, values: dict[str, Any], *new: str) -> Any:
        versions = dict.fromkeys(values, f"{step + 2:032}.{0}")
        # A time of its own for each checkpoint, as LangGraph makes it.
        checkpoint = checkpoint_of(id_, values, versions, ts="2026-11-22T10:28:12.310954+00:00")
        metadata: Any = {"source": source, "step": step, "parents": {}, "user_id": "ada"}
        return saver.put(parent, checkpoint, metadata, {name: versions[name] for name in new})

    start = put(
        config_of("order-1043"), "1f1e6780-3b37-6d1e-bfff-5d0a99d6592a", "input", -1, {"__start__": "…"}, "__start__"
    )
    saver.put_writes(start, [("messages", [question])], "a1b2c3d4-0000-4000-8000-000000000001", "~__pregel_pull, ask")
    asked = put(
        start, "1f1e6780-3b48-66f9-8000-1d8ff8001b46", "loop", 0, {"messages": [question], **notes}, "messages", "notes"
    )
    saver.put_writes(asked, [("messages", [look])], "a1b2c3d4-0000-4000-8000-000000000002", "~__pregel_pull, agent")
    looked = put(
        asked, "1f1e6780-3b56-6b72-8001-5be025a6af6f", "loop", 1, {"messages": [question, look], **notes}, "messages"
    )
    put(
        asked, "1f1e6785-a011-6c31-8001-0a1f6b3c7d2e", "update", 1, {"messages": [question, other], **notes}, "messages"
    )
    last = put(
        looked,
        "1f1e6790-0b75-6a40-8002-4e1b9c77d013",
        "loop",
        2,
        {"messages": [question, look, answer], **notes, **waits},
        *("messages", "branch:to:confirm"),
    )
    saver.put_writes(
        last,
        [("__interrupt__", (Interrupt({"question": "Is it?"}, id="f64e43d15180c52cb26656b77810f949"),))],
        "b5287434-1834-a362-e64f-e5198744fbb5",
        "~__pregel_pull, confirm",
    )


def make_source(uri: str) -> None:
    """PostgresSaver's tables with two threads."""
    with incumbent(uri) as saver:
        for name in ("order-7", "order-8"):
            saver.put(
                config_of(name),
                checkpoint_of("1f1c0000-3b37-6d1e-8000-5d0a99d6592a", {"x": ["text"] * 99}, {"x": "1"}),
                {},
                {"x": "1"},
            )


def run(command: str, uri: str, source: str) -> str:
    """Run a line of an example in the current folder; returns what it wrote to the terminal."""
    words = [source if each.startswith("postgresql://") else each for each in shlex.split(command)[1:]]
    path = None
    if ">" in words:
        *words, _, path = words
    # An import knows the streams that it began by the server's own clock, too.
    if words[0] == "import":
        Clock(uri).set(datetime.now(timezone.utc))
    done = eventlog(uri, *words)
    if words[0] == "import":
        Clock(uri).set(NOW)
    assert done.exit_code == 0, done.output
    if path is not None:
        Path(path).write_text(done.stdout)
        return str(done.stderr)
    return str(done.output)
