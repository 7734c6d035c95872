"""The machine of `tests.lifecycle.test_model`: what ends or copies data, between puts, writes and forks.

The model is LangGraph's `InMemorySaver`, out of which the same is cut by hand. Every checkpoint and every write has a
marker of its own, so that what is left of it anywhere can be found.
"""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from datetime import datetime, timedelta
from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from langchain_core.runnables import RunnableConfig

from eventlog.errors import ThreadDeletedError, ThreadExistsError, ThreadNotFoundError
from langgraph.checkpoint.eventlog.lifecycle.retain import Retained
from tests.support.checkpoints import Tables, config_of, key_of, uncompressed
from tests.support.clock import Clock
from tests.support.machine import NAMESPACES, THREADS, CheckpointMachine, Key
from tests.support.soundness import assert_keyframes

__all__ = ["LifecycleMachine"]

RUNS = 3


class LifecycleMachine(CheckpointMachine):
    """Subclasses are bound to savers by `bound`, and to the clock of their database."""

    clock: ClassVar[Clock]
    marks: ClassVar[Any] = count(1)

    def __init__(self) -> None:
        super().__init__()
        #: What may be found in the log because of a checkpoint, and what must not be found any more.
        self.markers: dict[Key, set[str]] = {}
        self.gone: set[str] = set()
        self.saved_at: dict[Key, datetime] = {}
        #: The greatest id that was erased from a stream while something of the thread survived.
        self.cut_through: dict[tuple[str, str], str] = {}
        #: Checkpoints with a last put that would not be the same again: what it inherited from is gone.
        self.once: set[Key] = set()

    # --- what the rules of the other machine do, with markers

    def do_put(
        self,
        saver: int,
        config: RunnableConfig,
        checkpoint_id: str,
        changes: dict[str, Any],
        tag: Any,
        *,
        given_to_saver: RunnableConfig | None = None,
    ) -> None:
        configurable = config["configurable"]
        key = (configurable["thread_id"], configurable["checkpoint_ns"], checkpoint_id)
        marker = self.mark(key)
        self.saved_at.setdefault(key, self.tables.one("select {schema}.clock_v1()"))
        self.once.discard(key)
        roots = self.ids(key[0], "")
        self.extra_metadata = {
            "marker": marker,
            "run_id": self.run_id(len(self.markers)),
            "parents": {"": roots[0]} if key[1] and roots else {},
        }
        super().do_put(
            saver, config, checkpoint_id, {**changes, "marker": [marker]}, tag, given_to_saver=given_to_saver
        )

    def do_put_writes(self, saver: int, config: RunnableConfig, calls: Any) -> None:
        key = key_of(config)
        if key[2] <= self.cut_through.get(key[:2], "") and key not in self.puts:
            # Nothing can be told from a run that has not noticed.
            for (task, path), writes in calls:
                with pytest.raises(ThreadDeletedError):
                    self.pick(saver).put_writes(config, [(channel, value) for channel, _, value in writes], task, path)
            return
        marked = [(task, [*writes, ("marker", False, self.mark(key))]) for task, writes in calls]
        super().do_put_writes(saver, config, marked)

    def mark(self, key: Key) -> str:
        marker = f"marker {next(self.marks)}."
        self.markers.setdefault(key, set()).add(marker)
        return marker

    def run_id(self, number: int) -> str:
        return f"run {self.prefix}.{number % RUNS}"

    def may_repeat(self, key: Key) -> bool:
        return key not in self.once

    def is_forgotten(self, key: Key) -> bool:
        """A deleted stream goes with the partition of its tombstone: that is remembered for as long as history is."""
        return not self.tables.one(
            "select exists(select from {schema}.streams where thread_id = %s and checkpoint_ns = %s)", *key[:2]
        )

    def delete_everything_of(self, thread: str) -> None:
        for key in [key for key in self.markers if key[0] == thread]:
            self.forget(key)
        for stream in [stream for stream in self.cut_through if stream[0] == thread]:
            del self.cut_through[stream]

    # --- erasing a part

    @precondition(lambda self: self.puts)
    @rule(
        threads=st.sets(st.sampled_from(THREADS), min_size=1),
        keep_last=st.sampled_from([None, None, 1, 2, 3]),
        saver=st.integers(0, 9),
    )
    def prune(self, threads: set[str], keep_last: int | None, saver: int) -> None:
        """The latest of each namespace, or the last few and the ends of branches."""
        names = sorted(self.prefix + name for name in threads)
        survivors: set[Key] = set()
        for thread in names:
            for ns in NAMESPACES:
                ids = self.ids(thread, ns)
                parents = {self.parents[thread, ns, id_] for id_ in ids}
                kept = set(ids[: keep_last or 1])
                if keep_last is not None:
                    kept |= {id_ for id_ in ids if id_ not in parents} | self.interrupted(thread, ns, ids)
                survivors |= {(thread, ns, id_) for id_ in kept}
        # A subgraph's call goes with the checkpoint that it ran under.
        for key in list(survivors):
            root = self.puts[key][2]["parents"].get("")
            if ":" in key[1] and (key[0], "", root) in self.puts and (key[0], "", root) not in survivors:
                survivors.discard(key)
        self.finish(self.pick(saver).log.prune(names, keep_last=keep_last))
        self.cut(names, survivors)

    def interrupted(self, thread: str, ns: str, ids: list[str]) -> set[str]:
        """Checkpoints with an interrupt that was written after their last child was saved: the log knows the order."""
        found = set()
        for id_ in ids:
            children = [key[2] for key in self.puts if key[:2] == (thread, ns) and self.parents[key] == id_]
            last_child = self.tables.one(
                "select coalesce(max(seq), 0) from {schema}.checkpoints "
                "where thread_id = %s and checkpoint_ns = %s and checkpoint_id = any(%s)",
                *(thread, ns, children),
            )
            if any(key == (thread, ns, id_) and seq > last_child for seq, key in self.interrupts()):
                found.add(id_)
        return found

    def interrupts(self) -> list[tuple[int, Key]]:
        """The numbers of the events that hold an interrupt, and the checkpoints."""
        codec = self.model_reader._writer.reader.codec
        return [
            (seq, (thread, ns, id_))
            for thread, ns, id_, seq, body in self.tables.rows(
                "select e.thread_id, e.checkpoint_ns, e.checkpoint_id, e.seq, e.body from {schema}.events as e "
                "inner join {schema}.streams as s using (thread_id, checkpoint_ns) "
                "where e.kind = 2 and e.recorded_at >= coalesce(s.begins_at, '-infinity')"
            )
            if any(write.channel == "__interrupt__" for write in codec.decode_writes(body, "an event").writes)
        ]

    @precondition(lambda self: self.puts)
    @rule(runs=st.sets(st.integers(0, RUNS), min_size=1, max_size=2), saver=st.integers(0, 9))
    def delete_for_runs(self, runs: set[int], saver: int) -> None:
        """All that some runs saved, in any thread; one of the runs is not there."""
        run_ids = [self.run_id(number) if number < RUNS else "no such run" for number in sorted(runs)]
        survivors = {key for key in self.puts if self.puts[key][2]["run_id"] not in run_ids}
        touched = {key[0] for key in self.puts.keys() - survivors}
        self.finish(self.pick(saver).delete_for_runs(run_ids))
        self.cut(sorted(touched), survivors)

    def cut(self, threads: list[str], survivors: set[Key]) -> None:
        """The same in the model, and in what this machine knows."""
        gone = {key for key in self.puts if key[0] in threads} - survivors
        for thread, ns, id_ in gone:
            key = (thread, ns, id_)
            del self.model.storage[thread][ns][id_]
            self.model.writes.pop(key, None)
            self.erased.append(config_of(thread, id_, ns))
            self.cut_through[thread, ns] = max(id_, self.cut_through.get((thread, ns), ""))
            self.forget(key)
            del self.puts[key], self.parents[key]
        for key in self.puts:
            if (parent := self.parents[key]) is not None and (*key[:2], parent) in gone:
                self.parents[key] = None
                checkpoint, metadata, _ = self.model.storage[key[0]][key[1]][key[2]]
                self.model.storage[key[0]][key[1]][key[2]] = (checkpoint, metadata, None)
                self.once.add(key)
        # When snapshots are due depends on where replaying starts, which is elsewhere now.
        self.snapshots_lost = True
        self.check()

    def forget(self, key: Key) -> None:
        self.gone |= self.markers.pop(key, set())
        self.saved_at.pop(key, None)
        self.once.discard(key)

    # --- copying

    @precondition(lambda self: self.puts)
    @rule(
        source=st.sampled_from(THREADS),
        copied_to=st.sampled_from(THREADS),
        which=st.none() | st.integers(0, 20),
        saver=st.integers(0, 9),
    )
    def copy_or_fork(self, source: str, copied_to: str, which: int | None, saver: int) -> None:
        """All of a thread, or the path to one checkpoint, to a thread that has no data."""
        source, target = self.prefix + source, self.prefix + copied_to
        if source == target:
            return
        roots = self.ids(source, "")
        id_ = None if which is None or not roots else roots[which % len(roots)]

        def copy() -> Any:
            if which is None:
                return self.finish(self.pick(saver).copy_thread(source, target))
            return self.finish(self.pick(saver).log.fork_thread(source, target, id_))

        if not self.has_data(source) or (which is not None and not roots):
            with pytest.raises(ThreadNotFoundError):
                copy()
            return
        if self.has_data(target):
            before = self.tables.contents()
            # Unless it is this very copy already, an error; neither changes anything.
            with suppress(ThreadExistsError):
                copy()
            assert self.tables.contents() == before
            return
        before = self.tables.contents()["snapshots"]
        copy()
        chosen = {key for key in self.puts if key[0] == source}
        if which is not None:
            chosen = self.path(source, id_ or roots[0])
        writes = [key for key in self.model.writes if key[0] == source and (which is None or key in chosen)]
        for key in chosen:
            copied = (target, *key[1:])
            checkpoint, metadata, parent = self.model.storage[source][key[1]][key[2]]
            self.model.storage[target][key[1]][key[2]] = (checkpoint, metadata, parent)
            config, *arguments = self.puts[key]
            parent_id = self.parents[key]
            user = config["configurable"]["user"]
            self.puts[copied] = (config_of(target, parent_id, key[1], user=user), *arguments)
            self.parents[copied] = parent_id
            if key in self.once:
                self.once.add(copied)
            self.saved_at[copied] = self.tables.one("select {schema}.clock_v1()")
        for blob in [blob for blob in self.model.blobs if blob[0] == source]:
            self.model.blobs[(target, *blob[1:])] = self.model.blobs[blob]
        for key in writes:
            self.model.writes[(target, *key[1:])] = deepcopy(self.model.writes[key])
        for key in {*chosen, *writes} & self.markers.keys():
            self.markers.setdefault((target, *key[1:]), set()).update(self.markers[key])
        self.generation[target] = max(self.generation[source], self.generation[target])
        assert len(self.tables.contents()["snapshots"]) >= len(before)
        self.check()

    def has_data(self, thread: str) -> bool:
        return any(key[0] == thread for key in (*self.puts, *self.model.writes))

    def path(self, thread: str, id_: str) -> set[Key]:
        found: set[Key] = set()

        def climb(ns: str, start: str | None) -> None:
            while start is not None and (thread, ns, start) in self.puts:
                found.add((thread, ns, start))
                start = self.parents[thread, ns, start]

        climb("", id_)
        roots = {key[2] for key in found}
        for key in [key for key in self.puts if key[0] == thread and key[1]]:
            if self.puts[key][2]["parents"].get("") in roots:
                climb(key[1], key[2])
        return found

    # --- time

    @rule(days=st.integers(1, 5))
    def time_passes(self, days: int) -> None:
        """Days are the partitions. No checkpoint comes more than a day after its writes: it would not find them."""
        if self.model.writes.keys() <= self.puts.keys():
            self.clock.advance(timedelta(days=days))

    @rule(days=st.integers(1, 8), saver=st.integers(0, 9))
    def retain(self, days: int, saver: int) -> None:
        """What is young and what is latest survives. How much of the rest does depends on where it lies."""
        retained: Retained = self.finish(self.pick(saver).log.retain(timedelta(days=days)))
        there = {
            (thread, ns, id_)
            for thread, ns, id_ in self.tables.rows(
                "select thread_id, checkpoint_ns, checkpoint_id from {schema}.checkpoints"
            )
        }
        gone = self.puts.keys() - there
        if retained.before is None:
            assert not gone
        for thread, ns, id_ in gone:
            assert self.saved_at[thread, ns, id_] < retained.before
            root = (thread, "", self.puts[thread, ns, id_][2]["parents"].get(""))
            assert id_ != self.ids(thread, ns)[0] or (":" in ns and root in gone)
        # Old writes without a checkpoint belong to no run any more.
        for key in [key for key in self.model.writes if key not in self.puts and key[0] in self.generation]:
            if not self.tables.one(
                "select exists(select from {schema}.events as e inner join {schema}.streams as s "
                "using (thread_id, checkpoint_ns) where thread_id = %s and checkpoint_ns = %s and checkpoint_id = %s "
                "and e.kind = 2 and recorded_at >= coalesce(begins_at, '-infinity'))",
                *key,
            ):
                del self.model.writes[key]
                self.forget(key)
        self.cut(sorted({key[0] for key in self.puts}), self.puts.keys() - gone)
        # What begins under such a name from now on is new: it may have the ids of what was erased.
        for stream in [stream for stream in self.cut_through if self.is_forgotten((*stream, ""))]:
            del self.cut_through[stream]
        self.erased = [config for config in self.erased if not self.is_forgotten(key_of(config))]

    # --- what must be true after each

    def check(self) -> None:
        """Nothing of what is gone is anywhere, every keyframe is one, and the log alone gives the same."""
        alive = set().union(*self.markers.values())
        stored = everything(self.tables)
        for marker in self.gone - alive:
            assert marker.encode() not in stored, f"{marker} is still there"
        for *_, metadata, _ in self.puts.values():
            assert metadata["marker"].encode() in stored, "the search finds nothing"
        assert_keyframes(self.tables)
        assert self.finish(self.model_reader.log.verify()).problems == []
        self.rebuild(0)

    def pick(self, number: int) -> Any:
        return self.savers[number % len(self.savers)]


def everything(tables: Tables) -> bytes:
    """All that all tables hold, bodies decompressed."""
    parts = []
    for table in ("events", "snapshots"):
        for (body,) in tables.rows("select body from {schema}." + table):  # type: ignore[arg-type]
            parts.append(uncompressed(body))
    for table in ("streams", "checkpoints"):
        parts += [row.encode() for (row,) in tables.rows("select t::text from {schema}." + table + " as t")]  # type: ignore[arg-type]
    return b"\0".join(parts)
