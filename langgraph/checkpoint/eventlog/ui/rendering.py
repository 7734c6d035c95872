"""The environment in which the viewer's templates are rendered: every inserted text is escaped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from langgraph.checkpoint.eventlog.ui import text, values
from langgraph.checkpoint.eventlog.ui.lanes import lanes
from langgraph.checkpoint.eventlog.viewing.messages import as_conversation
from langgraph.checkpoint.eventlog.viewing.values import message_document

__all__ = ["templates"]

_FILTERS = {
    "count": text.count,
    "duration": text.duration,
    "label": text.label,
    "measured": text.measured,
    "namespace_name": text.namespace_name,
    "path": values.path_text,
    "plain": text.plain,
    "plural": text.plural,
    "preview": values.preview,
    "said": values.said,
    "segment": text.segment,
    "short": text.short,
    "shortened": text.shortened,
    "size": text.size,
    "value": values.value,
    "version": text.version,
    "visible": text.visible,
    "when": text.when,
    "when_text": text.when_text,
}


@cache
def templates() -> Environment:
    """The environment of the templates. They get `doc`, `request`, `text_difference`, and `url(path, **query)`."""
    environment = Environment(
        loader=PackageLoader("langgraph.checkpoint.eventlog.ui"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_sound,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters.update(_FILTERS)
    environment.globals.update(
        changed_fields=values.changed_fields,
        conversation=_conversation,
        filters=_filters,
        is_cut=values.is_cut,
        lanes=lanes,
        stylesheet=_stylesheet(),
    )
    return environment


def _sound(value: object) -> object:
    """A text that UTF-8 can encode: a lone surrogate would end the response."""
    if type(value) is str and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def _conversation(tree: Any) -> list[dict[str, Any]] | None:
    """The documents of messages, for a list of messages or a single one; None for anything else."""
    messages = as_conversation(tree)
    return None if messages is None else list(map(message_document, messages))


def _filters(document: Mapping[str, Any], but: str | None = None) -> list[str]:
    """The metadata filters of a document's query, each as ``key=value``, without the filter `but`."""
    found = document["query"]["filter"]
    return [text for key, wanted in found.items() if (text := f"{key}={_filter_value(wanted)}") != but]


def _filter_value(wanted: Any) -> str:
    """A value in the form that `metadata_filter` reads: JSON, or plain text if it does not parse as JSON."""
    if isinstance(wanted, str):
        with suppress(ValueError, RecursionError):
            json.loads(wanted)
            return json.dumps(wanted, ensure_ascii=False)
        return wanted
    return json.dumps(wanted, ensure_ascii=False)


def _stylesheet() -> Markup:
    """The style of exported pages, which have it inside."""
    folder = files("langgraph.checkpoint.eventlog.ui") / "static"
    return Markup("\n").join(Markup((folder / name).read_text("utf-8")) for name in ("app.css", "timeline.css"))
