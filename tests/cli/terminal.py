"""The `eventlog` command on a terminal of its own: what a person would see."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from typing import NamedTuple

from tests.cli.command import MODULE

SGR = re.compile(r"\x1b\[[0-9;]*m")


class Seen(NamedTuple):
    """What was on the terminal in the end."""

    code: int
    raw: str

    @property
    def lines(self) -> list[str]:
        """Without colours."""
        return SGR.sub("", self.raw).split("\n")


def on_terminal(uri: str, *arguments: str, columns: int = 80, **environment: str) -> Seen:
    """Run the command on a pseudo-terminal of so many columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {
        **os.environ,
        "EVENTLOG_DSN": uri,
        "TERM": "xterm-256color",
        "PYTHONIOENCODING": "utf-8",
        **environment,
    }
    with subprocess.Popen([*MODULE, *arguments], env=variables, stdin=theirs, stdout=theirs, stderr=theirs) as running:
        os.close(theirs)
        seen = b""
        # Linux ends the terminal with an error when no process has it open any more.
        while piece := _read(ours):
            seen += piece
        code = running.wait()
    os.close(ours)
    return Seen(code, seen.decode().replace("\r\n", "\n"))


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""
