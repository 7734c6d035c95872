"""Savers and logs with traces and metrics: subclasses with a span around each method.

An object gets such a subclass when it is made with the setting ``telemetry`` (`_setup`). Without the setting it keeps
the plain class, and this module is not imported.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

from eventlog.feed import Lag
from eventlog.partitions import Partitions
from eventlog.telemetry.drivers import InstrumentedAsyncDriver, InstrumentedDriver
from eventlog.telemetry.names import CHECKPOINT_ID, CHECKPOINT_NS, RUN_ID, SOURCE, STEP, THREAD_ID
from eventlog.telemetry.recorder import Call, Recorder

__all__ = ["InstrumentedAsyncDriver", "InstrumentedDriver", "instrumented"]

C = TypeVar("C")

#: A saver's own methods, in their sync form. Its other methods call the log, as `EventLogSaver.delete_thread` does.
_OF_SAVERS: Final = ("get_tuple", "list", "put", "put_writes", "get_delta_channel_history")

#: Constructors of savers and logs, which get no span.
_MAKERS: Final = {"from_conn_string", "embedded"}

#: The subclasses by their base classes.
_MADE: Final[WeakKeyDictionary[type, Any]] = WeakKeyDictionary()

#: Longer texts are cut.
MOST_CHARACTERS: Final = 4096


def instrumented(cls: type[C]) -> type[C]:
    """The subclass with spans, of a saver or a log or of a user's subclass of one."""
    if "_is_instrumented" in vars(cls):
        return cls
    made: type[C] | None = _MADE.get(cls)
    if made is None:
        # Two threads may both make a subclass: either can be used.
        made = _MADE[cls] = _subclass(cls)
    return made


def _subclass(cls: type[C]) -> type[C]:
    names = {"_is_instrumented": True, "__module__": cls.__module__, "__qualname__": cls.__qualname__}
    return type(cls.__name__, (cls,), {**names, "__doc__": cls.__doc__, **_methods(cls)})


def _methods(cls: type) -> dict[str, Callable[..., Any]]:
    if issubclass(cls, BaseCheckpointSaver):
        is_async = inspect.iscoroutinefunction(inspect.getattr_static(cls, "setup"))
        called = {name: name for name in _OF_SAVERS}
        if is_async:
            # Its `list` calls `alist`; its other sync methods do not call the async ones of the object.
            called = {**{f"a{name}": name for name in _OF_SAVERS}, **called}
            del called["list"]
        called["setup"] = "setup"
    else:
        public = {name for name in dir(cls) if not name.startswith("_")} - _MAKERS
        called = {name: name for name in public if inspect.isfunction(inspect.getattr_static(cls, name))}
    return {attribute: _traced(getattr(cls, attribute), name) for attribute, name in called.items()}


def _traced(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A method with a span around it."""
    says = _Arguments(method)

    def begin(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        recorder: Recorder | None = self._context.recorder
        if recorder is None:
            return None  # Another object of this class, made without telemetry.
        attributes, is_endless = says.of(args, kwargs)
        return Call(recorder, name, attributes, is_endless=is_endless)

    if _iterates(method):

        @functools.wraps(method)
        def traced(self: Any, *args: Any, **kwargs: Any) -> Any:
            call = begin(self, args, kwargs)
            if call is None:
                return method(self, *args, **kwargs)
            try:
                # It validates at once, and does nothing else before the first item is requested.
                items = method(self, *args, **kwargs)
            except BaseException as exc:
                call.start()
                call.end(exc)
                raise
            return _aiterate(call, items) if isinstance(items, AsyncIterator) else _iterate(call, items)

    elif inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def traced(self: Any, *args: Any, **kwargs: Any) -> Any:
            call = begin(self, args, kwargs)
            if call is None:
                return await method(self, *args, **kwargs)
            with call:
                result = await method(self, *args, **kwargs)
                _note_result(self._context.recorder, call, name, result)
                return result

    else:

        @functools.wraps(method)
        def traced(self: Any, *args: Any, **kwargs: Any) -> Any:
            call = begin(self, args, kwargs)
            if call is None:
                return method(self, *args, **kwargs)
            with call:
                result = method(self, *args, **kwargs)
                _note_result(self._context.recorder, call, name, result)
                return result

    return traced


def _iterates(method: Callable[..., Any]) -> bool:
    """Whether a method yields items, according to its annotation."""
    returns = str(inspect.signature(method).return_annotation)
    return returns.startswith(("Iterator[", "Generator[", "AsyncIterator[", "AsyncGenerator["))


def _iterate(call: Call, items: Iterator[Any]) -> Generator[Any, None, None]:
    """The items. The call's span begins with the first, and is current only while an item is made."""
    call.start()
    error: BaseException | None = None
    try:
        while True:
            with call.step():
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item
    except BaseException as exc:
        error = exc
        raise
    finally:
        if inspect.isgenerator(items):
            items.close()
        call.end(error)


async def _aiterate(call: Call, items: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    call.start()
    error: BaseException | None = None
    try:
        while True:
            with call.step():
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            yield item
    except BaseException as exc:
        error = exc
        raise
    finally:
        if inspect.isasyncgen(items):
            await items.aclose()
        call.end(error)


def _note_result(recorder: Recorder, call: Call, name: str, result: Any) -> None:
    if isinstance(result, CheckpointTuple):
        call.set({**_of_config(result.config), **_of_metadata(result.metadata)})
    elif isinstance(result, Partitions):
        recorder.note_partitions(result)
    elif isinstance(result, Lag):
        recorder.note_lag(result)


# --- a span's attributes of a call


class _Said(NamedTuple):
    attributes: dict[str, Any]
    is_endless: bool


class _Arguments:
    """Reads a method's arguments before they are validated. It never raises, even for invalid arguments."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self._parameters = list(inspect.signature(method).parameters)[1:]

    def of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Said:
        """The attributes of the call's span, and whether the call runs until it is stopped."""
        given = {**dict(zip(self._parameters, args, strict=False)), **kwargs}
        attributes: dict[str, Any] = {}
        for parameter, attribute in _NAMED.items():
            if (text := _text(given.get(parameter))) is not None:
                attributes[attribute] = text
        config, checkpoint = _mapping(given.get("config")), _mapping(given.get("checkpoint"))
        attributes.update(_of_config(config))
        attributes.update(_of_metadata(given.get("metadata")))
        if (text := _text(checkpoint.get("id"))) is not None:
            attributes[CHECKPOINT_ID] = text
        return _Said(attributes, bool(given.get("follow")) or given.get("every") is not None)


#: Parameters that name the subject of a call.
_NAMED: Final = {
    "thread_id": THREAD_ID,
    "source_thread_id": THREAD_ID,
    "checkpoint_ns": CHECKPOINT_NS,
    "checkpoint_id": CHECKPOINT_ID,
}

_CONFIGURABLE: Final = {"thread_id": THREAD_ID, "checkpoint_ns": CHECKPOINT_NS, "checkpoint_id": CHECKPOINT_ID}


def _of_config(config: Any) -> dict[str, Any]:
    config = _mapping(config)
    configurable, found = _mapping(config.get("configurable")), {}
    for key, attribute in _CONFIGURABLE.items():
        if (text := _text(configurable.get(key))) is not None:
            found[attribute] = text
    run_id = _mapping(config.get("metadata")).get("run_id") or configurable.get("run_id") or config.get("run_id")
    if (text := _text(run_id)) is not None:
        found[RUN_ID] = text
    return found


def _of_metadata(metadata: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    metadata = _mapping(metadata)
    for key, attribute in (("source", SOURCE), ("run_id", RUN_ID)):
        if (text := _text(metadata.get(key))) is not None:
            found[attribute] = text
    step = metadata.get("step")
    if isinstance(step, int) and not isinstance(step, bool) and -(1 << 63) <= step < 1 << 63:
        found[STEP] = step
    return found


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str | None:
    """An id in the form for a span: exporters refuse lone surrogates."""
    if not isinstance(value, str):
        # LangGraph accepts numbers and UUIDs as ids of threads and runs.
        value = str(value) if isinstance(value, (int, UUID)) and not isinstance(value, bool) else None
    return None if value is None else value[:MOST_CHARACTERS].encode("utf-8", "replace").decode()
