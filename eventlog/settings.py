"""The settings of a saver, validated once, in one frozen object."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from eventlog.db.retry import RetryPolicy
from eventlog.errors import InvalidInputError
from eventlog.format.upcasting import Upcaster

__all__ = ["Settings", "StoredSettings", "Telemetry"]

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


def _as_tuple(given: Any) -> Any:
    return tuple(given) if isinstance(given, (list, tuple)) else given


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
    """Settings that `setup()` stores in the database, for all savers. None: keep the stored one."""

    partition_interval: Literal["day", "week", "month"] | None = None
    partitions_ahead: int | None = Field(None, ge=0, le=1000)


class Telemetry(_Parsed):
    """The destination of traces and metrics, instead of OpenTelemetry's global providers."""

    tracer_provider: Any = None
    """A `TracerProvider`; None: the global one, `opentelemetry.trace.get_tracer_provider()`."""

    meter_provider: Any = None
    """A `MeterProvider`; None: the global one."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, method in (("tracer_provider", "get_tracer"), ("meter_provider", "get_meter")):
            given = getattr(self, name)
            if given is not None and not callable(getattr(given, method, None)):
                raise ValueError(f"{name} must have a method {method}: {type(given).__name__} has none")
        return self


class Settings(_Parsed):
    """Settings of a saver. All sizes are in bytes."""

    schema_name: Annotated[str, AfterValidator(_valid_schema)] = Field("eventlog", alias="schema")
    """The schema that holds everything. Fixed when `setup()` runs."""

    views_schema: Annotated[str, AfterValidator(_valid_schema)] | None = None
    """The schema for the tables of custom projections; by default the log's name and ``_views``."""

    state_cache_bytes: int = Field(64 * MIB, ge=0)
    """Size limit of the cache of raw checkpoint states that writers diff against; 0 turns it off."""

    message_cache_bytes: int = Field(32 * MIB, ge=0)
    """Size limit of the cache of decoded messages, of which readers get copies; 0 turns it off."""

    share_history: bool = False
    """Whether the tuples of one `list()` share decoded values, which the caller must not change then."""

    max_body_bytes: int = Field(256 * MIB, ge=1024, le=BODY_LIMIT_BYTES)
    """Largest event or snapshot before compression, also when a stored one is decompressed."""

    compression_level: int = Field(3, ge=1, le=19)
    """zstd's level for event bodies and snapshots."""

    snapshot_floor_bytes: int = Field(4 * 1024, ge=0)
    """Take no snapshot before replaying costs this much, even if the state is smaller."""

    trust_types: bool = False
    """Whether the log's readers (history, projections, rebuild and others) build any type that a stored value names, as
    LangGraph's serializer does by default, instead of only the types on its strict list and allow-list."""

    offload_bytes: int = Field(64 * 1024, ge=0)
    """The async saver encodes and decodes states larger than this in a worker thread, off the event loop."""

    pool_max_size: int = Field(8, ge=1)
    """Connections of the pool that `from_conn_string` and `embedded` open."""

    retry: RetryPolicy = RetryPolicy()
    """How to retry an operation that lost its connection, or that was undone in favour of another transaction."""

    concurrency: Literal["branch", "strict"] = "branch"
    """How to treat a checkpoint if its parent got another child since the run read it: keep both, as branches that the
    history reports, or refuse the second with `ConcurrentUpdateError`."""

    upcasters: Annotated[tuple[Upcaster, ...], BeforeValidator(_as_tuple)] | None = None
    """Functions that convert old values of channels when they are read. None: values are read as LangGraph's serializer
    reads them. With upcasters, or an empty list, a missing class is an error."""

    state_version: int | None = Field(None, ge=0)
    """The version of the state's classes: recorded in the metadata of each checkpoint that is saved, for the
    upcasters' ``up_to``."""

    relaxed_writes: bool = False
    """Whether `put_writes` returns before the writes are on disk. The next checkpoint's commit waits for them; if the
    server crashes before it, they are lost, and LangGraph runs their tasks again. Only on a pool."""

    telemetry: bool | Telemetry = False
    """Whether calls are traced and measured with OpenTelemetry (extra ``otel``), or the providers to use. Spans have
    ids of threads, checkpoints and runs."""

    @property
    def views(self) -> str:
        """The schema for the tables of custom projections."""
        return self.views_schema or f"{self.schema_name}_views"
