"""What docs/benchmarks.md says about each workload: how it was measured, precisely."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ABOUT", "About"]


class About(NamedTuple):
    """A section of the page."""

    title: str
    workloads: str
    """Pattern of `fnmatch`: of the workloads that are in it."""
    text: str
    """Its lines are wrapped anew."""


ABOUT: tuple[About, ...] = (
    About(
        "An agent's thread that grows",
        "agent, *",
        """
        In each turn a human message, a tool call, a tool result of about 1 KB and an answer, with
        durability "sync". LangGraph runs it once, on a saver that records its calls; each call is then made
        again by every saver, one after the other: five `put`, four `put_writes` and a `get_tuple` of the
        latest state a turn, and in every third turn a `get_tuple` of a checkpoint of chance. Bytes are what
        the first n turns cost, with nothing vacuumed. Times are medians of the calls since the mark before:
        of turns 51 to 150, say. The floor of bytes is the last state once, as serialized, not compressed.
        SQLite and memory, which keep every state, stop at 150 turns.
        """,
    ),
    About(
        "The same agent, run by LangGraph",
        "agent in LangGraph, *",
        """
        Whole turns, as an application sees them: LangGraph's own work is in them, and its calls run beside
        each other.
        """,
    ),
    About(
        "Other shapes of state",
        "channels: *",
        """
        Each step is a `put` and the `put_writes` of one task; in every fourth step the latest state is
        read, and a checkpoint of chance by its id. "Nothing cached" is the latest state, read by a saver
        that has not seen the thread before. The floor of reading has no bytes to transfer.
        """,
    ),
    About(
        "100 parallel tasks",
        "fan-out, *",
        """
        `step` is one run of a graph that sends 100 tasks and collects what they found: LangGraph's work is
        in it, and "no saver" is the same graph without a checkpointer. `calls` are those that LangGraph
        makes of its saver in such a run, made again alone: from 6 threads, as many as LangGraph has on two
        cores, or by as many tasks of an event loop as there are calls.
        """,
    ),
    About(
        "Workers on a pool",
        "workers*",
        """
        Every worker puts, writes and reads in turns.
        """,
    ),
    About(
        "Listings",
        "list*",
        """
        The floor is the serializer's time to decode all the states that are listed.
        """,
    ),
    About(
        "A long log in many partitions",
        "36 partitions*",
        """
        The same calls on a log with 36 partitions and on an empty one.
        """,
    ),
    About(
        "Other connections",
        "no prepared statements|1 ms of delay*",
        """
        Connections that prepare nothing, as behind PgBouncer; and a proxy that delays what it passes on.
        """,
    ),
    About(
        "A cold process",
        "cold process*",
        """
        The latest state of a thread of that many turns, by a process that was just started. `read` is from
        opening the saver to the state in hand, `process` what whoever starts the process sees.
        """,
    ),
    About(
        "Memory",
        "memory",
        """
        The peak of a process above what it had when its saver was open. Readers: of a thread whose events
        have 100 MB and whose states have 5 MB. The writer: states of 5 MB that change wholly. The floor is
        one state.
        """,
    ),
)
