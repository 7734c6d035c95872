"""Without the setting: nothing is imported, and without the package the setting says what to install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from psycopg_pool import ConnectionPool

from eventlog.db.sync import Driver
from langgraph.checkpoint.eventlog import EventLogError, EventLogSaver, InvalidInputError
from tests.support.checkpoints import checkpoint_of, config_of

CHECKOUT = Path(__file__).parents[2]

#: Nothing may import OpenTelemetry, or ask whether it is there.
BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    asked = []

    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] == "opentelemetry":
            self.asked.append(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())

import asyncio
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.eventlog import EventLogError, EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver

uri = sys.argv[1]
config = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}

# Others may ask for it, as LangChain's parts do; this package asks for nothing more.
before = list(Blocked.asked)
with EventLogSaver.from_conn_string(uri) as saver:
    stored = saver.put(config, empty_checkpoint(), {}, {})
    saver.put_writes(stored, [("x", 1)], "task")
    assert saver.get_tuple(config) is not None
    assert saver.log.verify().problems == []
    saver.log.maintain()

async def main():
    async with AsyncEventLogSaver.from_conn_string(uri) as saver:
        assert await saver.aget_tuple(config) is not None

asyncio.run(main())
assert Blocked.asked == before, Blocked.asked
assert "eventlog.telemetry.recorder" not in sys.modules
assert "langgraph.checkpoint.eventlog._instrumented" not in sys.modules
assert not [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]
for given in (saver.__class__, AsyncEventLogSaver):
    try:
        given(None, telemetry=True)
    except EventLogError as exc:
        print(exc)
"""


def test_nothing_is_imported_without_the_setting(database_uri: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, database_uri], cwd=CHECKOUT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.splitlines()
        == [
            "the setting telemetry needs opentelemetry-api, which is not installed: "
            "pip install 'langgraph-checkpoint-eventlog[otel]'"
        ]
        * 2
    )


def test_an_api_that_is_too_old_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventlog.telemetry.metadata.version", lambda _: "1.29.0")
    with pytest.raises(EventLogError, match=r"opentelemetry-api 1\.30, and 1\.29\.0 is installed"):
        EventLogSaver(None, telemetry=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["yes", 1, {"tracer_provider": "none"}])
def test_a_setting_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInputError, match="telemetry"):
        EventLogSaver(None, telemetry=given)  # type: ignore[arg-type]


def test_plain_savers_are_plain(database_uri: str) -> None:
    with ConnectionPool(database_uri, min_size=1) as pool:
        saver = EventLogSaver(pool)
        assert type(saver) is EventLogSaver
        assert type(saver._driver) is Driver
        saver.put(config_of(), checkpoint_of("a", {}, {}), {}, {})


def test_without_an_sdk_it_works_and_reports_nothing(database_uri: str) -> None:
    """The API alone does nothing: in a process of its own, as its global providers can be set once."""
    script = """
import sys
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.eventlog import EventLogSaver

config = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
with EventLogSaver.from_conn_string(sys.argv[1], telemetry=True) as saver:
    saver.put(config, empty_checkpoint(), {}, {})
    assert saver.get_tuple(config) is not None
    assert len(list(saver.list(config))) == 1
assert not [name for name in sys.modules if name.startswith("opentelemetry.sdk.")]

# Set up later, the global providers get what follows.
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

with EventLogSaver.from_conn_string(sys.argv[1], telemetry=True) as saver:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    trace.set_tracer_provider(TracerProvider())
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(spans))
    metrics.set_meter_provider(MeterProvider([reader]))
    saver.get_tuple(config)
    print([span.name for span in spans.get_finished_spans() if span.kind is trace.SpanKind.INTERNAL])
    (resource,) = reader.get_metrics_data().resource_metrics
    print("db.client.operation.duration" in {each.name for scope in resource.scope_metrics for each in scope.metrics})
"""
    done = subprocess.run(
        [sys.executable, "-c", script, database_uri], cwd=CHECKOUT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['eventlog.get_tuple']\nTrue\n"


@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_command_has_it_as_an_option(by: str, database_uri: str) -> None:
    """In a process of its own: it reports to the global providers."""
    option = ["--telemetry"] if by == "option" else []
    environment = {**os.environ, "EVENTLOG_DSN": database_uri}
    if by == "environment":
        environment["EVENTLOG_TELEMETRY"] = "1"
    script = (
        "import sys\n"
        "from langgraph.checkpoint.eventlog.cli.app import run\n"
        "try:\n    run(sys.argv[1:])\n"
        "finally:\n    print('eventlog.telemetry.recorder' in sys.modules)\n"
    )
    command = [sys.executable, "-c", script, *option, "threads", "--json"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"
