"""One `list()` call: which checkpoints are next, chunk by chunk, newest first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from langchain_core.runnables import RunnableConfig

from eventlog.db.query import Op
from eventlog.read import CheckpointRow, Selection, select_checkpoints
from langgraph.checkpoint.eventlog._arguments import limit_of
from langgraph.checkpoint.eventlog._concurrency import REPLAYED, is_replay
from langgraph.checkpoint.eventlog._config import parse_before, parse_selection
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import Reader, affordable
from projections.metadata import filter_json
from snapshots.fold import Folded

__all__ = ["Listing"]

#: Checkpoints of the first chunk, and of the largest: a caller who stops early pays little, one who goes on soon gets
#: the benefit of events that are read once for many checkpoints.
FIRST_CHUNK = 8
LARGEST_CHUNK = 256

#: Rows of the projection that are fetched at first, and at most: each fetch may have to look at all rows that fit the
#: criteria, to find the newest of them.
ROWS = 256
MOST_ROWS = 16384


class Listing:
    """The state of one listing. Validates on creation, before anything is read.

    Raises:
        InvalidInputError: for a config, filter, `before` or limit that is not one.
    """

    def __init__(
        self,
        context: Context,
        reader: Reader,
        config: RunnableConfig | None,
        filter: dict[str, Any] | None,
        before: RunnableConfig | None,
        limit: int | None,
    ) -> None:
        left = limit_of(limit)
        before_id = None if before is None else parse_before(before)
        self._selection = Selection(*parse_selection(config), before_id, filter_json(filter))
        self._statements = context.statements
        self._reader = reader
        self._is_replay = is_replay(config) if config else False
        self._left = left
        self._rows: list[CheckpointRow] = []
        self._after: CheckpointRow | None = None
        self._more = True
        self._size = FIRST_CHUNK
        self._fetch = ROWS

    def next_chunk(self) -> Op[list[Folded] | None]:
        """The next checkpoints, possibly none; None at the end.

        State moves on only behind the last query, so that the operation can be started again.
        """
        if not self._rows and self._more:
            wanted = self._fetch if self._left is None else min(self._fetch, self._left)
            rows = []
            if wanted:
                rows = yield from select_checkpoints(self._statements, self._selection, wanted, self._after)
            self._rows = rows
            self._left = None if self._left is None else self._left - len(rows)
            self._more = bool(rows) and len(rows) == wanted and self._left != 0
            self._after = rows[-1] if rows else None
            self._fetch = min(self._fetch * 4, MOST_ROWS)
        if not self._rows:
            return None
        chunk = affordable(self._rows, self._size)
        folded = yield from self._reader.read_chunk(chunk)
        self._rows = self._rows[len(chunk) :]
        self._size = min(self._size * 2, LARGEST_CHUNK)
        return [replace(each, head=REPLAYED) for each in folded] if self._is_replay else folded
