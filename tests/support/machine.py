"""The machine of `tests.saver.test_model`: what it does, and what it compares.

It makes the calls that LangGraph could make, on LangGraph's `InMemorySaver` (the model) and on one of several savers
that do not know of each other, and compares everything that can be read. The savers share a database with the
examples before, which delete their threads when they are done: what leaks is found.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from langchain_core.messages import AIMessage
from langchain_core.messages.tool import tool_call
from langchain_core.runnables import RunnableConfig

from eventlog.errors import ThreadDeletedError
from tests.support.checkpoints import Tables, checkpoint_of, config_of, key_of
from tests.support.memory import OrderedMemorySaver
from tests.support.soundness import assert_all_same, assert_same, assert_sound, place, projected

# Mostly the first: long lines of checkpoints are where mistakes add up.
THREADS = ["a", "a", "b"]
NAMESPACES = ["", "", "sub:1"]
CHANNELS = ["messages", "document", "flag", "__pregel_tasks"]
WRITTEN = ["messages", "document", "__error__", "__interrupt__", "__resume__", "__scheduled__", "__pregel_tasks"]
TAGS = st.sampled_from([1, 2, "x", "y", 1.5])

# What the model's serializer can hold: it has no larger integers and alters lone surrogates.
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    st.text(max_size=10),
    st.binary(max_size=10),
)
VALUES = st.one_of(ATOMS, st.lists(ATOMS, max_size=3), st.dictionaries(st.text(max_size=3), ATOMS, max_size=3))

#: What may happen to a channel: a new version with the value that a function makes of the old one,
#: a new version without a value, no version any more, or nothing, but without repeating the value.
OFTEN = ["append"] * 6 + ["move"] * 2 + ["edit"] * 2
# Not one_of: it takes the branches of VALUES for its own, and most channels would never grow.
CHANGES = st.sampled_from([*OFTEN, "rewrite", "clear", "drop", "omit", "value", "send"]).flatmap(
    lambda change: VALUES.map(lambda value: [value]) if change == "value" else st.just(change)
)
#: A task and its path, and one of its writes: to a channel, with a part of the state or without.
TASKS = st.tuples(st.sampled_from(["t1", "t2"]), st.sampled_from(["", "~__pregel_pull, a", "~__pregel_pull, b"]))
WRITES = st.tuples(st.sampled_from(WRITTEN), st.booleans(), VALUES)
CALLS = st.lists(st.tuples(TASKS, st.lists(WRITES, min_size=1, max_size=3)), max_size=3)

#: Which checkpoint, newest first: mostly the latest, often a fork, sometimes none.
CHOICES = st.sampled_from([0, 0, 0, 0, 1, 2, 5, None])

Key = tuple[str, str, str]


class CheckpointMachine(RuleBasedStateMachine):
    """Subclasses are bound to savers by `bound`."""

    savers: ClassVar[list[Any]]
    model_reader: ClassVar[Any]
    tables: ClassVar[Tables]
    names: ClassVar[Iterator[int]] = count()

    @staticmethod
    def finish(outcome: Any) -> Any:
        """What a saver's method that is a coroutine in the async one comes to."""
        return outcome

    def __init__(self) -> None:
        super().__init__()
        self.model = OrderedMemorySaver()
        # Threads of this example alone; a machine that fails is run again, with the same draws.
        self.prefix = f"{next(self.names)}"
        self.generation = {f"{self.prefix}{name}": 0 for name in THREADS}
        self.counter = count(1)
        self.puts: dict[Key, tuple[Any, ...]] = {}
        self.parents: dict[Key, str | None] = {}
        self.erased: list[RunnableConfig] = []
        self.snapshots_lost = False
        self.extra_metadata: dict[str, Any] = {}

    @initialize(kind=st.sampled_from([str, int, float]), fragile=st.booleans())
    def start(self, kind: type, fragile: bool) -> None:
        self.fragile = fragile
        self.version: Callable[[int], Any] = (lambda n: f"{n:032}.5") if kind is str else kind

    # --- writing

    @rule(
        thread=st.sampled_from(THREADS),
        ns=st.sampled_from(NAMESPACES),
        number=st.integers(0, 40),
        parent=CHOICES,
        line=st.lists(
            st.tuples(st.dictionaries(st.sampled_from(CHANNELS), CHANGES, max_size=3), CALLS), min_size=1, max_size=8
        ),
        tag=TAGS,
        writers=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    )
    def put(self, thread: str, ns: str, number: int, parent: int | None, line: Any, tag: Any, writers: Any) -> None:
        """A line of children of any checkpoint, or a root and its line, each with writes; ids come in any order."""
        thread = self.prefix + thread
        ids = self.ids(thread, ns)
        parent_id = None if parent is None or not ids else ids[parent % len(ids)]
        for place_in_line, (changes, calls) in enumerate(line):
            while (checkpoint_id := f"{self.generation[thread]}-{number:03}") in self.ids(thread, ns):
                number += 1
            self.parents[thread, ns, checkpoint_id] = parent_id
            saver = writers[place_in_line % len(writers)]
            self.do_put(saver, config_of(thread, parent_id, ns), checkpoint_id, changes, tag)
            self.do_put_writes(saver, config_of(thread, checkpoint_id, ns), calls)
            parent_id = checkpoint_id

    @precondition(lambda self: self.leaves())
    @rule(
        which=st.integers(0, 50),
        again=st.booleans(),
        changes=st.dictionaries(st.sampled_from(CHANNELS[:3]), CHANGES, max_size=3),
        tag=TAGS,
        saver=st.integers(0, 9),
    )
    def put_with_other_content(self, which: int, again: bool, changes: Any, tag: Any, saver: int) -> None:
        """Of a checkpoint without children, under its parent's config or under its own."""
        leaves = self.leaves()
        thread, ns, checkpoint_id = leaves[which % len(leaves)]
        parent = config_of(thread, self.parents[thread, ns, checkpoint_id], ns)
        given_to_saver = config_of(thread, checkpoint_id, ns) if again else parent
        self.do_put(saver, parent, checkpoint_id, changes, tag, given_to_saver=given_to_saver)

    @precondition(lambda self: self.puts)
    @rule(which=st.integers(0, 50), again=st.booleans(), saver=st.integers(0, 9))
    def put_repeated(self, which: int, again: bool, saver: int) -> None:
        """The same once more, as after a lost answer: nothing is appended."""
        repeatable = sorted(filter(self.may_repeat, self.puts))
        if not repeatable:
            return
        key = repeatable[which % len(repeatable)]
        config, checkpoint, metadata, new_versions = self.puts[key]
        if again:
            config = config_of(key[0], key[2], key[1], user=config["configurable"]["user"])
        before = self.tables.events()
        stored = self.savers[saver % len(self.savers)].put(config, checkpoint, metadata, new_versions)
        assert stored == config_of(key[0], key[2], key[1])
        assert self.tables.events() == before

    @rule(
        thread=st.sampled_from(THREADS),
        ns=st.sampled_from(NAMESPACES),
        number=st.sampled_from([None, None, *range(41)]),
        calls=CALLS,
        saver=st.integers(0, 9),
    )
    def put_writes(self, thread: str, ns: str, number: int | None, calls: Any, saver: int) -> None:
        """To the latest, or one that is there, or will be; the same tasks again and again; often what is known."""
        thread = self.prefix + thread
        latest = next(iter(self.ids(thread, ns)), None)
        checkpoint_id = latest if number is None and latest else f"{self.generation[thread]}-{number or 0:03}"
        self.do_put_writes(saver, config_of(thread, checkpoint_id, ns), calls)

    @precondition(lambda self: self.puts)
    @rule(thread=st.sampled_from(THREADS), saver=st.integers(0, 9))
    def delete_thread(self, thread: str, saver: int) -> None:
        """All of it; what comes later has later ids, as in LangGraph."""
        thread = self.prefix + thread
        self.erased += [config_of(key[0], key[2], key[1]) for key in self.puts if key[0] == thread]
        self.model.delete_thread(thread)
        self.savers[saver % len(self.savers)].delete_thread(thread)
        self.generation[thread] += 1
        for key in [key for key in self.puts if key[0] == thread]:
            del self.puts[key], self.parents[key]
        self.delete_everything_of(thread)

    @precondition(lambda self: self.erased)
    @rule(which=st.integers(0, 50), saver=st.integers(0, 9))
    def continue_what_was_erased(self, which: int, saver: int) -> None:
        """A run that did not notice cannot bring the thread back."""
        config = self.erased[which % len(self.erased)]
        key = key_of(config)
        if key in self.puts or self.is_forgotten(key):
            return  # it was saved again since
        late = checkpoint_of(f"late {next(self.counter)}", {"x": "y" * 10_000}, {"x": self.version(1)})
        with pytest.raises(ThreadDeletedError):
            self.savers[saver % len(self.savers)].put(config, late, {}, late["channel_versions"])
        with pytest.raises(ThreadDeletedError):
            self.savers[saver % len(self.savers)].put_writes(config, [("x", "y")], "t1")

    # --- losing and rebuilding what is derived

    @precondition(lambda self: self.fragile)
    @rule()
    def lose_the_snapshots(self) -> None:
        """They are an optimisation. What is written afterwards has its keyframes elsewhere than it would have had."""
        self.tables.run("delete from {schema}.snapshots")
        self.snapshots_lost = True

    @rule(saver=st.integers(0, 9))
    def rebuild(self, saver: int) -> None:
        """Everything but the log is made again, and is what it was. The savers' caches know nothing of it."""
        keyframes = not self.snapshots_lost
        before = projected(self.tables, keyframes=keyframes)
        self.finish(self.savers[saver % len(self.savers)].log.rebuild())
        after = projected(self.tables, keyframes=keyframes)
        for table, rows in before.items():
            assert sorted(set(after[table]) ^ set(rows)) == [], f"{table} is not what it was"
        assert after == before

    # --- reading

    @rule(
        thread=st.sampled_from(THREADS),
        ns=st.sampled_from([*NAMESPACES, "other"]),
        number=st.none() | st.integers(0, 41),
        saver=st.integers(0, 9),
    )
    def get_tuple(self, thread: str, ns: str, number: int | None, saver: int) -> None:
        """The latest, one by its id, one that is not there."""
        thread = self.prefix + thread
        checkpoint_id = None if number is None else f"{self.generation[thread]}-{number:03}"
        config = config_of(thread, checkpoint_id, ns)
        assert_same(self.savers[saver % len(self.savers)].get_tuple(config), self.model.get_tuple(config))

    @rule(
        thread=st.none() | st.sampled_from(THREADS),
        ns=st.none() | st.sampled_from(NAMESPACES),
        before=st.none() | st.integers(0, 41),
        tags=st.dictionaries(st.sampled_from(["tag", "user", "absent"]), TAGS, max_size=2),
        limit=st.none() | st.integers(0, 10),
        saver=st.integers(0, 9),
    )
    def list(
        self, thread: str | None, ns: str | None, before: int | None, tags: Any, limit: int | None, saver: int
    ) -> None:
        """Any criteria together. The model orders threads as they came, we by checkpoint id."""
        config = None if thread is None else config_of(self.prefix + thread, None, ns)
        criteria = {
            "filter": tags or None,
            "before": None if before is None else config_of(THREADS[0], f"0-{before:03}"),
        }
        expected = sorted(self.model.list(config, **criteria), key=place, reverse=True)
        found = self.savers[saver % len(self.savers)].list(config, limit=limit, **criteria)
        assert_all_same(found, expected[:limit])

    @invariant()
    def lists_everything(self) -> None:
        """Namespaces, threads and the examples before see nothing of each other."""
        expected = sorted(self.model.list(None), key=place, reverse=True)
        assert_all_same(self.model_reader.list(None), expected)

    def teardown(self) -> None:
        try:
            self.reads_each()
            assert_sound(self.tables)
            assert self.finish(self.savers[0].log.verify()).problems == []
            self.rebuild(0)
            self.lists_everything()
            self.reads_each()
            self.lose_the_snapshots()
            self.lists_everything()
            self.reads_each()
        finally:
            for thread in self.generation:
                self.model_reader.delete_thread(thread)

    def reads_each(self) -> None:
        for thread, ns, checkpoint_id in self.puts:
            config = config_of(thread, checkpoint_id, ns)
            expected = self.model.get_tuple(config)
            for saver in (self.savers[0], self.model_reader):
                assert_same(saver.get_tuple(config), expected)

    # --- for machines that do more

    def may_repeat(self, key: Key) -> bool:
        """Whether the same put once more is the same."""
        return True

    def is_forgotten(self, key: Key) -> bool:
        """Whether the log may have no memory of an erasure any more."""
        return False

    def delete_everything_of(self, thread: str) -> None:
        """What else is known of a thread that was deleted."""

    # --- what the rules have in common

    def ids(self, thread: str, ns: str) -> list[str]:
        return sorted((key[2] for key in self.puts if key[:2] == (thread, ns)), reverse=True)

    def leaves(self) -> list[Key]:
        inner = {(*key[:2], parent) for key, parent in self.parents.items()}
        return sorted(key for key in self.puts if key not in inner)

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
        """Put to the model and to a saver what the changes make of the parent (or of what the saver is told is it)."""
        parent_config = config["configurable"]
        given_to_saver = given_to_saver or config
        parent = self.model.get_tuple(given_to_saver) if "checkpoint_id" in given_to_saver["configurable"] else None
        known = dict(parent.checkpoint["channel_values"]) if parent else {}
        values = dict(known)
        versions = dict(parent.checkpoint["channel_versions"]) if parent else {}
        seen = dict(parent.checkpoint["versions_seen"]) if parent else {}
        new_versions: dict[str, Any] = {}
        for channel, change in changes.items():
            old = values.pop(channel, None)
            if change == "omit":
                continue
            versions.pop(channel, None)
            if change == "drop":
                continue
            new_versions[channel] = versions[channel] = self.version(next(self.counter))
            if change != "clear":
                values[channel] = {"sent": self.largest(known)} if change == "send" else self.changed(change, old)
        number = next(self.counter)
        node = f"node {number % 4}"
        seen[node] = {} if node == "node 3" else {**seen.get(node, {}), **versions}
        seen.pop("node 0", None)
        checkpoint = checkpoint_of(
            checkpoint_id, values, versions, versions_seen=seen, ts=f"{number}", updated_channels=sorted(new_versions)
        )
        user = number % 3
        config["configurable"]["user"] = user
        given_to_saver["configurable"]["user"] = user
        metadata = {"source": "loop", "step": number, "tag": tag, **self.extra_metadata}
        arguments = (config, checkpoint, metadata, new_versions)
        self.model.put(*arguments)
        stored = self.savers[saver % len(self.savers)].put(given_to_saver, *arguments[1:])
        assert stored == config_of(parent_config["thread_id"], checkpoint_id, parent_config["checkpoint_ns"])
        self.puts[parent_config["thread_id"], parent_config["checkpoint_ns"], checkpoint_id] = arguments

    def do_put_writes(self, saver: int, config: RunnableConfig, calls: Any) -> None:
        """Put to the model and to one saver after the other."""
        latest = {**config["configurable"], "checkpoint_id": None}
        found = self.model.get_tuple(config) or self.model.get_tuple({"configurable": latest})
        known = self.largest(found.checkpoint["channel_values"]) if found else None
        for (task, path), writes in calls:
            sent = [(channel, [known, next(self.counter)] if send else value) for channel, send, value in writes]
            self.model.put_writes(config, sent, task, path)
            self.savers[saver % len(self.savers)].put_writes(config, sent, task, path)
            saver += 1

    @staticmethod
    def largest(values: dict[str, Any]) -> Any:
        """What other values may repeat. Only lists: what was sent is not sent on and on."""
        return max((value for value in values.values() if isinstance(value, list)), key=len, default=None)

    def changed(self, change: Any, old: Any) -> Any:
        if isinstance(change, list):
            return change[0]
        # Text that does not compress: what an event costs is what it holds.
        texts = [random.Random(number := next(self.counter)).randbytes(50).hex() for _ in range(24)]
        if not isinstance(old, list) or len(old) < 4:
            return texts
        if change == "append":
            # Messages are decoded by themselves, and not always again.
            return [
                *old,
                texts[0]
                if number % 3
                else AIMessage(texts[0], tool_calls=[tool_call(name="t", args={"x": [1]}, id=None)]),
            ]
        if change == "move":
            return [*old[1:], texts[0]]
        if change == "edit":
            return [*old[: len(old) // 2], "edited", *old[len(old) // 2 + 1 :]]
        # Alike, and different everywhere: a patch.
        return [f"{number} {item}" for number, item in enumerate(old)]
