"""Configs in and out: a `RunnableConfig` names a thread, a namespace and a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig

from eventlog.errors import InvalidInputError
from eventlog.streams import Stream, storable, text_id

__all__ = ["Target", "config_of", "is_plain_id", "parse_before", "parse_config", "parse_selection"]


class Target(NamedTuple):
    """What a config names."""

    stream: Stream
    checkpoint_id: str | None
    root_id: str | None
    """The root graph's checkpoint that a subgraph runs under; None for the root graph itself.

    LangGraph hands it down in ``checkpoint_map``, by namespace.
    """


def is_plain_id(value: Any) -> bool:
    """Whether an id is a short, plain text, as nearly all are: `text_id` would return it as it is."""
    return type(value) is str and 0 < len(value) <= 200 and value.isascii() and "\0" not in value


def parse_config(config: Any) -> Target:
    """What a config names; without a namespace, the root graph's.

    Ids that are plain texts are returned as the same objects.

    Raises:
        InvalidInputError: for a config without a thread id, and for what is no id.
    """
    configurable = config.get("configurable") if type(config) is dict or isinstance(config, Mapping) else None
    if type(configurable) is not dict and not isinstance(configurable, Mapping):
        raise InvalidInputError('config must be {"configurable": {"thread_id": …}}')
    thread_id = configurable.get("thread_id")
    if thread_id is None:
        raise InvalidInputError('config["configurable"]["thread_id"] is missing')
    namespace = configurable.get("checkpoint_ns")
    checkpoint_id = configurable.get("checkpoint_id")
    root_id = None
    if not is_plain_id(thread_id):
        thread_id = text_id(thread_id, "thread_id")
    if namespace is None:
        namespace = ""
    elif namespace != "":
        namespace = storable(namespace, "checkpoint_ns")
        parents = configurable.get("checkpoint_map")
        if isinstance(parents, Mapping) and parents.get(""):
            root_id = text_id(parents[""], "checkpoint_map['']")
    if checkpoint_id is None or checkpoint_id == "":  # LangGraph writes "" where it means none.
        return Target(Stream(thread_id, namespace), None, root_id)
    if not is_plain_id(checkpoint_id):
        checkpoint_id = text_id(checkpoint_id, "checkpoint_id")
    return Target(Stream(thread_id, namespace), checkpoint_id, root_id)


def parse_before(config: Any) -> str:
    """The checkpoint id of a `before`, which needs no thread. Raises InvalidInputError."""
    configurable = config.get("configurable") if isinstance(config, Mapping) else None
    if not isinstance(configurable, Mapping) or configurable.get("checkpoint_id") in (None, ""):
        raise InvalidInputError('before must name a checkpoint: {"configurable": {"checkpoint_id": …}}')
    return text_id(configurable["checkpoint_id"], "checkpoint_id")


def parse_selection(config: RunnableConfig | None) -> tuple[str | None, str | None, str | None]:
    """What `list` is restricted to: thread, namespace, checkpoint. None leaves a criterion out. Errors as above."""
    if not config:
        return None, None, None
    target = parse_config(config)
    names_one = config["configurable"].get("checkpoint_ns") is not None
    return target.stream.thread_id, target.stream.checkpoint_ns if names_one else None, target.checkpoint_id


def config_of(stream: Stream, checkpoint_id: str) -> RunnableConfig:
    """The config that names a checkpoint."""
    thread_id, checkpoint_ns = stream
    configurable = {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns, "checkpoint_id": checkpoint_id}
    return cast("RunnableConfig", {"configurable": configurable})
