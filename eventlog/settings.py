"""What can be set on a saver, validated once, in one frozen object."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Self

from eventlog.db.retry import RetryPolicy
from eventlog.errors import InvalidInputError

__all__ = ["Settings", "StoredSettings"]

MIB = 1024 * 1024

#: PostgreSQL refuses a field of 1 GiB; a body must leave room for the rest of its message.
BODY_LIMIT_BYTES = 1000 * MIB


def _valid_schema(name: str) -> str:
    """PostgreSQL's rule for any identifier, less the characters that statements quote or format with."""
    if not name or len(name.encode("utf-8", "replace")) > 63:
        raise ValueError("must be 1 to 63 bytes long")
    if not (name[0].isalpha() or name[0] == "_") or not all(c.isalnum() or c in "_-. " for c in name):
        raise ValueError("must be letters, digits, '_', '-', '.' and spaces, and start with a letter or '_'")
    if name.startswith("pg_") or name == "information_schema":
        raise ValueError("is reserved by PostgreSQL")
    return name


class _Parsed(BaseModel):
    """Settings that are validated once."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def parse(cls, keywords: dict[str, Any]) -> Self:
        """Validate keyword arguments.

        Raises InvalidInputError for an unknown keyword or a value out of range, naming each.
        """
        try:
            return cls.model_validate(keywords)
        except ValidationError as exc:
            problems = [
                f"unknown setting {'.'.join(map(str, e['loc']))!r}"
                if e["type"] == "extra_forbidden"
                else f"setting {'.'.join(map(str, e['loc']))!r}: {e['msg'].removeprefix('Value error, ')} "
                f"(got {e['input']!r})"
                for e in exc.errors()
            ]
            if any(e["type"] == "extra_forbidden" for e in exc.errors()):
                known = ", ".join(field.alias or name for name, field in cls.model_fields.items())
                problems[-1] += f". The settings are: {known}"
            raise InvalidInputError("; ".join(problems)) from exc


class StoredSettings(_Parsed):
    """What `setup()` stores in the database, for all savers. None: as it is stored there."""

    partition_interval: Literal["day", "week", "month"] | None = None
    partitions_ahead: int | None = Field(None, ge=0, le=1000)


class Settings(_Parsed):
    """Settings of a saver. All sizes are in bytes."""

    schema_name: Annotated[str, AfterValidator(_valid_schema)] = Field("eventlog", alias="schema")
    """The schema that holds everything. Fixed when `setup()` runs."""

    views_schema: Annotated[str, AfterValidator(_valid_schema)] | None = None
    """The schema for the tables of custom projections; the log's with ``_views`` after it by default."""

    state_cache_bytes: int = Field(64 * MIB, ge=0)
    """Bound of the cache of raw checkpoint states that writers diff against; 0 turns it off."""

    message_cache_bytes: int = Field(32 * MIB, ge=0)
    """Bound of the cache of decoded messages, of which readers get copies; 0 turns it off."""

    share_history: bool = False
    """Whether the tuples of one `list()` share what was decoded for others of them, which nobody may change then."""

    max_body_bytes: int = Field(256 * MIB, ge=1024, le=BODY_LIMIT_BYTES)
    """Largest event or snapshot, before compression; also the most that decompressing a stored one may produce."""

    compression_level: int = Field(3, ge=1, le=19)
    """zstd's level for event bodies and snapshots."""

    snapshot_floor_bytes: int = Field(4 * 1024, ge=0)
    """No snapshot is taken before replaying costs this much, however small the state is."""

    trust_types: bool = False
    """Whether the log's readers (history, projections, rebuild and the like) build any type that a row names, as
    LangGraph's serializer does by default, instead of the types on its strict list and allow-list."""

    offload_bytes: int = Field(64 * 1024, ge=0)
    """The async saver encodes and decodes states larger than this in a worker thread, off the event loop."""

    pool_max_size: int = Field(8, ge=1)
    """Connections of the pool that `from_conn_string` and `embedded` open."""

    retry: RetryPolicy = RetryPolicy()
    """How an operation is tried again whose connection was lost, or whose transaction was undone for another's sake."""

    concurrency: Literal["branch", "strict"] = "branch"
    """What becomes of a checkpoint whose parent got another child since its run read it: both are kept, as branches,
    and the history says so; or the second is refused with `ConcurrentUpdateError`."""

    relaxed_writes: bool = False
    """Whether `put_writes` returns before the disk has the writes. The next checkpoint's commit waits for them; when
    the server crashes before that, they are lost, and LangGraph runs their tasks again. Only on a pool."""

    @property
    def views(self) -> str:
        """The schema for the tables of custom projections."""
        return self.views_schema or f"{self.schema_name}_views"
