"""Running the `eventlog` command in tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from langgraph.checkpoint.eventlog.cli.app import app
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, put

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
MODULE = [sys.executable, "-m", "langgraph.checkpoint.eventlog.cli"]
SECRET = "sw0rdfish"
#: Markup, an escape sequence and a line break: all of it must be read as it is, on one line.
ODD = "[red]odd[/red]\x1b[31m\n:smile:é"

GROUP = typer.main.get_command(app)
COMMANDS: dict[str, Any] = GROUP.commands  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the developer's own gets in; colours must not depend on where tests run either."""
    for name in (
        "EVENTLOG_DSN",
        "EVENTLOG_SCHEMA",
        "FORCE_COLOR",
        "NO_COLOR",
        "GITHUB_ACTIONS",
        "COLUMNS",
        "LANGGRAPH_AES_KEY",
    ):
        monkeypatch.delenv(name, raising=False)


def eventlog(uri: str | None, *arguments: str, **options: Any) -> Any:
    """Run the command in this process, with everything that it wrote; a bug in it is raised."""
    dsn = [] if uri is None else ["--dsn", uri]
    done = CliRunner().invoke(app, [*dsn, *arguments], **options)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert "Traceback" not in done.stderr
    return done


def documents(done: Any) -> list[dict[str, Any]]:
    """What it wrote as JSON: nothing else may be there."""
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def process(uri: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [*MODULE, *arguments],
        env={**os.environ, "EVENTLOG_DSN": uri},
        **{"capture_output": True, "encoding": "utf-8", "timeout": 60, "check": False, **options},
    )


async def fill(uri: str, thread_id: str, *ids: str, run_id: str | None = None, **settings: Any) -> None:
    """Checkpoints one after the other, each with a write."""
    async with open_saver("sync-string", uri, **settings) as saver:
        config = config_of(thread_id)
        for id_ in ids:
            metadata = {} if run_id is None else {"run_id": run_id}
            config = await put(saver, config, id_, {"x": [id_] * 50}, metadata=metadata)
            await saver.aput_writes(config, [("x", id_)], f"task of {id_}")


@pytest.fixture
async def uri(database_uri: str) -> str:
    """A log with two threads."""
    await fill(database_uri, "old", "1", "2", "3")
    await fill(database_uri, "new", "1")
    return database_uri


def actors(uri: str) -> set[str]:
    """Who the records of operations name."""
    rows = Tables(uri).rows(
        "select convert_from(substr(body, 2), 'UTF8')::jsonb ->> 'actor' from {schema}.events where kind > 2"
    )
    return {actor for (actor,) in rows}
