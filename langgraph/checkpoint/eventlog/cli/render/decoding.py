"""Decoding for the command: nothing runs that the data names, and a value that does not decode hides no other.

Beside what `eventlog.format.strict` makes of types that are not built, `Decoder` has:

    {"$type": "undecodable", "serialized_as": …, …}         a value that does not decode; pickles are never loaded
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.errors import InvalidInputError
from eventlog.format.msgpack_guard import check
from eventlog.format.strict import MSGPACK_TAG, StrictSerializer
from langgraph.checkpoint.eventlog.viewing.decoding import undecodable

__all__ = ["Decoder", "allowed_types"]

_ALLOWED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def allowed_types(texts: Iterable[str] | None) -> frozenset[tuple[str, str]]:
    """The modules and classes that `--allow` names, each as ``package.module:Class``; raises InvalidInputError."""
    for text in texts or ():
        if not _ALLOWED.fullmatch(text):
            raise InvalidInputError(f"--allow: {text!r} is not a class: write it as package.module:Class")
    return frozenset((module, name) for module, _, name in (text.partition(":") for text in texts or ()))


class Decoder(StrictSerializer):
    """A serializer that reads, and never fails: what does not decode becomes data that says so.

    Args:
        allow: modules and classes to build beside those on LangGraph's strict list.
        trust: build every type that the data names. Only for data from people who may run code here.
    """

    def __init__(self, allow: frozenset[tuple[str, str]] = frozenset(), *, trust: bool = False) -> None:
        super().__init__(allow)
        # Never pickles: they run code as they load.
        self._all = JsonPlusSerializer(allowed_json_modules=True, allowed_msgpack_modules=True) if trust else None
        self.refused: Counter[tuple[str, str]] = Counter()
        """Modules and names that were not on the list, and how many values had them."""

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """The value, with data in the place of objects that are not built."""
        type_, stored = data
        try:
            if self._all is None:
                return super().loads_typed(data)
            if type_ == MSGPACK_TAG:
                check(stored)
            return self._all.loads_typed(data)
        except Exception as exc:
            # Decoders raise what they like, and so do trusted classes; one such value must not hide the others.
            return undecodable(type_, stored, f"{type(exc).__name__}: {exc}")

    def _allows(self, module: Any, name: Any) -> bool:
        is_allowed = super()._allows(module, name)
        if not is_allowed:
            self.refused[str(module), str(name)] += 1
        return is_allowed
