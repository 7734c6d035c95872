"""Forks: whether this process is the one that opened a connection.

A child shares its parent's sockets: each process reads parts of the other's answers, and a session that one of them
ends is over for both. psycopg does not notice. Its pools' worker threads do not exist in the child, so calls would wait
for ever. The child counts the fork once, and each call only compares two numbers.
"""

from __future__ import annotations

import os

__all__ = ["Process"]


class Process:
    """The process in which this object was created."""

    forks = 0
    """The number of forks between this process and its first ancestor with this code."""

    __slots__ = ("made_after", "pid")

    def __init__(self) -> None:
        self.made_after, self.pid = Process.forks, os.getpid()

    @property
    def is_left(self) -> bool:
        """Whether the current process is a child of it."""
        return self.made_after != Process.forks

    def describe(self) -> str:
        """The message of the error: the cause and the next step."""
        return (
            f"this saver or log was opened in process {self.pid}, from which process {os.getpid()} was forked: both "
            "would read from the same sockets, and get each other's answers. Open the saver, and its pool or "
            "connection, after the fork, in each process: in gunicorn's post_fork, Celery's worker_process_init, "
            "FastAPI's lifespan"
        )


def _count() -> None:
    Process.forks += 1


# Windows does not fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count)
