"""The cost of traces and metrics per call: switched off, switched on without an SDK, and with an SDK.

Three savers on one database take turns, each with a pool of one connection and its own thread. The first lines show the
client's work alone, without a database: the cost that remains in a call when telemetry is off, and the cost of a span
when `opentelemetry-api` is installed without an SDK. Because of the latter, telemetry is a setting.

    python bench/telemetry.py [--calls 2000] [--uri postgresql://…]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median
from timeit import repeat
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from rich.console import Console
from rich.table import Table

from eventlog.db.query import Op, completed
from eventlog.embedded import embedded_server
from langgraph.checkpoint.eventlog import EventLogSaver, Telemetry

console = Console()

#: So many calls in one timing of the client's work.
LOOPS = 20_000


class Nowhere(SpanExporter):
    """Takes spans and drops them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Report success."""
        return SpanExportResult.SUCCESS


def nanoseconds(function: Callable[[], Any]) -> float:
    """Processor time of one call, the fastest of 15 timings."""
    return min(repeat(function, timer=time.thread_time, number=LOOPS, repeat=15)) / LOOPS * 1e9


def config_of(thread_id: str) -> RunnableConfig:
    """A thread's config."""
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


def client_work(off: EventLogSaver, api: EventLogSaver) -> dict[str, float]:
    """Nanoseconds of the client's work for telemetry alone, in calls that do not use the database."""
    config, driver = config_of("1"), off._driver
    recorder = api._context.recorder
    assert recorder is not None
    from eventlog.telemetry.recorder import Call

    def with_a_span() -> None:
        with Call(recorder, "get_tuple", {"gen_ai.conversation.id": "1"}, is_endless=False):
            pass

    def op() -> Op[None]:
        return completed(None)

    plain = nanoseconds(lambda: driver.run(op))
    about = nanoseconds(lambda: driver.run(op, about=config))
    return {
        "off: a call of the driver without a statement": plain,
        "off: what telemetry adds to it": about - plain,
        "on, without an SDK: the span of a call": nanoseconds(with_a_span),
    }


def measure(savers: dict[str, EventLogSaver], calls: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of the client's processor time for `put` and `get_tuple`, by saver, in turns."""
    seconds: dict[str, dict[str, list[float]]] = {name: {"put": [], "get_tuple": []} for name in savers}
    configs = {name: config_of(name) for name in savers}
    order = list(savers)
    for number in range(calls + 100):
        order.append(order.pop(0))
        for name in order:
            checkpoint = {**empty_checkpoint(), "channel_values": {"x": number}, "channel_versions": {"x": str(number)}}
            began = time.thread_time()
            configs[name] = savers[name].put(configs[name], checkpoint, {}, {"x": str(number)})  # type: ignore[arg-type]
            put = time.thread_time()
            savers[name].get_tuple(config_of(name))
            ended = time.thread_time()
            if number >= 100:
                seconds[name]["put"].append(put - began)
                seconds[name]["get_tuple"].append(ended - put)
    return seconds


def run(uri: str, calls: int) -> None:
    """Measure, and print."""
    tracers, meters = TracerProvider(), MeterProvider([InMemoryMetricReader()])
    tracers.add_span_processor(BatchSpanProcessor(Nowhere()))
    kinds: dict[str, Any] = {
        "off": False,
        "on, without an SDK": True,
        "on, with an SDK": Telemetry(tracer_provider=tracers, meter_provider=meters),
    }
    with ExitStack() as stack:
        savers = {
            name: stack.enter_context(EventLogSaver.from_conn_string(uri, pool_max_size=1, telemetry=kind))
            for name, kind in kinds.items()
        }
        savers["off"].setup()
        for what, each in client_work(savers["off"], savers["on, without an SDK"]).items():
            console.print(f"{what}: {each / 1000:.2f} µs")
        seconds = measure(savers, calls)
    table = Table(title=f"Processor time: medians of {calls:,} calls")
    for heading in ("telemetry", "put", "get_tuple"):
        table.add_column(heading, justify="left" if heading == "telemetry" else "right")
    for name, found in seconds.items():
        table.add_row(name, *(f"{median(each) * 1e6:,.0f} µs" for each in found.values()))
    console.print(table)
    tracers.shutdown()
    meters.shutdown()


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--uri", help="a database of its own, instead of a private server")
    arguments = parser.parse_args()
    if arguments.uri:
        run(arguments.uri, arguments.calls)
        return
    with tempfile.TemporaryDirectory() as folder, embedded_server(folder) as uri:
        run(uri, arguments.calls)


if __name__ == "__main__":
    main()
