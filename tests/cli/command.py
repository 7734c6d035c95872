"""Running the `eventlog` command in tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import typer.main
from click.testing import CliRunner

from langgraph.checkpoint.eventlog.cli.app import app
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, put
from tests.support.server import Server

MODULE = [sys.executable, "-m", "langgraph.checkpoint.eventlog.cli"]
SECRET = "sw0rdfish"
#: Seconds that a process may take on a machine with other work; alone it takes one.
PATIENCE = 240
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
        "EVENTLOG_TELEMETRY",
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
    # Not typer's runner, which makes all commands from their signatures again for each call.
    done = CliRunner().invoke(GROUP, [*dsn, *arguments], **options)
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
        **{"capture_output": True, "encoding": "utf-8", "timeout": PATIENCE, "check": False, **options},
    )


def start(uri: str, *arguments: str) -> subprocess.Popen[str]:
    """Start the command in a process of its own, which can be interrupted."""
    return subprocess.Popen(
        [*MODULE, *arguments],
        env={**os.environ, "EVENTLOG_DSN": uri},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        # Where tests run in the background, the signal may be ignored, and children inherit that.
        preexec_fn=lambda: [signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGTERM)],
    )


def interrupt(child: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> tuple[str, str]:
    """Send a process a signal, once, and wait for its end; returns what it wrote."""
    child.send_signal(number)
    return child.communicate(timeout=PATIENCE)


async def fill(uri: str, thread_id: str, *ids: str, run_id: str | None = None, **settings: Any) -> None:
    """Checkpoints one after the other, each with a write."""
    async with open_saver("sync-string", uri, **settings) as saver:
        config = config_of(thread_id)
        for id_ in ids:
            metadata = {} if run_id is None else {"run_id": run_id}
            config = await put(saver, config, id_, {"x": [id_] * 50}, metadata=metadata)
            await saver.aput_writes(config, [("x", id_)], f"task of {id_}")


async def fill_two_threads(uri: str) -> None:
    await fill(uri, "old", "1", "2", "3")
    await fill(uri, "new", "1")


@pytest.fixture
def uri(server: Server, template: str, new_database: Callable[..., str]) -> str:
    """A log with two threads."""
    return new_database(server.filled(fill_two_threads, template))


def actors(uri: str) -> set[str]:
    """Who the records of operations name."""
    rows = Tables(uri).rows("select {schema}.record_details_v1(body) ->> 'actor' from {schema}.events where kind > 2")
    return {actor for (actor,) in rows}
