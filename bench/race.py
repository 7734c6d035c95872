"""One thread in every saver: each call goes to all savers in turns, and to the floor; all answers must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from langgraph.checkpoint.base import CheckpointTuple

from bench.floors import Encoded, Floors, encoded
from bench.results import EVENTLOG, FLOOR, POSTGRES, Measure
from bench.savers import MeasuredSavers, agree
from bench.server_figures import Server
from bench.timings import Timings

__all__ = ["BY_ID", "LATEST", "NOTHING_CACHED", "Race", "thread"]

LATEST = "get_tuple, latest"
BY_ID = "get_tuple, by id"
NOTHING_CACHED = "get_tuple, nothing cached"

#: The size of the last event's body, found by its primary key.
LAST_BODY = """
select octet_length(body) from eventlog.events where thread_id = %s and checkpoint_ns = '' order by seq desc limit 1
"""


def thread(thread_id: str, checkpoint_id: str | None = None) -> Any:
    """The config of a thread, or of a checkpoint in it."""
    configurable = {"thread_id": thread_id, "checkpoint_ns": ""}
    if checkpoint_id is not None:
        configurable["checkpoint_id"] = checkpoint_id
    return {"configurable": configurable}


class Race:
    """The savers, their times and bytes. Used as a context manager."""

    def __init__(self, uri: str, savers: MeasuredSavers) -> None:
        self.savers = savers
        self.floors = Floors(savers.pool, savers.serde)
        self.server = Server(uri)
        self.timings = Timings(self.server.wal)
        self._conn = psycopg.connect(uri, autocommit=True)
        self._appended = {"put": 0, "put_writes": 0}
        # The bytes of set-up do not count for the workload.
        self._begin = {each.name: self.server.tables(each.tables) for each in savers if each.tables}

    def __enter__(self) -> Race:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()
        self._conn.close()

    def analyze(self) -> None:
        """Bring the planner's statistics up to date for all savers: see `suite.QUIET`. It is not counted."""
        self._conn.execute("analyze")

    def drop(self, *names: str) -> None:
        """Exclude savers from here on."""
        for name in names:
            self.savers.by_name.pop(name, None)

    # --- calls, as LangGraph makes them

    def put(
        self,
        config: Any,
        checkpoint: Any,
        metadata: Any,
        new_versions: Mapping[str, Any],
        *,
        name: str = "put",
        counted: bool = True,
    ) -> Any:
        """`put` by all savers; returns the resulting config."""
        body = self.floors.body(self._appended["put"])
        runs: dict[str, Any] = {
            each.name: lambda saver=each.saver: saver.put(config, checkpoint, metadata, dict(new_versions))
            for each in self.savers
        }
        runs[FLOOR] = lambda: self.floors.put(checkpoint["channel_values"], new_versions, body)
        answer = self.timings.time(name, runs, counted=counted)[EVENTLOG]
        self._appended["put"] = self._last_body(config)
        return answer

    def put_writes(
        self,
        config: Any,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
        *,
        name: str = "put_writes",
        counted: bool = True,
    ) -> None:
        """`put_writes` by all."""
        body = self.floors.body(self._appended["put_writes"])
        runs: dict[str, Any] = {
            each.name: lambda saver=each.saver: saver.put_writes(config, writes, task_id, task_path)
            for each in self.savers
        }
        runs[FLOOR] = lambda: self.floors.put_writes(writes, body)
        self.timings.time(name, runs, counted=counted)
        self._appended["put_writes"] = self._last_body(config)

    def get(
        self, config: Any, *, name: str = LATEST, counted: bool = True, fresh: bool = False
    ) -> CheckpointTuple | None:
        """`get_tuple` by all savers, which must agree; returns our answer.

        Args:
            config: of the checkpoint that is read.
            name: of the measure.
            counted: False to warm up.
            fresh: use savers with empty caches.
        """
        asked = {each.name: each.fresh() if fresh and each.fresh else each.saver for each in self.savers}
        if fresh:
            # The one-time work of a saver's first call is measured by a cold process instead.
            for saver in asked.values():
                saver.get_tuple(thread("missing"))
        runs: dict[str, Any] = {who: lambda saver=saver: saver.get_tuple(config) for who, saver in asked.items()}
        answers: dict[str, CheckpointTuple | None] = self.timings.time(name, runs, counted=counted)
        agree(answers)
        # After the savers: reading the state earlier would warm the caches.
        state = encoded(self.savers.serde, answers[EVENTLOG])
        self.timings.time(name, {FLOOR: lambda: self.floors.get(state)}, counted=counted)
        return answers[EVENTLOG]

    def _state(self, config: Any) -> Encoded:
        """The serialized state that is read, by the incumbent, which caches nothing."""
        return encoded(self.savers.serde, self.savers[POSTGRES].saver.get_tuple(config))

    def _last_body(self, config: Any) -> int:
        row = self._conn.execute(LAST_BODY, (config["configurable"]["thread_id"],)).fetchone()
        assert row is not None
        return int(row[0])

    # --- what it cost

    def bytes(self, workload: str, config: Any = None) -> list[Measure]:
        """WAL, and tables with indexes and TOAST, so far. Nothing is vacuumed before, for any saver.

        The floor is the state that `config` names, once, as serialized.
        """
        floor = sum(len(data) for _, data in self._state(config)) if config is not None else None
        wal = {who: self.timings.wal[who] for who in (EVENTLOG, POSTGRES)}
        tables = {
            each.name: self.server.tables(each.tables) - self._begin[each.name] for each in self.savers if each.tables
        }
        files = {each.name: _size(each.file) for each in self.savers if each.file is not None}
        return [
            Measure(
                workload=workload, name="WAL", unit="bytes", eventlog=wal[EVENTLOG], postgres=wal[POSTGRES], floor=floor
            ),
            Measure(
                workload=workload,
                name="tables",
                unit="bytes",
                eventlog=tables[EVENTLOG],
                postgres=tables[POSTGRES],
                floor=floor,
                others={who: float(size) for who, size in files.items()},
            ),
        ]


def _size(file: Path) -> int:
    """Of SQLite's database, with what is in its WAL and not in the file yet."""
    return sum(each.stat().st_size for each in file.parent.glob(f"{file.name}*"))
