"""One run of the command: its options, its output, its log, and its logging."""

from __future__ import annotations

import getpass
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeAlias, cast

import typer
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from eventlog.errors import InvalidInputError
from eventlog.format.strict import StrictSerializer
from langgraph.checkpoint.eventlog import EventLog
from langgraph.checkpoint.eventlog.cli.render.decoding import Decoder, allowed_types
from langgraph.checkpoint.eventlog.cli.render.output import Output

__all__ = ["Session", "configure_logging"]

#: Where LangGraph's `EncryptedSerializer` looks for its key.
KEY = "LANGGRAPH_AES_KEY"

OpenLog: TypeAlias = AbstractContextManager[EventLog]


class Session(Output):
    """One run: its global options, its output, and the log that they name."""

    def __init__(
        self, dsn: str | None, schema: str, actor: str | None, *, as_json: bool, telemetry: bool = False
    ) -> None:
        super().__init__(as_json=as_json)
        self.dsn, self.schema, self.actor, self.telemetry = dsn, schema, actor, telemetry

    @classmethod
    def of(cls, ctx: typer.Context) -> Session:
        """The session that a command runs in."""
        return cast(Session, ctx.find_root().obj)

    @property
    def on_behalf_of(self) -> str | None:
        """The actor for the log: the user of the operating system, if none was given."""
        # A container may run under a number that no user has.
        with suppress(KeyError, OSError):
            return self.actor if self.actor is not None else getpass.getuser()
        return None

    def open(
        self,
        connections: int = 1,
        *,
        allow: Sequence[str] | None = None,
        trust: bool = False,
        plain: SerializerProtocol | None = None,
        **settings: Any,
    ) -> OpenLog:
        """A log with a pool of at most so many connections.

        It builds only LangGraph's safe types (a writer to the log must not be able to run code here), those to `allow`
        (``module:Class``), or with `trust` all; or decodes with `plain`, below the encryption.
        """
        if not self.dsn:
            raise InvalidInputError(
                "no database given: set --dsn or the environment variable EVENTLOG_DSN to a connection string such as "
                "postgresql://user@host:5432/database"
            )
        if plain is None:
            types = allowed_types(allow)
            plain = (
                JsonPlusSerializer(allowed_msgpack_modules=True, allowed_json_modules=True)
                if trust
                else StrictSerializer(types)
            )
        return EventLog.from_conn_string(
            self.dsn,
            serde=_encrypted(plain),
            schema=self.schema,
            pool_max_size=connections,
            trust_types=trust,
            telemetry=self.telemetry,
            **settings,
        )

    @contextmanager
    def open_to_look(self, allow: Sequence[str] | None, *, trust: bool, upcasters: Any = None) -> Iterator[EventLog]:
        """A log as of `open`, which shows objects of other types as data. At the end a note names their types."""
        decoder = Decoder(allowed_types(allow), trust=trust)
        with self.open(plain=decoder, upcasters=upcasters) as log:
            yield log
        if decoder.refused:
            names = ", ".join(sorted(f"{module}:{name}" for module, name in decoder.refused))
            why = "these classes are not on the list of safe types (--allow or --trust loads them)"
            self.note(f"Shown as data, because {why}: {names}")


def _encrypted(plain: SerializerProtocol) -> SerializerProtocol:
    """With LangGraph's key, where it is in the environment: events that survive an erasure are written again."""
    if not os.environ.get(KEY):
        return plain
    try:
        return EncryptedSerializer.from_pycryptodome_aes(plain)
    except (ImportError, ValueError) as exc:
        # Neither message holds the key.
        raise InvalidInputError(f"{KEY}: {exc}") from exc


class _Stderr(logging.Handler):
    """Writes to the current `sys.stderr`: a progress bar replaces it, so that lines go above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def configure_logging() -> None:
    """Send the log's warnings to stderr. Only for a process that is the command."""
    handler = _Stderr()
    # `partitions` and `setup` say it themselves, and so do commands that show values of types that are not loaded.
    handler.addFilter(lambda record: getattr(record, "event", None) != "eventlog.partitions_short")
    handler.addFilter(lambda record: not record.name.startswith("langgraph.checkpoint.serde."))
    logging.basicConfig(format="%(levelname)s: %(message)s", handlers=[handler], level=logging.WARNING)
