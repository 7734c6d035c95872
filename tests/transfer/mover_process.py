"""Processes that stop before a query of a call, to be killed there.

Run as a program, it answers lines on stdin: each forks a process that carries out a call and stops before the query of
the given number, on either database. It answers with that process's id; or, where the call has no such query, with
"done" once the call is done.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_core.runnables import RunnableConfig

from eventlog.db.async_ import AsyncDriver
from eventlog.db.sync import Driver
from tests.support.adapters import open_saver
from tests.transfer.migrating import open_migrating

__all__ = ["PATIENCE", "Movers", "movers"]

#: Seconds that something may take on a machine with other work.
PATIENCE = 240


class Movers:
    """The program, from outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def kill_before(self, number: int, call: str, mode: str, uri: str, thread_id: str) -> bool:
        """Have a process make a call, and kill it before that query; False where the call was done without one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([number, call, mode, uri, thread_id]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer, "the program ended"
        if answer == "done":
            return False
        os.kill(int(answer), signal.SIGKILL)
        assert self._process.stdout.readline().strip() == "killed"
        return True


@pytest.fixture(scope="module")
def movers() -> Iterator[Movers]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.transfer.mover_process"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Movers(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


@contextmanager
def _stopping_before(number: int) -> Iterator[None]:
    count = 0

    def stop() -> None:
        nonlocal count
        if count == number:
            print(os.getpid(), flush=True)
            time.sleep(PATIENCE)
        count += 1

    sync, async_ = Driver._execute, AsyncDriver._execute

    def execute(self: Driver, conn: Any, query: Any) -> Any:
        stop()
        return sync(self, conn, query)

    async def aexecute(self: AsyncDriver, conn: Any, query: Any) -> Any:
        stop()
        return await async_(self, conn, query)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Driver, "_execute", execute)
        patch.setattr(AsyncDriver, "_execute", aexecute)
        yield


async def _carry_out(number: int, call: str, mode: str, uri: str, thread_id: str) -> None:
    config: RunnableConfig = {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}
    if call in ("export", "import"):
        async with open_saver(f"{mode}-pool", uri) as log_saver:
            make = log_saver.log.export_to if call == "export" else log_saver.log.import_from
            with _stopping_before(number):
                await make(uri, thread_ids=[thread_id], workers=1)
        return
    async with open_migrating(f"{mode}-pool", uri) as saver:
        with _stopping_before(number):
            if call == "get_tuple":
                await saver.aget_tuple(config)
            else:
                await saver.adelete_thread(thread_id)


def main() -> None:
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            asyncio.run(_carry_out(*json.loads(line)))
            print("done", flush=True)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            print("killed", flush=True)
        elif status != 0:
            sys.exit(1)


if __name__ == "__main__":
    main()
