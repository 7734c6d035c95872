"""The structural difference of two values.

Lists are compared from both ends. Items in the middle are matched by id if all have one, as messages do; else by place
if both lists have equally many; else as removed and added. Mappings are compared by key, models and dataclasses by
field, sets by member. Any other values are equal or not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeAlias

from pydantic import BaseModel

__all__ = ["Difference", "Undecodable", "ValueDifference", "differences"]

#: Values that are nested deeper are compared as a whole.
DEEPEST = 40

Path: TypeAlias = "tuple[str | int, ...]"

#: Tells whether two values of one type without structure are equal.
Same: TypeAlias = Callable[[Any, Any], bool]


class Undecodable(NamedTuple):
    """A placeholder for a value that does not decode."""

    type: str
    """The serializer's type tag."""
    data: bytes
    """The bytes."""
    error: str
    """The reason."""


class ValueDifference(NamedTuple):
    """A place where two values differ."""

    kind: str
    """`added`, `removed` or `changed`."""
    path: Path
    """The keys, fields and indexes that lead there. Of a removed list item, its index before."""
    before: Any
    """The one value; None for `added`."""
    after: Any
    """The other value; None for `removed`."""


class Difference(NamedTuple):
    """The differences between two checkpoints of a thread."""

    thread_id: str
    """The thread."""
    checkpoint_ns: str
    """The namespace; empty for the root graph."""
    before: str
    """The id of the one checkpoint."""
    after: str
    """The id of the other checkpoint."""
    channels: dict[str, list[ValueDifference]]
    """The differences by channel, without equal channels."""
    unchanged: list[str]
    """The channels that both checkpoints have with the same value."""
    metadata: list[ValueDifference]
    """The differences of the metadata."""
    ancestor: str | None
    """The id of the nearest common ancestor, which may be one of the two; None when they have none."""
    steps_before: int | None
    """Steps from the ancestor to `before`; None without an ancestor."""
    steps_after: int | None
    """Steps from the ancestor to `after`; None without an ancestor."""


def differences(before: Any, after: Any, same: Same, path: Path = ()) -> list[ValueDifference]:
    """The differences of two values at a path, in the order of the values."""
    if before is after:
        return []
    if type(before) is type(after) and len(path) < DEEPEST:
        if isinstance(before, Mapping):
            return _of_mappings(before, after, same, path)
        if isinstance(before, Set):
            gone = [ValueDifference("removed", path, each, None) for each in before - after]
            return gone + [ValueDifference("added", path, None, each) for each in after - before]
        fields, others = _fields(before), _fields(after)
        if fields is not None and others is not None:
            # Data that is in no field may differ too.
            return _of_mappings(fields, others, same, path) or _of_whole(before, after, same, path)
        if isinstance(before, (list, tuple)):
            return _of_lists(before, after, same, path)
    return _of_whole(before, after, same, path)


def _of_whole(before: Any, after: Any, same: Same, path: Path) -> list[ValueDifference]:
    if type(before) is type(after) and same(before, after):
        return []
    return [ValueDifference("changed", path, before, after)]


def _of_mappings(before: Mapping[Any, Any], after: Mapping[Any, Any], same: Same, path: Path) -> list[ValueDifference]:
    found = []
    for key, value in before.items():
        where = (*path, _key(key))
        if key in after:
            found += differences(value, after[key], same, where)
        else:
            found.append(ValueDifference("removed", where, value, None))
    found += [
        ValueDifference("added", (*path, _key(key)), None, value) for key, value in after.items() if key not in before
    ]
    return found


def _key(key: Any) -> str | int:
    return key if type(key) in (str, int) else repr(key)


def _of_lists(before: Sequence[Any], after: Sequence[Any], same: Same, path: Path) -> list[ValueDifference]:
    # Each pair is compared once. Otherwise every level of nested lists would double the number of comparisons.
    compared: dict[tuple[int, int], list[ValueDifference]] = {}

    def of_pair(one: int, other: int) -> list[ValueDifference]:
        if (one, other) not in compared:
            compared[one, other] = differences(before[one], after[other], same, (*path, other))
        return compared[one, other]

    start, old_end, new_end = 0, len(before), len(after)
    while start < min(old_end, new_end) and not of_pair(start, start):
        start += 1
    while start < min(old_end, new_end) and not of_pair(old_end - 1, new_end - 1):
        old_end, new_end = old_end - 1, new_end - 1
    old, new = range(start, old_end), range(start, new_end)
    pairs = _pairs_by_id(before, old, after, new)
    if pairs is None:
        pairs = dict(zip(new, old, strict=True)) if len(old) == len(new) else {}
    taken = set(pairs.values())
    found = [ValueDifference("removed", (*path, one), before[one], None) for one in old if one not in taken]
    for other in new:
        if other in pairs:
            found += of_pair(pairs[other], other)
        else:
            found.append(ValueDifference("added", (*path, other), None, after[other]))
    return found


def _pairs_by_id(before: Sequence[Any], old: range, after: Sequence[Any], new: range) -> dict[int, int] | None:
    """Indexes of old items and of the new items with the same id; None when an item has no id or the order changed."""
    old_ids = {_id(before[index]): index for index in old}
    new_ids = {_id(after[index]): index for index in new}
    if None in old_ids or None in new_ids or len(old_ids) < len(old) or len(new_ids) < len(new):
        return None
    pairs = {index: old_ids[id_] for id_, index in new_ids.items() if id_ in old_ids}
    return pairs if list(pairs.values()) == sorted(pairs.values()) else None


def _id(item: Any) -> str | None:
    id_ = item.get("id") if isinstance(item, Mapping) else getattr(item, "id", None)
    return id_ if isinstance(id_, str) else None


def _fields(value: Any) -> dict[str, Any] | None:
    """The fields of a model, a dataclass or a named tuple; None of anything else."""
    if isinstance(value, BaseModel):
        return {**value.__dict__, **(value.__pydantic_extra__ or {})}
    if dataclasses.is_dataclass(value):
        # A field that was never set has no value.
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value) if hasattr(value, each.name)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return dict(value._asdict())
    return None
