"""The `eventlog` command over many threads: `threads` with its options, `delete --filter`, `prune --all`."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer

from langgraph.checkpoint.eventlog import EventLogSaver, verify_receipt
from langgraph.checkpoint.eventlog.cli.commands import erase
from langgraph.checkpoint.eventlog.cli.parsing import criteria
from tests.cli.command import clean_environment, documents, eventlog, start
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, put
from tests.support.clock import Clock
from tests.support.pooler import direct
from tests.support.server import Server
from tests.support.signing import make_keys

__all__ = ["clean_environment"]  # a fixture

DAY = timedelta(days=1)


async def fill_five_threads(uri: str) -> None:
    """Of two users; each has two checkpoints from 40 days ago, and one from now."""
    clock = Clock(uri, behind=40 * DAY)
    async with open_saver("sync-string", uri, partition_interval="day", partitions_ahead=1) as saver:
        await saver.setup()
        ends: dict[str, Any] = {}
        for number, thread_id in enumerate(("a", "b", "c", "d", "e")):
            config, metadata = config_of(thread_id), {"user_id": "bob" if thread_id == "c" else "ada", "n": number}
            for id_ in ("1", "2"):
                config = await put(saver, config, id_, {"x": [id_] * 50 * (number + 1)}, metadata=metadata)
            ends[thread_id] = config
        clock.advance(40 * DAY)
        for thread_id, config in ends.items():
            config = await put(saver, config, "3", {"x": 3}, metadata={"step": 3, "ok": True, "code": "3"})
            if thread_id == "d":
                await saver.aput_writes(config, [("__interrupt__", ["go on?"])], "task")
            if thread_id == "e":
                await saver.aput_writes(config, [("__error__", "no luck")], "task")


@pytest.fixture
def uri(server: Server, new_database: Callable[..., str]) -> str:
    return new_database(server.filled(fill_five_threads))


def names(uri: str, *arguments: str) -> str:
    return "".join(each["thread_id"] for each in documents(eventlog(uri, "threads", *arguments, "--json")))


# --- threads


def test_threads_are_filtered_sorted_and_paged(uri: str) -> None:
    assert names(uri) == "edcba"
    assert names(uri, "--filter", "user_id=ada") == "edba"
    assert names(uri, "--filter", "user_id=ada", "--filter", "n=1") == "b"
    assert names(uri, "--filter", "user_id=bob", "--filter", "n=1") == ""
    # Values that are JSON count as such, with quotes they are texts.
    assert names(uri, "--filter", "step=3", "--filter", "ok=true", "--filter", 'code="3"') == "edcba"
    assert names(uri, "--filter", "code=3") == ""
    assert names(uri, "--sort", "id", "--limit", "2") == "ab"
    assert names(uri, "--sort", "size", "--filter", "user_id=bob") == "c"
    assert names(uri, "--sort", "events", "--limit", "2") == "de"
    with EventLogSaver.from_conn_string(uri) as saver:
        times = {each.thread_id: each.active_at for each in saver.log.threads()}
    since = times["d"]
    assert since is not None
    assert names(uri, "--since", since.isoformat()) == "ed"
    for sort, order in (("id", "abcde"), ("events", "deabc"), ("size", names(uri, "--sort", "size"))):
        found, after = "", list[str]()
        while True:
            done = eventlog(uri, "threads", "--sort", sort, "--limit", "2", *after, "--json")
            found += "".join(each["thread_id"] for each in documents(done))
            if not (after := re.findall(r"(--after) (\S+)", done.stderr)):
                break
            after = list(after[0])
        assert found == order


def test_threads_say_where_they_stand(uri: str) -> None:
    found = {each["thread_id"]: each["status"] for each in documents(eventlog(uri, "threads", "--json"))}
    assert found == {"a": "idle", "b": "idle", "c": "idle", "d": "waiting", "e": "failed"}
    shown = eventlog(uri, "threads").stdout
    assert re.search(r"^d +waiting ", shown, re.MULTILINE)
    assert re.search(r"^e +failed ", shown, re.MULTILINE)


def test_a_page_after_a_thread_that_is_gone(uri: str) -> None:
    """Its place is in its id alone where that is the order."""
    assert names(uri, "--sort", "id", "--after", "bb") == "cde"
    done = eventlog(uri, "threads", "--sort", "size", "--after", "bb")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "thread 'bb' is not there" in done.stderr
    assert names(uri, "--after", "d") == "cba"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--filter", "user_id"], "write KEY=VALUE, such as user_id=ada"),
        (["--filter", "=ada"], "write KEY=VALUE"),
        (["--filter", "a=1", "--filter", "a=2"], "'a' is given twice"),
        (["--sort", "name"], "sort must be 'activity' or 'size' or 'events' or 'id', not 'name'"),
        (["--since", "yesterday"], "2026-11-22T10:30:00Z"),
        (["--sort", "size", "--before", "2026-11-22T10:30:00Z"], "--before goes with the order by activity"),
        (["--after", "a", "--before", "2026-11-22T10:30:00Z"], "--before goes with the order by activity"),
        (["--filter", "a=1e999"], "filter must be JSON"),
    ],
)
def test_wrong_criteria_are_usage_errors(uri: str, arguments: list[str], why: str) -> None:
    done = eventlog(uri, "threads", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert why in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=ada", "ada"),
        ("a=3", 3),
        ("a=1.5", 1.5),
        ("a=true", True),
        ("a=null", None),
        ('a="3"', "3"),
        ("a=", ""),
        ("a=b=c", "b=c"),
        ("a=NaN", "NaN"),
        ("a=-Infinity", "-Infinity"),
        ('a={"b": [1]}', {"b": [1]}),
        ("a={b", "{b"),
        ("a=007", "007"),
        ("a=" + "[" * 99999, "[" * 99999),
    ],
)
def test_values_are_json_where_they_parse_and_texts_otherwise(text: str, value: Any) -> None:
    assert criteria([text]) == {"a": value}
    assert criteria([]) is criteria(None) is None
    with pytest.raises(typer.BadParameter):
        criteria([text, "a=another"])


# --- delete --filter


@pytest.mark.portable
def test_deleting_by_metadata_takes_all_pages(uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the dry run shows goes, over all pages; others stay. Each has a receipt, as any deleted thread."""
    monkeypatch.setattr(erase, "PAGE", 2)
    would = documents(eventlog(uri, "delete", "--filter", "user_id=ada", "--dry-run", "--json"))
    assert [each["thread_id"] for each in would] == ["a", "b", "d", "e"]
    did = documents(eventlog(uri, "delete", "--filter", "user_id=ada", "--yes", "--json", "--actor", "ada"))
    assert did == would
    assert names(uri) == "c"
    keys = make_keys(tmp_path)
    for each in did:
        receipt = eventlog(uri, "receipt", "sign", each["thread_id"], "--key", str(keys.private)).stdout
        (erasure,) = verify_receipt(receipt, keys.public).erasures
        assert (erasure.operation, erasure.actor, erasure.events) == ("delete_thread", "ada", each["events"])
    again = eventlog(uri, "delete", "--filter", "user_id=ada", "--yes")
    assert (again.exit_code, again.stdout) == (0, "Nothing to erase.\n")
    purged = eventlog(uri, "delete", "--filter", "user_id=ada", "--yes", "--purge")
    assert purged.exit_code == 1
    assert "purge them by their ids" in " ".join(purged.stderr.split())


def test_a_thread_that_cannot_be_deleted_does_not_keep_the_others(uri: str) -> None:
    with psycopg.connect(direct(uri)) as conn:
        conn.execute("select from eventlog.streams where thread_id = 'b' for update")
        waits = f"{uri}{'&' if '?' in uri else '?'}options=-c%20lock_timeout%3D100ms"
        done = eventlog(waits, "delete", "--filter", "user_id=ada", "--yes")
    assert (done.exit_code, names(uri)) == (1, "cb")
    assert "Thread 'b' was left as it is" in done.stderr


def test_a_number_that_finds_nothing_is_named_with_the_way_to_write_the_text(uri: str) -> None:
    for arguments in (["delete", "--yes"], ["threads"]):
        done = eventlog(uri, *arguments, "--filter", "user_id=12345")
        assert (
            """12345 counts as JSON, not as text: to look for the text, write --filter 'user_id="12345"'"""
            in " ".join(done.stderr.split())
        )


def test_only_threads_that_the_question_showed_are_deleted(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one that was begun meanwhile, nor one that does not match any more."""
    monkeypatch.setattr(erase, "is_interactive", lambda: True)
    monkeypatch.setattr(erase, "PAGE", 2)

    def meanwhile(_: Any, question: str) -> None:
        with psycopg.connect(direct(uri), autocommit=True) as conn:
            saver = EventLogSaver(conn)
            for thread_id, user in (("b", "bob"), ("new", "ada")):
                saver.delete_thread(thread_id)
                checkpoint: Any = {"v": 4, "id": "9", "ts": "", "channel_values": {}, "channel_versions": {}}
                saver.put(config_of(thread_id), {**checkpoint, "versions_seen": {}}, {"user_id": user}, {})  # type: ignore[typeddict-unknown-key]

    monkeypatch.setattr("langgraph.checkpoint.eventlog.cli.session.Session.confirm", meanwhile)
    done = eventlog(uri, "delete", "--filter", "user_id=ada")
    assert done.exit_code == 0
    assert "This would erase" in done.stderr
    assert "from 4 threads" in done.stderr
    assert "from 3 threads" in done.stdout
    assert sorted(each["thread_id"] for each in documents(eventlog(uri, "threads", "--json"))) == ["b", "c", "new"]


def test_a_declined_question_deletes_nothing(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "is_interactive", lambda: True)
    before = Tables(uri).contents()
    done = eventlog(uri, "delete", "--filter", "user_id=ada", input="n\n")
    assert (done.exit_code, done.stdout) == (1, "")
    assert re.search(r"^e .*\n", done.stderr, re.MULTILINE)
    assert Tables(uri).contents() == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["delete", "--yes"],
        ["delete", "a", "--filter", "user_id=ada", "--yes"],
        ["prune", "--yes"],
        ["prune", "--all", "--yes"],
        ["prune", "a", "--all", "--keep-last", "1", "--yes"],
        ["prune", "--all", "--strategy", "delete", "--yes"],
        ["prune", "--all", "--strategy", "delete", "--keep-last", "1", "--yes"],
        ["prune", "--all", "--older-than", "30d", "--keep-last", "1", "--yes"],
        ["prune", "--older-than", "30d", "--yes"],
    ],
)
def test_which_threads_must_be_said(uri: str, arguments: list[str]) -> None:
    before = Tables(uri).contents()
    done = eventlog(uri, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert Tables(uri).contents() == before


# --- prune --all


@pytest.mark.portable
def test_pruning_all_keeps_a_strict_limit(uri: str) -> None:
    """A dry run with the same counts, a document of the sum, and nothing more to do afterwards."""
    *would, sum_of_dry = documents(eventlog(uri, "prune", "--all", "--older-than", "30d", "--dry-run", "--json"))
    *did, total = documents(eventlog(uri, "prune", "--all", "--older-than", "30d", "--yes", "--json"))
    assert [each["thread_id"] for each in did] == list("abcde")
    assert would == did
    assert {**sum_of_dry, "is_dry_run": False} == total
    assert (total["looked_at"], total["pruned"], total["checkpoints"]) == (5, 5, 10)
    oldest = "select min(first_at) > eventlog.clock_v1() - interval '30 days' from {schema}.checkpoints"
    assert Tables(uri).one(oldest)
    again = eventlog(uri, "prune", "--all", "--older-than", "30d", "--yes")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "Nothing to erase.\n", "")


def test_pruning_all_asks(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erase, "is_interactive", lambda: True)
    before = Tables(uri).contents()
    assert eventlog(uri, "prune", "--all", "--keep-last", "1", input="n\n").exit_code == 1
    assert Tables(uri).contents() == before
    done = eventlog(uri, "prune", "--all", "--keep-last", "1", input="y\n")
    assert done.exit_code == 0
    assert "from 5 threads" in done.stderr
    assert "from 5 threads" in done.stdout


def test_threads_that_cannot_be_pruned_are_named(uri: str) -> None:
    tables = Tables(uri)
    (seq,) = tables.rows("select seq from {schema}.checkpoints where thread_id = 'b' and checkpoint_id = '3'")[0]
    tables.replace_body("events", "b", seq, b"\x00damaged")
    for arguments in (["--dry-run"], ["--yes"]):
        done = eventlog(uri, "prune", "--all", "--older-than", "30d", *arguments)
        assert done.exit_code == 1
        assert "Thread 'b' was left as it is: event 3 of thread 'b'" in done.stderr
        assert "from 4 threads" in done.stdout


def test_ctrl_c_ends_it_behind_a_thread(uri: str) -> None:
    """What was done is counted and stays done; the same command does the rest."""
    with psycopg.connect(uri) as blocker, psycopg.connect(direct(uri), autocommit=True) as watcher:
        blocker.execute("select 1 from eventlog.streams where thread_id = 'c' for update")
        arguments = ["prune", "--all", "--older-than", "30d", "--yes"]
        with start(uri, *arguments) as child:
            waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            while watcher.execute(waiting).fetchone() is None:
                assert child.poll() is None
            child.send_signal(2)
            blocker.rollback()
            stdout, stderr = child.communicate(timeout=240)
        assert child.returncode == 130, stderr
        assert re.search(r"from [23] threads\.", stdout)
        assert "run the same command again to continue" in stderr
        assert "Traceback" not in stderr
    done = eventlog(uri, *arguments)
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.search(r"from [23] threads\.", done.stdout)
