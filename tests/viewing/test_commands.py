"""`eventlog ui`, as a process."""

from __future__ import annotations

import json
import signal
import socket
import sys

import httpx
import pytest

from tests.cli.command import PATIENCE, clean_environment, eventlog, start
from tests.viewing.world import world

__all__ = ["clean_environment", "world"]  # fixtures

TOKEN = "correct-horse-battery"


# --- ui


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ui_serves_the_log_until_it_is_told_to_end(world: str, number: signal.Signals) -> None:
    child = start(world, "ui", "--port", "0", "--json")
    try:
        assert child.stdout is not None
        url = json.loads(child.stdout.readline())["url"]
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            assert client.get("/threads.json").json()["threads"]
            assert client.get("/threads.json", headers={"host": "evil.example"}).status_code == 400
            # An open page does not keep it from ending.
            with client.stream("GET", "/threads/chat/live") as answer:
                assert next(answer.iter_lines()) == ": following"
                child.send_signal(number)
                _, stderr = child.communicate(timeout=PATIENCE)
    finally:
        child.kill()
    assert child.returncode == (0 if number == signal.SIGTERM else 130), stderr
    assert "Traceback" not in stderr
    assert "Stopped." in stderr


def test_ui_answers_at_the_address_that_it_says(world: str) -> None:
    child = start(world, "ui", "--port", "0", "--json", "--host", "127.0.0.2")
    try:
        assert child.stdout is not None
        url = json.loads(child.stdout.readline())["url"]
        assert url.startswith("http://127.0.0.2:")
        assert httpx.get(f"{url}threads.json", timeout=PATIENCE).status_code == 200
        elsewhere = httpx.get(f"{url}threads.json", timeout=PATIENCE, headers={"host": "127.0.0.3"})
        assert elsewhere.status_code == 400
    finally:
        child.kill()
        child.communicate(timeout=PATIENCE)


def test_ui_asks_for_its_token(world: str) -> None:
    child = start(world, "ui", "--port", "0", "--json", "--token", TOKEN, "--host", "0.0.0.0")
    try:
        assert child.stdout is not None
        url = json.loads(child.stdout.readline())["url"].replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            assert client.get("/threads.json").status_code == 401
            assert client.get("/threads.json", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
            assert client.get(f"/threads.json?token={TOKEN}", follow_redirects=True).json()["threads"]
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=PATIENCE)
    finally:
        child.kill()
    assert child.returncode == 0


def test_ui_refuses_what_would_show_the_log_to_everybody(world: str) -> None:
    done = eventlog(world, "ui", "--host", "0.0.0.0")
    assert done.exit_code == 2
    assert "give a --token" in done.stderr
    done = eventlog(world, "ui", "--token", "short")
    assert done.exit_code == 2
    assert "16 ASCII characters" in done.stderr


def test_ui_says_when_its_port_is_taken(world: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = eventlog(world, "ui", "--port", str(port))
    assert done.exit_code == 1
    assert f"cannot listen on port {port} of 127.0.0.1" in done.stderr
    assert "--port 0" in done.stderr


@pytest.mark.parametrize(("command", "module"), [("ui", "starlette"), ("ui", "jinja2"), ("mcp", "mcp")])
def test_a_missing_extra_says_what_to_install(
    world: str, monkeypatch: pytest.MonkeyPatch, command: str, module: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("langgraph.checkpoint.eventlog.")]:
        if name.rpartition(".")[2] in ("ui", "mcp_server") or ".eventlog.ui." in name:
            monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name == module or name.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    done = eventlog(world, command)
    assert done.exit_code == 1
    assert f"pip install 'langgraph-checkpoint-eventlog[cli,{command}]'" in done.stderr
