"""One saver in its own process, for measurements that earlier work would spoil: a cold start, and memory.

    python -m bench.probe cold|read|list|list20|write eventlog|postgres URI THREAD

Prints one line of JSON. Only the requested saver is imported.
"""

from __future__ import annotations

import time

STARTED = time.perf_counter()

import contextlib  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

__all__ = ["ask", "opened"]

#: Bytes of a state, of the channels that it consists of, and how often one of them changes.
STATE = 5_000_000
CHANNELS = 50
#: Of the writer: each of them a whole new state.
WRITTEN = 25


def ask(what: str, who: str, uri: str, thread_id: str) -> dict[str, float]:
    """Run it in a new process, and add how long that took from outside, as ``whole``: seconds.

    Raises:
        subprocess.CalledProcessError: when it fails.
    """
    started = time.perf_counter()
    command = [sys.executable, "-m", "bench.probe", what, who, uri, thread_id]
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    whole = time.perf_counter() - started
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    return {**json.loads(done.stdout), "whole": whole}


@contextlib.contextmanager
def opened(who: str, uri: str) -> Iterator[Any]:
    """The saver, on a connection as in its guide, opened like in an application."""
    if who == "eventlog":
        from langgraph.checkpoint.eventlog import EventLogSaver

        with EventLogSaver.from_conn_string(uri) as ours:
            yield ours
    else:
        from langgraph.checkpoint.postgres import PostgresSaver

        with PostgresSaver.from_conn_string(uri) as theirs:
            yield theirs


def _import(who: str) -> None:
    if who == "eventlog":
        import langgraph.checkpoint.eventlog
    else:
        import langgraph.checkpoint.postgres  # noqa: F401


def cold(who: str, uri: str, thread_id: str) -> dict[str, float]:
    """The first read of a thread: seconds of importing, and of opening the saver and reading; the messages found."""
    _import(who)
    imported = time.perf_counter()
    with opened(who, uri) as saver:
        found = saver.get_tuple(_thread(thread_id))
        read = time.perf_counter()
    messages = len(found.checkpoint["channel_values"]["messages"])
    return {"import": imported - STARTED, "read": read - imported, "messages": messages}


def memory(what: str, who: str, uri: str, thread_id: str) -> dict[str, float]:
    """The most memory that the process had, above what it had when the saver was open and warm: bytes."""
    with opened(who, uri) as saver:
        saver.get_tuple(_thread("missing"))
        before = _resident()
        # Linux counts the peak again from here.
        Path("/proc/self/clear_refs").write_text("5")
        {"read": _read, "list": _list, "list20": _list20, "write": _write}[what](saver, thread_id)
        return {"peak": _resident("VmHWM") - before}


def _read(saver: Any, thread_id: str) -> None:
    assert len(saver.get_tuple(_thread(thread_id)).checkpoint["channel_values"]) == CHANNELS


def _list(saver: Any, thread_id: str) -> None:
    assert sum(1 for _ in saver.list(_thread(thread_id))) > 0


def _list20(saver: Any, thread_id: str) -> None:
    assert sum(1 for _ in saver.list(_thread(thread_id), limit=20)) > 0


def _write(saver: Any, thread_id: str) -> None:
    from bench.states import put_states

    put_states([saver], thread_id, count=WRITTEN, channels=1, size=STATE)


def _thread(thread_id: str) -> Any:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def _resident(which: str = "VmRSS") -> int:
    """Bytes, as Linux has them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{which}:")]
    return int(line.split()[1]) * 1024


def main() -> None:
    """Do what the command line says."""
    what, who, uri, thread_id = sys.argv[1:]
    print(json.dumps(cold(who, uri, thread_id) if what == "cold" else memory(what, who, uri, thread_id)))


if __name__ == "__main__":
    main()
