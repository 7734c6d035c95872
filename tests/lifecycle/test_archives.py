"""Archives: named for a partition and nothing else, and checked against the record of its drop."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from eventlog.archive import Archive
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError, LogCorruptedError, ProofError
from eventlog.partitions import Partition
from tests.cli.command import clean_environment, documents, eventlog
from tests.support.adapters import POOLS
from tests.support.aging import DAY, Log, log

__all__ = ["clean_environment", "log"]  # fixtures


async def archive(log: Log, folder: Path, history: int = 5) -> list[Path]:
    await log.grow("1", *(f"c{number}" for number in range(4)), days=1)
    log.clock.advance(10 * DAY)
    archives: list[Path] = (await log.saver.log.retain(history * DAY, archive=folder)).archives
    assert archives
    return archives


@pytest.mark.portable
@POOLS
async def test_an_archive_is_checked_against_the_record_of_its_drop(log: Log, tmp_path: Path) -> None:
    """The file as it was written, and no other; the record itself is sealed."""
    files = await archive(log, tmp_path / "old")
    for file in files:
        found = await log.saver.log.verify_archive(file)
        assert (f"{found.partition}.parquet", found.dropped_by) == (file.name, "postgres")
    found = documents(eventlog(log.uri, "archive", "verify", str(files[0]), "--json"))[0]
    assert found["partition"] == files[0].stem
    assert "The file is the archive of partition" in eventlog(log.uri, "archive", "verify", str(files[0])).stdout

    whole = files[0].read_bytes()
    for damaged in (whole[: len(whole) // 2], whole + b"x", b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        files[0].write_bytes(damaged)
        with pytest.raises(ProofError, match="altered or is incomplete"):
            await log.saver.log.verify_archive(file=files[0])
    assert eventlog(log.uri, "archive", "verify", str(files[0])).exit_code == 1
    files[0].write_bytes(files[1].read_bytes())
    with pytest.raises(ProofError):
        await log.saver.log.verify_archive(str(files[0]))

    await log.saver.log.seal()
    assert (await log.saver.log.verify()).problems == []
    log.tables.run(f"update {{schema}}.partitions set archive = '' where name = '{files[0].stem}'")  # type: ignore[arg-type]
    problems = (await log.saver.log.verify()).problems
    assert [each.what for each in problems] == [f"`partitions` has another row for {files[0].stem} than was sealed"]


@POOLS
async def test_files_that_are_no_archive_are_refused_with_the_reason(log: Log, tmp_path: Path) -> None:
    files = await archive(log, tmp_path / "old")
    standing = log.partitions()[-1].removeprefix("eventlog.")
    here = tmp_path / f"{standing}.parquet"
    here.touch()
    with pytest.raises(ProofError, match="was not dropped yet"):
        await log.saver.log.verify_archive(here)
    other = tmp_path / "events_19990101.parquet"
    other.touch()
    for bad in (other, tmp_path / "none", tmp_path, tmp_path / "old", "", 1, None, "a\0b"):
        with pytest.raises(InvalidInputError):
            await log.saver.log.verify_archive(bad)
    assert eventlog(log.uri, "archive", "verify", str(other)).exit_code == 2
    log.tables.run("update {schema}.partitions set archive = null")
    with pytest.raises(ProofError, match="without an archive"):
        await log.saver.log.verify_archive(files[0])


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "events_20260101/../../x", "..", "", "events_2026", "x", "events_2026010\u0661"]
)
def test_a_partitions_name_cannot_lead_out_of_the_folder(name: str, tmp_path: Path) -> None:
    """It is checked before anything is asked or written."""
    partition = Partition(name, *[None] * 2, 0, 0)  # type: ignore[arg-type]
    folder = tmp_path / "a" / "b"
    with pytest.raises(LogCorruptedError, match="did not write"):
        next(Archive(folder, Statements("eventlog")).write(partition))
    assert not folder.exists()


@POOLS
async def test_retain_refuses_a_partition_that_was_renamed(log: Log, tmp_path: Path) -> None:
    """By the log's owner, in the catalogue and in the table: nothing is written, and nothing dropped."""
    await log.grow("1", *(f"c{number}" for number in range(4)), days=1)
    log.clock.advance(10 * DAY)
    name = log.partitions()[0].removeprefix("eventlog.")
    with psycopg.connect(log.uri, autocommit=True) as conn:
        conn.execute(f'alter table eventlog.{name} rename to "../../x"'.encode())
        conn.execute("update eventlog.partitions set name = '../../x' where name = %s", (name,))
    with pytest.raises(LogCorruptedError, match="cannot be archived"):
        await log.saver.log.retain(5 * DAY, archive=tmp_path / "a" / "b")
    assert list(tmp_path.rglob("*.p*")) == []
    assert log.tables.rows("select dropped_at from {schema}.partitions where name = '../../x'") == [(None,)]
