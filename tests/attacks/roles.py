"""A log that a role of one set of rights attacks, with statements of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest

from eventlog.rights import Rights
from tests.database.test_rights import as_role, grant, role
from tests.support.checkpoints import Tables, checkpoint_of, config_of
from tests.support.pooler import direct

__all__ = ["APPEND_CHECKPOINT", "APPEND_WRITES", "Attacker", "attacker", "grow", "role"]

APPEND_CHECKPOINT = (
    *("thread_id", "checkpoint_ns", "checkpoint_id", "parent_id", "root_id", "base_seq", "base_at", "epoch"),
    *("keyframe_seq", "keyframe_at", "replaces", "is_keyframe", "state_bytes", "run_id"),
    *("metadata", "state_digest", "content", "body", "snapshot"),
)
APPEND_WRITES = (
    *("thread_id", "checkpoint_ns", "checkpoint_id", "root_id", "base_seq", "base_at", "epoch"),
    *("state_digest", "content", "body"),
)


def grow(saver: Any, thread_id: str, ids: Sequence[str] = "abc") -> None:
    """Checkpoints one after the other, each with a write."""
    config = config_of(thread_id)
    for id_ in ids:
        values = {"x": ["a" * 2000, id_]}
        versions = {"x": id_}
        config = saver.put(config, checkpoint_of(id_, values, versions), {"step": id_}, versions)
        saver.put_writes(config, [("y", id_)], "task")


class Attacker:
    """Runs statements with one set of rights, on its own connection to the server."""

    def __init__(self, uri: str, name: str, rights: Rights) -> None:
        self.owners_uri, self.name = direct(uri), name
        self.uri = as_role(self.owners_uri, name)
        self.tables = Tables(uri)
        grant(uri, name, rights)

    def run(self, statement: str, *params: Any) -> list[tuple[Any, ...]]:
        """Run a statement, and commit; returns its rows. Raises psycopg's errors."""
        with psycopg.connect(self.uri) as conn:
            done = conn.execute(statement.encode(), params or None)
            return done.fetchall() if done.description else []

    def call(self, function: str, names: Sequence[str], given: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Call a function of the log with named parameters; those that are not given are null."""
        assert given.keys() <= set(names)
        arguments = ", ".join(f"p_{name} => %s" for name in names)
        return self.run(f"select * from eventlog.{function}({arguments})", *(given.get(name) for name in names))

    def event(self, thread_id: str, seq: int) -> dict[str, Any]:
        """An event's state digest, content digest and body, as its writer computed them."""
        ((id_, kind, state_digest, content, body),) = self.run(
            "select checkpoint_id, kind, state_digest, sha256(state_digest || sha256(body)), body"
            " from eventlog.events where thread_id = %s and seq = %s",
            thread_id,
            seq,
        )
        assert kind in (1, 2)
        return {"checkpoint_id": id_, "state_digest": state_digest, "content": content, "body": body}


@pytest.fixture
def attacker(role: str, database_uri: str) -> Callable[[Rights], Attacker]:
    """Makes a role with a set of rights on the test's log."""
    return lambda rights: Attacker(database_uri, role, rights)
