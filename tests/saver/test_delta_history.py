"""What is known of a stream between two questions for channels' histories (`projections.lineage`) is never stale.

Each answer is compared with LangGraph's own implementation, one `get_tuple` for each ancestor, through a saver that
keeps nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from eventlog.errors import LogCorruptedError, ThreadDeletedError
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog import EventLogSaver, _delta
from tests.support.checkpoints import TEXTS, Tables, checkpoint_of, config_of, exactly

CHANNELS = ["a", "b", "c", "never"]
NAMESPACES = ["", "sub:1"]


def same_as_generic(saver: EventLogSaver, reader: EventLogSaver, config: Any, channels: list[str] = CHANNELS) -> Any:
    """The answer, which must be that of LangGraph's generic implementation."""
    found = saver.get_delta_channel_history(config=config, channels=channels)
    expected = BaseCheckpointSaver.get_delta_channel_history(reader, config=config, channels=channels)
    assert exactly(dict(found), dict(expected)), (config, found, expected)
    return found


class Threads:
    """A random life of two streams: forks, repeats, early writes, erasures, by two savers."""

    def __init__(self, choice: random.Random, savers: list[EventLogSaver]) -> None:
        self.choice, self.savers = choice, savers
        self.ids: dict[str, list[str]] = {ns: [] for ns in NAMESPACES}
        self.versions: dict[tuple[str, str], dict[str, str]] = {}
        self.count = 0

    @property
    def saver(self) -> EventLogSaver:
        return self.choice.choice(self.savers)

    def put(self, ns: str, id_: str | None = None) -> None:
        choice, ids = self.choice, self.ids[ns]
        self.count += 1
        parent = choice.choice(ids[-3:] + ids[-1:] * 3 + choice.sample(ids, 1)) if ids else None
        if id_ is not None:
            # Parents in a circle would keep LangGraph's implementation going for ever.
            parent = max((each for each in ids if each < id_), default=None)
        if id_ is None:
            # Mostly greater than all before; sometimes between others.
            id_ = f"{self.count:04}" if choice.random() < 0.9 else f"{int((parent or '0000')[:4]):04}.{self.count}"
        versions = dict(self.versions.get((ns, parent or ""), {}))
        new, values = {}, {"text": "".join(TEXTS)}
        for channel in ("a", "b", "c"):
            if choice.random() < 0.6:
                versions[channel] = new[channel] = f"{self.count:032}.{choice.random()}"
                if choice.random() < {"a": 0.1, "b": 0.3, "c": 0.02}[channel]:
                    values[channel] = choice.choice([_DeltaSnapshot([id_]), [id_, "".join(TEXTS)], None, id_])  # type: ignore[assignment]
        if choice.random() < 0.8:
            versions["text"] = new["text"] = versions.get("text", "1")
        checkpoint = checkpoint_of(id_, values, versions)
        saver = self.saver
        saver.put(config_of("t", parent, ns), checkpoint, {"run_id": f"run {self.count // 5}"}, new)
        self.versions[ns, id_] = versions
        if id_ not in ids:
            ids.append(id_)

    def write(self, ns: str, id_: str | None = None) -> None:
        choice, ids = self.choice, self.ids[ns]
        if id_ is None:
            # To one that is there, or that may come next.
            id_ = choice.choice([*ids[-3:], choice.choice(ids), f"{self.count + 1:04}"]) if ids else "0001"
        writes: list[tuple[str, Any]] = [(choice.choice(CHANNELS[:3]), [f"{id_} {choice.random()}"])]
        if choice.random() < 0.3:
            # Resembles the state: stored as a difference from it.
            writes.append((choice.choice(CHANNELS[:3]), "".join(TEXTS) + f"{self.count}"))
        task = choice.choice(["task 1", "task 2", "task 3"])
        self.saver.put_writes(config_of("t", id_, ns), writes, task, choice.choice(["", "path"]))

    def erase(self) -> None:
        choice, log = self.choice, self.saver.log
        kind = choice.choice(["prune", "keep", "runs", "thread"])
        if kind == "prune":
            log.prune(["t"], strategy="keep_latest")
        elif kind == "keep":
            log.prune(["t"], keep_last=3)
        elif kind == "runs":
            log.delete_for_runs([f"run {choice.randrange(self.count // 5 + 1)}"])
        else:
            log.delete_thread("t")

    def step(self) -> None:
        choice, ns = self.choice, self.choice.choice(NAMESPACES)
        try:
            what = choice.random()
            if what < 0.45:
                self.put(ns)
            elif what < 0.9:
                self.write(ns)
            elif what < 0.94 and self.ids[ns]:
                self.put(ns, choice.choice(self.ids[ns]))
            elif what > 0.985:
                self.erase()
        except ThreadDeletedError:
            pass


@pytest.fixture
def reader(database_uri: str) -> Iterator[EventLogSaver]:
    with psycopg.connect(database_uri, autocommit=True) as conn:
        yield EventLogSaver(conn, state_cache_bytes=0, message_cache_bytes=0)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5, 21])
def test_delta_histories_are_never_stale(seed: int, database_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = random.Random(seed)
    serde: Any = {"serde": EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")} if seed % 3 == 2 else {}
    monkeypatch.setattr(_delta, "FIRST_PAGE", choice.choice([1, 4, 64]))
    with (
        psycopg.connect(database_uri, autocommit=True) as one,
        psycopg.connect(database_uri, autocommit=True) as two,
        psycopg.connect(database_uri, autocommit=True) as third,
    ):
        savers = [EventLogSaver(conn, snapshot_floor_bytes=0, **serde) for conn in (one, two)]
        fresh = EventLogSaver(third, state_cache_bytes=0, message_cache_bytes=0, **serde)
        threads = Threads(choice, savers)
        found = 0
        for _ in range(150):
            threads.step()
            ns = choice.choice(NAMESPACES)
            ids = threads.ids[ns]
            asked = choice.choice([None, *ids[-3:], *choice.sample(ids, min(2, len(ids)))])
            channels = choice.sample(CHANNELS, choice.randrange(1, 5)) if choice.random() < 0.3 else CHANNELS
            history = same_as_generic(savers[0], fresh, config_of("t", asked, ns), channels)
            found += sum(len(each["writes"]) + ("seed" in each) for each in history.values())
        assert found > 20


def grow(saver: Any, count: int, begin: int = 0, thread: str = "t") -> list[Any]:
    """A line of checkpoints with two writes each, the first with a stored value; returns their configs."""
    config, configs = config_of(thread, f"{begin - 1:04}" if begin else None), []
    for number in range(begin, begin + count):
        versions = {"a": f"{number:032}.1", "b": f"{number:032}.1"}
        values: dict[str, Any] = {"a": _DeltaSnapshot(["root"])} if not number else {}
        if number == 5:
            values["b"] = _DeltaSnapshot(["five"])
        config = saver.put(config, checkpoint_of(f"{number:04}", values, versions), {}, versions)
        saver.put_writes(config, [("a", [number]), ("b", [number])], "task")
        configs.append(config)
    return configs


def test_the_answer_equals_that_of_the_memory_saver(database_uri: str) -> None:
    memory = InMemorySaver()
    with psycopg.connect(database_uri, autocommit=True) as conn:
        saver = EventLogSaver(conn)
        for begin in (0, 7, 80, 200):
            configs = grow(saver, 7 if not begin else 73, begin)
            grow(memory, 7 if not begin else 73, begin)
            for config in configs[::9]:
                ask = {"config": config, "channels": ["a", "b", "x"]}
                assert exactly(
                    dict(saver.get_delta_channel_history(**ask)), dict(memory.get_delta_channel_history(**ask))
                )


def bodies_read(saver: EventLogSaver, config: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many events the question fetches."""
    fetched = 0
    read = _delta.read_ancestry

    def counting(*args: Any) -> Any:
        nonlocal fetched
        answer = yield from read(*args)
        fetched += len(answer.events) + len(answer.writes)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(_delta, "read_ancestry", counting)
        saver.get_delta_channel_history(config=config, channels=["a", "b"])
    return fetched


def test_a_question_fetches_only_what_followed(
    database_uri: str, reader: EventLogSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database_uri, autocommit=True) as conn:
        saver = EventLogSaver(conn)
        configs = grow(saver, 30)
        assert bodies_read(saver, configs[-1], monkeypatch) == 60
        # Every state of a history.
        assert [bodies_read(saver, config, monkeypatch) for config in configs] == [0] * 30
        configs = grow(saver, 2, 30)
        assert bodies_read(saver, configs[-1], monkeypatch) == 4
        # Another channel has values that were not kept.
        same_as_generic(saver, reader, configs[-1], ["a", "b", "other"])
        assert bodies_read(saver, configs[-1], monkeypatch) == 0
        # And those of both questions are kept from then on.
        same_as_generic(saver, reader, configs[-1], ["other"])
        assert bodies_read(saver, configs[-1], monkeypatch) == 0


def test_erasing_a_thread_forgets_what_was_known_of_it(database_uri: str) -> None:
    with psycopg.connect(database_uri, autocommit=True) as conn:
        saver = EventLogSaver(conn)
        configs = grow(saver, 3)
        saver.get_delta_channel_history(config=configs[-1], channels=["a"])
        known = partial(saver._context.lineages.find, Stream("t", ""), saver._writer.reader)
        assert known() is not None
        saver.delete_thread("t")
        assert known() is None


def test_what_a_rolled_back_transaction_wrote_is_forgotten(database_uri: str, reader: EventLogSaver) -> None:
    with psycopg.connect(database_uri) as conn:
        saver = EventLogSaver(conn)
        grow(saver, 4)
        conn.commit()
        same_as_generic(saver, reader, config_of("t"))
        for count in (1, 3):
            configs = grow(saver, 2, 4)
            assert len(saver.get_delta_channel_history(config=configs[-1], channels=["a"])["a"]["writes"]) == 5
            conn.rollback()
            grow(saver, count, 4)
            conn.commit()
            same_as_generic(saver, reader, config_of("t"))
            saver.delete_thread("t")
            conn.commit()
            grow(saver, 4)
            conn.commit()
            same_as_generic(saver, reader, config_of("t"))


def test_writes_before_their_checkpoint_are_found(database_uri: str, reader: EventLogSaver) -> None:
    with psycopg.connect(database_uri, autocommit=True) as conn:
        saver = EventLogSaver(conn)
        grow(saver, 4)
        saver.put_writes(config_of("t", "0004"), [("a", ["early"])], "early task")
        same_as_generic(saver, reader, config_of("t"))
        grow(saver, 2, 4)
        history = same_as_generic(saver, reader, config_of("t"))
        assert ("early task", "a", ["early"]) in history["a"]["writes"]


def test_a_reader_without_the_key_is_refused(database_uri: str) -> None:
    """What one serializer decrypted is not given to a copy with another."""
    with psycopg.connect(database_uri, autocommit=True) as conn:
        saver = EventLogSaver(conn, serde=EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef"))
        configs = grow(saver, 3)
        assert saver.get_delta_channel_history(config=configs[-1], channels=["a"])["a"]["writes"]
        copy = EventLogSaver(conn)
        copy._context = saver._context
        with pytest.raises(LogCorruptedError, match="encrypted"):
            copy.get_delta_channel_history(config=configs[-1], channels=["a"])


def test_parents_in_a_circle_end(database_uri: str) -> None:
    with psycopg.connect(database_uri, autocommit=True) as conn:
        saver = EventLogSaver(conn)
        one = saver.put(config_of("t", "2"), checkpoint_of("1", {}, {"a": "1"}), {}, {"a": "1"})
        two = saver.put(one, checkpoint_of("2", {}, {"a": "2"}), {}, {"a": "2"})
        saver.put_writes(one, [("a", 1)], "task")
        found = saver.get_delta_channel_history(config=two, channels=["a"])
        assert found["a"] == {"writes": [("task", "a", 1)]}


def test_a_missing_event_is_reported(database_uri: str) -> None:
    tables = Tables(database_uri)
    with psycopg.connect(database_uri, autocommit=True) as conn:
        saver = EventLogSaver(conn)
        configs = grow(saver, 4)
        with psycopg.connect(database_uri, autocommit=True) as other:
            other.execute("set session_replication_role = replica")
            other.execute("delete from eventlog.events where checkpoint_id = '0002' and kind = 1")
        assert tables.rows("select count(*) from {schema}.events") == [(7,)]
        with pytest.raises(LogCorruptedError, match="missing"):
            saver.get_delta_channel_history(config=configs[-1], channels=["a"])
