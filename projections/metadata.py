"""The searchable copy of a checkpoint's metadata.

Readers get the exact metadata from the event; the `checkpoints` projection has a JSONB copy for filters. JSONB cannot
hold NUL, lone surrogates, NaN or infinities, but a user's metadata may: the copy replaces them, so that `put` does not
fail.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, get_serializable_checkpoint_metadata

from eventlog.errors import InvalidInputError

__all__ = ["filter_json", "merged_metadata", "run_id_of", "searchable_json"]

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_SURROGATES = re.compile("[\ud800-\udfff]")


def merged_metadata(config: RunnableConfig, metadata: CheckpointMetadata) -> dict[str, Any]:
    """The metadata to save with a checkpoint: its own, and what the config adds, as LangGraph defines it.

    LangGraph's helper strips NULs from texts, because of JSONB; the caller's own values go back in as they were.
    """
    merged = cast("dict[str, Any]", get_serializable_checkpoint_metadata(config, metadata))
    merged.update((key, value) for key, value in metadata.items() if key in merged)
    return merged


def searchable_json(metadata: Mapping[str, Any], saved: Callable[[], Mapping[str, Any]] | None = None) -> str:
    """The JSON text of the searchable copy. It depends only on the metadata as saved, also for values outside of JSON.

    Args:
        metadata: as it was given, or read back.
        saved: reads it back. Values that JSON can hold have the same text before and after.
    """
    try:
        text = _encode(metadata)
        if "\\u0000" not in text:
            text.encode()
            return text
    except (ValueError, TypeError):
        pass  # JSON cannot hold a value in it: the code below replaces such values.
    return json.dumps(_harmless(metadata if saved is None else saved(), 0), ensure_ascii=False, allow_nan=False)


def _harmless(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth > 100:
        return None
    if isinstance(value, Mapping):
        return {_text(str(key)): _harmless(each, depth + 1) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        # A set of strings has a different order in each process.
        return sorted((_harmless(each, depth + 1) for each in value), key=json.dumps)
    if isinstance(value, (list, tuple)):
        return [_harmless(each, depth + 1) for each in value]
    return _text(str(value))


def _text(value: str) -> str:
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", value.replace("\0", ""))


def filter_json(criteria: Any) -> str | None:
    """The JSON text of a metadata filter; None when there is nothing to filter by.

    Raises InvalidInputError when it is not a mapping, or JSON cannot hold it.
    """
    if criteria is None:
        return None
    if not isinstance(criteria, Mapping):
        raise InvalidInputError(f"filter must be a dict of metadata, not {type(criteria).__name__}")
    try:
        text = json.dumps(criteria, ensure_ascii=False, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as exc:
        raise InvalidInputError(f"filter must be JSON: {exc}") from exc
    if json.dumps(_harmless(criteria, 0), ensure_ascii=False) != text:
        raise InvalidInputError("filter must be valid JSONB: no NUL characters, no lone surrogates")
    return text if criteria else None


def run_id_of(metadata: Mapping[str, Any], saved: Callable[[], Mapping[str, Any]] | None = None) -> str | None:
    """The run that made a checkpoint, if its metadata names one. Arguments as of `searchable_json`."""
    run_id = metadata.get("run_id")
    if saved is not None and type(run_id) is not str:
        run_id = saved().get("run_id")
    return None if run_id is None else _text(str(run_id))
