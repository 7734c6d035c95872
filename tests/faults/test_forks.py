"""A process that forks after it opened a saver: gunicorn's `--preload`, Celery, multiprocessing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pooler import direct

CHECKOUT = Path(__file__).parents[2]

KINDS = [
    "sync-pool",
    "sync-connection",
    "sync-string",
    "sync-pipeline",
    "async-pool",
    "async-connection",
    "async-string",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_child_is_refused_and_does_no_harm(kind: str, database_uri: str) -> None:
    """Each of its calls says that the saver is to be opened after the fork; the parent's sessions go on.

    Also when the child collects its parent's connections as garbage, or leaves the block that opened them.
    """
    done = subprocess.run(
        # Forking beside a pool's threads is what this is about; Python 3.12 warns of it.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "tests.faults.forking", kind, direct(database_uri)],
        cwd=CHECKOUT,
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert "Traceback" not in done.stderr
