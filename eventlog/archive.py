"""Writing a partition's events to a file, before it is dropped (extra ``archive``: Parquet, through pyarrow)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any
from uuid import uuid4

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import EventLogError, InvalidInputError
from eventlog.partitions import Partition

__all__ = ["Archive"]

#: Events that are in memory at a time: at most so many, and so many bytes of bodies, or one.
PAGE_EVENTS = 1000
PAGE_BYTES = 32 * 1024 * 1024


class Archive:
    """A folder, made when missing, that gets one Parquet file for each partition.

    Raises EventLogError when pyarrow is not installed, InvalidInputError when the folder is a file.
    """

    def __init__(self, folder: Path, statements: Statements) -> None:
        self._folder = folder
        self._statements = statements
        if folder.exists() and not folder.is_dir():
            raise InvalidInputError(f"archive must be a folder: {folder} is a file")
        try:
            self._pyarrow: Any = importlib.import_module("pyarrow")
            self._parquet: Any = importlib.import_module("pyarrow.parquet")
        except ImportError as exc:
            raise EventLogError(
                "archiving needs pyarrow: pip install 'langgraph-checkpoint-eventlog[archive]'"
            ) from exc

    def write(self, partition: Partition) -> Op[Path | None]:
        """Write a partition's events; returns the file, or None when the partition is gone. Run it in one transaction.

        The file is named for the partition, and replaced when it is complete: half-written ones end in ``.part``.
        """
        # Somebody else may be about to drop it: then its file must not be replaced by one without events.
        ((is_there,),) = yield Query(self._statements["lock_partition"], (partition.name,))
        if not is_there:
            return None
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{partition.name}.parquet"
        part = path.with_suffix(f".{uuid4().hex}.part")
        arrow = self._pyarrow
        text, number, time, data = arrow.string(), arrow.int64(), arrow.timestamp("us", tz="UTC"), arrow.binary()
        # The statement's columns. `body` is as stored: a saver with the same serializer can read it.
        schema = arrow.schema(
            {
                "thread_id": text,
                "checkpoint_ns": text,
                "seq": number,
                "recorded_at": time,
                "position": number,
                "kind": arrow.int16(),
                "checkpoint_id": text,
                "base_seq": number,
                "as_of": time,
                "first_at": time,
                "digest": data,
                "body": data,
            }
        )
        last: tuple[Any, ...] = ("", "", 0)
        with self._parquet.ParquetWriter(part, schema, compression="zstd") as writer:
            while True:
                rows = yield Query(
                    self._statements["archive_events"],
                    {
                        "starts_at": partition.starts_at,
                        "ends_at": partition.ends_at,
                        **dict(zip(("thread_id", "checkpoint_ns", "seq"), last, strict=True)),
                        "rows": PAGE_EVENTS,
                        "bytes": PAGE_BYTES,
                    },
                )
                if not rows:
                    break
                columns = zip(zip(*rows, strict=True), schema, strict=True)
                arrays = [arrow.array(list(column), type=field.type) for column, field in columns]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
                last = rows[-1][:3]
        part.replace(path)
        return path
