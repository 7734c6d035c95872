"""Logs as released versions have left them: a dump of each, and what its checkpoints read as.

A folder for each version: `dump.sql.gz`, plain SQL that any supported PostgreSQL takes, and `reading.json.gz`. What is
in them is what `tests.support.full_log` wrote. `python -m tests.versions.upgrades.make` makes those of this version.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import psycopg
from langchain_core.messages import BaseMessage

from tests.support.checkpoints import Tables
from tests.support.full_log import Reading, read

__all__ = ["DUMP", "FOLDER", "READING", "VERSIONS", "expected", "read_as_data", "restore"]

FOLDER = Path(__file__).parent
DUMP, READING = "dump.sql.gz", "reading.json.gz"

#: Those that are stored.
VERSIONS = sorted(path.name for path in FOLDER.iterdir() if (path / DUMP).exists())


def restore(version: str, uri: str) -> None:
    """Load the dump of a version into an empty database."""
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute(gzip.decompress((FOLDER / version / DUMP).read_bytes()))


def expected(version: str) -> Any:
    """What a version's log reads as: what `read_as_data` gave when it was stored."""
    return json.loads(gzip.decompress((FOLDER / version / READING).read_bytes()))


async def read_as_data(uri: str) -> tuple[Reading, Any]:
    """What a log says, and the same as plain data, which no later version of anything reads differently."""
    reading = await read(uri)
    usage = Tables(uri).rows("select thread_id, run_id, events, total_tokens from eventlog_views.usage order by 1, 2")
    data = {
        "checkpoints": {"/".join(key): found._asdict() for key, found in sorted(reading.tuples.items())},
        "seals": reading.seals,
        "usage": usage,
    }
    return reading, json.loads(json.dumps(data, default=_as_data, sort_keys=True))


def _as_data(value: Any) -> Any:
    assert isinstance(value, BaseMessage), f"{type(value)} has no plain form here"
    usage = getattr(value, "usage_metadata", None)
    return {"message": value.type, "id": value.id, "content": value.content, "usage": usage}
