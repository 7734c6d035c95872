"""The `eventlog` command: `history`, and what it has in common with `diff`, which is in test_cli_diff.py."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from typing import Any

import psycopg
import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.cli.command import ODD, clean_environment, documents, eventlog, process
from tests.cli.terminal import SGR, on_terminal
from tests.cli.test_untrusted import evil, left
from tests.database.test_rights import as_role, role
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, put

__all__ = ["clean_environment", "evil", "role"]  # fixtures

#: Long enough that what is appended to a list of them is told from what changed.
MESSAGES: list[AnyMessage] = [HumanMessage(f"Question {n}? " + "x" * 300, id=f"m{n}") for n in range(12)]


@pytest.fixture
async def uri(database_uri: str) -> str:
    """A line, a fork of its second checkpoint, writes, one that was put again, and a subgraph."""
    async with open_saver("sync-string", database_uri) as saver:
        config = config_of("1")
        for step, id_ in enumerate("abcd"):
            values = {"messages": MESSAGES[: 8 + step], "note": f"note {id_}"}
            metadata = {"step": step, "source": "loop", "run_id": "run"}
            config = await put(saver, config, id_, values, metadata=metadata)
            await saver.aput_writes(config, [("note", f"write {id_}")], f"task {id_}", "~__pregel_pull, node")
        answer = AIMessage("Another answer.", id="m9")
        forked = {"messages": [*MESSAGES[:9], answer], "note": "forked"}
        read = await saver.aget_tuple(config_of("1", "b"))
        await put(saver, read.config, "e", forked, metadata={"step": 2, "source": "fork"})
        await put(saver, config_of("1", "c"), "d", {"messages": MESSAGES[:11], "note": "again"}, metadata={"step": 3})
        await saver.aput_writes(
            config_of("1", "d"), [("__interrupt__", ["really?"]), ("branch:to:x", None)], "t", "~x, 1"
        )
        await put(saver, config_of("1", ns="sub"), "c", {"inner": 1}, metadata={"step": 0})
    return database_uri


def cells(line: str) -> list[str]:
    return re.split(r" {2,}", line.strip())


# --- history


def test_history_is_a_table_of_events_oldest_first(uri: str) -> None:
    """A table, oldest first: what each event is and did, with namespaces where there are several."""
    done = eventlog(uri, "history", "1")
    assert (done.exit_code, done.stderr) == (0, "")
    heading, _, *lines = done.stdout.splitlines()
    assert cells(heading) == [
        *("time (UTC)", "event", "namespace", "step", "what", "checkpoint", "channels", "size"),
    ]
    rows = [cells(line) for line in lines]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", row[0]) for row in rows)
    assert [row[1] for row in rows] == [*map(str, range(1, 12)), "1"]
    assert rows[0][2:6] == ["0", "loop", "a", "messages set, note set"]
    assert rows[1][2:5] == ["writes of node", "a", "note written"]
    assert rows[2][2:6] == ["1", "loop", "b", "messages +1 of 9, note set"]
    assert rows[8][2:6] == ["2", "fork, fork", "e", "messages +1 of 10, note set"]
    assert rows[9][2:5] == ["3", "checkpoint, again", "d"]
    assert rows[10][2:5] == ["writes of ~x, 1", "d", "interrupt written"]
    assert rows[11][2:6] == ["sub", "0", "checkpoint", "c"]
    assert "branch:to:x written" in eventlog(uri, "history", "1", "--full").stdout
    root = eventlog(uri, "history", "1", "--ns", "").stdout
    assert "namespace" not in root
    assert len(root.splitlines()) == 13
    assert len(eventlog(uri, "history", "1", "--ns", "sub").stdout.splitlines()) == 3


@pytest.mark.parametrize("changes", [[], ["--changes"]])
def test_history_json_has_all_records_with_cursors(uri: str, changes: list[str]) -> None:
    """All records, with their cursors; with `--changes` also the values, of messages as objects."""
    found = documents(eventlog(uri, "history", "1", "--json", *changes))
    with EventLogSaver.from_conn_string(uri) as saver:
        expected = list(saver.log.history("1"))
    assert len(found) == len(expected) == 12
    for each, record in zip(found, expected, strict=True):
        for name in ("seq", "position", "kind", "checkpoint_id", "parent_id", "step", "source", "run_id", "task_id"):
            assert each[name] == getattr(record, name)
        assert (each["fork"], each["repeat"], each["cursor"]) == (record.fork, record.repeat, record.cursor)
        assert [channel["what"] for channel in each["channels"]] == [channel.what for channel in record.channels]
        assert all(("value" in channel) is bool(changes) for channel in each["channels"])
    if changes:
        (message,) = found[2]["channels"][0]["value"]
        assert (message["type"], message["id"], message["content"]) == ("human", "m8", MESSAGES[8].content)
        assert found[2]["channels"][1]["value"] == "note b"


def test_changes_shows_only_what_was_appended(uri: str) -> None:
    """Only what was appended, as a conversation."""
    done = eventlog(uri, "history", "1", "--changes", "--ns", "")
    assert (done.exit_code, done.stderr) == (0, "")
    first, write, second, *_ = done.stdout.split("\n\n")
    assert first.count("human") == 8
    assert write.splitlines()[1:] == ["  note written: write a"]
    heading, appended, role_, message, note = second.splitlines()
    assert re.fullmatch(r"[\d-]{10} [\d:.]{12}  event 3  step 1 loop  b  [\d.]+ (bytes|kB)", heading)
    assert re.fullmatch(r"  messages \+1:  \d+ bytes", appended)
    assert (role_, message) == ("    human", f"      {MESSAGES[8].content}")
    assert note == "  note set: note b"
    assert "  interrupt written: ['really?']" in done.stdout.splitlines()


@pytest.mark.parametrize("direction", [[], ["--newest-first"], ["--reverse"]])
@pytest.mark.parametrize("changes", [[], ["--changes"]])
def test_history_names_the_next_page(uri: str, direction: list[str], changes: list[str]) -> None:
    """The line on stderr names the next page; a cursor of a JSON line does, too. All pages are the whole."""
    whole = [each["cursor"] for each in documents(eventlog(uri, "history", "1", "--json", *direction))]
    oldest_first = [each["cursor"] for each in documents(eventlog(uri, "history", "1", "--json"))]
    assert whole == (oldest_first[::-1] if direction else oldest_first)
    for start in (0, 5):
        after = ["--after", whole[start - 1]] if start else []
        page = documents(eventlog(uri, "history", "1", "--json", "--limit", "3", *direction, *changes, *after))
        assert [each["cursor"] for each in page] == whole[start : start + 3]
    done = eventlog(uri, "history", "1", "--limit", "5", *direction)
    (option,) = re.findall(r"^For later events: (.*)$", done.stderr, re.MULTILINE)
    assert shlex.split(option) == ["--after", whole[4]]
    assert eventlog(uri, "history", "1", *direction, "--after", whole[-1]).stderr == "No events.\n"
    for options in (["--limit", "5", "--changes"], ["--limit", "4", "--tree"]):
        done = eventlog(uri, "history", "1", *direction, *options)
        (option,) = re.findall(r"^For later events: (.*)$", done.stderr, re.MULTILINE)
        assert shlex.split(option)[1] in whole
    assert eventlog(uri, "history", "1", *direction, "--changes", "--limit", "13").stderr == ""


async def test_people_see_a_page_and_machines_all(database_uri: str) -> None:
    """Of a long history a page; all of it where machines read."""
    async with open_saver("sync-string", database_uri) as saver:
        config = config_of("1")
        for number in range(120):
            config = await put(saver, config, f"{number:03}", {"x": number})
    done = eventlog(database_uri, "history", "1")
    assert len(done.stdout.splitlines()) == 102
    assert "--after" in done.stderr
    done = eventlog(database_uri, "history", "1", "--changes")
    assert done.stdout.count("event ") == 100
    assert "--after" in done.stderr
    assert eventlog(database_uri, "history", "1", "--changes", "--limit", "500").stderr == ""
    assert len(documents(eventlog(database_uri, "history", "1", "--json"))) == 120
    assert eventlog(database_uri, "history", "1", "--tree").stdout.count("\n") == 121


def test_operations_on_a_thread_are_sentences_of_its_history(uri: str) -> None:
    """Administration is part of the history, in sentences; also of a thread that is deleted."""
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.log.prune(["1"], keep_last=1, actor="ada")
        saver.log.copy_thread("1", "copy", actor="grace")
        saver.log.delete_thread("1", actor="eve")
    done = eventlog(uri, "history", "copy", "--ns", "")
    assert "copy_thread by postgres for grace: copied from 1" in done.stdout
    done = eventlog(uri, "history", "1")
    assert done.exit_code == 0
    assert re.search(r"delete_thread by postgres for eve: erased \d checkpoints?, \d+ events?, ", done.stdout)
    found = documents(eventlog(uri, "history", "1", "--json"))
    assert {each["kind"] for each in found} == {"erased", "deleted"}
    assert {each["operation"]["actor"] for each in found} == {"ada", "eve"}
    done = eventlog(uri, "history", "1", "--changes")
    assert "keep_last: 1" in done.stdout
    assert eventlog(uri, "history", "1", "--tree").stderr == "No events.\n"


def test_a_terminal_shows_operations_beneath_the_table(uri: str) -> None:
    """A sentence on a line of its own, of what people want to know; times and ids are not folded."""
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.log.copy_thread("1", "copy", actor="grace")
        saver.log.delete_thread("1", actor="eve")
        time = next(iter(saver.log.history("copy"))).time
    seen = on_terminal(uri, "history", "copy", "--ns", "", columns=90)
    (sentence,) = [line for line in seen.lines if "copy_thread" in line]
    assert re.fullmatch(
        r"event \d+: copy_thread by postgres for grace: copied from 1: \d checkpoints, \d+ events", sentence.rstrip()
    )
    assert any(line.startswith(f"{time:%Y-%m-%d %H:%M:%S}") for line in seen.lines)
    for arguments in (["history", "copy"], ["history", "1"]):
        done = eventlog(uri, *arguments)
        for word in ("request", "source_seq", "source_digest", "records"):
            assert word not in done.stdout
    assert "records" not in {
        key for each in documents(eventlog(uri, "history", "1", "--json")) for key in each["operation"]
    }


async def test_concurrent_forks_name_each_other(database_uri: str) -> None:
    """They name those that they are concurrent with, whether these are on the page or not."""
    async with open_saver("sync-string", database_uri) as saver:
        await put(saver, config_of("1"), "a")
        read = await saver.aget_tuple(config_of("1"))
        for id_ in "bcd":
            await put(saver, read.config, id_, metadata={"source": "loop"})
        await put(saver, config_of("1"), "e")
    done = eventlog(database_uri, "history", "1")
    told = [cells(line)[2] for line in done.stdout.splitlines()[2:]]
    assert told == [
        "checkpoint",
        "loop",
        "loop, concurrent fork with b",
        "loop, concurrent fork with b and c",
        "checkpoint, concurrent beginning with a",
    ]
    newest = eventlog(database_uri, "history", "1", "--newest-first", "--limit", "2")
    assert "loop, concurrent fork with b and c" in newest.stdout
    assert "concurrent fork with b and c" in eventlog(database_uri, "history", "1", "--changes").stdout
    (*_, last) = documents(eventlog(database_uri, "history", "1", "--json"))
    assert (last["fork"], last["concurrent_with"]) == (False, ["a"])
    tree = eventlog(database_uri, "history", "1", "--tree").stdout.splitlines()
    assert [line.split()[2] for line in tree if line.endswith("  concurrent")] == ["c", "d"]
    assert tree[-1].endswith("  concurrent  latest")


# --- trees


def test_tree_is_flat_but_for_forks(uri: str) -> None:
    """A line is flat; what forks off is under the checkpoint that it forks from."""
    done = eventlog(uri, "history", "1", "--tree")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = [re.sub(r"  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", "", line) for line in done.stdout.splitlines()]
    assert lines == [
        "root graph, 5 checkpoints",
        "├── a  step 0  loop",
        "├── b  step 1  loop",
        "│   └── e  step 2  fork  latest",
        "├── c  step 2  loop",
        "└── d  step 3",
        "sub, 1 checkpoint",
        "└── c  step 0  latest",
    ]
    assert "latest" not in eventlog(uri, "history", "1", "--tree", "--ns", "", "--limit", "4").stdout
    found = documents(eventlog(uri, "history", "1", "--tree", "--json"))
    assert {each["kind"] for each in found} == {"checkpoint"}


async def test_tree_shows_every_checkpoint_once(database_uri: str) -> None:
    """A long line, branches that branch off each other, a parent that is not there, and one that is its own."""
    async with open_saver("sync-string", database_uri) as saver:
        config = config_of("1")
        for number in range(60):
            config = await put(saver, config, f"a{number:03}")
        for number in range(40):
            # A child of each branch's beginning goes on with it, a second one forks off.
            start = "a010" if number == 0 else f"b{number - 1:03}"
            config = await put(saver, config_of("1", start), f"b{number:03}-end")
            await put(saver, config_of("1", start), f"b{number:03}")
        await put(saver, config_of("1", "gone"), "c")
    done = eventlog(database_uri, "history", "1", "--tree")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + 60 + 80 + 1
    shown = {re.sub(r"^[│├└─ ]+", "", line).split("  ")[0] for line in lines[1:]}
    assert len(shown) == 141
    assert lines[-1].startswith("└── c")


# --- bad input


def test_history_and_diff_of_missing_threads_say_what_is_missing(uri: str) -> None:
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.log.fork_thread("1", "fork", "b")
    for arguments, says in (
        (["history", "none"], "thread 'none' does not exist"),
        (["history", "none", "--tree"], "thread 'none' does not exist"),
        (["history", "none", "--changes"], "thread 'none' does not exist"),
        (["diff", "none", "a", "b"], "no thread has the id 'none'"),
        (["diff", "1", "a", "z"], "thread '1' has no checkpoint 'z'"),
        (["diff", "fork", "a", "e"], "thread 'fork' has no checkpoint 'e'; the log has e of thread '1'"),
    ):
        for as_json in ([], ["--json"]):
            done = eventlog(uri, *arguments, *as_json)
            assert (done.exit_code, done.stdout) == (1, ""), arguments
            assert says in done.stderr


def test_wrong_usage_is_refused_with_a_reason(uri: str) -> None:
    other = documents(eventlog(uri, "history", "1", "--json"))[0]["cursor"].replace('"1"', '"2"', 1)
    for arguments, says in (
        (["history", "1", "--limit", "0"], "--limit"),
        (["history", "1", "--after", "yesterday"], "cursor"),
        (["history", "1", "--after", other], "of thread '2', not of '1'"),
        (["history", "1", "--tree", "--changes"], "one of them"),
        (["history"], "THREAD"),
        (["diff", "1", "a"], "B"),
        (["diff", "1", "c", "a"], "name"),
        (["history", "1", "--allow", "x"], "package.module:Class"),
    ):
        done = eventlog(uri, *arguments)
        assert (done.exit_code, done.stdout) == (2, ""), arguments
        assert says in done.stderr


async def test_diff_refuses_checkpoints_of_two_namespaces(database_uri: str) -> None:
    async with open_saver("sync-string", database_uri) as saver:
        await put(saver, config_of("1"), "a")
        await put(saver, config_of("1", ns="sub"), "b")
    done = eventlog(database_uri, "diff", "1", "a", "b")
    assert done.exit_code == 2
    assert "'a' is in namespace '', 'b' in 'sub'" in done.stderr


# --- safely, on terminals, into pipes


@pytest.mark.parametrize("arguments", [["history", "1"], ["history", "1", "--changes"], ["diff", "1", "a", "b"]])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
async def test_no_code_of_the_data_runs(database_uri: str, evil: Any, arguments: list[str], as_json: list[str]) -> None:
    async with open_saver("sync-string", database_uri) as saver:
        await put(saver, config_of("1", "a"), "b", {"data": 1, "model": "x"}, new={"data": "b", "model": "b"})
    done = eventlog(database_uri, *arguments, *as_json, "--full")
    assert done.exit_code == 0, done.stderr
    assert left(evil) == set()
    if arguments != ["history", "1"]:
        assert "evil_things.Data" in done.stdout


async def test_an_encrypted_log_is_shown_with_its_key_only(database_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "0123456789abcdef"
    serde = EncryptedSerializer.from_pycryptodome_aes(key=key.encode())
    async with open_saver("sync-string", database_uri, serde=serde) as saver:
        await put(saver, config_of("1"), "a", {"x": "a secret"})
        await put(saver, config_of("1", "a"), "b", {"x": "another"})
    commands = (["history", "1"], ["history", "1", "--changes"], ["history", "1", "--tree"], ["diff", "1", "a", "b"])
    for arguments in commands:
        done = eventlog(database_uri, *arguments)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "it is encrypted" in done.stderr
    monkeypatch.setenv("LANGGRAPH_AES_KEY", key)
    for arguments in commands:
        assert eventlog(database_uri, *arguments).exit_code == 0
    assert "a secret" in eventlog(database_uri, "history", "1", "--changes").stdout


async def test_nothing_controls_the_terminal(database_uri: str) -> None:
    async with open_saver("sync-string", database_uri) as saver:
        config = config_of(ODD, ns=ODD)
        for id_ in (f"a{ODD}", f"b{ODD}"):
            metadata = {"source": f"{ODD}{id_}", "run_id": ODD, ODD: id_}
            config = await put(saver, config, id_, {ODD: [id_], "messages": [AIMessage(id_)]}, metadata=metadata)
            await saver.aput_writes(config, [(ODD, ODD)], ODD, ODD)
        await saver.log.copy_thread(ODD, f"{ODD} copy", actor=ODD)
    for arguments in (
        ["history", ODD],
        ["history", ODD, "--changes", "--full"],
        ["history", ODD, "--tree"],
        ["history", f"{ODD} copy"],
        ["history", f"{ODD} copy", "--changes"],
        ["diff", ODD, "a", "b"],
    ):
        done = eventlog(database_uri, *arguments)
        assert done.exit_code == 0, done.stderr
        assert all(char.isprintable() for char in done.stdout.replace("\n", "")), arguments
        assert "[red]odd[/red]\\x1b[31m" in done.stdout, arguments


@pytest.mark.parametrize("arguments", [["history", "1"], ["history", "1", "--tree"], ["diff", "1", "a", "b"]])
def test_history_and_diff_fold_to_the_width_of_a_terminal(uri: str, arguments: list[str]) -> None:
    """Colours, and folding to its width."""
    seen = on_terminal(uri, *arguments, columns=60)
    assert seen.code == 0
    assert SGR.search(seen.raw)
    assert "\x1b" not in SGR.sub("", seen.raw)
    assert max(len(line.rstrip()) for line in seen.lines) <= 60


async def test_a_terminal_shows_ids_that_are_just_long_enough(database_uri: str) -> None:
    """On a terminal, as long as it takes to tell them apart; a short one can be given back."""
    ids = [f"1f1e6757-2d{n:02}-6b02-8002-99d6592a4974" for n in range(3)]
    async with open_saver("sync-string", database_uri) as saver:
        config = config_of("1")
        for id_ in ids:
            config = await put(saver, config, id_, {"x": id_})
    text = on_terminal(database_uri, "history", "1", columns=200).raw
    assert "1f1e6757-2d00 " in text
    assert ids[0] not in text
    assert ids[0] in eventlog(database_uri, "history", "1").stdout
    assert ids[1] in eventlog(database_uri, "show", "1", ids[1][:13]).stdout
    # Of one that is alone in the list, too: others that are not may begin alike.
    assert f"{ids[0][:13]} " in on_terminal(database_uri, "history", "1", "--limit", "1", columns=200).raw


def test_history_and_diff_into_a_closed_pipe_end_with_141(uri: str) -> None:
    for arguments in (["history", "1", "--changes"], ["diff", "1", "a", "b"]):
        read, write = os.pipe()
        os.close(read)
        try:
            done = process(uri, *arguments, capture_output=False, stdout=write, stderr=subprocess.PIPE)
        finally:
            os.close(write)
        assert (done.returncode, done.stderr) == (141, "")


def test_history_and_diff_need_only_the_right_to_read(uri: str, role: str) -> None:
    """To read is right enough."""
    with psycopg.connect(uri, autocommit=True) as conn:
        conn.execute("select eventlog.grant_rights_v1('auditor', %s, 'eventlog_views')", (role,))
    for arguments in (
        ["history", "1"],
        ["history", "1", "--changes"],
        ["history", "1", "--tree"],
        ["diff", "1", "a", "b"],
    ):
        assert eventlog(as_role(uri, role), *arguments).exit_code == 0


def test_history_json_is_lines_of_ascii(uri: str) -> None:
    """Strictly: each line a document of its own, nothing but ASCII."""
    done = eventlog(uri, "history", "1", "--json", "--changes")
    assert done.stdout.isascii()
    for line in done.stdout.splitlines():
        json.loads(line)
