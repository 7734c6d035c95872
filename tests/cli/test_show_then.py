"""The `eventlog` command: `show` and `diff` at a time and by step."""

from __future__ import annotations

import re
from typing import Any

import pytest

from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.cli.render.output import when
from tests.cli.command import clean_environment, documents, eventlog
from tests.support.adapters import open_saver
from tests.support.checkpoints import checkpoint_of, config_of, converse

pytestmark = pytest.mark.portable

__all__ = ["clean_environment"]  # a fixture


@pytest.fixture
def forked(database_uri: str) -> Any:
    """A line a, b, c, d of steps -1 to 2, and e of step 1 behind b, which is the latest; and when each was saved."""
    with EventLogSaver.from_conn_string(database_uri) as saver:
        for step, (id_, under) in enumerate({"a": None, "b": "a", "c": "b", "d": "c"}.items(), -1):
            _put(saver, id_, under, step)
        _put(saver, "e", "b", 1)
        times = {each.checkpoint_id: each.time for each in saver.log.history("1", kinds=["checkpoint"])}
    return database_uri, times


def _put(saver: EventLogSaver, id_: str, under: str | None, step: int) -> None:
    values = {"x": f"value of {id_}"}
    saver.put(
        config_of("1", under), checkpoint_of(id_, values, {"x": id_}), {"step": step, "source": "loop"}, {"x": id_}
    )


def test_show_at_a_time_shows_the_checkpoint_of_then(forked: Any) -> None:
    """Also of a time as it is shown, in milliseconds; the result says that it is of then."""
    uri, times = forked
    shown = {line[1]: line[0] for line in map(str.split, eventlog(uri, "history", "1").stdout.splitlines()[2:])}
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", time) for time in shown)
    for id_, time in times.items():
        for text in (time.isoformat(), time.isoformat(timespec="milliseconds")):
            done = eventlog(uri, "show", "1", "--at", text)
            assert (done.exit_code, done.stderr) == (0, "")
            assert f"checkpoint  {id_}\n" in done.stdout or text != time.isoformat()
            assert "UTC: the latest checkpoint then, as it was\n" in done.stdout
    (found,) = documents(eventlog(uri, "show", "1", "--at", times["c"].isoformat(), "--json"))
    assert (found["checkpoint_id"], found["at"]) == ("c", times["c"].isoformat())
    assert found["channels"]["x"]["value"] == "value of c"
    assert eventlog(uri, "show", "1", "--at", times["b"].isoformat(), "--channel", "x").stdout == "value of b\n"
    (now,) = documents(eventlog(uri, "show", "1", "--json"))
    assert (now["checkpoint_id"], now["at"]) == ("e", None)


def test_show_at_a_time_says_why_there_is_nothing(forked: Any) -> None:
    uri, times = forked
    done = eventlog(uri, "show", "1", "--at", "2000-01-01T00:00:00Z")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "had no checkpoint in namespace '' at 2000-01-01 UTC" in done.stderr
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.log.prune(["1"])
    done = eventlog(uri, "show", "1", "--at", times["b"].isoformat())
    assert (done.exit_code, done.stdout) == (1, "")
    assert "was erased since" in done.stderr
    for wrong, says in (
        (["--at", "2999-01-01T00:00:00Z"], "in the future"),
        (["--at", "yesterday"], "is not a time with its zone"),
        (["--at", "2026-01-01T00:00:00Z", "--step", "1"], "give one of CHECKPOINT, --at and --step"),
        (["e", "--step", "1"], "give one of CHECKPOINT, --at and --step"),
    ):
        done = eventlog(uri, "show", "1", *wrong)
        assert done.exit_code == 2
        assert says in done.stderr


def test_show_by_step_is_of_the_branch_of_the_latest(forked: Any) -> None:
    """A note names the others; where only others have the step, none is chosen."""
    uri, _ = forked
    done = eventlog(uri, "show", "1", "--step", "1")
    assert done.exit_code == 0
    assert "checkpoint  e\n" in done.stdout
    assert "Several checkpoints are of step 1. This is e, on the branch of the latest one." in done.stderr
    assert "give its id instead of the step: c\n" in done.stderr
    done = eventlog(uri, "show", "1", "--step", "-1")
    assert ("checkpoint  a\n" in done.stdout, done.stderr) == (True, "")
    done = eventlog(uri, "show", "1", "--step", "2")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Other branches have it" in done.stderr
    assert "instead of the step: d" in done.stderr
    for thread_id, says in (("1", "has no checkpoint of step 9"), ("none", "no thread has the id 'none'")):
        done = eventlog(uri, "show", thread_id, "--step", "9")
        assert done.exit_code == 1
        assert says in done.stderr


def test_diff_by_step(forked: Any) -> None:
    uri, _ = forked
    done = eventlog(uri, "diff", "1", "--step", "-1", "--step", "1")
    assert done.stdout.startswith("- a\n+ e\n")
    assert "Several checkpoints are of step 1" in done.stderr
    (found,) = documents(eventlog(uri, "diff", "1", "c", "--step", "1", "--json"))
    assert (found["before"], found["after"], found["ancestor"]) == ("c", "e", "b")
    for wrong in ([], ["a"], ["--step", "1"], ["a", "b", "--step", "1"], ["--step", "1", "--step", "0", "--step", "1"]):
        done = eventlog(uri, "diff", "1", *wrong)
        assert done.exit_code == 2
        assert "give two checkpoints" in done.stderr


async def test_show_says_when_a_relocated_checkpoint_was_saved_first(database_uri: str) -> None:
    async with open_saver("sync-string", database_uri) as saver:
        await converse(saver, ids="abcdef")
        (entry,) = [each async for each in saver.log.history("1", kinds=["checkpoint"], newest_first=True, limit=1)]
        await saver.log.prune(["1"])
        found = await saver.log.inspect(config_of("1"))
    shown = eventlog(database_uri, "show", "1").stdout
    assert f"saved       {when(entry.time)} UTC, event 16\n" in shown
    assert f"relocated   {when(found.recorded_at)} UTC\n" in shown
    (document,) = documents(eventlog(database_uri, "show", "1", "--json"))
    assert document["saved_at"] == entry.time.isoformat() != document["recorded_at"]
