"""Writing a partition's events to a file, before it is dropped (extra ``archive``: Parquet, through pyarrow).

The record of the drop has the file's sha256: `verify_archive` compares a file with it.
"""

from __future__ import annotations

import importlib
import re
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import EventLogError, InvalidInputError, LogCorruptedError, ProofError
from eventlog.partitions import Partition

__all__ = ["Archive", "VerifiedArchive", "verify_archive"]

#: Events that are in memory at a time: at most so many, and so many bytes of bodies, or one.
PAGE_EVENTS = 1000
PAGE_BYTES = 32 * 1024 * 1024

#: Bytes of a file that are hashed at a time.
CHUNK_BYTES = 1024 * 1024

#: The names that `setup()` gives. A name written into `partitions` by hand must not lead out of the folder.
_NAME = re.compile("events_[0-9]{8,12}")


class Archive:
    """A folder, created if missing, that gets one Parquet file for each partition.

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

    def write(self, partition: Partition) -> Op[tuple[Path, bytes] | None]:
        """Write a partition's events; returns the file and its sha256, or None if the partition was dropped.

        Run it in one transaction.

        The file is named after the partition. It gets its name when it is complete; incomplete ones end in ``.part``.
        """
        if not _NAME.fullmatch(partition.name):
            raise LogCorruptedError(
                f"a partition is called {partition.name!r} in the table `partitions`, which setup() did not write: it "
                "cannot be archived. Compare the table with the partitions of the table `events`"
            )
        # Another process may be about to drop the partition: then its file must not be replaced by one without events.
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
        digest = _digest(part)
        part.replace(path)
        return path, digest


class VerifiedArchive(NamedTuple):
    """An archive that matches the record of its partition's drop."""

    partition: str
    """The partition."""
    starts_at: datetime
    """Its first moment, inclusive."""
    ends_at: datetime
    """Its end, exclusive."""
    rows: int
    """Its events when it was dropped."""
    dropped_at: datetime
    """The time of the drop."""
    dropped_by: str
    """The database user who dropped it."""


def verify_archive(statements: Statements, file: Any) -> Op[VerifiedArchive]:
    """Compare a file with the record of the drop of its partition, which its name tells.

    Raises:
        InvalidInputError: when it is no file, or not named for a partition that the log has or had.
        ProofError: when it is another file than was written, or not final, because the partition is still there.
    """
    if not isinstance(file, (str, Path)) or not (path := Path(file)).is_file():
        raise InvalidInputError(f"archive must be a file that `retain` wrote: {file!r} is not a file")
    name = path.name.removesuffix(".parquet")
    rows = (yield Query(statements["dropped_partition"], (name,))) if _NAME.fullmatch(name) else []
    if not rows:
        raise InvalidInputError(
            f"{path.name} is not named for a partition of this log, as events_20260801.parquet is: give it the name "
            "that it was written under, or connect to its log"
        )
    ((starts_at, ends_at, count, dropped_at, dropped_by, digest),) = rows
    if dropped_at is None:
        raise ProofError(f"partition {name} was not dropped yet: verify its archive after retain() has dropped it")
    if digest is None:
        raise ProofError(f"partition {name} was dropped without an archive: the log has no record of this file")
    if (found := _digest(path)) != bytes(digest):
        raise ProofError(
            f"{path} is not the file that was written before partition {name} was dropped: its sha256 is "
            f"{found.hex()}, not {bytes(digest).hex()}. It was altered or is incomplete: use another copy"
        )
    return VerifiedArchive(name, starts_at, ends_at, count, dropped_at, dropped_by)


def _digest(path: Path) -> bytes:
    """The sha256 of a file."""
    hashed = sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            hashed.update(chunk)
    return hashed.digest()
