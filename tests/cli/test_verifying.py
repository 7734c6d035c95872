"""The `eventlog` command: `verify`, `seal`, `seals`, `prove`."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from langgraph.checkpoint.eventlog import EventLog, Proof, Seal, verify_proof
from langgraph.checkpoint.eventlog.cli.commands import integrity
from tests.cli.command import MODULE, ODD, PATIENCE, clean_environment, documents, eventlog, fill, uri
from tests.cli.terminal import on_terminal
from tests.support.signing import make_keys

pytestmark = pytest.mark.portable

__all__ = ["clean_environment", "uri"]  # fixtures


# --- verify


def test_verify_says_that_all_fits_or_shows_problems_and_ends_with_1(uri: str) -> None:
    """Says that all fits, or what does not, and ends with 1."""
    done = eventlog(uri, "verify")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == (
        "Verified 8 events in 2 streams: no problem found. States were not decoded (--states).\n"
        "No seal covers them: 'eventlog seal' makes one.\n"
    )
    unsealed = {"seal": None, "sealed_streams": 0, "sealed_events": 0, "states": False}
    coverage = {"thread_id": "new", "checkpoint_ns": "", "seal": None, "through": 0, "later": 2}
    assert documents(eventlog(uri, "verify", "new", "--json")) == [
        {"streams": 1, "events": 2, "seals": 0, **unsealed, "later_events": 2, "coverage": [coverage], "problems": 0}
    ]

    with psycopg.connect(uri) as conn:
        conn.execute("set session_replication_role = replica")
        conn.execute("delete from eventlog.events where thread_id = 'old' and seq = 3")
    done = eventlog(uri, "verify")
    assert done.exit_code == 1
    assert "missing: no record says that 3 went" in done.stdout
    assert "Verification failed: 2 problems." in done.stderr
    assert eventlog(uri, "verify", "new").exit_code == 0

    done = eventlog(uri, "verify", "--json")
    assert done.exit_code == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["seq"] for line in lines[:-1]] == [3, 3]
    assert lines[0]["thread_id"] == "old"
    assert lines[-1] == {
        "streams": 2,
        "events": 7,
        "seals": 0,
        **unsealed,
        "later_events": 7,
        "coverage": [],
        "problems": 2,
    }


def test_verify_refuses_a_thread_without_a_trace(uri: str) -> None:
    """A slip of the pen does not pass for a log that is whole."""
    done = eventlog(uri, "verify", "new", "nope")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "thread 'nope' does not exist" in done.stderr


def test_an_interrupted_verify_says_how_to_continue(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to go on, and going on does."""
    real = EventLog.verify

    def interrupted(self: Any, threads: Any, *, on_stream: Any, **options: Any) -> Any:
        def tell(*told: Any) -> None:
            on_stream(*told)
            raise KeyboardInterrupt

        return real(self, threads, on_stream=tell, **options)

    monkeypatch.setattr(EventLog, "verify", interrupted)
    done = eventlog(uri, "verify")
    assert done.exit_code == 130
    (options,) = re.findall(r"--after .*$", done.stderr.strip(), re.MULTILINE)
    assert options == "--after new ''"
    assert "--after" not in eventlog(uri, "verify", "new").stderr
    monkeypatch.setattr(EventLog, "verify", real)
    done = eventlog(uri, "verify", *shlex.split(options), "--workers", "2")
    first, _ = done.stdout.splitlines()
    assert first == "Verified 6 events in 1 stream: no problem found. States were not decoded (--states)."


async def test_odd_ids_are_quoted_for_a_shell(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an id is, a shell reads it as it was."""
    for text in (ODD, "it's", "a b", "é\u2028\\"):
        quoted = integrity._shell_quoted(text)
        assert quoted.isprintable()
        shown = subprocess.run(
            ["bash", "-c", f"printf %s {quoted}"], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
        )
        assert shown.stdout.decode() == text


# --- seals


def test_seals_are_taken_listed_and_anchored(uri: str) -> None:
    """Taken, listed, anchored, proven."""
    done = eventlog(uri, "seal", "--actor", "somebody")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("Sealed 2 streams at ")
    anchor = done.stdout.splitlines()[-1].split()[-1]
    assert re.fullmatch("1:[0-9a-f]{64}", anchor)
    (second,) = documents(eventlog(uri, "seal", "--json"))
    assert (second["number"], second["streams"], second["changed"]) == (2, 2, 0)
    assert f"1:{second['previous']}" == anchor

    listed = documents(eventlog(uri, "seals", "--json"))
    assert [each["number"] for each in listed] == [2, 1]
    assert listed[0] == second
    assert listed[1]["actor"] == "somebody"
    assert documents(eventlog(uri, "seals", "--json", "--before", "2", "--limit", "5")) == listed[1:]
    assert anchor in eventlog(uri, "seals").stdout
    assert f"digest  {anchor}" in on_terminal(uri, "seals", columns=80).lines

    done = eventlog(uri, "verify", "--seal", anchor)
    assert done.stdout == (
        "Verified 8 events in 2 streams and 2 seals: no problem found. States were not decoded (--states).\n"
        "Seal 2 covers 8 events in 2 streams; later: 0 events.\n"
    )
    (counts,) = documents(eventlog(uri, "verify", "--seal", anchor, "--json"))
    sealed = {"seal": 2, "sealed_streams": 2, "sealed_events": 8, "later_events": 0, "coverage": []}
    assert counts == {"streams": 2, "events": 8, "seals": 2, **sealed, "states": False, "problems": 0}
    done = eventlog(uri, "verify", "--seal", "0" * 64)
    assert done.exit_code == 1
    assert "the log does not have it" in done.stdout
    assert eventlog(uri, "verify", "--seal", "x").exit_code == 2


async def test_verify_says_what_the_latest_seal_covers(uri: str) -> None:
    """Of the log, events and streams; of single threads, up to which event, and how many came later."""
    eventlog(uri, "seal")
    await fill(uri, "old", "4")
    await fill(uri, "newest", "1")
    done = eventlog(uri, "verify")
    assert done.stdout.splitlines()[-1] == "Seal 1 covers 8 events in 2 streams; later: 4 events."
    done = eventlog(uri, "verify", "old", "new", "newest")
    assert done.stdout.splitlines()[1:] == [
        "Thread 'new': covered by seal 1 up to event 2, later: 0 events.",
        "Thread 'newest': not in the latest seal, later: 2 events.",
        "Thread 'old': covered by seal 1 up to event 6, later: 2 events.",
    ]
    eventlog(uri, "seal")
    eventlog(uri, "prune", "old", "--yes")
    (found,) = documents(eventlog(uri, "verify", "old", "--json"))
    assert (found["seal"], found["sealed_streams"], found["events"]) == (2, 1, 3)
    # A record came later; what was erased is not counted.
    assert (found["sealed_events"], found["later_events"]) == (2, 1)
    assert found["coverage"] == [{"thread_id": "old", "checkpoint_ns": "", "seal": 2, "through": 8, "later": 1}]


@pytest.mark.parametrize("dsn", [None, "postgresql://nobody@127.0.0.1:1/none?connect_timeout=1"])
def test_proofs_are_checked_without_a_database(uri: str, tmp_path: Path, dsn: str | None) -> None:
    """From a shell without a connection string, and with one that leads nowhere."""
    eventlog(uri, "seal")
    proof = tmp_path / "proof.json"
    proof.write_text(eventlog(uri, "prove", "old", "--json").stdout)
    env = {name: value for name, value in os.environ.items() if name != "EVENTLOG_DSN"}
    done = subprocess.run(
        [*MODULE, "prove", "--check", str(proof)],
        env=env if dsn is None else {**env, "EVENTLOG_DSN": dsn},
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout.startswith("The proof holds: stream ")) == (0, True), done.stderr


def test_prove_writes_all_that_verify_proof_takes(uri: str) -> None:
    """What it writes is enough for `verify_proof`."""
    assert eventlog(uri, "prove", "old").exit_code == 1
    eventlog(uri, "seal")
    (found,) = documents(eventlog(uri, "prove", "old", "--json"))
    sealed = {
        name: bytes.fromhex(value) if name in ("root", "changes", "previous", "digest") else value
        for name, value in found.pop("sealed").items()
    }
    sealed["sealed_at"] = datetime.fromisoformat(sealed["sealed_at"])
    proof = Proof(
        **{
            **found,
            **{name: bytes.fromhex(found[name]) for name in ("stream", "digest")},
            "path": tuple(map(bytes.fromhex, found["path"])),
        }
    )
    assert verify_proof(proof, Seal(**sealed))
    done = eventlog(uri, "prove", "old", "--seal", "1")
    assert done.stdout.startswith("Thread 'old', namespace '', was at event 6 when the log was sealed at ")
    assert found["digest"] in done.stdout
    assert eventlog(uri, "prove", "old", "--seal", "2").exit_code == 1
    assert eventlog(uri, "prove", "old", "--ns", "other").exit_code == 1


def test_a_vanished_stream_is_named_as_its_seal_does(uri: str) -> None:
    """By what the seal calls it, where nothing else is left."""
    eventlog(uri, "seal")
    (proof,) = documents(eventlog(uri, "prove", "old", "--json"))
    with psycopg.connect(uri) as conn:
        conn.execute("set session_replication_role = replica")
        for table in ("events", "streams", "checkpoints", "snapshots"):
            conn.execute(sql.SQL("delete from eventlog.{} where thread_id = 'old'").format(sql.Identifier(table)))
    done = eventlog(uri, "verify")
    assert done.exit_code == 1
    assert f"(stream {proof['stream']})" in done.stdout
    lines = [json.loads(line) for line in eventlog(uri, "verify", "--json").stdout.splitlines()]
    assert [line.get("stream") for line in lines] == [proof["stream"], None]


# --- signed seals


def test_a_signed_seal_is_written_handed_on_and_checked(uri: str, tmp_path: Path) -> None:
    """Printed, written, given to a command; then checked with the database and without."""
    keys = make_keys(tmp_path)
    out, handed = tmp_path / "1.json", tmp_path / "handed.json"
    signed = "seal", "--key", str(keys.private)
    done = eventlog(uri, *signed, "--out", str(out), "--anchor-command", f"cat > '{handed}'; echo posted")
    assert done.exit_code == 0, done.stderr
    assert "posted" in done.stderr
    assert out.read_text() == handed.read_text() == done.stdout.splitlines()[-1] + "\n"
    (second,) = documents(eventlog(uri, *signed, "--json"))
    later = tmp_path / "2.json"
    later.write_text(second["document"])

    key = "--key", str(keys.public)
    assert eventlog(uri, "verify", "--seal", str(out), *key).exit_code == 0
    offline = eventlog(None, "seals", "--check", str(out), "--check", str(later), *key)
    assert offline.exit_code == 0, offline.stderr
    assert "2 signed seals of log" in offline.stdout
    assert [each["number"] for each in documents(eventlog(None, "seals", "--check", str(later), *key, "--json"))] == [2]

    proof = tmp_path / "proof.json"
    proof.write_text(eventlog(uri, "prove", "old", "--seal", "1", "--json").stdout)
    check = "prove", "--check", str(proof)
    assert eventlog(None, *check, "--seal", str(out), *key).exit_code == 0
    assert "Compare the seal" in eventlog(None, *check).stderr
    assert eventlog(None, *check, "--seal", f"1:{json.loads(out.read_text())['digest']}").exit_code == 0
    assert eventlog(None, *check, "--seal", str(later), *key).exit_code == 1
    proof.write_text(json.dumps({**json.loads(proof.read_text()), "seq": 1}))
    done = eventlog(None, *check)
    assert done.exit_code == 1
    assert "altered" in done.stderr


def test_a_failing_anchor_command_says_that_the_seal_stands(uri: str, tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    done = eventlog(uri, "seal", "--key", str(keys.private), "--anchor-command", "echo no network >&2; exit 3")
    assert done.exit_code == 1
    assert "no network" in done.stderr
    assert "The anchor command ended with 3. Seal 1 was stored" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["number"] == 1
    assert len(documents(eventlog(uri, "seals", "--json"))) == 1


def test_wrong_usage_of_signed_seals_ends_with_2(uri: str, tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    private, public = str(keys.private), str(keys.public)
    for wrong in (
        ("seal", "--out", "x.json"),
        ("seal", "--anchor-command", "true"),
        ("seal", "--key", private, "--out", public),
        ("seal", "--key", private, "--out", str(tmp_path / "none" / "x.json")),
        ("seal", "--key", public),
        ("verify", "--key", public),
        ("verify", "--key", public, "--seal", str(tmp_path / "none")),
        ("seals", "--check", private),
        ("seals", "--check", private, "--key", public),
        ("prove",),
        ("prove", "old", "--check", private),
        ("prove", "old", "--seal", "latest"),
        ("prove", "--check", private),
    ):
        done = eventlog(uri, *wrong)
        assert done.exit_code == 2, (wrong, done.stdout, done.stderr)
    assert documents(eventlog(uri, "seals", "--json")) == []
