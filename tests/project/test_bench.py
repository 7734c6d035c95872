"""The benchmark suite: that it runs, that its results are told truly, and that nobody has edited a number by hand."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from pydantic import ValidationError

from bench import page, plots, suite
from bench.results import EVENTLOG, FLOOR, POSTGRES, Machine, Measure, Results, Series, measure_of
from bench.savers import agree, disagreement
from bench.shapes import SHAPES
from bench.show import figure, times
from bench.targets import TARGETS, Target, judge
from bench.timings import Timings
from bench.workloads import WORKLOADS
from tests.support.server import Server

MACHINE = Machine(cpu="a processor", cores=2, memory_gib=4.0, system="Linux 6")


def results(*measures: Measure, scale: str = "full") -> Results:
    return Results(
        measured_at="2026-11-22T12:00:00+00:00",
        seconds=600.0,
        machine=MACHINE,
        versions={"Python": "3.11.7", "PostgreSQL": "18.4"},
        options={"scale": scale},
        measures=list(measures),
    )


def measure(workload: str = "agent, 300 turns", name: str = "put", **fields: Any) -> Measure:
    return Measure(**{"workload": workload, "name": name, "unit": "ms", "eventlog": 2.0, **fields})


# --- it runs


def test_the_suite_measures_every_figure_and_the_page_shows_it(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A few turns and a few tasks, for real: the savers agree, each figure is there, and the page shows it."""
    file = tmp_path / "results.json"
    uri = server.uri("postgres")
    suite.main(["--tiny", "--only", "agent,langgraph,fan-out,cold", "--uri", uri, "--out", str(file)])
    found = Results.load(file)
    assert found.options["scale"] == "tiny"
    assert {"agent, 4 turns", "agent, growing", "fan-out, 5 tasks", "cold process, 3 turns"} <= set(found.workloads())
    assert all(each.eventlog > 0 and each.postgres and each.postgres > 0 for each in found.measures)
    (put,) = [each for each in found.measures if (each.workload, each.name) == ("agent, 4 turns", "put")]
    assert put.samples == 10
    assert put.floor
    assert {"sqlite", "memory"} == set(put.others)
    printed = capsys.readouterr().out
    assert "agent" in printed
    assert "Targets" in printed
    assert "| agent, 4 turns | WAL |" in page.page(found, {})
    drawn = plots.draw(found, tmp_path / "images")
    assert [plot.file for plot in drawn] == ["bytes.svg", "calls.svg"]


def test_an_unknown_workload_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        suite.main(["--only", "agent,nothing"])
    assert "unknown workload nothing" in capsys.readouterr().err


def test_every_workload_has_a_name_of_its_own() -> None:
    assert len({name for name, _ in WORKLOADS}) == len(WORKLOADS)
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_shapes_change_as_declared_and_repeat_between_runs(shape: Any) -> None:
    """Steps are the same in every run, do not share what they change, and survive their serializer."""
    first, again = list(shape.steps(3)), list(shape.steps(3))
    assert first == again
    assert len(first) == 3
    for before, after in pairwise(first):
        assert before.changed != after.changed
    serde = shape.serde()
    for value in first[-1].changed.values():
        assert serde.loads_typed(serde.dumps_typed(value)) == value


# --- timings


def test_savers_take_turns_in_going_first() -> None:
    timings, went = Timings(), list[str]()
    for _ in range(6):
        timings.time("x", {who: lambda who=who: went.append(who) for who in (EVENTLOG, POSTGRES, FLOOR)})
    assert {who: went[::3].count(who) for who in went} == {EVENTLOG: 2, POSTGRES: 2, FLOOR: 2}
    # Nobody always runs after the same one.
    assert {(a, b) for a, b in pairwise(went) if a == POSTGRES} >= {
        (POSTGRES, FLOOR),
        (POSTGRES, EVENTLOG),
    }


def test_wal_is_attributed_to_the_saver_that_runs() -> None:
    written = [0]

    def write(size: int) -> None:
        written[0] += size

    timings = Timings(lambda: written[0])
    for counted in (True, False):
        timings.time("x", {EVENTLOG: lambda: write(1), POSTGRES: lambda: write(10)}, counted=counted)
        written[0] += 1000
    assert timings.wal == {EVENTLOG: 2, POSTGRES: 20}
    assert timings.count("x") == 1


async def test_awaited_calls_are_timed() -> None:
    async def answer(value: int) -> int:
        return value

    timings = Timings()
    assert await timings.time_async("x", {EVENTLOG: lambda: answer(1), POSTGRES: lambda: answer(2)}) == {
        EVENTLOG: 1,
        POSTGRES: 2,
    }
    assert timings.measure("w", "x").samples == 1


# --- who agrees


def saved(**fields: Any) -> CheckpointTuple:
    checkpoint = {**empty_checkpoint(), "id": "1", "channel_values": {"a": 1}, **fields.pop("checkpoint", {})}
    return CheckpointTuple(**{"config": {}, "checkpoint": checkpoint, "metadata": {}, "pending_writes": [], **fields})


@pytest.mark.parametrize(
    ("other", "what"),
    [
        (None, "checkpoint"),
        (saved(checkpoint={"id": "2"}), "checkpoint"),
        (saved(checkpoint={"channel_values": {"a": 2}}), "values"),
        (saved(checkpoint={"channel_versions": {"a": "1"}}), "versions"),
        (saved(parent_config={"configurable": {"checkpoint_id": "0"}}), "parent"),
        (saved(pending_writes=[("task", "a", 1)]), "writes"),
    ],
)
def test_savers_that_disagree_are_reported(other: CheckpointTuple | None, what: str) -> None:
    assert disagreement({"a": saved(), "b": saved()}) is None
    assert disagreement({"a": saved(), "b": saved(), "c": other}) == f"a and c disagree about {what}"
    with pytest.raises(SystemExit, match="disagree"):
        agree({"a": saved(), "b": other})


# --- results


def test_measures_are_medians() -> None:
    samples = {EVENTLOG: [0.001, 0.002, 0.009], POSTGRES: [0.004], FLOOR: [0.001], "memory": [0.0005]}
    found = measure_of("w", "put", "ms", samples, scale=1000)
    assert (found.eventlog, found.postgres, found.floor, found.others) == (2.0, 4.0, 1.0, {"memory": 0.5})
    assert found.spread == {EVENTLOG: (1.5, 5.5)}
    assert found.samples == 3
    assert (found.ratio, found.over_floor) == (2.0, 2.0)
    assert found.of("memory") == 0.5
    assert found.of("sqlite") is None


def test_ratios_of_throughput_grow_with_more_operations() -> None:
    found = measure(unit="op/s", eventlog=300.0, postgres=100.0, floor=600.0)
    assert (found.ratio, found.over_floor) == (3.0, 2.0)


def test_without_an_incumbent_there_is_no_ratio() -> None:
    assert (measure().ratio, measure().over_floor) == (None, None)


def test_results_round_trip_through_a_file(tmp_path: Path) -> None:
    series = [Series(saver=EVENTLOG, x=[1.0], y=[2.0])]
    given = results(measure(spread={EVENTLOG: (1.0, 3.0)}, series=series, others={"memory": 1.0}))
    given.save(tmp_path / "file.json")
    assert Results.load(tmp_path / "file.json") == given
    (tmp_path / "file.json").write_text(given.model_dump_json().replace('"unit"', '"unity"'))
    with pytest.raises(ValidationError):
        Results.load(tmp_path / "file.json")


# --- targets


@pytest.mark.parametrize(
    ("promise", "fields", "outcome"),
    [
        ({"at_least": 4}, {"postgres": 8.0}, "met"),
        ({"at_least": 4}, {"postgres": 7.9}, "missed"),
        ({"at_least": 1}, {"postgres": 1.992}, "met"),
        ({"at_least": 1}, {"postgres": 1.98}, "missed"),
        ({"at_least": 4}, {}, "not measured"),
        ({"at_most_floor": 1.5}, {"floor": 1.334}, "met"),
        ({"at_most_floor": 1.5}, {"floor": 1.3}, "missed"),
        ({"at_most_floor": 1.5}, {}, "not measured"),
        ({"base": "base", "at_most_base": 2.0}, {}, "met"),
        ({"base": "base", "at_most_base": 1.9}, {}, "missed"),
        ({"base": "elsewhere", "at_most_base": 1.9}, {}, "not measured"),
    ],
)
def test_targets_are_judged_by_their_bound(promise: dict[str, Any], fields: dict[str, Any], outcome: str) -> None:
    target = Target(key="k", says="s", workload="agent, *", name="put|get", **promise)
    found = results(measure(**fields), measure(workload="base", eventlog=1.0), measure(name="other"))
    assert judge(target, found).outcome == outcome


def test_a_target_is_judged_by_its_worst_figure() -> None:
    target = Target(key="k", says="s", workload="*", name="put", at_least=2)
    found = results(*(measure(workload=name, postgres=cost) for name, cost in (("a", 8.0), ("b", 3.0), ("c", 2.0))))
    verdict = judge(target, found)
    assert verdict.outcome == "missed"
    assert verdict.measured == "1.00× (c, put)"
    assert verdict.missed == ("b, put", "c, put")


def test_each_target_promises_one_thing_under_its_own_key() -> None:
    assert len({target.key for target in TARGETS}) == len(TARGETS)
    for target in TARGETS:
        assert [target.at_least, target.at_most_floor, target.at_most_base].count(None) == 2, target.key
        assert (target.base is None) == (target.at_most_base is None), target.key


# --- how it is shown


def test_figures_are_rounded_with_their_unit() -> None:
    shown = [figure(value, "bytes") for value in (12.0, 1_200.0, 4_700_000.0, 1.2e9)]
    assert shown == ["12 bytes", "1.20 kB", "4.70 MB", "1.20 GB"]
    assert [figure(value, "ms") for value in (0.123, 12.34, 123.4, 1234.5)] == [
        "0.12 ms",
        "12.3 ms",
        "123 ms",
        "1,234 ms",
    ]
    assert (figure(None, "ms"), times(None), times(2.5)) == ("–", "–", "2.50×")


def test_the_page_lists_missed_targets_with_reasons() -> None:
    text = page.page(results(measure(postgres=4.0, floor=1.0), scale="quick"), {"agent-put": "It is hard."})
    assert "| `put`, agent, 300 turns: ≥ 4× faster | 2.00× | **missed** |" in text
    assert "* `put`, agent, 300 turns: ≥ 4× faster. It is hard." in text
    assert "* `put`, agent, 300 turns: ≤ 1.5× the floor. No reason is known yet." in text
    assert "It was a quick run" in text
    assert "| agent, 300 turns | put | 2.00 ms | 4.00 ms | 2.00× | 1.00 ms | 2.00× | 1 |" in text


def test_reasons_are_read_by_their_keys() -> None:
    assert page.read_reasons("# Why\n\nText.\n\n## agent-put\n\nIt is\nhard.\n") == {"agent-put": "It is hard."}
    with pytest.raises(ValueError, match="no target has the key nothing"):
        page.read_reasons("# Why\n\n## nothing\n\nText.\n")


def test_the_readme_has_its_numbers_once() -> None:
    block = page.numbers(results(measure(postgres=4.0)))
    readme = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    assert page.with_numbers(readme, block) == f"before\n{block}\nafter\n"
    assert page.with_numbers(page.with_numbers(readme, block), block) == f"before\n{block}\nafter\n"
    with pytest.raises(ValueError, match="not 0 times"):
        page.with_numbers("nothing\n", block)


def test_plots_are_the_same_for_the_same_figures(tmp_path: Path) -> None:
    lines = [Series(saver=who, x=[1.0, 2.0, 4.0], y=[1.0, 2.0 + number, 4.0]) for number, who in enumerate(plots.LINES)]
    found = results(
        *(measure(workload, name, series=lines) for plot in plots.PLOTS for workload, name, _ in plot.panels)
    )
    for folder in ("a", "b"):
        assert plots.draw(found, tmp_path / folder) == list(plots.PLOTS)
    for plot in plots.PLOTS:
        drawn = (tmp_path / "a" / plot.file).read_text()
        assert drawn == (tmp_path / "b" / plot.file).read_text()
        assert all(name in drawn for _, _, name in plots.LINES.values())


def test_pages_equal_what_bench_page_renders() -> None:
    """`make bench-page` after a run of the suite, and after any change to what it says."""
    found = Results.load(page.RESULTS)
    reasons = page.read_reasons(page.REASONS.read_text())
    shown = page.PAGE.read_text()
    assert shown == page.page(found, reasons)
    assert page.numbers(found) in page.README.read_text()
    assert all((page.PAGE.parent / image).is_file() for image in re.findall(r"\]\((images/.*?)\)", shown))
