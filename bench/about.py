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
        One saver with a pool of 16 connections, and so many threads, or tasks of an event loop, that make its
        calls: conversations of 20 steps of up to 20 messages, each step a `put`, a `put_writes` and a
        `get_tuple` of what was put. Each worker has threads of its own; "one thread" means that all put onto
        the same one, each children of its own checkpoints. The floor does as many round trips, with one-row
        inserts and `select 1`, and the serializer's work. Savers take turns of 0.3 s, and figures are
        medians of six. All is one process of Python, which no saver gets more than one core of.
        """,
    ),
    About(
        "Listings",
        "list*",
        """
        `list(limit=20)` and `list()` are of the agent's thread; what is listed is dropped at once. All of it takes
        so long that the savers list 100 checkpoints each in turns. The floor is the serializer's time to
        decode the states that are listed. The filters choose by metadata among all threads, of three
        checkpoints each: so many hits, all of them or the first 20. These threads are copies of 200, with the
        same checkpoint ids.
        """,
    ),
    About(
        "A long log in many partitions",
        "36 partitions*|an empty log",
        """
        10,000 threads of 50 checkpoints and 49 events of writes are spread over three years, in monthly
        partitions; the incumbent has them in its tables. The same calls are made in turns to a database that
        was just set up and has 120 threads. Calls without a remark go to a thread in the newest partition.
        An old thread has all its events in one old partition and nothing of it is cached: it is read, and
        goes on. "Resumed" is reading it after that, when its last state spans the years between.
        """,
    ),
    About(
        "Other connections",
        "no prepared statements|1 ms of delay*",
        """
        The agent's calls over 40 turns, on connections that prepare nothing, as behind PgBouncer; and through
        a proxy that makes each round trip, of the savers and of the floor, about a millisecond longer.
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
