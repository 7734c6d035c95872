"""``python -m langgraph.checkpoint.eventlog.cli``: the same as ``eventlog``."""

from __future__ import annotations

import sys

from langgraph.checkpoint.eventlog.cli import main

if __name__ == "__main__":
    sys.exit(main())
