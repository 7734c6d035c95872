"""The steps of a saver that takes over threads from another saver, one by one, while both are in use.

Each call is written once, as a generator that yields calls of the two savers. The sync and the async class run it
(`_migrating`, `_async_migrating`): the first makes the calls, the second awaits them.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Generator, Sequence
from functools import partial
from typing import Any, ClassVar, Generic, NamedTuple, TypeAlias, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    CheckpointTuple,
)
from typing_extensions import Self

from eventlog.errors import InvalidInputError, ThreadNotImportedError
from eventlog.streams import text_id
from langgraph.checkpoint.eventlog._arguments import ids_of, limit_of, parse_before, parse_config, two_threads
from langgraph.checkpoint.eventlog._setup import sharing
from langgraph.checkpoint.eventlog.transfer.any_saver import AnySaver

__all__ = ["END", "Emit", "MigratingBase", "Steps", "is_postgres_saver"]

S = TypeVar("S", bound=BaseCheckpointSaver[Any])
T = TypeVar("T")

#: The number of threads remembered to be in the log, for which nothing needs to be asked when they have no checkpoint.
KNOWN_THREADS = 100_000

#: The number of checkpoints of the old saver that are read at a time when all threads are listed.
PAGE = 100

#: The value that an iterator returns at its end.
END: Any = object()


class Emit(NamedTuple):
    """A step that yields an item to the reader."""

    item: CheckpointTuple


#: The steps of a call: each calls a saver, and its result comes back.
Steps: TypeAlias = Generator["Callable[[], Any] | Emit", Any, T]


class _Known:
    """The threads that are known to be in the log; shared by all copies of a saver."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, thread_id: str) -> bool:
        return thread_id in self._ids

    def add(self, thread_id: str) -> None:
        with self._lock:
            self._ids[thread_id] = None
            if len(self._ids) > KNOWN_THREADS:
                self._ids.popitem(last=False)


class _OldPages:
    """All checkpoints of the old saver, newest first, page by page.

    Args:
        page: a call that lists checkpoints of it.
        is_ordered: whether it lists the checkpoints of all threads by their ids. If not, they are all read at once.
        size: of a page, at first.
    """

    def __init__(
        self,
        page: Callable[..., Callable[[], Any]],
        is_ordered: bool,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        size: int = PAGE,
    ) -> None:
        self._page, self._is_ordered, self._filter, self._before, self._size = page, is_ordered, filter, before, size
        self._has_ended = False

    def next(self) -> Steps[list[CheckpointTuple]]:
        """The next checkpoints; none at the end."""
        while not self._has_ended:
            if not self._is_ordered:
                self._has_ended = True
                everything: list[CheckpointTuple] = yield self._page(None, filter=self._filter)
                before_id = None if self._before is None else parse_before(self._before)
                some = (each for each in everything if before_id is None or each.checkpoint["id"] < before_id)
                return sorted(some, key=_order, reverse=True)
            found: list[CheckpointTuple] = yield self._page(
                None, filter=self._filter, before=self._before, limit=self._size
            )
            if len(found) < self._size:
                self._has_ended = True
                return sorted(found, key=_order, reverse=True)
            # Further checkpoints may have the last one's id, if they are copies.
            last_id = found[-1].checkpoint["id"]
            if kept := [each for each in found if each.checkpoint["id"] != last_id]:
                self._before = {"configurable": {"checkpoint_id": kept[-1].checkpoint["id"]}}
                self._size = PAGE
                return sorted(kept, key=_order, reverse=True)
            self._size *= 2
        return []


def _order(found: CheckpointTuple) -> tuple[str, str, str]:
    """The key that the log orders lists by, the greatest first."""
    configurable = found.config["configurable"]
    return found.checkpoint["id"], configurable["thread_id"], configurable.get("checkpoint_ns") or ""


def thread_of(config: RunnableConfig) -> str:
    """The thread that a config names. Raises InvalidInputError."""
    return parse_config(config).stream.thread_id


def is_ordered(saver: BaseCheckpointSaver[Any]) -> bool:
    """Whether it lists the checkpoints of all threads by their ids, from the greatest on."""
    return is_postgres_saver(saver) and not any("Shallow" in each.__name__ for each in type(saver).__mro__)


def is_postgres_saver(saver: BaseCheckpointSaver[Any]) -> bool:
    """Whether a saver is of langgraph-checkpoint-postgres, which need not be installed."""
    return any(each.__module__.startswith("langgraph.checkpoint.postgres") for each in type(saver).__mro__)


class MigratingBase(BaseCheckpointSaver[Any], Generic[S]):
    """The common part of both savers. See `MigratingSaver`."""

    old: BaseCheckpointSaver[Any]
    new: S
    _prefix: ClassVar[str]
    """Of the savers' methods."""
    _tables: Any
    """The old saver's tables, where they are PostgresSaver's."""
    _mover: Any

    def __init__(self, old: BaseCheckpointSaver[Any], new: S, tables: Any, mover: Any, schema: str | None) -> None:
        super().__init__(serde=new.serde)
        self.old, self.new = old, new
        self._tables, self._mover, self._schema = tables, mover, schema
        self._known, self._claimed = _Known(), _Known()
        self._place: str | None = None
        if schema is not None and tables is None:
            raise InvalidInputError(
                "schema names the schema of PostgresSaver's tables, and the old saver has none: leave schema out"
            )

    @property
    def config_specs(self) -> list[Any]:
        """The new saver's."""
        return self.new.config_specs

    def get_next_version(self, current: Any, channel: None = None) -> Any:
        """Return the channel version after another one.

        Args:
            current: The channel's present version; None before the first. A number is followed by a number.
            channel: Not used. LangGraph passes it.

        Returns:
            The next version.
        """
        if current is None or isinstance(current, str):
            return self.new.get_next_version(current, channel)
        return current + 1

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> Self:
        """Return a copy with savers that load further classes.

        Args:
            extra_allowlist: The classes, each a tuple of module and name.

        Returns:
            The copy. It shares connections and caches.
        """
        clone: Any = copy.copy(self)
        clone.new, clone.old = self.new.with_allowlist(extra_allowlist), self.old.with_allowlist(extra_allowlist)
        clone.serde = clone.new.serde
        clone._mover = sharing(type(self._mover), clone.new)
        return clone  # type: ignore[no-any-return]

    # --- implemented by each class

    def _copying(self, thread_id: str, *, is_in_log: bool = False) -> Callable[[Any], Any]:
        """Imports a thread over a connection to its tables; for a thread in the log, checks that the tables agree."""
        raise NotImplementedError

    def _copying_nothing(self) -> Callable[[Any], Any]:
        raise NotImplementedError

    def _alone(self, call: Callable[[], T]) -> T:
        """A call with exclusive use of the old saver's connection."""
        raise NotImplementedError

    def _listed(self, config: RunnableConfig | None, **criteria: Any) -> Any:
        """Checkpoints of the old saver, all at once: PostgresSaver holds its lock while they are read."""
        raise NotImplementedError

    # --- taking threads over

    def _call(self, saver: BaseCheckpointSaver[Any], name: str, *args: Any, **options: Any) -> Callable[[], Any]:
        return partial(getattr(saver, self._prefix + name), *args, **options)

    def _ask_tables(self, name: str, *args: Any) -> Callable[[], Any]:
        return partial(self._alone, partial(getattr(self._tables, name), *args))

    def _is_here(self, thread_id: str) -> Steps[bool]:
        """Whether the log has a thread, or had it: one that was deleted is not imported again."""
        if thread_id not in self._known:
            log: Any = self.new.log  # type: ignore[attr-defined]
            if not (yield partial(log.namespaces, thread_id)):
                return False
            self._known.add(thread_id)
        return True

    def _take_over(self, thread_id: str, *, to_write: bool) -> Steps[bool]:
        """Import a thread if the log lacks it; returns whether it may be in the log now and was not before.

        Args:
            to_write: whether the caller is about to write to it. Then old savers must be kept away from the thread,
                even if they do not have it.
        """
        if (yield from self._is_here(thread_id)):
            yield from self._claim(thread_id)
            return False
        if not to_write and not (yield from self._old_has(thread_id)):
            return False
        yield from self._import(thread_id)
        self._known.add(thread_id)
        self._claimed.add(thread_id)
        return True

    def _claim(self, thread_id: str) -> Steps[None]:
        """Set the fence's mark on a thread that the log has. Without it old replicas could continue the thread.

        The mark is missing if the thread was imported before the fence was made; it is `moving` if a mover died.
        """
        if self._tables is None or thread_id in self._claimed:
            return
        if (yield self._ask_tables("mark_of", thread_id)) in ("none", "moving"):
            yield from self._import(thread_id, is_in_log=True)
        self._claimed.add(thread_id)

    def _old_has(self, thread_id: str) -> Steps[bool]:
        if self._tables is not None:
            return bool((yield self._ask_tables("has", thread_id)))
        return bool((yield partial(self._listed, {"configurable": {"thread_id": thread_id}}, limit=1)))

    def _import(self, thread_id: str, *, is_in_log: bool = False) -> Steps[None]:
        """Import a thread, behind the fence if there is one."""
        if self._tables is None:
            source = AnySaver(self.old, is_async=bool(self._prefix))
            yield partial(self._mover.import_one, source, thread_id)
            return
        copying = self._copying(thread_id, is_in_log=is_in_log)
        moved = yield from self._move(thread_id, copying)
        if moved is None:
            yield self._ask_tables("lend", copying)
        elif moved == "deleted":
            # It was deleted from the old tables while it was copied.
            yield partial(self._mover.delete, thread_id)
            yield self._ask_tables("forget_deletions", [thread_id])
        elif moved == "already" and not (yield from self._is_here(thread_id)) and (yield from self._old_has(thread_id)):
            error = ThreadNotImportedError(
                f"the fence of the old tables says that thread {thread_id!r} was moved to a log, but {self._place} has "
                "no trace of it: it was moved to another log, or deleted and its tombstone dropped. Connect to that "
                "log, or delete the thread to start over, or import it again with `eventlog import --threads`"
            )
            error.thread_id = thread_id
            raise error

    def _move(self, thread_id: str, copying: Callable[[Any], Any]) -> Steps[str | None]:
        """Copy a thread and keep old savers away from it; None if there is no fence."""
        if self._place is None:
            self._place = yield self._mover.where
        return (yield self._ask_tables("move", thread_id, self._place, copying))  # type: ignore[no-any-return]

    def _delete_old(self, thread_id: str) -> Steps[None]:
        """Delete a thread from the old saver."""
        if self._tables is None:
            yield self._call(self.old, "delete_thread", thread_id)
            return
        yield from self._move(thread_id, self._copying_nothing())
        # Not by the saver: its version may not delete.
        yield self._ask_tables("delete", thread_id)

    def _old_pages(
        self, filter: dict[str, Any] | None, before: RunnableConfig | None = None, size: int = PAGE
    ) -> _OldPages:
        return _OldPages(partial(partial, self._listed), is_ordered(self.old), filter, before, size)

    # --- LangGraph's calls, as steps

    def _get_tuple(self, config: RunnableConfig) -> Steps[CheckpointTuple | None]:
        found: CheckpointTuple | None = yield self._call(self.new, "get_tuple", config)
        if found is not None:
            yield from self._claim(found.config["configurable"]["thread_id"])
        elif (yield from self._take_over(thread_of(config), to_write=False)):
            found = yield self._call(self.new, "get_tuple", config)
        return found

    def _write(self, name: str, config: RunnableConfig, *args: Any) -> Steps[Any]:
        yield from self._take_over(thread_of(config), to_write=True)
        return (yield self._call(self.new, name, config, *args))

    def _delta_history(self, config: RunnableConfig, channels: Sequence[str]) -> Steps[Any]:
        yield from self._take_over(thread_of(config), to_write=False)
        return (yield self._call(self.new, "get_delta_channel_history", config=config, channels=channels))

    def _list(
        self,
        next_new: Callable[[], Any],
        config: RunnableConfig | None,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> Steps[None]:
        """`next_new`: the new saver's next checkpoint."""
        if config:
            yield from self._take_over(thread_of(config), to_write=False)
            while (found := (yield next_new)) is not END:
                yield Emit(found)
            return
        left = limit_of(limit)
        pages = self._old_pages(filter, before, PAGE if left is None else min(PAGE, left + 1))
        waiting: list[CheckpointTuple] = []
        is_here: dict[str, bool] = {}
        new = yield next_new
        last: tuple[str, str, str] | None = None
        while left != 0:
            while not waiting and (page := (yield from pages.next())):
                for each in page:
                    thread_id = each.config["configurable"]["thread_id"]
                    if thread_id not in is_here:
                        is_here[thread_id] = yield from self._is_here(thread_id)
                    if not is_here[thread_id]:
                        waiting.append(each)
            if new is END and not waiting:
                return
            if not waiting or (new is not END and _order(new) >= _order(waiting[0])):
                found, new = new, (yield next_new)
            else:
                found = waiting.pop(0)
            # A thread that was imported after the old saver's page was read.
            if _order(found) == last:
                continue
            last = _order(found)
            yield Emit(found)
            left = None if left is None else left - 1

    def _delete_thread(self, thread_id: Any) -> Steps[None]:
        id_ = text_id(thread_id, "thread_id")
        # The old saver first: without a fence, another replica may import the thread until it is deleted there.
        yield from self._delete_old(id_)
        yield partial(self._mover.delete, id_)

    def _delete_for_runs(self, run_ids: Any) -> Steps[None]:
        ids = ids_of(run_ids, "run_ids")
        threads: dict[str, None] = {}
        for run_id in ids:
            pages = self._old_pages({"run_id": run_id})
            while page := (yield from pages.next()):
                threads.update(dict.fromkeys(each.config["configurable"]["thread_id"] for each in page))
        for thread_id in threads:
            yield from self._take_over(thread_id, to_write=True)
        yield self._call(self.new, "delete_for_runs", ids)
        for thread_id in threads:
            yield from self._delete_old(thread_id)

    def _prune(self, thread_ids: Any, strategy: str) -> Steps[None]:
        ids = ids_of(thread_ids, "thread_ids")
        yield self._call(self.new, "prune", [], strategy=strategy)  # refuses an unknown strategy
        for thread_id in ids:
            if strategy == "delete":
                yield from self._delete_old(thread_id)
            else:
                yield from self._take_over(thread_id, to_write=False)
        if strategy == "delete":
            for thread_id in ids:
                # An import in progress would bring it back.
                yield partial(self._mover.has, thread_id)
        yield self._call(self.new, "prune", ids, strategy=strategy)
        for thread_id in ids if strategy != "delete" else ():
            yield from self._delete_old(thread_id)

    def _copy_thread(self, source_id: Any, target_id: Any) -> Steps[None]:
        source, target = two_threads(source_id, target_id)
        yield from self._take_over(source, to_write=False)
        yield from self._take_over(target, to_write=True)
        yield self._call(self.new, "copy_thread", source, target)
