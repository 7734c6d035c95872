"""What differs between two values: structurally, as far as their structure is known.

Lists are compared from both ends. What is left in the middle is matched by id where the items have one, as messages do;
else by place where there are as many on both sides, else some were removed and others added. Mappings are compared by
key, models and dataclasses by field, sets by member. Whatever else there is, is the same or not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, NamedTuple, TypeAlias

from pydantic import BaseModel

__all__ = ["Difference", "ValueDifference", "differences"]

#: What is nested deeper is compared as a whole.
DEEPEST = 40

Path: TypeAlias = "tuple[str | int, ...]"

#: Whether two values of one type that have no structure are the same.
Same: TypeAlias = Callable[[Any, Any], bool]


class ValueDifference(NamedTuple):
    """One place in which two values differ."""

    kind: str
    """`added`, `removed` or `changed`."""
    path: Path
    """Keys, fields and indexes that lead there; of what was removed from a list, the index before."""
    before: Any
    """None for what was added."""
    after: Any
    """None for what was removed."""


class Difference(NamedTuple):
    """What differs between two checkpoints of a thread."""

    thread_id: str
    checkpoint_ns: str
    before: str
    """The one's checkpoint id."""
    after: str
    """The other's."""
    channels: dict[str, list[ValueDifference]]
    """By channel; those that do not differ are not here."""
    unchanged: list[str]
    """The channels that both have, with the same value."""
    metadata: list[ValueDifference]
    ancestor: str | None
    """The id of the nearest checkpoint that both descend from, or that is one of them; None when there is none."""
    steps_before: int | None
    """How many steps the one is from there."""
    steps_after: int | None
    """How many the other is."""


def differences(before: Any, after: Any, same: Same, path: Path = ()) -> list[ValueDifference]:
    """Where two values, to which a path leads, differ, in their order."""
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
            # What is in no field may differ too.
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
    # Each pair is compared once: lists in lists would else be compared twice as often at every level.
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
    """Which new item is which old one, changed perhaps; None when not all have an id, or their order changed."""
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
