"""What tells a deliberate fork from a concurrent one: what the stream held when the run read the parent.

A run that goes back to an older checkpoint gives it a second child, and so does one of two runs that started from the
same checkpoint at the same time. To `put` both look alike: its config names the parent. But the first run knew of the
child that was there, and the second did not. So `get_tuple` notes in the id of the config that it returns how far the
stream went just then, and LangGraph hands that id to `put` along with the rest of the config, through whatever threads,
tasks and savers. For its later checkpoints it puts plain ids into the config: those that the run has put itself, and
that nobody else is to build on.

The note is on a subclass of `str` that equals, hashes, prints and is serialized as its text (pickle keeps the note), so
configs look and compare as they always did. An id that went through JSON is plain text again, and LangGraph reads it
again before anything builds on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig

from eventlog.append import Appended
from eventlog.errors import ConcurrentUpdateError
from eventlog.read import Seen
from eventlog.streams import Stream
from projections.tuples import config_of
from snapshots.state import CheckpointState

__all__ = ["Basis", "ReadId", "basis_of", "concurrent_update", "read_config"]

#: Where LangGraph hands down to subgraphs that their graph goes back in time.
REPLAY = "__pregel_replay_state"


class ReadId(str):
    """A checkpoint id as it was read, with what its stream held at that time.

    Without (None) it is from a listing, or of the past: who goes on from there does so deliberately.
    """

    __slots__ = ("seen",)

    seen: Seen | None

    def __new__(cls, text: str, seen: Seen | None) -> ReadId:
        """A text with a note."""
        found = super().__new__(cls, text)
        found.seen = seen
        return found

    def __reduce__(self) -> Any:
        """What copying and pickling make it of, by any protocol."""
        return ReadId, (str(self), self.seen)


def read_config(stream: Stream, checkpoint_id: str, seen: Seen | None) -> RunnableConfig:
    """The config of a checkpoint that was read."""
    return cast("RunnableConfig", config_of(stream, ReadId(checkpoint_id, seen)))


class Basis(NamedTuple):
    """What the writer of a checkpoint knew of its parent's children."""

    after: int | None
    """Those that were appended behind this event it did not know; None: the fork is deliberate in any case."""
    known_through: str | None
    """As in `eventlog.format.contents.CheckpointSaved`."""


def basis_of(config: RunnableConfig, metadata: Mapping[str, Any], checkpoint_id: str) -> Basis:
    """What a config says of how its checkpoint was read.

    Without a parent nothing was read. That is how a thread starts, and how LangGraph copies a thread's first checkpoint
    (source `fork`), or starts a subgraph anew whose graph goes back in time; these are deliberate.

    Args:
        config: names the parent.
        metadata: of the checkpoint that is put.
        checkpoint_id: its id.
    """
    configurable = config["configurable"]
    parent_id = configurable.get("checkpoint_id")
    if not parent_id:
        is_deliberate = metadata.get("source") == "fork" or configurable.get(REPLAY) is not None
        return Basis(None, checkpoint_id) if is_deliberate else Basis(0, None)
    if not isinstance(parent_id, ReadId):
        return Basis(0, None)
    seen = parent_id.seen
    if seen is None:
        return Basis(None, checkpoint_id)
    return Basis(seen.seq, None if seen.latest_id == parent_id else seen.latest_id)


def concurrent_update(stream: Stream, frame: CheckpointState, answer: Appended) -> ConcurrentUpdateError:
    """What is raised for a checkpoint that another one came before."""
    of = f"thread {stream.thread_id!r}" + (f", namespace {stream.checkpoint_ns!r}" if stream.checkpoint_ns else "")
    if answer.status == "unsaved":
        why = (
            f"its parent {frame.parent_id} is not there (it was refused itself, or never saved), where checkpoint "
            f"{answer.rival_id} is the latest"
        )
    else:
        both = f"both build on {frame.parent_id}" if frame.parent_id is not None else "both start the thread"
        why = f"checkpoint {answer.rival_id} was put since this run read the thread, and {both}"
    error = ConcurrentUpdateError(
        f"checkpoint {frame.checkpoint_id} of {of} was refused: {why}. It was not written: read the latest checkpoint, "
        "and run again"
    )
    error.thread_id, error.checkpoint_ns = stream
    error.parent_id, error.checkpoint_id = frame.parent_id, frame.checkpoint_id
    error.rival_id = answer.rival_id or ""
    return error
