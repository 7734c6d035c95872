"""The benchmark pages: which workloads are on which page, and how each workload was measured, precisely."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PAGES", "About", "DetailPage"]


class About(NamedTuple):
    """A section of a page: a text, and the table of its workloads."""

    title: str
    workloads: str
    """Patterns of `fnmatch`, with bars between them: the workloads of the section."""
    text: str
    """Its lines are wrapped again."""


class DetailPage(NamedTuple):
    """A file of docs/benchmarks/."""

    name: str
    """Of the file, without its suffix."""
    title: str
    text: str
    sections: tuple[About, ...]
    plots: tuple[str, ...] = ()
    """Files of `bench.plots.PLOTS` that the page shows before its sections."""


PAGES: tuple[DetailPage, ...] = (
    DetailPage(
        "agents",
        "An agent's conversation",
        """
        A tool-calling agent with a scripted model. Each turn of the conversation is a human message, a tool call, a
        tool result of about 1 KB and an answer.
        """,
        (
            About(
                "A thread that grows",
                "agent, *",
                """
                LangGraph runs the agent once, with durability "sync", on a saver that records its calls. Every saver
                then repeats each call, in turns: five `put`, four `put_writes` and one `get_tuple` of the latest state
                for each turn of the conversation. In every third turn each saver also reads an older checkpoint, chosen
                at random. Bytes are those of the first n turns, before any vacuum. Times are medians of the calls since
                the mark before: the rows of 150 turns are the calls of turns 51 to 150. The floor of bytes is the last
                state once, serialized, not compressed. SQLite and memory keep every state in full; they stop at 150
                turns.
                """,
            ),
            About(
                "Whole turns in LangGraph",
                "agent in LangGraph, *",
                """
                LangGraph runs the same agent on each saver. The times include LangGraph's own work, part of which runs
                at the same time as the saver's calls.
                """,
            ),
            About(
                "One more turn of a long thread",
                "one turn as the thread grows",
                """
                The calls of 8 turns of the agent, on a thread that already has n turns. The table has the figures of
                2,000 turns, the plot those of every n. WAL is that of one turn. The thread starts from a single
                checkpoint that holds the state: the cost of PostgresSaver's calls does not depend on older checkpoints,
                and this package starts from a snapshot.
                """,
            ),
        ),
        ("bytes.svg", "calls.svg", "turns.svg"),
    ),
    DetailPage(
        "delta-channels",
        "DeltaChannel and Deep Agents",
        """
        Both savers run the same graph, which stores its messages in LangGraph's `DeltaChannel`: as writes, with the
        whole value after every so many updates (`snapshot_frequency`, by default 100).
        """,
        (
            About(
                "An agent with DeltaChannel",
                "DeltaChannel, *",
                """
                The agent of [the conversation](agents.md), with its messages in a `DeltaChannel`, run by LangGraph on
                each saver, turn by turn. Afterwards each saver reads from the finished thread: the history of the
                channel at the checkpoint that replays most writes, the last 50 states of `get_state_history`, and all
                states. For *nothing cached* the saver is new and has not read the thread before.
                """,
            ),
            About(
                "A Deep Agent",
                "Deep Agent, *",
                """
                `create_deep_agent` of `deepagents` with a scripted model. In each turn the model writes its todos and a
                file of one kilobyte, and answers. Afterwards each saver reads the latest state with `get_state`, and
                the last 30 states of `get_state_history`.
                """,
            ),
        ),
    ),
    DetailPage(
        "state-sizes",
        "Small, large and wide states",
        """
        Each step is one `put` and the `put_writes` of one task. In every fourth step each saver reads the latest state,
        and by its id an older checkpoint, chosen at random. For *nothing cached* a saver reads the latest state that is
        new and has not read the thread before. The floor of reading includes no transfer of the state.
        """,
        (
            About("A small state", "channels: small state", "A counter and a short text. Both change in each step."),
            About(
                "A document of 1 MB",
                "channels: document of 1 MB*",
                "A text of 1 MB, of which each step changes 1 KB at a random place. The task writes the whole text.",
            ),
            About("A value of 5 MB", "channels: 5 MB*", "5 MB of random bytes, replaced as a whole in each step."),
            About("200 channels", "channels: 200 channels*", "200 texts of 100 characters; each step changes three."),
        ),
    ),
    DetailPage(
        "state-shapes",
        "Messages, dictionaries, models",
        """
        Steps and calls are those of [small, large and wide states](state-sizes.md), with other values.
        """,
        (
            About(
                "Dictionaries and pydantic models",
                "channels: dictionary*|channels: pydantic*",
                """
                A dictionary that gains a text of 300 characters in each step, which is all that the task writes; and a
                pydantic model that gains a nested model in each step, and that the task writes as a whole.
                """,
            ),
            About(
                "Lists of messages",
                "channels: rolling*|channels: messages*",
                """
                The last 40 messages of a conversation, of which each step appends one and drops the oldest; and 60
                messages, of which each step replaces one in the middle.
                """,
            ),
            About(
                "Encrypted messages",
                "channels: encrypted*",
                "A list that gains a message in each step, with LangGraph's `EncryptedSerializer` (AES).",
            ),
        ),
    ),
    DetailPage(
        "short-chats",
        "Short chats and parallel tasks",
        """
        Threads that end after a few turns, and one step with many tasks.
        """,
        (
            About(
                "Short chats",
                "short chats",
                """
                Three turns of a graph with one node; each chat has a thread of its own. The chats run one after the
                other; 16 at once on an event loop; and 16 at once in each of four processes, each with a pool of four
                connections.
                """,
            ),
            About(
                "100 parallel tasks",
                "fan-out, *",
                """
                `step` is one run of a graph that sends 100 tasks and collects their results. Its time includes
                LangGraph's own work; *no saver* is the same graph without a checkpointer. `calls` are the saver's calls
                of such a run, repeated without LangGraph: from 6 threads, which is LangGraph's number on two cores, or
                from as many tasks of an event loop as there are calls.
                """,
            ),
        ),
    ),
    DetailPage(
        "workers",
        "Workers on a pool",
        """
        One saver with a pool of 16 connections is called from several workers: threads, or tasks of an event loop.
        """,
        (
            About(
                "Throughput",
                "workers*",
                """
                Each worker runs conversations of 20 steps, with up to 20 messages. A step is a `put`, a `put_writes`,
                and a `get_tuple` of the new checkpoint. Each worker has threads of its own. In the rows with *one
                thread* all workers write to the same thread; each continues from its own checkpoints. The floor makes
                as many round trips, with one-row inserts and `select 1`, and serializes the same values. Savers take
                turns of 0.3 s; figures are medians of six turns. All workers share one Python process, and so about
                one core.
                """,
            ),
        ),
        ("workers.svg",),
    ),
    DetailPage(
        "listings-and-long-logs",
        "Listings and long logs",
        """
        Listings of one thread and of many, calls in a log with a million checkpoints, and calls in a log with 36
        partitions.
        """,
        (
            About(
                "Listings",
                "list*",
                """
                `list(limit=20)` and `list()` read the thread of [the agent](agents.md) and drop each checkpoint at
                once. For `list()` the savers take turns of 100 checkpoints. The floor is the serializer's time to
                decode the listed states. The filters search metadata over 10,000 threads of three checkpoints, copies
                of 200 threads with the same checkpoint ids. The savers read all hits, or the first 20.
                """,
            ),
            About(
                "Calls in a large log",
                "calls as the log grows",
                """
                The tables hold a thousand to a million checkpoints: copies of threads of 50 checkpoints. The table has
                the figures of a million checkpoints, the plot those of each size. The calls are those of the agent's
                first 40 turns, on a new thread. *Nothing cached* and the listing read the copies, each time another
                one.
                """,
            ),
            About(
                "36 partitions",
                "36 partitions*|an empty log",
                """
                10,000 threads of 50 checkpoints and 49 events of writes are spread over three years, in monthly
                partitions. PostgresSaver's tables hold the same threads. The savers make the same calls, in turns, in
                this database and in a new one with 120 threads. Rows without a remark use a thread in the newest
                partition. An *old thread* has all its events in one old partition, and no saver has cached it: the
                savers read it, then write to it. The *resumed* rows read it after that, when its last state spans the
                old partition and the newest.
                """,
            ),
        ),
        ("log.svg",),
    ),
    DetailPage(
        "connections-and-memory",
        "Connections, new processes, memory",
        """
        Slow networks and poolers, the first read of a new process, and the memory of readers and writers.
        """,
        (
            About(
                "Connections",
                "no prepared statements|1 ms of delay*|PgBouncer",
                """
                The calls of [the agent's](agents.md) first 40 turns, on connections without prepared statements;
                through a proxy that adds about one millisecond to each round trip, of the floor too; and through
                PgBouncer in transaction mode. Behind PgBouncer, PostgresSaver is configured to prepare no statements;
                this package detects the pooler and prepares none.
                """,
            ),
            About(
                "The first read of a new process",
                "cold process*",
                """
                A new process reads the latest state of a thread of 300 turns. `read` is the time from opening the saver
                to having the state; `process` is the time that the parent process measures, from start to exit.
                """,
            ),
            About(
                "Memory",
                "memory",
                """
                The peak memory of a process, minus its memory when the saver was opened. The readers read a thread with
                100 MB of events and states of 5 MB. The writer writes states of 5 MB that change as a whole. The floor
                is the size of one state. PostgresSaver was not measured with `list()`: it fetches all rows at once,
                several gigabytes here.
                """,
            ),
        ),
    ),
)
