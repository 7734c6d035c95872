"""Retention as a setting: when to erase threads and their history, for a log and for single threads of it.

The database stores one `Retention` for the whole log. A thread may have its own in its metadata, which may only
lengthen the log's unless the log's allows shorter ones. This module combines the two and finds the threads that a run
has to look at; the run itself is in `langgraph.checkpoint.eventlog._maintain`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from typing_extensions import Self

from eventlog.db.errors import ask_owner
from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError, LogCorruptedError, MissingGrantError

__all__ = [
    "ACTIVE",
    "Candidate",
    "OwnRetention",
    "Retention",
    "check_may_seal",
    "combined",
    "history_threads",
    "hold_maintenance",
    "own_retention",
    "parse_retention",
    "read_retention",
    "retention_threads",
    "set_retention",
]

#: A thread with an append since then may have a running run: nothing of it is erased.
ACTIVE = timedelta(minutes=15)

#: PostgreSQL's times do not go further back.
LONGEST = timedelta(days=365 * 2000)

_DURATION: TypeAdapter[timedelta] = TypeAdapter(timedelta)
_DURATIONS = ("idle", "history", "interrupted")


class Retention(BaseModel):
    """When to erase threads and their history. `str()` returns its JSON text, as a thread's metadata has it.

    Raises:
        InvalidInputError: for an unknown field, a value out of range, or fields that contradict each other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    idle: timedelta | None = Field(None, ge=ACTIVE, le=LONGEST)
    """Erase threads to which nothing was appended for so long. At least 15 minutes. None: never."""

    history: timedelta | None = Field(None, gt=timedelta(0), le=LONGEST)
    """Erase checkpoints that were first saved longer ago than this. The latest checkpoint of each namespace, the ends
    of branches and pending interrupts stay. None: no limit of age."""

    keep_last: int | None = Field(None, ge=1, lt=1 << 31)
    """Erase checkpoints that are not among so many newest ones of their namespace, with the same exceptions. If
    `history` is set too, a checkpoint stays if either of them keeps it."""

    interrupted: timedelta | None = Field(None, ge=timedelta(0), le=LONGEST)
    """Keep a thread with a pending interrupt until nothing was appended to it for so long; then treat it like any
    other. None: keep it for good."""

    allow_shorter: bool = False
    """Whether a thread's own retention may be shorter than this one, the log's. Ignored in a thread's own retention."""

    # An __init__ of its own: pydantic's raises an error that is not an InvalidInputError.
    def __init__(
        self,
        *,
        idle: timedelta | None = None,
        history: timedelta | None = None,
        keep_last: int | None = None,
        interrupted: timedelta | None = None,
        allow_shorter: bool = False,
        **unknown: Any,
    ) -> None:
        given = {"idle": idle, "history": history, "keep_last": keep_last, "interrupted": interrupted}
        try:
            super().__init__(**given, allow_shorter=allow_shorter, **unknown)
        except ValidationError as exc:
            raise InvalidInputError(f"the retention is not valid: {_problems(exc)}") from exc

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.idle is None and not self.cuts:
            raise ValueError("it erases nothing: give idle, history or keep_last, or clear the retention")
        if self.interrupted is not None and self.idle is not None and self.interrupted < self.idle:
            raise ValueError(
                f"interrupted ({self.interrupted}) is shorter than idle ({self.idle}). Let interrupted be at least "
                "idle, or leave it out: threads with a pending interrupt then stay"
            )
        return self

    @property
    def cuts(self) -> bool:
        """Whether it erases history."""
        return self.history is not None or self.keep_last is not None

    def __str__(self) -> str:
        return self.model_dump_json(exclude_defaults=True)


def _problems(exc: ValidationError) -> str:
    return "; ".join(
        f"unknown field {'.'.join(map(str, each['loc']))!r}, the fields are {', '.join(Retention.model_fields)}"
        if each["type"] == "extra_forbidden"
        else f"{'.'.join(map(str, each['loc']))}: {each['msg']} (got {each['input']!r})"
        if each["loc"]
        else each["msg"].removeprefix("Value error, ")
        for each in exc.errors()
    )


def parse_retention(stored: Any) -> Retention:
    """A retention from JSON: its text, or an object with durations in ISO 8601. Raises InvalidInputError."""
    try:
        given = json.loads(stored) if isinstance(stored, str) else stored
        if not isinstance(given, Mapping):
            raise ValueError('it must be an object such as {"idle": "P90D"}')
        fields: dict[str, Any] = {
            name: _DURATION.validate_python(value) if name in _DURATIONS and isinstance(value, str) else value
            for name, value in given.items()
        }
    except (ValueError, RecursionError) as exc:
        why = "durations are written as ISO 8601 has them, P90D" if isinstance(exc, ValidationError) else exc
        raise InvalidInputError(f"{repr(stored)[:200]} is not a retention: {why}") from exc
    return Retention(**fields)


class Rules(NamedTuple):
    """The retention that applies to one thread. The fields are those of `Retention`."""

    idle: timedelta | None
    history: timedelta | None
    keep_last: int | None
    interrupted: timedelta | None

    @property
    def cuts(self) -> bool:
        """Whether history is erased."""
        return self.history is not None or self.keep_last is not None


def combined(schema: Retention, own: Retention | None) -> Rules:
    """The retention that applies to a thread with its own: the longer one of each field.

    With `Retention.allow_shorter`, the thread's fields apply, and the log's fields where the thread has none.
    """
    if own is None:
        return Rules(schema.idle, schema.history, schema.keep_last, schema.interrupted)
    if schema.allow_shorter:
        cutting = own if own.cuts else schema
        idle = schema.idle if own.idle is None else own.idle
        interrupted = schema.interrupted if own.interrupted is None else own.interrupted
        return Rules(idle, cutting.history, cutting.keep_last, interrupted)
    idle, interrupted = _longer(schema.idle, own.idle), _longer(schema.interrupted, own.interrupted)
    if not schema.cuts:
        return Rules(idle, None, None, interrupted)
    # If the log has only one of the two, the other one keeps more.
    history = max((each for each in (schema.history, own.history) if each is not None), default=None)
    keep_last = max((each for each in (schema.keep_last, own.keep_last) if each is not None), default=None)
    return Rules(idle, history, keep_last, interrupted)


def _longer(schema: timedelta | None, own: timedelta | None) -> timedelta | None:
    """None means for good."""
    return None if schema is None else max(schema, own or schema)


# --- in the database


def read_retention(statements: Statements) -> Op[Retention | None]:
    """The log's retention; None if nothing is to be erased."""
    ((stored,),) = yield Query(statements["read_retention"])
    if stored is None:
        return None
    try:
        return parse_retention(stored)
    except InvalidInputError as exc:
        raise LogCorruptedError(
            f"the log's stored retention is not one of this version: {exc}. Set it again, or upgrade the package"
        ) from exc


def set_retention(statements: Statements, retention: Any, actor: str | None) -> Op[None]:
    """Store the log's retention; None: erase nothing any more. Raises InvalidInputError, MissingGrantError."""
    if retention is not None and not isinstance(retention, Retention):
        raise InvalidInputError(f"retention must be a Retention or None, not {type(retention).__name__}")
    yield Query(statements["set_retention"], (None if retention is None else str(retention), actor))


def hold_maintenance(statements: Statements, worker: str, seconds: int) -> Op[str | None]:
    """Become the worker that maintains the log for so long, and lock out others until the transaction ends; 0: release
    it.

    Returns None, or the name of the worker that holds it ("" if not known yet).
    """
    ((holder,),) = yield Query(statements["hold_maintenance"], (worker, seconds))
    return None if holder is None else str(holder)


def check_may_seal(statements: Statements) -> Op[None]:
    """Raises MissingGrantError unless the user may seal. Call it before anything is erased."""
    ((may, user),) = yield Query(statements["may_seal"])
    if not may:
        raise MissingGrantError(f"user {user!r} may not seal the log. {ask_owner('sealer', user, statements.schema)}")


class Candidate(NamedTuple):
    """A thread that a run looks at."""

    thread_id: str
    active_at: datetime
    own: Any
    """Its own retention, as JSON; None: it has none."""
    has_history: bool
    """Whether it has checkpoints that may be erased."""


def retention_threads(
    statements: Statements, retention: Retention, now: datetime, after: str, limit: int
) -> Op[list[Candidate]]:
    """The threads after an id, in the order of their ids: all that have data, even if nothing of them is to be
    erased."""
    since = None if retention.history is None else now - retention.history
    return (yield from history_threads(statements, retention.keep_last or 1, since, after, limit, cuts=retention.cuts))


def history_threads(
    statements: Statements, last: int, since: datetime | None, after: str, limit: int, *, cuts: bool = True
) -> Op[list[Candidate]]:
    """The threads after an id, in the order of their ids, and whether each has history that may be erased.

    Args:
        last: how many of the newest checkpoints stay in each namespace.
        since: checkpoints first saved since then stay too; None: none stay for their age.
        cuts: False: no history is erased.
    """
    params = {"cuts": cuts, "last": last, "since": since, "after": after, "rows": limit}
    return [Candidate(*row) for row in (yield Query(statements["retention_threads"], params))]


class OwnRetention(NamedTuple):
    """A thread's own retention."""

    checkpoint_id: str
    """The newest checkpoint of the root graph that has it in its metadata."""
    says: Any
    """As JSON."""


def own_retention(statements: Statements, thread_id: str) -> Op[OwnRetention | None]:
    """The retention in a thread's metadata; None when it has none."""
    rows = yield Query(statements["own_retention"], (thread_id,))
    return OwnRetention(*rows[0]) if rows else None
