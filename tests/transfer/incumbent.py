"""The incumbent in these tests: dumps of its tables, and what its own saver answers about them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.shallow import ShallowPostgresSaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from psycopg import sql
from psycopg.rows import dict_row

from tests.support.pooler import direct
from tests.transfer.dumps import KEY

__all__ = ["DUMPS", "answers", "canonical", "encrypted", "incumbent", "load_dump"]

FOLDER = Path(__file__).parent / "dumps"
DUMPS = sorted(path.stem for path in FOLDER.glob("*.sql"))


def load_dump(uri: str, name: str, schema: str = "public") -> None:
    """Make the tables of a dump in a schema."""
    with psycopg.connect(direct(uri)) as conn:
        conn.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(schema)))
        conn.execute(sql.SQL("set local search_path = {}").format(sql.Identifier(schema)))
        conn.execute((FOLDER / f"{name}.sql").read_text().encode())


def encrypted() -> EncryptedSerializer:
    """The serializer that wrote the threads called "encrypted"."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "LANGGRAPH_AES_KEY", KEY)
        return EncryptedSerializer.from_pycryptodome_aes()


@contextmanager
def incumbent(uri: str, *, is_shallow: bool = False, **options: Any) -> Iterator[PostgresSaver]:
    """The installed version of the incumbent's saver on these tables, which it brings up to date."""
    with psycopg.connect(direct(uri), autocommit=True, prepare_threshold=0, row_factory=dict_row) as conn:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            saver: Any = (ShallowPostgresSaver if is_shallow else PostgresSaver)(conn, **options)
        saver.setup()
        yield saver


def canonical(value: Any) -> Any:
    """A value with the same `repr` as equal ones: in dicts, order does not count, and NaN is itself."""
    if isinstance(value, Mapping):
        return {key: canonical(value[key]) for key in sorted(value, key=repr)}
    if isinstance(value, (list, tuple)):
        return [canonical(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted(map(repr, value))
    return value


#: Whether the incumbent that is installed has writes in the order of their tasks' paths, as LangGraph runs them: before
#: 3.2 it has them in another one.
ORDERS_WRITES = tuple(int(part) for part in version("langgraph-checkpoint-postgres").split(".")[:2]) >= (3, 2)


def text_of(found: CheckpointTuple | None) -> str:
    """A checkpoint as a text to compare."""
    if found is not None and not ORDERS_WRITES:
        found = found._replace(pending_writes=sorted(found.pending_writes or (), key=repr))
    return repr(canonical(None if found is None else tuple(found)))


def answers(saver: BaseCheckpointSaver[Any], thread_id: str) -> Iterator[tuple[Any, str]]:
    """What a saver answers about a thread: each checkpoint that it lists, in order."""
    for found in saver.list({"configurable": {"thread_id": thread_id}}):
        yield found.config, text_of(found)
