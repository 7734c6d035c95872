"""What a saver reported, with the real SDK: its spans and its metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from langgraph.checkpoint.eventlog import Telemetry

__all__ = ["Report"]


class Report:
    """The spans that ended, and the metrics as they are now."""

    def __init__(self) -> None:
        self._exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader])
        self.telemetry = Telemetry(tracer_provider=self.tracer_provider, meter_provider=self.meter_provider)

    def close(self) -> None:
        self.tracer_provider.shutdown()
        self.meter_provider.shutdown()

    def clear(self) -> None:
        self._exporter.clear()

    @property
    def spans(self) -> list[ReadableSpan]:
        """All, in the order in which they ended."""
        return list(self._exporter.get_finished_spans())

    @property
    def calls(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.kind is SpanKind.INTERNAL and span.name.startswith("eventlog.")]

    @property
    def statements(self) -> list[ReadableSpan]:
        return [span for span in self.spans if span.kind is SpanKind.CLIENT]

    def call(self, name: str) -> ReadableSpan:
        """The only call of that name."""
        (found,) = [span for span in self.calls if span.name == f"eventlog.{name}"]
        return found

    def statements_of(self, call: ReadableSpan) -> list[ReadableSpan]:
        """The statements that are children of a call's span, and in its trace."""
        found = [each for each in self.statements if each.parent and each.parent.span_id == call.context.span_id]
        assert all(each.context.trace_id == call.context.trace_id for each in found)
        return found

    @contextmanager
    def callers_span(self, name: str = "caller") -> Iterator[trace.Span]:
        """A span of the caller's own, current meanwhile."""
        with self.tracer_provider.get_tracer("test").start_as_current_span(name) as span:
            yield span

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """The attributes and the value of each of a metric's points; of histograms the point."""
        data = self._reader.get_metrics_data()
        found: list[tuple[dict[str, Any], Any]] = []
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            value = point if isinstance(point, HistogramDataPoint) else point.value
                            found.append((dict(point.attributes or {}), value))
        return found

    def metrics(self) -> dict[str, Any]:
        """All metrics by name, as the SDK has them."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: metric
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def value(self, name: str, **attributes: Any) -> Any:
        """The sum of a metric's points that have these attributes, the last part of their names given."""
        return sum(
            value
            for found, value in self.points(name)
            if all(
                any(key.rpartition(".")[2] == each and said == want for key, said in found.items())
                for each, want in attributes.items()
            )
        )
