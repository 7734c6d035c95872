"""The names: documented, and the only ones in the dashboard and the alerts, as Prometheus gets them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest

from eventlog.db.statements import Statements, named_queries
from eventlog.telemetry import names
from eventlog.telemetry.instruments import Instruments
from eventlog.telemetry.statements import StatementNames

CHECKOUT = Path(__file__).parents[2]
EXAMPLES = CHECKOUT / "examples" / "observability"
PAGE = CHECKOUT / "docs" / "reference" / "spans-and-metrics.md"

#: Every time series that there is, with its labels.
SERIES = {
    series: {attribute.replace(".", "_") for attribute in metric.attributes}
    for metric in names.METRICS.values()
    for series in names.prometheus_names(metric)
}

#: Labels that are not ours: a histogram's.
FOREIGN = {"le"}


def rows(page: str) -> dict[str, str]:
    """The rows of a page's tables, by what their first cell names."""
    return {cells[1].strip(" `"): line for line in page.splitlines() if len(cells := line.split("|")) > 3}


def test_each_metric_is_documented() -> None:
    found = rows(PAGE.read_text())
    for metric in names.METRICS.values():
        cells = [cell.strip() for cell in found[metric.name].split("|")[2:-1]]
        of = ", ".join(f"`{each}`" for each in metric.attributes)
        assert cells == [metric.kind, f"`{metric.unit}`", metric.description[0].upper() + metric.description[1:], of]


def test_each_attribute_of_a_span_is_documented() -> None:
    found = rows(PAGE.read_text())
    for name, meaning in names.SPAN_ATTRIBUTES.items():
        cells = [cell.strip() for cell in found[name].split("|")[2:-1]]
        assert cells == [meaning[0].upper() + meaning[1:]], name


def test_no_metric_has_an_attribute_of_many_values() -> None:
    ids = {names.THREAD_ID, names.CHECKPOINT_ID, names.CHECKPOINT_NS, names.RUN_ID, names.STEP}
    for metric in names.METRICS.values():
        assert not ids & set(metric.attributes)


def test_prometheus_calls_metrics_as_we_say() -> None:
    registry = CollectorRegistry()
    reader = PrometheusMetricReader()
    provider = MeterProvider([reader])
    try:
        registry.register(reader._collector)
        instruments = Instruments.of(provider)
        for name, metric in names.METRICS.items():
            attributes = dict.fromkeys(metric.attributes, "x")
            made: Any = next((each for each in vars(instruments).values() if getattr(each, "name", None) == name), None)
            if made is None:
                if metric.kind == "gauge":
                    instruments.look(name, 1, attributes)
            elif metric.kind == "histogram":
                made.record(1, attributes)
            else:
                made.add(1, attributes)
        text = generate_latest(registry).decode()
    finally:
        provider.shutdown()
    found = set(re.findall(r"^(\w+)\{?", re.sub(r"^#.*$", "", text, flags=re.MULTILINE), re.MULTILINE))
    expected = {
        series
        for metric in names.METRICS.values()
        # Of pools and caches, of which there are none here.
        if metric.name not in OBSERVED
        for series in names.prometheus_names(metric)
    }
    assert expected <= found
    for series in found & SERIES.keys():
        labels = set(re.findall(r'(\w+)="', re.search(rf"^{series}\{{(.*)\}}", text, re.MULTILINE)[1]))  # type: ignore[index]
        assert {label for label in labels if not label.startswith("otel_scope")} <= SERIES[series] | FOREIGN


OBSERVED = {
    names.POOL_COUNT,
    names.POOL_MAX,
    names.POOL_PENDING,
    names.POOL_TIMEOUTS,
    names.CACHE_HITS,
    names.CACHE_MISSES,
}


# --- the dashboard and the alerts


def expressions() -> Iterator[tuple[str, str]]:
    """All queries of the dashboard and the alerts, each with where it is."""
    dashboard = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for group in yaml.safe_load((EXAMPLES / "prometheus-rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


#: PromQL's own words in them.
WORDS = {
    *("sum", "min", "max", "by", "rate", "increase", "histogram_quantile", "absent_over_time", "offset"),
    *("unless", "on", "le", "m", "h", "d"),
}


def test_the_dashboard_and_the_alerts_name_what_exists() -> None:
    used = set()
    labels = {label for each in SERIES.values() for label in each}
    for where, expression in expressions():
        plain = re.sub(r'"[^"]*"|\$\w+', "", expression)
        for word in set(re.findall(r"[A-Za-z_]\w*", plain)) - WORDS:
            assert word in SERIES or word in labels, f"{where}: {word}"
        series = set(re.findall(r"\w+", plain)) & SERIES.keys()
        assert series, where
        used |= series
        for part in plain.split(" unless on () "):
            of_part = set(re.findall(r"\w+", part)) & SERIES.keys()
            for group in re.findall(r"by \(([^)]*)\)", part):
                for label in group.split(", "):
                    assert label in FOREIGN or all(label in SERIES[each] for each in of_part), f"{where}: {label}"
    # Nothing that is measured is left out of the dashboard.
    shown = {metric for metric in names.METRICS.values() if used & set(names.prometheus_names(metric))}
    assert shown == set(names.METRICS.values())


def test_panels_and_legends_are_sound() -> None:
    dashboard = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
    places = [tuple(panel["gridPos"][each] for each in "xy") for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
    labels = {label for each in SERIES.values() for label in each}
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert legend <= labels
            assert all(label in target["expr"] for label in legend)


def test_alerts_say_what_to_do() -> None:
    for group in yaml.safe_load((EXAMPLES / "prometheus-rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert {"summary", "description"} <= rule["annotations"].keys()
            used = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
            assert all(re.search(rf"by \([^)]*\b{label}\b", rule["expr"]) for label in used), rule["alert"]


def test_the_collectors_pipelines_are_whole() -> None:
    """Each part of a pipeline is defined, and everything listens on this machine alone."""
    config = yaml.safe_load((EXAMPLES / "otel-collector.yml").read_text())
    for pipeline in config["service"]["pipelines"].values():
        for kind in ("receivers", "processors", "exporters"):
            assert set(pipeline[kind]) <= config[kind].keys()
    text = (EXAMPLES / "otel-collector.yml").read_text() + (EXAMPLES / "prometheus.yml").read_text()
    addresses = re.findall(r"[\w.]+:\d{3,5}\b", text)
    assert addresses
    assert all(each.startswith("127.0.0.1:") for each in addresses)
    scraped = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"]
    assert scraped[0]["targets"] == [config["exporters"]["prometheus"]["endpoint"]]


# --- names of statements


@pytest.mark.parametrize("schema", ["eventlog", 'a "b. {c}'.replace('"', "").replace("{c}", "c")])
def test_each_query_is_known_by_its_name(schema: str) -> None:
    statements, known = Statements(schema), StatementNames(schema)
    for name, text in named_queries().items():
        if re.search(r"(?<!\{)\{(?!schema\}|\{)\w+\}", text):
            continue  # It has parts of its own to fill in.
        found = known[statements[name]]
        assert (found.query, found.summary) == (name, name)
        assert found.attributes[names.DB_OPERATION].isupper()


def test_statements_that_are_composed_are_known_by_the_rest_of_their_text() -> None:
    from psycopg import sql

    statements, known = Statements("eventlog"), StatementNames("eventlog")
    listing = statements.compose(statements.template("list_checkpoints"), where=sql.SQL("c.thread_id = %(thread_id)s"))
    assert known[listing].query == "list_checkpoints"
    append = known[statements["append_writes_relaxed"]]
    assert append.attributes == {
        names.DB_SUMMARY: "append_writes_relaxed",
        names.DB_OPERATION: "SELECT",
        names.DB_PROCEDURE: "append_writes_v1",
    }


def test_other_statements_are_known_by_their_first_word() -> None:
    known = StatementNames("eventlog")
    assert known[b"do $$ begin end $$"].summary == "DO"
    assert known[b"-- a comment\n set local x = 'SECRET'"].summary == "SET"
    assert known[b""].summary == "SELECT"
    for number in range(3000):
        assert known[b"update t%d" % number].summary == "UPDATE"
    assert len(known) < 1100
