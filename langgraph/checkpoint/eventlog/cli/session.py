"""One run of the command: what its global options say, and the log that it works with."""

from __future__ import annotations

import getpass
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import structlog
import typer
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.errors import InvalidInputError, MissingGrantError, NotSetUpError
from eventlog.settings import Settings
from langgraph.checkpoint.eventlog import EventLog
from langgraph.checkpoint.eventlog.cli.parsing import checked_dsn
from langgraph.checkpoint.eventlog.cli.render.decoding import Decoder, allowed_types
from langgraph.checkpoint.eventlog.cli.render.output import Output, printable

__all__ = ["Session", "configure_logging"]

#: Where LangGraph's `EncryptedSerializer` looks for its key.
KEY = "LANGGRAPH_AES_KEY"

#: Types that a note names.
MOST_NAMES = 5

DEFAULT_INTERVAL: str = Settings.model_fields["partition_interval"].default


@dataclass
class Session:
    """What the global options say."""

    dsn: str | None
    schema: str
    as_json: bool
    actor: str | None

    @classmethod
    def of(cls, ctx: typer.Context) -> Session:
        """The session that a command runs in."""
        return cast(Session, ctx.find_root().obj)

    @property
    def output(self) -> Output:
        """Where to write."""
        return Output(as_json=self.as_json)

    @property
    def on_behalf_of(self) -> str | None:
        """The actor for the log: the user of the operating system, if none was given."""
        return self.actor if self.actor is not None else _os_user()

    @contextmanager
    def open(self, connections: int = 1) -> Iterator[EventLog]:
        """A log that makes no partitions.

        Args:
            connections: of its pool, at most.

        Raises:
            InvalidInputError: when there is no connection string, or it is not one.
        """
        with self._open(connections) as log:
            yield log

    @contextmanager
    def open_to_look(self, allow: Sequence[str], *, trust: bool) -> Iterator[EventLog]:
        """A log that builds no objects but those on LangGraph's list of safe types. At the end a note says which not.

        Args:
            allow: classes to build beside these, each ``module:Class``.
            trust: build whatever the data names.

        Raises:
            InvalidInputError: as `open`, and when it is not a class that is allowed.
        """
        decoder = Decoder(allowed_types(allow), trust=trust)
        with self._open(plain=decoder) as log:
            yield log
        if decoder.refused:
            names = sorted(f"{module}:{name}" for module, name in decoder.refused)
            some = ", ".join(map(printable, names[:MOST_NAMES])) + (", …" if len(names) > MOST_NAMES else "")
            self.output.note(
                "Shown as data, because these classes are not on the list of safe types (--allow or --trust loads "
                f"them): {some}"
            )

    @contextmanager
    def open_to_apply(self, allow: Sequence[str], *, trust: bool, connections: int = 1) -> Iterator[EventLog]:
        """A log that hands values on to other code: what does not decode is an error there, and not shown as data.

        Args:
            allow: classes to build beside LangGraph's safe types, each ``module:Class``.
            trust: build whatever the data names.
            connections: of its pool, at most.

        Raises:
            InvalidInputError: as `open`, and when it is not a class that is allowed.
        """
        types = tuple(allowed_types(allow)) or None
        plain = JsonPlusSerializer(
            allowed_msgpack_modules=True if trust else types, allowed_json_modules=True if trust else None
        )
        with self._open(connections, plain) as log:
            yield log

    @contextmanager
    def open_to_write(self, interval: str | None = None) -> Iterator[EventLog]:
        """A log that makes partitions where they are missing.

        Args:
            interval: how much time one holds. By default as much as the newest: the log does not record the setting
                of those who write to it, and must not get months among its days.

        Raises:
            InvalidInputError: as `open`, and when it is not an interval.
        """
        if interval is None:
            with self._open() as log:
                interval = _interval_of(log)
        with self._open(partition_interval=interval) as log:
            yield log

    def _open(
        self, connections: int = 1, plain: SerializerProtocol | None = None, **settings: Any
    ) -> AbstractContextManager[EventLog]:
        if not self.dsn:
            raise InvalidInputError(
                "no database given: set --dsn or the environment variable EVENTLOG_DSN to a connection string such as "
                "postgresql://user@host:5432/database"
            )
        return EventLog.from_conn_string(
            checked_dsn(self.dsn),
            serde=_serializer(plain),
            schema=self.schema,
            pool_max_size=connections,
            **settings,
        )


def _serializer(plain: SerializerProtocol | None) -> SerializerProtocol:
    """One that makes no objects but of safe types: whoever could write to the log must not run code here.

    Encrypting, where LangGraph's key is in the environment: what survives an erasure is written anew.
    """
    # The strict list, whatever LANGGRAPH_STRICT_MSGPACK says.
    plain = plain or JsonPlusSerializer(allowed_msgpack_modules=None, allowed_json_modules=None)
    if not os.environ.get(KEY):
        return plain
    try:
        return EncryptedSerializer.from_pycryptodome_aes(plain)
    except (ImportError, ValueError) as exc:
        # Neither message holds the key.
        raise InvalidInputError(f"{KEY}: {exc}") from exc


def _interval_of(log: EventLog) -> str:
    try:
        there = log.partitions().partitions
    except (NotSetUpError, MissingGrantError):
        there = []
    length = there[-1].ends_at - there[-1].starts_at if there else None
    # Another length is that of a partition between two settings; a log whose newest is such a one has months next.
    return {timedelta(days=1): "day", timedelta(weeks=1): "week"}.get(length or timedelta(0), DEFAULT_INTERVAL)


def _os_user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that no user has.
        return None


class _Stderr(logging.Handler):
    """Writes to what is stderr at the time: a progress bar stands in for it, so that lines go above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def configure_logging() -> None:
    """Send the log's warnings to stderr, rendered by structlog. Only for a process that is the command."""
    handler = _Stderr()
    # `partitions` and `setup` say it themselves, and so does what looks at values of types that are not loaded.
    handler.addFilter(lambda record: getattr(record, "event", None) != "eventlog.partitions_short")
    handler.addFilter(lambda record: not record.name.startswith("langgraph.checkpoint.serde."))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
