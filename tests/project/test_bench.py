"""The benchmark suite: that it runs, that its results are told truly, and that no number was edited by hand."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.base import CheckpointTuple, empty_checkpoint
from pydantic import ValidationError

from bench import page, plots, suite
from bench.headlines import HEADLINES, find, read_reasons
from bench.results import EVENTLOG, FLOOR, POSTGRES, Machine, Measure, Results, Series, measure_of
from bench.savers import agree, disagreement
from bench.shapes import SHAPES
from bench.show import figure, times
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
    assert "What users feel" in printed
    assert "| agent, 4 turns | WAL |" in page.details(found)["agents.md"]
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
    # No saver always runs after the same one.
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


# --- what users feel


def test_each_row_has_words_of_its_own_under_its_subject() -> None:
    subjects, about = [], ""
    for headline in HEADLINES:
        if not headline.says.startswith("– "):
            about = headline.says.split(":")[0]
        subjects.append((about, headline.says))
    assert len(set(subjects)) == len(subjects)
    assert len({(headline.workload, headline.name) for headline in HEADLINES}) == len(HEADLINES)


def test_a_row_has_the_first_figure_that_matches() -> None:
    (headline,) = [each for each in HEADLINES if each.says == "– opening its state"]
    found = results(
        measure(), measure("Deep Agent, 60 turns", "get_state"), measure("Deep Agent, 9 turns", "get_state")
    )
    assert find(headline, found) == found.measures[1]
    assert find(headline, results(measure())) is None


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


def test_the_page_opens_with_what_users_feel_and_says_why_a_row_is_below_one() -> None:
    found = results(
        measure(postgres=4.0, floor=1.0), measure("channels: small state", "put", postgres=1.0), scale="quick"
    )
    text = page.page(found, {"small-put": "It is hard."})
    assert "| – saving a checkpoint, turns 151 to 300 | 2.00 ms | 4.00 ms | 2.00× | 1.00 ms |" in text
    assert "| A state of a few bytes: saving a checkpoint | 2.00 ms | 1.00 ms | **0.50×** | – |" in text
    assert "* *A state of a few bytes*: It is hard." in text
    assert "It was a quick run" in text


def test_each_workload_has_a_row_on_one_detail_page() -> None:
    found = results(measure(postgres=4.0, floor=1.0), measure("channels: small state", "put", postgres=1.0))
    pages = page.details(found)
    assert set(pages) == {"agents.md", "state-sizes.md"}
    assert "| agent, 300 turns | put | 2.00 ms | 4.00 ms | 2.00× | 1.00 ms | 2.00× | 1 |" in pages["agents.md"]
    assert all(f"(benchmarks/{name})" in page.page(found, {}) for name in pages)
    with pytest.raises(ValueError, match="'another' must be in one section"):
        page.details(results(measure("another")))


def test_a_row_that_is_below_one_elsewhere_has_its_reason_too() -> None:
    text = page.page(results(measure(postgres=4.0)), {"agent": "Old."}, results(measure(postgres=1.0)))
    assert "| – saving a checkpoint, turns 151 to 300 | 2.00 ms | 4.00 ms | 2.00× | **0.50×** | – |" in text
    assert "Old." in text


def test_reasons_are_read_by_their_keys() -> None:
    assert read_reasons("# Why\n\nText.\n\n## agent\n\nIt is\nhard.\n") == {"agent": "It is hard."}
    with pytest.raises(ValueError, match="no row has the key nothing"):
        read_reasons("# Why\n\n## nothing\n\nText.\n")


def test_the_readme_has_its_numbers_once() -> None:
    block = page.numbers(results(measure(postgres=4.0)))
    readme = f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n"
    assert page.with_numbers(readme, block) == f"before\n{block}\nafter\n"
    assert page.with_numbers(page.with_numbers(readme, block), block) == f"before\n{block}\nafter\n"
    with pytest.raises(ValueError, match="not 0 times"):
        page.with_numbers("nothing\n", block)


def test_the_readme_compares_one_conversation_with_delta_channel_too() -> None:
    lines = [Series(saver=who, x=[1.0, 2.0], y=[1e6, y]) for who, y in ((EVENTLOG, 2e6), (POSTGRES, 8e6), (FLOOR, 1e6))]
    growing = measure("agent, growing", "WAL", unit="bytes", series=lines)
    delta = measure("DeltaChannel, frequency 100, 2 turns", "WAL", unit="bytes", postgres=3e6)
    row = "| A conversation of 2 turns: bytes of WAL | 2.00 MB | 8.00 MB (4.00×) | 3.00 MB (1.50×) |"
    assert row in page.numbers(results(growing, delta))
    assert "A conversation of" not in page.numbers(results(growing))
    turn = measure("DeltaChannel, frequency 100, 2 turns", "turn", postgres=4.0)
    assert "| An agent with `DeltaChannel`: a turn | 2.00 ms | – | 4.00 ms (2.00×) |" in page.numbers(results(turn))


def test_ratios_in_the_readme_are_measured() -> None:
    section = page.README.read_text().partition("## When not to use it")[2].partition("\n## ")[0]
    told = {float(each) for group in re.findall(r"\(([\d. to]+)\)", section) for each in re.findall(r"[\d.]+", group)}
    measured = {round(each.ratio, 2) for each in Results.load(page.RESULTS).measures if each.ratio is not None}
    assert len(told) > 5
    assert told - measured == set()


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
    debian = Results.load(page.DEBIAN) if page.DEBIAN.exists() else None
    reasons = read_reasons(page.REASONS.read_text())
    shown = page.PAGE.read_text()
    assert shown == page.page(found, reasons, debian)
    assert {file.name: file.read_text() for file in page.DETAILS.glob("*.md")} == page.details(found)
    assert page.numbers(found) in page.README.read_text()
    images = [image for file in page.DETAILS.glob("*.md") for image in re.findall(r"images/(.*?)\)", file.read_text())]
    assert set(images) == {plot.file for plot in plots.PLOTS}
    assert all((page.IMAGES / image).is_file() for image in images)
