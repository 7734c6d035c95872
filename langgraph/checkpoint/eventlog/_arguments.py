"""Validation of arguments, before anything is read; and the configs and channel versions that savers return."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple, cast

from langchain_core.runnables import RunnableConfig

from eventlog.errors import InvalidInputError
from eventlog.streams import Stream, storable, text_id

__all__ = [
    "Target",
    "actor_in",
    "actor_of",
    "config_of",
    "count_of",
    "duration_of",
    "fields_of",
    "ids_of",
    "is_plain_id",
    "limit_of",
    "next_version",
    "one_of",
    "parse_before",
    "parse_config",
    "parse_selection",
    "seconds_of",
    "stop_of",
    "time_of",
    "two_threads",
]


class Target(NamedTuple):
    """The checkpoint, or the thread, that a config names."""

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
    """The ids that a config names; without a namespace, the root graph's.

    Ids that are plain texts are returned as the same objects. Raises InvalidInputError for a config without a thread
    id, and for invalid ids.
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
    """The thread, namespace and checkpoint that `list` is restricted to; None: not restricted. Errors as above."""
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


def fields_of(config: RunnableConfig) -> dict[str, Any]:
    """The fields of log lines about a call with this config, which was validated."""
    thread_id, checkpoint_ns = parse_config(config).stream
    return {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns}


def next_version(current: str | int | float | None) -> str:
    """The channel version after `current`: a counter of 32 digits, then a random part that distinguishes racing runs.

    The format is that of `PostgresSaver`, so graphs and threads that used it find the versions that they expect.
    """
    if current is None:
        counter = 0
    elif isinstance(current, str):
        counter = int(current.split(".")[0])
    else:
        counter = int(current)
    return f"{counter + 1:032}.{random.random():016}"


def ids_of(value: Any, what: str) -> list[str]:
    """Ids from a sequence, each once.

    Raises InvalidInputError for invalid ids, and for a single text, as its characters would be taken for ids.
    """
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidInputError(f"{what} must be a sequence of ids, not {type(value).__name__}")
    return list(dict.fromkeys(text_id(each, f"each of {what}") for each in value))


def duration_of(value: Any, what: str) -> timedelta:
    """A duration that is not negative. Raises InvalidInputError."""
    if not isinstance(value, timedelta):
        raise InvalidInputError(f"{what} must be a timedelta, not {type(value).__name__}")
    if value < timedelta(0):
        raise InvalidInputError(f"{what} must not be negative (got {value})")
    # PostgreSQL's times do not go further back.
    if value > timedelta(days=365 * 2000):
        raise InvalidInputError(f"{what} must be less than 2,000 years (got {value})")
    return value


def time_of(value: Any, what: str, otherwise: str = "") -> datetime:
    """A time with its zone. Raises InvalidInputError, with `otherwise` in its message as an alternative."""
    if not (isinstance(value, datetime) and value.tzinfo is not None):
        raise InvalidInputError(f"{what} must be a datetime with a time zone{otherwise}")
    return value


def count_of(value: Any, what: str) -> int:
    """A count of at least one. Raises InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"{what} must be an int, not {type(value).__name__}")
    if value < 1:
        raise InvalidInputError(f"{what} must be at least 1 (got {value})")
    if value >= 1 << 31:
        raise InvalidInputError(f"{what} must be less than 2,147,483,648 (got {value})")
    return value


def seconds_of(value: Any, what: str) -> float:
    """A number of seconds, more than 0 and at most a day. Raises InvalidInputError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidInputError(f"{what} must be a number of seconds, not {type(value).__name__}")
    if not 0 < value <= 86_400:
        raise InvalidInputError(f"{what} must be more than 0 seconds and at most a day (got {value})")
    return float(value)


def stop_of(value: Any) -> Callable[[], bool]:
    """A function that says whether to stop; None: never. Raises InvalidInputError."""
    if value is None:
        return bool
    if not callable(value):
        raise InvalidInputError(
            f"stop must be a function without arguments, such as threading.Event().is_set, not {type(value).__name__}"
        )
    return value  # type: ignore[no-any-return]


def limit_of(value: Any) -> int | None:
    """How many to yield at most; None: all. Raises InvalidInputError."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(f"limit must be an int or None, not {type(value).__name__}")
    if value < 0:
        raise InvalidInputError(f"limit must not be negative (got {value})")
    return value


def one_of(value: Any, what: str, *choices: str) -> str:
    """One of some texts. Raises InvalidInputError."""
    if value not in choices:
        raise InvalidInputError(f"{what} must be {' or '.join(map(repr, choices))}, not {value!r}")
    return str(value)


def actor_of(value: Any) -> str | None:
    """The actor of an operation: the person or service behind it. Raises InvalidInputError."""
    return None if value is None else storable(value, "actor")


def actor_in(config: Mapping[str, Any] | RunnableConfig) -> str | None:
    """The actor of a graph's run, by a config that `parse_config` has read. Raises InvalidInputError."""
    actor = config["configurable"].get("actor")
    return None if actor is None or actor == "" else storable(actor, 'config["configurable"]["actor"]')


def two_threads(source_id: Any, target_id: Any) -> tuple[str, str]:
    """The ids of a source and another target. Raises InvalidInputError."""
    source, target = text_id(source_id, "source_thread_id"), text_id(target_id, "target_thread_id")
    if source == target:
        raise InvalidInputError(f"thread {source!r} cannot be copied onto itself: choose another target id")
    return source, target
