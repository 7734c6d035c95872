"""Renders docs/benchmarks.md, its plots and the README's numbers from a results file, so that nobody edits a number.

python bench/page.py [--results docs/benchmarks.json]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from textwrap import wrap

from bench.about import ABOUT, About
from bench.plots import PLOTS, Plot, draw
from bench.results import Measure, Results
from bench.show import figure, times
from bench.targets import TARGETS, Outcome, judge

__all__ = ["main", "numbers", "page", "read_reasons", "with_numbers"]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "benchmarks.json"
PAGE = ROOT / "docs" / "benchmarks.md"
IMAGES = ROOT / "docs" / "images"
README = ROOT / "README.md"
REASONS = ROOT / "bench" / "reasons.md"

BEGIN, END = "<!-- numbers -->", "<!-- /numbers -->"

HOW = """
The savers of this package (*eventlog*) beside those of `langgraph-checkpoint-postgres` (*postgres*), on one PostgreSQL
server, in one run, call by call or turn by turn in alternation, so that whatever else the machine does happens to both.
Figures are medians, with quartiles; ratios are how many times better than the incumbent (below 1: worse). Absolute
figures belong to the machine; ratios travel better. The server's checkpoints and autovacuum are turned off meanwhile:
one saver would pay for what another wrote. SQLite and memory have other guarantees, and are there for orientation.
"""
FLOORS = """
The *floor* of a `put` is the serializer's time for the channels that it changes, and one commit of a row with as many
bytes as this package appends; of `put_writes` the same; of a `get_tuple`, one `select 1` and the serializer's time to
decode the state. It is measured among the calls.
"""
FURTHEST = "Where there are several figures, the one furthest from the target is shown."
AGAIN = """
To measure again: `make bench`, or `python bench/suite.py --only agent,channels`, with `--quick` for less of everything.
"""

MARKS: dict[Outcome, str] = {"met": "met", "missed": "**missed**", "not measured": "not measured"}

#: The README's rows: what they say, and the workload and name of what they show.
ROWS: tuple[tuple[str, str, str], ...] = (
    ("WAL, agent of 300 turns", "agent, 300 turns", "WAL"),
    ("tables and indexes", "agent, 300 turns", "tables"),
    ("`put`", "agent, 300 turns", "put"),
    ("`put_writes`", "agent, 300 turns", "put_writes"),
    ("`get_tuple`, latest", "agent, 300 turns", "get_tuple, latest"),
    ("`get_tuple`, by id", "agent, 300 turns", "get_tuple, by id"),
    ("a turn, run by LangGraph", "agent in LangGraph, 150 turns", "turn"),
    ("`list(limit=20)`", "list, 1,500 checkpoints", "list(limit=20)"),
    ("`list()` of 1,500 checkpoints", "list, 1,500 checkpoints", "list()"),
    ("100 parallel tasks, async", "fan-out, 100 tasks", "step, async"),
    ("16 workers on a pool", "workers", "16 workers, sync"),
    ("16 workers on a pool, async", "workers", "16 workers, async"),
)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, text: int = 1) -> list[str]:
    """A Markdown table, whose first `text` columns are not figures."""
    line = ["---" if number < text else "---:" for number in range(len(header))]
    return [f"| {' | '.join(cells)} |" for cells in (header, line, *rows)]


def page(results: Results, reasons: Mapping[str, str]) -> str:
    """docs/benchmarks.md."""
    lines = [
        "# Benchmarks",
        "",
        "<!-- Rendered by `make bench-page` from benchmarks.json: whatever is edited here goes with the next run. -->",
        "",
        *_how(results),
        "",
        "## Targets",
        "",
        *_targets(results, reasons),
        *_plots(results),
    ]
    groups = results.workloads()
    for about in (*ABOUT, *_others(groups)):
        chosen = [measure for name, measures in groups.items() if _belongs(name, about) for measure in measures]
        if chosen:
            lines += ["", f"## {about.title}", "", *(_wrapped(about.text)), "", *_measures(chosen)]
    return "\n".join(lines) + "\n"


def _belongs(workload: str, about: About) -> bool:
    return any(fnmatchcase(workload, pattern) for pattern in about.workloads.split("|"))


def _others(groups: Mapping[str, object]) -> list[About]:
    """Workloads of which nobody has said anything have sections of their own."""
    return [About(name, name, "") for name in groups if not any(_belongs(name, about) for about in ABOUT)]


def _how(results: Results) -> list[str]:
    machine = results.machine
    versions = ", ".join(f"{name} {number}" for name, number in results.versions.items())
    return [
        *_wrapped(HOW),
        "",
        *_wrapped(FLOORS),
        "",
        *_wrapped(
            f"Measured on {_date(results)}, in {results.seconds / 60:.0f} minutes, on {_machine(results)} "
            f"({machine.memory_gib:.0f} GiB of memory, {machine.system}), with {versions}. {_scale(results)}"
        ),
        "",
        *_wrapped(AGAIN),
    ]


def _wrapped(text: str) -> list[str]:
    """A paragraph, in lines as the other pages have them."""
    return wrap(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def _date(results: Results) -> str:
    return results.measured_at[:10]


def _machine(results: Results) -> str:
    return f"{results.machine.cores} cores of {results.machine.cpu}"


def _scale(results: Results) -> str:
    scale = results.options.get("scale", "full")
    return "" if scale == "full" else f"It was a {scale} run: with less of everything."


def _targets(results: Results, reasons: Mapping[str, str]) -> list[str]:
    verdicts = [(target, judge(target, results)) for target in TARGETS]
    rows = [(target.says, verdict.measured, MARKS[verdict.outcome]) for target, verdict in verdicts]
    lines = table(("target", "measured", ""), rows, text=3)
    missed = [(target, verdict) for target, verdict in verdicts if verdict.outcome == "missed"]
    if missed:
        lines += [
            "",
            "Where there are several figures, the one furthest from the target is shown. What was missed, and why:",
            "",
        ]
    for target, verdict in missed:
        where = f" In {len(verdict.missed)} of the figures." if len(verdict.missed) > 1 else ""
        lines.append(f"* {target.says}.{where} {reasons.get(target.key, 'No reason is known yet.')}")
    return lines


def _plots(results: Results) -> list[str]:
    drawn = [plot for plot in PLOTS if _has_lines(plot, results)]
    return [line for plot in drawn for line in ("", f"![{plot.says}](images/{plot.file})")]


def _has_lines(plot: Plot, results: Results) -> bool:
    found = [results.find(workload, name) for workload, name, _ in plot.panels]
    return all(measure is not None and measure.series for measure in found)


def _measures(measures: Sequence[Measure]) -> list[str]:
    """One table; columns that would be empty are left out."""
    others = [who for who in ("sqlite", "memory", "no saver") if any(who in each.others for each in measures)]
    others += sorted({who for each in measures for who in each.others} - set(others))
    rows = []
    before = ""
    for each in measures:
        rows.append(
            (
                each.workload if each.workload != before else "",
                each.name,
                _with_spread(each, "eventlog"),
                _with_spread(each, "postgres"),
                times(each.ratio),
                figure(each.floor, each.unit),
                times(each.over_floor),
                *(figure(each.others.get(who), each.unit) for who in others),
                f"{each.samples:,}",
            )
        )
        before = each.workload
    header = ("", "", "eventlog", "postgres", "ratio", "floor", "× floor", *others, "samples")
    filled = [number for number, name in enumerate(header) if number < 2 or any(row[number] != "–" for row in rows)]
    return table([header[number] for number in filled], [[row[number] for number in filled] for row in rows], text=2)


def _with_spread(measure: Measure, who: str) -> str:
    """The median, and the quartiles where there are such."""
    told = figure(measure.of(who), measure.unit)
    if who not in measure.spread:
        return told
    low, high = (figure(each, measure.unit).rsplit(" ", 1)[0] for each in measure.spread[who])
    return f"{told} ({low} to {high})"


def numbers(results: Results) -> str:
    """What stands between the README's markers."""
    rows = []
    for says, workload, name in ROWS:
        if (each := results.find(workload, name)) is not None:
            shown = (figure(each.eventlog, each.unit), figure(each.postgres, each.unit), times(each.ratio))
            rows.append((says, *shown, figure(each.floor, each.unit)))
    versions = results.versions
    outcomes = [judge(target, results).outcome for target in TARGETS]
    return "\n".join(
        [
            BEGIN,
            "",
            *table(("", "this package", "langgraph-checkpoint-postgres", "ratio", "floor"), rows),
            "",
            *_wrapped(
                f"Measured on {_date(results)} on {_machine(results)}, with PostgreSQL {versions['PostgreSQL']} and "
                f"Python {versions['Python']}. Of {len(outcomes)} targets, {outcomes.count('met')} are met; "
                "[Benchmarks](docs/benchmarks.md) has them, all figures, and the reasons for what was missed."
            ),
            "",
            END,
        ]
    )


def with_numbers(readme: str, block: str) -> str:
    """The README with another block.

    Raises:
        ValueError: for a README without the markers.
    """
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    replaced, count = pattern.subn(lambda _: block, readme)
    if count != 1:
        raise ValueError(f"the README must have {BEGIN} and {END} once, not {count} times")
    return replaced


def read_reasons(text: str) -> dict[str, str]:
    """Reasons by a target's key, each on one line: what stands under the headings.

    Raises:
        ValueError: for a heading that is no target's key.
    """
    _, *sections = re.split(r"^## +", text, flags=re.MULTILINE)
    reasons = {}
    for section in sections:
        key, _, reason = section.partition("\n")
        reasons[key.strip()] = " ".join(reason.split())
    if unknown := set(reasons) - {target.key for target in TARGETS}:
        raise ValueError(f"no target has the key {', '.join(sorted(unknown))}")
    return reasons


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="from `suite.py --out`")
    results = Results.load(parser.parse_args().results)
    PAGE.write_text(page(results, read_reasons(REASONS.read_text())))
    README.write_text(with_numbers(README.read_text(), numbers(results)))
    draw(results, IMAGES)


if __name__ == "__main__":
    main()
