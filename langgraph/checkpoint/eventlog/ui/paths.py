"""Paths that contain ids. An id may contain any character, also a slash, so routes use the encoded path."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote, unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import Scope

__all__ = ["QUOTED", "mount_of", "path_below"]


class _Quoted(Convertor[str]):
    """One segment of a path: percent-encoded in the path, an id as a parameter."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value)

    def to_string(self, value: str) -> str:
        return quote(value, safe="")


QUOTED: Final = "eventlog_quoted"
register_url_convertor(QUOTED, _Quoted())


def mount_of(scope: Scope) -> str:
    """The path at which the application is mounted: empty, or beginning with a slash."""
    return str(scope.get("root_path", "")).rstrip("/")


def path_below(scope: Scope) -> str:
    """The path below the mount, as it was requested: percent-encoded."""
    raw = scope.get("raw_path")
    path = raw.decode("latin-1").partition("?")[0] if raw else quote(scope["path"])
    for mount in (quote(mount_of(scope)), mount_of(scope)):
        if mount and (path == mount or path.startswith(f"{mount}/")):
            path = path[len(mount) :]
            break
    return path or "/"
