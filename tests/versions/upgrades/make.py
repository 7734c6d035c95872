"""Stores a log as this version leaves it: ``python -m tests.versions.upgrades.make``.

Run it once for each release, as the last thing before it, and never again after it: what others have in their databases
does not change either. As long as the version is not released, run it again whenever SQL has changed.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
from importlib import metadata
from typing import Any

from tests.support.full_log import write_full_log
from tests.support.server import run_server
from tests.versions.upgrades import DUMP, FOLDER, READING, read_as_data

#: What a new pg_dump writes, and an older server or psycopg does not take.
TOO_NEW = ("\\restrict ", "\\unrestrict ", "SET transaction_timeout ")


def main() -> None:
    """Write a log on a server of its own, and store its dump and what it reads as."""
    folder = FOLDER / metadata.version("langgraph-checkpoint-eventlog")
    with run_server() as server:
        uri = server.uri(server.create_database())
        asyncio.run(write_full_log(uri))
        _, reading = asyncio.run(read_as_data(uri))
        dump = subprocess.run(
            [
                *(
                    server.programs / "pg_dump",
                    "--schema=eventlog",
                    "--schema=eventlog_views",
                    "--no-owner",
                    "--no-privileges",
                ),
                *("--rows-per-insert=50", uri),
            ],
            check=True,
            capture_output=True,
            encoding="utf-8",
        ).stdout
    lines = [line for line in dump.splitlines(keepends=True) if not line.startswith(TOO_NEW)]
    folder.mkdir(exist_ok=True)
    _store(folder / DUMP, "".join(lines))
    _store(folder / READING, json.dumps(reading, sort_keys=True))


def _store(path: Any, text: str) -> None:
    # No time in it: the same text is the same file.
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
