"""Appending checkpoints and writes: `put` and `put_writes`.

Each method starts one operation, to be run by a driver (`eventlog.db.sync`, `eventlog.db.async_`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.append import CheckpointAppend, append_checkpoint, append_writes
from eventlog.db.query import Op
from eventlog.errors import CheckpointExistsError, InvalidInputError, ThreadDeletedError
from eventlog.format.contents import Serialized, WritesSaved
from eventlog.format.digest import SALT_BYTES
from eventlog.format.strict import as_plain_data
from eventlog.format.upcasting import STATE_VERSION
from eventlog.format.values import dumps, loads_fields
from eventlog.read import read_writes
from eventlog.streams import MAX_ID_BYTES, EventRef, Stream, check_size, storable, text_id
from langgraph.checkpoint.eventlog._arguments import actor_in, config_of, is_plain_id, parse_config
from langgraph.checkpoint.eventlog._concurrency import KNOWS_NO_CHILD, concurrent_update, view_of
from projections.metadata import merged_metadata, run_id_of, searchable_json
from snapshots.encode import CheckpointEncoder, encode_checkpoint, encode_writes
from snapshots.state import CheckpointState

if TYPE_CHECKING:
    from langgraph.checkpoint.eventlog._context import Context

__all__ = ["Writer"]

#: A smaller state is written in full if its parent is not cached: reading the parent would cost more.
SMALL_STATE_BYTES = 4096

#: How often a put is tried again after losing a race: each round means that another writer's succeeded.
PUT_ROUNDS = 10

#: Ids of fewer characters together fit into an index entry, even if each character takes four bytes.
SHORT_IDS = MAX_ID_BYTES // 4

#: Looking at more values than this takes longer than moving the work to another thread.
NODES = 200


class Writer:
    """Writes with a given serializer.

    Args:
        context: settings, statements and caches.
        serde: the saver's serializer.
    """

    def __init__(self, context: Context, serde: SerializerProtocol) -> None:
        self._settings, self._statements = context.settings, context.statements
        self._states, self._observed = context.states, context.observed
        self.serde = serde
        self.reader = context.reader(serde)
        self._plain, self._codec = self.reader.plain, self.reader.codec

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Op[RunnableConfig]:
        """Append a checkpoint; returns the config that names it."""
        stream, parent_id, root_id = parse_config(config)
        for what, value in (("checkpoint", checkpoint), ("metadata", metadata), ("new_versions", new_versions)):
            if type(value) is not dict and not isinstance(value, Mapping):
                raise InvalidInputError(f"{what} must be a dict, not {type(value).__name__}")
        merged = merged_metadata(config, metadata)
        if (actor := actor_in(config)) is not None:
            merged["actor"] = actor  # it takes precedence over one in the config's metadata
        state_version = self._settings.state_version
        if state_version is not None:
            merged[STATE_VERSION] = state_version
        encoder = CheckpointEncoder(self._plain, checkpoint, merged, new_versions)
        checkpoint_id = checkpoint["id"]
        if not is_plain_id(checkpoint_id):
            checkpoint_id = text_id(checkpoint_id, "checkpoint['id']")
        if len(stream.thread_id) + len(stream.checkpoint_ns) + len(checkpoint_id) + len(parent_id or "") > SHORT_IDS:
            check_size(stream, max(checkpoint_id, parent_id or "", key=len))
        # A checkpoint that is put again under the config that its first put returned keeps its parent.
        again = parent_id == checkpoint_id
        # `view_of` returns KNOWS_NO_CHILD for nearly every put, so it is called only if it may return something else.
        if parent_id is None or id(parent_id) in self._observed or metadata.get("source") == "fork":
            view = view_of(self._observed, config, metadata, checkpoint_id)
        else:
            view = KNOWS_NO_CHILD
        observed_seq = None if again or self._settings.concurrency == "branch" else view.observed_seq
        parent: CheckpointState | None = None
        if parent_id is not None:
            parent = self._states.get(stream, parent_id)
            if parent is None and not encoder.small_and_new(SMALL_STATE_BYTES):
                parent = yield from self.reader.read_state(stream, parent_id)

        stored: CheckpointState | None = None
        for _ in range(PUT_ROUNDS):
            if again:
                # It inherits the stored state: another saver may have replaced the one that the cache remembers.
                parent_id, parent = (stored.parent_id, stored) if stored else (None, parent)
            renewals = None
            if parent is not None and state_version is not None and self.reader.upcasting is not None:
                renewals = self._renewals(stream, parent)
            # A checkpoint has its own copy of the values that it inherited from an erased parent.
            state = encoder.state(checkpoint_id, parent_id, stored if parent is None else parent, renewals)
            state.observed_latest_id = view.observed_latest_id if stored is None else stored.observed_latest_id
            base = None if again else parent
            if stored is not None and self._same(state, stored):
                self._states.put(stream, stored)
                return config_of(stream, checkpoint_id)
            append = self._encode(stream, state, base, merged, root_id, observed_seq, replaces=stored is not None)
            answer = yield from append_checkpoint(self._statements, append)
            if answer.status == "ok":
                assert answer.head is not None
                state.seq, state.epoch, _ = state.head = answer.head
                state.recorded_at = answer.recorded_at
                if append.self_keyframe:
                    state.keyframe_seq, state.keyframe_at = state.seq, state.recorded_at
                self._states.put(stream, state, replaces=parent_id)
                return config_of(stream, checkpoint_id)
            if answer.status == "erased":
                raise ThreadDeletedError(
                    f"checkpoint {parent_id or root_id} of thread {stream.thread_id!r} was erased, "
                    "so a checkpoint that builds on it is refused. Start again without a checkpoint id"
                )
            if answer.status in ("concurrent", "unsaved"):
                raise concurrent_update(stream, state, answer)
            if answer.status == "exists":
                stored = yield from self.reader.read_state(stream, checkpoint_id)
            else:
                assert parent_id is not None
                self._states.drop(stream, parent_id)
                parent = yield from self.reader.read_state(stream, parent_id)
        raise CheckpointExistsError(
            f"other writers replaced checkpoint {checkpoint_id} of thread {stream.thread_id!r} during each of "
            f"{PUT_ROUNDS} tries: repeat the call"
        )

    def _renewals(self, stream: Stream, parent: CheckpointState) -> dict[str, Callable[[], Any]]:
        """The parent's values of an earlier version of the state, upcast: the child is of this version."""
        upcasting = self.reader.upcasting
        assert upcasting is not None
        decoder = self.reader.upcasting_decoder(parent.checkpoint_id, None)
        return {
            channel: partial(decoder.value, parent.channels[channel], EventRef(stream, parent.seq, channel))
            for channel in upcasting.outdated(parent.metadata, self._plain)
            if channel in parent.channels
        }

    def _encode(
        self,
        stream: Stream,
        state: CheckpointState,
        base: CheckpointState | None,
        metadata: dict[str, Any],
        root_id: str | None,
        observed_seq: int | None,
        *,
        replaces: bool,
    ) -> CheckpointAppend:
        encoded = encode_checkpoint(self._codec, state, base, self._settings)

        def saved() -> dict[str, Any]:
            return loads_fields(as_plain_data(self._plain), state.metadata, "the checkpoint's metadata")

        return CheckpointAppend(
            stream=stream,
            checkpoint_id=state.checkpoint_id,
            parent_id=state.parent_id,
            root_id=root_id,
            base=base,
            self_keyframe=encoded.base is None or encoded.snapshot is not None,
            replaces=replaces,
            state_bytes=state.state_bytes,
            run_id=run_id_of(metadata, saved) if "run_id" in metadata else None,
            metadata_json=searchable_json(metadata, saved),
            state_digest=encoded.digest,
            body=encoded.body,
            snapshot=encoded.snapshot,
            observed_seq=observed_seq,
        )

    @staticmethod
    def _same(state: CheckpointState, stored: CheckpointState) -> bool:
        """Whether the stored checkpoint is the one that is being put: then there is nothing to append."""
        return all(
            getattr(state, name) == getattr(stored, name)
            for name in ("parent_id", "fields", "metadata", "versions", "seen", "channels")
        )

    def weigh(self, value: Any) -> int:
        """The estimated size of a value in bytes, without serializing it, to decide whether a thread serializes it.

        It is a lower bound of the serialized size. It stops at ``offload_bytes``, and returns more than that if it did
        not look at all parts.
        """
        limit = self._settings.offload_bytes
        total = 0
        pending: list[Any] = [value]
        for _ in range(NODES):
            if not pending:
                return total
            each = pending.pop()
            if isinstance(each, (str, bytes, bytearray, memoryview)):
                total += len(each)
                if total > limit:
                    return total
            elif isinstance(each, Mapping):
                pending.extend(each.values())
            elif isinstance(each, (list, tuple, set, frozenset)):
                pending.extend(each)
            elif hasattr(each, "__dict__"):
                pending.append(vars(each))
            elif isinstance(each, Iterable) or hasattr(each, "__len__"):
                return limit + 1  # an array, a deque, …: only its serializer knows the size of its content
        return limit + 1

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
        *,
        again: bool = False,
    ) -> Op[None]:
        """Append the writes of a task.

        Args:
            again: whether they may be stored already, because the answer to an earlier try was lost: check first.
        """
        stream, checkpoint_id, root_id = parse_config(config)
        if checkpoint_id is None:
            raise InvalidInputError('config["configurable"]["checkpoint_id"] is missing: writes belong to a checkpoint')
        if len(stream.thread_id) + len(stream.checkpoint_ns) + len(checkpoint_id) > SHORT_IDS:
            check_size(stream, checkpoint_id)
        task_id, task_path, actor = text_id(task_id, "task_id"), storable(task_path, "task_path"), actor_in(config)
        values = [
            (
                WRITES_IDX_MAP.get(channel, idx),
                storable(channel, "a write's channel"),
                dumps(self._plain, value, f"the write to channel {channel!r}"),
            )
            for idx, (channel, value) in enumerate(writes)
        ]
        if again and (yield from self._are_written(stream, checkpoint_id, task_id, values)):
            return
        state = self._states.get(stream, checkpoint_id)
        while values:
            event = WritesSaved(task_id, task_path, [], os.urandom(SALT_BYTES), actor)
            body, digest, base = encode_writes(self._codec, event, values, state, self._settings.max_body_bytes)
            head = yield from append_writes(
                self._statements,
                stream,
                checkpoint_id,
                root_id,
                base,
                digest,
                body,
                is_relaxed=self._settings.relaxed_writes,
            )
            if head is not None:
                if state is not None and (state.head is None or state.head.seq < head.seq):
                    state.head = head
                return
            # The checkpoint was put again meanwhile. Reading its new state for a base would cost more than it saves.
            self._states.drop(stream, checkpoint_id)
            state = None

    def _are_written(
        self, stream: Stream, checkpoint_id: str, task_id: str, values: Sequence[tuple[int, str, Serialized]]
    ) -> Op[bool]:
        """Whether appending these writes of a task would change nothing for readers.

        Of ordinary writes a task's first one counts; of special ones (negative idx) the last.
        """
        events = yield from read_writes(self._statements, stream, checkpoint_id)
        writes = yield from self.reader.writes_of(stream, events, None)
        found = {write.idx: (write.channel, write.value) for write in writes if write.task_id == task_id}
        return all(idx in found and (idx >= 0 or found[idx] == (channel, value)) for idx, channel, value in values)
