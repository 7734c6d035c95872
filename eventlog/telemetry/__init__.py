"""Traces and metrics with OpenTelemetry (extra ``otel``).

Nothing here is imported unless a saver or a log is created with the setting ``telemetry``. Then its driver measures
(`drivers`), its methods are wrapped (`langgraph.checkpoint.eventlog._instrumented`), and one `recorder` turns the
measurements into spans and `instruments`. Spans have ids of threads and checkpoints, metrics have none, and neither has
a value, metadata, or the message of an error, which may quote both. `names` has all names.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from eventlog.errors import EventLogError
from eventlog.settings import Settings

if TYPE_CHECKING:
    from eventlog.telemetry.recorder import Recorder

__all__ = ["recorder_of"]

#: The first version with histograms that take the buckets of the semantic conventions.
OLDEST = (1, 30)


def recorder_of(settings: Settings) -> Recorder | None:
    """The recorder of a saver with these settings; None: nothing is measured.

    Raises EventLogError when `opentelemetry-api` is not installed, or too old.
    """
    if not settings.telemetry:
        return None
    _check_api()
    from eventlog.telemetry.recorder import Recorder

    return Recorder(settings)


def _check_api() -> None:
    install = "pip install 'langgraph-checkpoint-eventlog[otel]'"
    try:
        import opentelemetry.metrics
        import opentelemetry.trace  # noqa: F401
    except ImportError as exc:
        raise EventLogError(
            f"the setting telemetry needs opentelemetry-api, which is not installed: {install}"
        ) from exc
    found = metadata.version("opentelemetry-api")
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise EventLogError(
            f"the setting telemetry needs opentelemetry-api {oldest}, and {found} is installed: {install}"
        )
