"""Two runs on one thread: which other children of the parent the writer of a checkpoint knew.

A run that goes back to an older checkpoint gives it a second child, and so does the slower of two runs that started
from the same checkpoint at the same time. In both cases `put` gets a config that names the parent. The difference is
the stream's content when each run read the parent: the first run knew the other child, the second did not.

So the saver records the stream's head for each read of a checkpoint that is not the stream's last event. The head
cannot be stored under the checkpoint's id: two runs of one saver may read the same checkpoint at different times, and a
third reader may come between a run's `get_tuple` and its `put`. A key in the config would be visible, and would outlive
the run. But LangGraph passes the very object that `get_tuple` returned as the id on to `put`, through threads, tasks
and merged configs. So each such read returns a copy of the id, a plain `str`, and `ObservedHeads` finds the head by the
copy's identity. It keeps the copy alive, so Python cannot give its identity to another object.

An id without a recorded head belongs to a checkpoint that the run has put itself, or to one that had no children when
it was read. In both cases the writer knows no child. The same is assumed for an id that went through JSON or another
process, and for one that `MAX_OBSERVED` later reads have evicted. In strict mode a deliberate fork from such an id is
refused, but a child is never overlooked. LangGraph reads a checkpoint again before it builds on it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from langchain_core.runnables import RunnableConfig

from eventlog.append import Appended
from eventlog.errors import ConcurrentUpdateError
from eventlog.read import ObservedHead
from eventlog.streams import Stream
from snapshots.state import CheckpointState

__all__ = ["KNOWS_NO_CHILD", "REPLAYED", "ObservedHeads", "WriterView", "concurrent_update", "is_replay", "view_of"]

#: Observations that are kept: about 4 MB. One is made for each read of a checkpoint that is not the last event of its
#: stream, and used when the run that has read it puts its first checkpoint.
MAX_OBSERVED = 10_000

#: The head recorded when LangGraph looks up a past checkpoint of a subgraph to replay it: its child is a deliberate
#: fork.
REPLAYED: Final = ObservedHead(0, "")

#: LangGraph passes these down in `configurable`: to each loop its runtime, and to subgraphs the fact that their graph
#: goes back in time.
_RUNTIME = "__pregel_runtime"
_REPLAY_STATE = "__pregel_replay_state"


class ObservedHeads(OrderedDict[int, tuple[str, ObservedHead]]):
    """The heads of streams at the time of reads, by the identity of the ids that the reads returned.

    Shared by all threads and copies of a saver. (A plain dict would search the slots of all dropped entries to find its
    oldest entry.)
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()

    def note(self, checkpoint_id: str, head: ObservedHead) -> str:
        """A copy of an id for which `find` returns this head.

        Python has only one object for a string of one character, so for such an id the latest read counts.
        """
        copy = checkpoint_id.encode().decode()
        with self._lock:
            self[id(copy)] = (copy, head)
            if len(self) > MAX_OBSERVED:
                self.popitem(last=False)
        return copy

    def find(self, checkpoint_id: str) -> ObservedHead | None:
        """The head recorded for this very object, if there is one."""
        observed = self.get(id(checkpoint_id))
        return None if observed is None else observed[1]


class WriterView(NamedTuple):
    """The writer's view of its parent's children."""

    observed_seq: int | None
    """The writer did not know children appended after this event; None: the fork is deliberate in any case."""
    observed_latest_id: str | None
    """As in `eventlog.format.contents.CheckpointSaved`."""


#: The usual view: the parent is the run's own, or was the end of its stream when it was read.
KNOWS_NO_CHILD = WriterView(0, None)


def is_replay(config: RunnableConfig) -> bool:
    """Whether LangGraph asks for a subgraph while its graph goes back in time."""
    return config["configurable"].get(_REPLAY_STATE) is not None


def view_of(
    observed: ObservedHeads, config: RunnableConfig, metadata: Mapping[str, Any], checkpoint_id: str
) -> WriterView:
    """The view that the writer of a checkpoint had.

    A writer without a parent has read nothing: a thread starts like this. A subgraph also does so deliberately, if its
    graph goes back in time to before the subgraph's first checkpoint.

    Args:
        config: names the parent.
        metadata, checkpoint_id: of the checkpoint that is put.
    """
    parent_id = config["configurable"].get("checkpoint_id")
    # `update_state(…, as_node="__copy__")` puts a sibling of the checkpoint that it has read, outside of any loop. A
    # loop's own checkpoints with this source continue from the given checkpoint, and two of them can be concurrent.
    is_copy = metadata.get("source") == "fork" and _RUNTIME not in config["configurable"]
    head = observed.find(parent_id) if parent_id else REPLAYED if is_replay(config) else None
    if is_copy or head is REPLAYED:
        return WriterView(None, checkpoint_id)
    if head is None:
        return KNOWS_NO_CHILD
    return WriterView(head.seq, None if head.latest_id == parent_id else head.latest_id)


def concurrent_update(stream: Stream, state: CheckpointState, answer: Appended) -> ConcurrentUpdateError:
    """The error for a checkpoint that was refused because another one came before it."""
    of = f"thread {stream.thread_id!r}" + (f", namespace {stream.checkpoint_ns!r}" if stream.checkpoint_ns else "")
    if answer.status == "unsaved":
        why = (
            f"its parent {state.parent_id} is not there (it was refused itself, or never saved), where checkpoint "
            f"{answer.conflicting_id} is the latest"
        )
    else:
        both = f"both build on {state.parent_id}" if state.parent_id is not None else "both start the thread"
        why = f"checkpoint {answer.conflicting_id} was put since this run read the thread, and {both}"
    error = ConcurrentUpdateError(
        f"checkpoint {state.checkpoint_id} of {of} was refused: {why}. It was not written: read the latest checkpoint, "
        "and run again"
    )
    error.thread_id, error.checkpoint_ns = stream
    error.parent_id, error.checkpoint_id = state.parent_id, state.checkpoint_id
    error.conflicting_id = answer.conflicting_id or ""
    return error
