"""The files of docs/how-to/deploy.md, as they stand there: gunicorn with `preload_app`, and Celery's prefork pool."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from langgraph.checkpoint.eventlog import EventLog, EventLogSaver
from tests.examples.servers import PATIENCE, environment, free_port, running_server
from tests.project.test_docs import DOCS, blocks
from tests.support.server import Server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the page's files, by the names in their first lines."""
    for block in blocks(DOCS / "how-to" / "deploy.md"):
        if block.language == "python" and (name := re.match(r"# ([\w.]+\.py)\n", block.text)):
            (tmp_path / name[1]).write_text(block.text)
    assert {"service.py", "gunicorn.conf.py", "tasks.py"} <= {path.name for path in tmp_path.iterdir()}
    return tmp_path


@pytest.fixture
def uri(server: Server) -> Iterator[str]:
    """A log of this test's own, straight on the server, so that `pg_stat_activity` shows who is connected."""
    name = server.create_database(prefix="deploy")
    with EventLogSaver.from_conn_string(server.uri(name)) as saver:
        saver.setup()
    yield server.uri(name)
    server.drop_database(name)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def connections(uri: str) -> int:
    """How many others are connected to the database."""
    with psycopg.connect(uri) as conn:
        ((count,),) = conn.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
        ).fetchall()
    return int(count)


def threads(uri: str) -> set[str]:
    with EventLog.from_conn_string(uri) as log:
        return {each.thread_id for each in log.threads()}


def test_gunicorn_opens_a_saver_in_each_worker_and_closes_it(folder: Path, uri: str) -> None:
    port, log = free_port(), folder / "server.log"
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--config",
        "gunicorn.conf.py",
        "--bind",
        f"127.0.0.1:{port}",
        "service:app",
    ]
    with running_server(command, port, "/first", folder=folder, log=log, env={"EVENTLOG_DSN": uri}) as url:
        for number in range(20):
            assert httpx.get(f"{url}/thread-{number}").text == "That was message 1."
        assert httpx.get(f"{url}/thread-7").text == "That was message 3."
        assert len(set(re.findall(r"Booting worker with pid: (\d+)", log.read_text()))) == 2
        assert 1 <= connections(uri) <= 2 * 5
    wait_for(lambda: connections(uri) == 0, "connections are left")
    assert "ForkedProcessError" not in log.read_text()
    assert {f"/thread-{number}" for number in range(20)} <= threads(uri)


def test_celery_opens_a_saver_in_each_child_and_closes_it(folder: Path, uri: str) -> None:
    """Over a broker that is a folder."""
    queue, log = folder / "queue", folder / "worker.log"
    queue.mkdir()
    local = "from tasks import celery\n" + "".join(
        f"celery.conf.update({name}={value!r})\n"
        for name, value in {
            "broker_transport_options": {"data_folder_in": str(queue), "data_folder_out": str(queue)},
            "worker_hijack_root_logger": False,
        }.items()
    )
    (folder / "local.py").write_text(local)
    env = environment(
        {"EVENTLOG_DSN": uri, "BROKER_URL": "filesystem://", "PYTHONPATH": str(folder), "C_FORCE_ROOT": "1"}
    )
    command = [sys.executable, "-m", "celery", "--app", "local", "worker", "--concurrency", "2", "--loglevel", "INFO"]
    send = "import local, tasks; [tasks.answer.delay(f'thread-{n}') for n in range(20)]"
    with (
        log.open("w") as output,
        subprocess.Popen(command, cwd=folder, env=env, stdout=output, stderr=output, start_new_session=True) as worker,
    ):
        try:
            subprocess.run([sys.executable, "-c", send], cwd=folder, env=env, check=True, timeout=PATIENCE)
            wanted = {f"thread-{number}" for number in range(20)}
            wait_for(lambda: wanted <= threads(uri) or worker.poll() is not None, "tasks are left")
            assert worker.poll() is None, log.read_text()
            worker.terminate()
            assert worker.wait(PATIENCE) == 0, log.read_text()
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
    wait_for(lambda: connections(uri) == 0, "connections are left")
    assert "ForkedProcessError" not in log.read_text()
    with EventLog.from_conn_string(uri) as reader:
        assert reader.verify().problems == []
