"""Retention as a setting: what is stored, what a thread's own may say, what maintenance erases, and what it leaves."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from typing_extensions import TypedDict

from eventlog.errors import InvalidInputError, LogCorruptedError, MissingGrantError, StorageError, ThreadDeletedError
from eventlog.retention import combined, parse_retention
from langgraph.checkpoint.eventlog import EventLogSaver, Retention, verify_receipt, verify_signed_seals
from tests.database.test_rights import as_role, grant, role
from tests.support.adapters import POOLS, open_saver
from tests.support.aging import DAY, Log, log
from tests.support.checkpoints import checkpoint_of, config_of, listed_ids, put
from tests.support.clock import Clock
from tests.support.pooler import direct
from tests.support.signing import Keys, make_keys

__all__ = ["log", "role"]  # fixtures

MINUTE = timedelta(minutes=1)


async def threads_of(log: Log) -> list[str]:
    return sorted(each.thread_id for each in await log.saver.log.threads())


async def ids_of(log: Log, thread_id: str, ns: str = "") -> list[str]:
    return await listed_ids(log.reader, config_of(thread_id, ns=ns))


def meanwhile(function: Callable[[EventLogSaver], object], uri: str) -> None:
    """Another process' work, done before this returns."""

    def work() -> None:
        with psycopg.connect(direct(uri), autocommit=True) as conn:
            function(EventLogSaver(conn))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


# --- the setting


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "it erases nothing"),
        ({"interrupted": DAY}, "it erases nothing"),
        ({"idle": -DAY}, "idle: .*15 minutes"),
        ({"idle": timedelta(0)}, "idle: .*15 minutes"),
        ({"idle": 30}, "idle: .*timedelta"),
        ({"idle": 4000 * 365 * DAY}, "idle: .*730000 days"),
        ({"history": timedelta(0)}, "history: .*greater than 0"),
        ({"history": -DAY}, "history: .*greater than 0"),
        ({"keep_last": 0}, "keep_last: .*1"),
        ({"keep_last": True}, "keep_last: .*integer"),
        ({"keep_last": 1 << 40}, "keep_last"),
        ({"idle": DAY, "interrupted": -DAY}, "interrupted"),
        ({"idle": 2 * DAY, "interrupted": DAY}, r"interrupted \(1 day.*\) is shorter than idle"),
        ({"idle": DAY, "keep": 3}, "unknown field 'keep', the fields are idle, history"),
        ({"idle": DAY, "allow_shorter": "yes"}, "allow_shorter: .*boolean"),
    ],
)
def test_a_retention_that_contradicts_itself_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidInputError, match=f"the retention is not valid: .*{why}"):
        Retention(**fields)


@pytest.mark.parametrize(
    "stored",
    ["for ever", "[]", "1", "null", 3, [], '{"idle": "soon"}', '{"idle": 90}', {"keep_last": "3"}, "[" * 99999],
)
def test_what_is_no_retention_is_refused(stored: Any) -> None:
    with pytest.raises(InvalidInputError):
        parse_retention(stored)


def test_a_threads_own_retention_only_lengthens() -> None:
    """Of each field the longer one; what the log never erases stays; with `allow_shorter` the thread decides."""
    log = Retention(idle=30 * DAY, history=10 * DAY, interrupted=60 * DAY)
    assert combined(log, None) == (30 * DAY, 10 * DAY, None, 60 * DAY)
    assert combined(log, Retention(idle=90 * DAY, keep_last=5)) == (90 * DAY, 10 * DAY, 5, 60 * DAY)
    assert combined(log, Retention(idle=DAY, history=DAY)) == (30 * DAY, 10 * DAY, None, 60 * DAY)
    assert combined(log, Retention(history=90 * DAY, interrupted=90 * DAY)) == (30 * DAY, 90 * DAY, None, 90 * DAY)
    never = Retention(keep_last=3)
    assert combined(never, Retention(idle=DAY, keep_last=1, interrupted=DAY)) == (None, None, 3, None)
    assert combined(Retention(idle=DAY), Retention(history=DAY, keep_last=1)) == (DAY, None, None, None)
    free = log.model_copy(update={"allow_shorter": True})
    assert combined(free, Retention(idle=DAY, keep_last=1)) == (DAY, None, 1, 60 * DAY)
    assert combined(free, Retention(idle=DAY)) == (DAY, 10 * DAY, None, 60 * DAY)


@pytest.mark.portable
@POOLS
async def test_a_log_has_one_retention(log: Log) -> None:
    """It is there for all savers until it is cleared, and the database says who set it."""
    assert await log.saver.log.retention() is None
    retention = Retention(
        idle=90 * DAY, history=timedelta(days=30, seconds=1), keep_last=7, interrupted=365 * DAY, allow_shorter=True
    )
    await log.saver.log.set_retention(retention, actor="ada")
    assert await log.reader.log.retention() == retention == parse_retention(str(retention))
    query = "select retention_set_by, retention_actor, retention_set_at is not null from {schema}.settings"
    assert log.tables.rows(query) == [("postgres", "ada", True)]
    await log.reader.log.set_retention(None)
    assert await log.saver.log.retention() is None
    for wrong in ({"idle": "P90D"}, "P90D", 3):
        with pytest.raises(InvalidInputError, match="must be a Retention or None"):
            await log.saver.log.set_retention(wrong)
    log.tables.run("""update {schema}.settings set retention = '{{"keep_best": 3}}'""")
    for asked in (log.saver.log.retention, log.saver.log.maintain):
        with pytest.raises(LogCorruptedError, match=r"stored retention is not one of this version.*'keep_best'"):
            await asked()


@POOLS
async def test_without_a_retention_nothing_is_erased(log: Log) -> None:
    await log.grow("1", "c1", "c2")
    log.clock.advance(1000 * DAY)
    done = await log.saver.log.maintain()
    assert (done.retention, done.expired, done.pruned, done.looked_at) == (None, 0, 0, 0)
    assert len(done.partitions) == 2
    assert await ids_of(log, "1") == ["c2", "c1"]


# --- what is erased


@pytest.mark.portable
async def test_idle_threads_go_with_their_subgraphs_and_others_stay(log: Log) -> None:
    """As many as are due, at whatever page; what stays reads as before."""
    for number in range(4):
        await log.grow(f"old {number}", "c1", "c2")
        await log.grow(f"old {number}", "p1", ns="call:1")
        log.clock.advance(DAY)
    await log.grow("old 1", "p2", ns="call:1")  # Its subgraph goes on.
    await log.grow("new", "c1")
    before = await log.everything()
    await log.saver.log.set_retention(Retention(idle=2.5 * DAY))
    log.clock.advance(DAY)
    contents = log.tables.contents()
    dry = await log.saver.log.maintain(dry_run=True)
    assert log.tables.contents() == contents
    told: list[Any] = []

    done = await log.saver.log.maintain(actor="nightly", on_thread=told.append)

    assert [each.thread_id for each in told] == ["old 0", "old 2"]
    assert (done.expired, done.pruned, done.looked_at, done.failed) == (2, 0, 5, {})
    assert (done.checkpoints, done.events) == (6, 12)
    counted = ("looked_at", "expired", "pruned", "checkpoints", "events", "bytes", "active", "interrupted")
    assert [getattr(dry, name) for name in counted] == [getattr(done, name) for name in counted]
    assert (dry.is_dry_run, done.is_dry_run) == (True, False)
    records = log.tables.records("old 0")
    assert {(each["operation"], each["actor"]) for each in records} == {("maintain", "nightly")}
    await log.check(before, {key for key in before if key[0] not in ("old 0", "old 2")})
    with pytest.raises(ThreadDeletedError):
        await log.saver.aput_writes(config_of("old 0", "c2"), [("x", 1)], "late")
    contents = log.tables.contents()
    again = await log.saver.log.maintain()
    assert (again.expired, again.pruned) == (0, 0)
    assert log.tables.contents() == contents


@POOLS
@pytest.mark.parametrize(
    ("retention", "left"),
    [
        (Retention(history=3.5 * DAY), ["c6", "c5", "c4"]),
        (Retention(keep_last=2), ["c6", "c5"]),
        (Retention(history=3.5 * DAY, keep_last=2), ["c6", "c5", "c4"]),
        (Retention(history=3.5 * DAY, keep_last=4), ["c6", "c5", "c4", "c3"]),
        (Retention(history=timedelta(hours=1)), ["c6"]),
    ],
    ids=str,
)
async def test_history_goes_that_no_rule_keeps(log: Log, retention: Retention, left: list[str]) -> None:
    """Both rules together keep what either keeps. Ends of branches stay; a call's namespace goes with its root."""
    await log.grow("1", "c1", "c2", days=1)
    called = {"parents": {"": "c2"}}
    await put(log.saver, config_of("1", ns="call:1"), "p1", {"x": 1}, metadata=called)
    await put(log.saver, config_of("1", "c1"), "b1", {"x": 2})
    await log.grow("1", "c3", "c4", "c5", "c6", days=1)
    await log.grow("short", "c1")
    log.clock.advance(timedelta(hours=2))
    before = await log.everything()
    await log.saver.log.set_retention(retention)

    done = await log.saver.log.maintain()

    assert (done.expired, done.pruned) == (0, 1)
    survivors = {("1", "", each) for each in [*left, "b1"]} | {("short", "", "c1")}
    await log.check(before, survivors)
    (record,) = [each for each in log.tables.records("1") if each.get("keep_last") or each.get("history")][:1]
    assert record["operation"] == "maintain"
    contents = log.tables.contents()
    assert (await log.saver.log.maintain()).pruned == 0
    assert log.tables.contents() == contents


@POOLS
async def test_own_retention_lengthens_and_its_checkpoint_stays(log: Log) -> None:
    """From the newest checkpoint that has one, as LangGraph puts it into the metadata: text. One that is none keeps the
    thread, and is named."""
    longer = Retention(idle=500 * DAY, keep_last=3)
    shorter = Retention(idle=DAY, keep_last=1)
    for thread_id, own in (
        ("broken", "for ever"),
        ("cleared", None),
        ("longer", str(longer)),
        ("longer, as an object", json.loads(str(longer))),
        ("none", ...),
        ("shorter", str(shorter)),
    ):
        config = config_of(thread_id)
        for number in range(1, 7):
            metadata = {} if own is ... or number != 2 else {"retention": own}
            if thread_id == "longer" and number == 1:
                metadata = {"retention": str(Retention(keep_last=100))}
            config = await put(log.saver, config, f"c{number}", {"x": number}, metadata=metadata)
    log.clock.advance(10 * DAY)
    await log.saver.log.set_retention(Retention(idle=100 * DAY, keep_last=2))
    before = await log.everything()

    done = await log.saver.log.maintain()

    last = {"longer": "c6 c5 c4 c2", "longer, as an object": "c6 c5 c4 c2", "shorter": "c6 c5 c2"}
    last |= {"cleared": "c6 c5 c2", "none": "c6 c5", "broken": "c6 c5 c4 c3 c2 c1"}
    assert {each: " ".join(await ids_of(log, each)) for each in last} == last
    assert done.pruned == 5
    assert done.failed.keys() == {"broken"}
    assert "'for ever' is not a retention" in done.failed["broken"]
    await log.check(before, {(thread_id, "", id_) for thread_id, ids in last.items() for id_ in ids.split()})
    log.clock.advance(100 * DAY)
    assert (await log.saver.log.maintain()).expired == 3
    assert await threads_of(log) == ["broken", "longer", "longer, as an object"]


@POOLS
async def test_own_retention_is_shorter_where_the_log_allows_it(log: Log) -> None:
    for thread_id, own in (("idle", Retention(idle=DAY)), ("last", Retention(keep_last=1)), ("none", None)):
        metadata = {} if own is None else {"retention": str(own)}
        config = config_of(thread_id)
        for id_ in ("c1", "c2", "c3"):
            config = await put(log.saver, config, id_, {"x": 1}, metadata=metadata)
    log.clock.advance(2 * DAY)
    await log.saver.log.set_retention(Retention(idle=100 * DAY, history=50 * DAY))
    done = await log.saver.log.maintain()
    assert (done.expired, done.pruned) == (0, 0)
    await log.saver.log.set_retention(Retention(idle=100 * DAY, history=50 * DAY, allow_shorter=True))
    done = await log.saver.log.maintain()
    assert (done.expired, done.pruned) == (1, 1)
    assert await threads_of(log) == ["last", "none"]
    assert await ids_of(log, "last") == ["c3"]
    assert await ids_of(log, "none") == ["c3", "c2", "c1"]


class State(TypedDict, total=False):
    answer: str


def test_a_thread_that_waits_for_an_answer_stays(timed_uri: str) -> None:
    """A real graph's, in the root graph and in a subgraph, until it has waited for as long as the setting says."""

    def ask(state: State) -> State:
        return {"answer": interrupt("go on?")}

    inner = StateGraph(State).add_node("ask", ask).add_edge(START, "ask").compile()
    outer = StateGraph(State).add_node("inner", inner).add_edge(START, "inner")
    clock = Clock(timed_uri, behind=100 * DAY)
    with EventLogSaver.from_conn_string(timed_uri) as saver:
        saver.setup()
        graph = outer.compile(checkpointer=saver)
        plain = StateGraph(State).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=saver)
        for thread_id, each in (("inside", graph), ("answered", graph), ("plain", plain)):
            each.invoke({}, config_of(thread_id))
        graph.invoke(Command(resume="yes"), config_of("answered"))
        clock.advance(10 * DAY)
        saver.log.set_retention(Retention(idle=5 * DAY, keep_last=1))
        for dry_run in (True, False):
            done = saver.log.maintain(dry_run=dry_run)
            assert (done.expired, done.pruned, done.interrupted) == (1, 0, 2)
        assert sorted(each.thread_id for each in saver.log.threads()) == ["inside", "plain"]
        assert graph.get_state(config_of("inside")).interrupts
        # Answered, it is over, and has its time from then on.
        assert plain.invoke(Command(resume="yes"), config_of("plain")) == {"answer": "yes"}
        saver.log.set_retention(Retention(idle=5 * DAY, interrupted=12 * DAY))
        assert saver.log.maintain().interrupted == 1
        clock.advance(3 * DAY)
        done = saver.log.maintain()
        assert (done.expired, done.interrupted) == (1, 0)
        assert [each.thread_id for each in saver.log.threads()] == ["plain"]
        assert saver.log.verify().problems == []


# --- runs that go on


@POOLS
async def test_a_thread_with_recent_activity_is_left_whole(log: Log) -> None:
    """Something was appended within a quarter of an hour: a run may go on that began at an old checkpoint."""
    await log.grow("1", "c1", "c2", "c3", days=1)
    await log.saver.log.set_retention(Retention(idle=20 * MINUTE, history=DAY))
    await log.saver.aput_writes(config_of("1", "c1"), [("x", 1)], "went back")
    log.clock.advance(14 * MINUTE)
    done = await log.saver.log.maintain()
    assert (done.active, done.pruned, done.expired) == (1, 0, 0)
    assert await ids_of(log, "1") == ["c3", "c2", "c1"]
    log.clock.advance(2 * MINUTE)
    done = await log.saver.log.maintain()
    assert (done.active, done.pruned) == (0, 1)
    log.clock.advance(10 * MINUTE)
    assert (await log.saver.log.maintain()).expired == 1


@POOLS
async def test_a_run_that_goes_on_after_the_listing_is_not_cut(log: Log) -> None:
    """Each is looked at again under its locks."""
    for thread_id in "abcd":
        await log.grow(thread_id, "c1", "c2", "c3")
    log.clock.advance(10 * DAY)
    await log.saver.log.set_retention(Retention(idle=5 * DAY, keep_last=1))

    def others(saver: EventLogSaver) -> None:
        saver.put_writes(config_of("b", "c1"), [("x", "late")], "task")
        saver.put(config_of("c", "c3"), checkpoint_of("c4", {}, {}), {}, {})
        saver.delete_thread("d")

    def go_on(erased: Any) -> None:
        if erased.thread_id == "a":
            meanwhile(others, log.uri)

    done = await log.saver.log.maintain(on_thread=go_on)
    assert (done.expired, done.pruned, done.active) == (1, 0, 2)
    assert await threads_of(log) == ["b", "c"]
    assert await ids_of(log, "b") == ["c3", "c2", "c1"]
    assert await ids_of(log, "c") == ["c4", "c3", "c2", "c1"]


# --- runs of maintenance


@POOLS
async def test_a_limited_run_is_continued_by_the_next(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langgraph.checkpoint.eventlog.lifecycle.pages.PAGE", 2)
    for thread_id in "abcdefg":
        await log.grow(thread_id, "c1", "c2")
    log.clock.advance(10 * DAY)
    await log.saver.log.set_retention(Retention(idle=5 * DAY))
    found = []
    for _ in range(3):
        done = await log.saver.log.maintain(limit=3)
        found.append((done.expired, done.is_limited, await threads_of(log)))
    assert found == [(3, True, ["d", "e", "f", "g"]), (3, True, ["g"]), (1, False, [])]


@pytest.mark.portable
@POOLS
async def test_one_worker_is_at_it_and_others_stand_by(log: Log) -> None:
    """Also between its transactions; one that vanished is replaced after a minute."""
    for thread_id in "abc":
        await log.grow(thread_id, "c1")
    log.clock.advance(10 * DAY)
    await log.saver.log.set_retention(Retention(idle=5 * DAY))
    others: list[Any] = []

    def compete(erased: Any) -> None:
        meanwhile(lambda saver: others.append(saver.log.maintain()), log.uri)
        if erased.thread_id == "b":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        await log.saver.log.maintain(on_thread=compete)
    assert await threads_of(log) == ["c"]
    assert [(each.expired, each.looked_at) for each in others] == [(0, 0), (0, 0)]
    assert len({each.stood_by_for for each in others}) == 1
    # Dry runs are in no worker's way.
    assert (await log.reader.log.maintain(dry_run=True)).expired == 1
    done = await log.reader.log.maintain()
    assert done.stood_by_for == others[0].stood_by_for
    with psycopg.connect(direct(log.uri)) as conn:
        # Longer than a minute in one transaction.
        log.clock.advance(2 * MINUTE)
        conn.execute("select eventlog.hold_maintenance_v1('long', 1)")
        log.clock.advance(MINUTE)
        assert (await log.reader.log.maintain()).stood_by_for == others[0].stood_by_for
    done = await log.reader.log.maintain()
    assert (done.stood_by_for, done.expired) == (None, 1)
    # It says when it is done, and a clock that was wrong keeps no worker off.
    assert (await log.saver.log.maintain()).stood_by_for is None
    with psycopg.connect(direct(log.uri)) as conn:
        conn.execute("select eventlog.hold_maintenance_v1('ahead', 600)")
    log.clock.advance(-DAY)
    assert (await log.saver.log.maintain()).stood_by_for is None
    with psycopg.connect(direct(log.uri)) as conn, pytest.raises(psycopg.errors.InvalidParameterValue):
        conn.execute("select eventlog.hold_maintenance_v1('greedy', 601)")


@POOLS
async def test_a_worker_that_lost_its_place_stands_by(log: Log) -> None:
    """It was away for too long, and another one has begun."""
    for thread_id in "abc":
        await log.grow(thread_id, "c1")
    log.clock.advance(10 * DAY)
    await log.saver.log.set_retention(Retention(idle=5 * DAY))

    def away(erased: Any) -> None:
        log.clock.advance(2 * MINUTE)
        with psycopg.connect(direct(log.uri), autocommit=True) as conn:
            conn.execute("select eventlog.hold_maintenance_v1('another', 60)")

    done = await log.saver.log.maintain(on_thread=away)
    assert (done.expired, done.stood_by_for) == (1, "another")
    assert await threads_of(log) == ["b", "c"]


@POOLS
async def test_it_goes_on_until_it_is_stopped(log: Log) -> None:
    """Runs again after each interval; asked to stop, it ends before the next thread, or in its pause."""
    await log.saver.log.set_retention(Retention(idle=5 * DAY))
    runs: list[Any] = []
    stop = threading.Event()

    def next_day(done: Any) -> None:
        runs.append(done)
        if len(runs) == 2:
            stop.set()

    every = timedelta(seconds=1)
    last = await log.saver.log.maintain(every=every, on_run=next_day, stop=stop.is_set)
    assert [each.expired for each in runs] == [0, 0]
    assert last is runs[-1]
    for thread_id in "abc":
        await log.grow(thread_id, "c1")
    log.clock.advance(10 * DAY)
    stop.clear()
    done = await log.saver.log.maintain(on_thread=lambda _: stop.set(), stop=stop.is_set)
    assert (done.expired, done.is_stopped, done.seal) == (1, True, None)
    assert await threads_of(log) == ["b", "c"]
    # In a pause of a year.
    stop.clear()
    done = await log.saver.log.maintain(every=365 * DAY, on_run=lambda _: stop.set(), stop=stop.is_set)
    assert done.expired == 2


@POOLS
async def test_one_thread_that_fails_keeps_no_other_from_being_erased(log: Log) -> None:
    for thread_id in "abc":
        await log.grow(thread_id, "c1", "c2", "c3")
    log.clock.advance(10 * DAY)
    log.tables.run(
        "alter table {schema}.events disable trigger user",
        "update {schema}.events set body = '\\x01ff' where thread_id = 'b' and kind = 2",
        "alter table {schema}.events enable trigger user",
    )
    await log.saver.log.set_retention(Retention(idle=50 * DAY, keep_last=1))
    done = await log.saver.log.maintain()
    assert done.failed.keys() == {"b"}
    assert "does not decode" in done.failed["b"]
    assert done.pruned == 2
    assert await ids_of(log, "a") == ["c3"]
    assert len(await ids_of(log, "c")) == 1


# --- seals and receipts


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@POOLS
async def test_with_a_key_there_are_receipts_and_a_seal(log: Log, keys: Keys, tmp_path: Path) -> None:
    """Signed, one for each thread, of just this erasure; no file has a thread's id in its name or its text."""
    for thread_id in ("person-a", "person-b"):
        await log.grow(thread_id, "c1", "c2", "c3")
        await log.grow(thread_id, "p1", ns="call:1")
    await log.saver.log.prune(["person-b"], keep_last=2, actor="by hand")
    log.clock.advance(10 * DAY)
    await log.grow("person-c", *(f"c{number}" for number in range(5)))
    log.clock.advance(DAY)
    await log.saver.log.set_retention(Retention(idle=5 * DAY, keep_last=2))
    receipt_keys = make_keys(tmp_path.parent, "receipts")
    signed = {"seal_key": keys.private, "receipt_key": receipt_keys.private, "out": tmp_path}
    done = await log.saver.log.maintain(**signed, actor="nightly")
    assert (done.expired, done.pruned) == (2, 1)
    assert sorted(tmp_path.iterdir()) == sorted([*done.receipts, tmp_path / "seal-1.json"])
    assert len(done.receipts) == 3
    for path in done.receipts:
        text = path.read_text()
        assert "person" not in text + path.name
        receipt = verify_receipt(text, receipt_keys.public)
        assert {(each.operation, each.actor) for each in receipt.erasures} == {("maintain", "nightly")}
        assert receipt.reason == "retention"
    (sealed,) = verify_signed_seals([(tmp_path / "seal-1.json").read_text()], keys.public)
    assert done.seal is not None
    assert sealed.digest == done.seal.digest
    verified = await log.saver.log.verify(seal=(tmp_path / "seal-1.json").read_text(), public_key=keys.public)
    assert verified.problems == []
    # Nothing to erase: a seal alone, which says so. In its own words, when the file is there already.
    (tmp_path / "seal-2.json").write_text("in the way")
    with pytest.raises(StorageError, match=r"seal-2\.json was not written: .*Keep this document instead: \{"):
        await log.saver.log.maintain(**signed)
    dry = await log.saver.log.maintain(**signed, dry_run=True)
    assert (dry.receipts, dry.seal) == ([], None)


@POOLS
async def test_a_thread_that_was_erased_meanwhile_has_a_receipt_too(log: Log, keys: Keys, tmp_path: Path) -> None:
    """As where the answer to a commit is lost, and the second try finds nothing left to erase."""
    for thread_id in "ab":
        await log.grow(thread_id, "c1")
    log.clock.advance(10 * DAY)
    await log.saver.log.set_retention(Retention(idle=5 * DAY))

    def erase_b(erased: Any) -> None:
        meanwhile(lambda saver: saver.delete_thread("b"), log.uri)

    done = await log.saver.log.maintain(receipt_key=keys.private, out=tmp_path, on_thread=erase_b)
    assert done.expired == 1
    receipts = [verify_receipt(path.read_text(), keys.public) for path in done.receipts]
    assert [each.erasures[0].operation for each in receipts] == ["maintain", "delete_thread"]


@POOLS
async def test_bad_arguments_are_refused_before_anything_is_done(log: Log, keys: Keys, tmp_path: Path) -> None:
    await log.grow("1", "c1")
    log.clock.advance(10 * DAY)
    await log.saver.log.set_retention(Retention(idle=5 * DAY))
    for wrong, why in (
        ({"every": 3600}, "every must be a timedelta"),
        ({"every": timedelta(0)}, "every must be a timedelta"),
        ({"every": DAY, "dry_run": True}, "a dry run runs once"),
        ({"limit": 0}, "limit must be at least 1"),
        ({"out": tmp_path}, "give seal_key or receipt_key as well"),
        ({"receipt_key": keys.private}, "give out as well"),
        ({"seal_key": keys.private, "out": tmp_path / "none"}, "must be an existing folder"),
        ({"seal_key": keys.public}, "key"),
        ({"stop": True}, "stop must be a function"),
        ({"actor": 3}, "actor must be"),
    ):
        with pytest.raises(InvalidInputError, match=why):
            await log.saver.log.maintain(**wrong)
    assert await threads_of(log) == ["1"]


# --- rights


@pytest.mark.portable
@POOLS
async def test_an_eraser_sets_and_maintains_and_a_sealer_seals(log: Log, role: str, keys: Keys) -> None:
    """The error names the set of rights, and comes before anything is done."""
    await log.grow("1", "c1", "c2", "c3")
    log.clock.advance(10 * DAY)
    retention = Retention(idle=50 * DAY, keep_last=1)
    grant(log.uri, role, "writer")
    async with open_saver(log.kind, as_role(log.uri, role)) as saver:
        for refused in (saver.log.set_retention(retention), saver.log.maintain()):
            with pytest.raises(MissingGrantError, match="eventlog grant eraser"):
                await refused
        assert await saver.log.retention() is None
    grant(log.uri, role, "eraser")
    async with open_saver(log.kind, as_role(log.uri, role)) as saver:
        await saver.log.set_retention(retention)
        with pytest.raises(MissingGrantError, match="eventlog grant sealer"):
            await saver.log.maintain(seal_key=keys.private)
        assert await ids_of(log, "1") == ["c3", "c2", "c1"]
        assert (await saver.log.maintain()).pruned == 1
        assert await ids_of(log, "1") == ["c3"]
        grant(log.uri, role, "sealer")
        assert (await saver.log.maintain(seal_key=keys.private)).seal is not None
