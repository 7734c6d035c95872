"""Servers of examples: started on a free port of loopback, stopped by their process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

__all__ = ["EXAMPLES", "PATIENCE", "environment", "free_port", "running_server"]

EXAMPLES = Path(__file__).parents[2] / "examples"

#: In seconds: against hanging alone.
PATIENCE = 240

#: What would make the programs ask a server on the internet, or send something there.
ELSEWHERE = ("LANGSMITH", "LANGCHAIN", "LANGGRAPH", "OPENAI", "MODEL")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program: the test's, without what would lead elsewhere, and `env`."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith(ELSEWHERE)}, **env}


@contextmanager
def running_server(
    command: Sequence[str | Path], port: int, probe: str, *, folder: Path, log: Path, env: Mapping[str, str]
) -> Iterator[str]:
    """Run a server; yields its URL once it answers at the path `probe`.

    Args:
        folder: where it runs.
        log: the file that gets what it writes.
        env: its environment, beside the test's.
    """
    url = f"http://127.0.0.1:{port}"
    with (
        log.open("a") as output,
        # A session of its own: what does not end in time is killed with its workers, and nothing else.
        subprocess.Popen(
            command, cwd=folder, env=environment(env), stdout=output, stderr=output, start_new_session=True
        ) as server,
    ):
        try:
            _wait(server, url + probe, log)
            yield url
        finally:
            _stop(server)


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            pass  # It does not listen yet.
        assert server.poll() is None, f"the server ended:\n{log.read_text()}"
        assert time.monotonic() < until, f"the server does not answer:\n{log.read_text()}"
        time.sleep(0.05)


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(server.pid, signal.SIGKILL)
        raise
