"""Renders docs/benchmarks.md, the pages in docs/benchmarks/, their plots and the README's table from a results file.

python bench/page.py [--results docs/benchmarks.json]
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from textwrap import wrap

from bench.about import PAGES, About, DetailPage
from bench.headlines import HEADLINES, find, read_reasons
from bench.plots import PLOTS, Plot, draw
from bench.results import EVENTLOG, POSTGRES, Measure, Results
from bench.show import figure, times

__all__ = ["details", "main", "numbers", "page", "with_numbers"]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "benchmarks.json"
DEBIAN = ROOT / "docs" / "benchmarks-15.json"
PAGE = ROOT / "docs" / "benchmarks.md"
DETAILS = ROOT / "docs" / "benchmarks"
IMAGES = ROOT / "docs" / "images"
README = ROOT / "README.md"
REASONS = ROOT / "bench" / "reasons.md"

BEGIN, END = "<!-- numbers -->", "<!-- /numbers -->"

GENERATED = "<!-- `make bench-page` renders this page from docs/benchmarks.json: edit bench/, not this file. -->"

OPENING = """
This package beside `PostgresSaver` of `langgraph-checkpoint-postgres`, on the same server in the same run. *Times
better* is above 1 where this package is faster or smaller. The *floor* is the theoretical minimum: serialization plus
one round trip. In the rows about `DeltaChannel` and Deep Agents, both savers run the same graph with `DeltaChannel`.
"""
BELOW = "Reasons for the rows below 1. Times are those of a machine on which a small `put` takes 0.5 ms."
HOW = """
All savers run on one PostgreSQL server, in one run. They take turns, call by call or turn by turn, so that other work
of the machine affects all of them. Each figure is a median; the detail pages also have the quartiles, in parentheses.
Absolute figures depend on the machine; ratios depend on it less. The server's checkpoints and autovacuum are off during
the run, because one saver would pay for the bytes of another. SQLite and memory give other guarantees and are shown for
orientation.
"""
FLOORS = """
The floor is measured between the calls. For a `put` it is the serializer's time for the changed channels, plus the
commit of one row with as many bytes as this package appends. For `put_writes` it is the same with the task's writes.
For a `get_tuple` it is one `select 1`, plus the serializer's time to decode the state. A `get_tuple` of this
package can take less: it copies messages that it decoded before.
"""
AGAIN = """
To measure again: `make bench` (half an hour), or for some workloads `python bench/suite.py --only agent,channels`.
The option `--quick` measures less of everything.
"""


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, text: int = 1) -> list[str]:
    """A Markdown table; its first `text` columns are not figures."""
    line = ["---" if number < text else "---:" for number in range(len(header))]
    return [f"| {' | '.join(cells)} |" for cells in (header, line, *rows)]


# --- docs/benchmarks.md


def page(results: Results, reasons: Mapping[str, str], debian: Results | None = None) -> str:
    """docs/benchmarks.md: the table of what users feel, the reasons of rows below 1, how it was measured.

    Args:
        results: of all workloads, on the embedded server.
        reasons: by key, why a row is below 1.0.
        debian: of some of them, on Debian's PostgreSQL 15.
    """
    lines = [
        "# Benchmarks",
        "",
        GENERATED,
        "",
        *_wrapped(OPENING),
        "",
        "## This package and PostgresSaver",
        "",
        *_headlines(results, reasons, debian),
        "",
        "## How it is measured",
        "",
        *_how(results, debian),
        "",
        "## Details",
        "",
        "Every figure, with quartiles, floors and numbers of samples:",
        "",
        *(f"* [{each.title}](benchmarks/{each.name}.md)" for each in PAGES if _has_figures(each, results)),
    ]
    return "\n".join(lines) + "\n"


def _headlines(results: Results, reasons: Mapping[str, str], debian: Results | None) -> list[str]:
    """The table that the page opens with, and the reason of each row below 1.0."""
    rows, below = [], dict[str, list[str]]()
    about = ""
    for headline in HEADLINES:
        if not headline.says.startswith("–"):
            about = headline.says.split(":")[0]
        measure = find(headline, results)
        other = None if debian is None else find(headline, debian)
        if measure is None:
            continue
        cells = (figure(measure.eventlog, measure.unit), figure(measure.postgres, measure.unit), _bold(measure.ratio))
        elsewhere = () if debian is None else (_bold(None if other is None else other.ratio),)
        rows.append((headline.says, *cells, *elsewhere, figure(measure.floor, measure.unit)))
        ratios = [each.ratio for each in (measure, other) if each is not None and each.ratio is not None]
        if ratios and round(min(ratios), 2) < 1:
            below.setdefault(headline.key, []).append(headline.says.replace("–", f"{about} –", 1).split(":")[0])
    header = ("", "this package", "PostgresSaver", "times better", *(("on PostgreSQL 15",) if debian else ()), "floor")
    lines = table(header, rows)
    if below:
        lines += ["", BELOW, ""]
    for key, subjects in below.items():
        lines.append(f"* *{subjects[0]}*: {reasons.get(key, 'the reason is not known yet.')}")
    return lines


def _bold(ratio: float | None) -> str:
    return times(ratio) if ratio is None or round(ratio, 2) >= 1 else f"**{times(ratio)}**"


def _how(results: Results, debian: Results | None) -> list[str]:
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
        *_debian(debian),
        "",
        *_wrapped(AGAIN),
    ]


def _debian(debian: Results | None) -> list[str]:
    if debian is None:
        return []
    return [
        "",
        *_wrapped(
            f"The column of PostgreSQL 15 is from a run on Debian's server ({debian.versions['PostgreSQL']}) on the "
            f"same machine, on {_date(debian)}. {_scale(debian)}"
        ),
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


# --- docs/benchmarks/


def details(results: Results) -> dict[str, str]:
    """The pages of docs/benchmarks/ with measured workloads, by file name.

    Raises:
        ValueError: for a workload that belongs to no section of `bench.about.PAGES`, or to several.
    """
    for workload in results.workloads():
        sections = [each for detail in PAGES for each in detail.sections if _belongs(workload, each)]
        if len(sections) != 1:
            raise ValueError(f"the workload {workload!r} must be in one section of bench/about.py, not {len(sections)}")
    return {f"{each.name}.md": _detail(each, results) for each in PAGES if _has_figures(each, results)}


def _detail(detail: DetailPage, results: Results) -> str:
    lines = [f"# {detail.title}", "", GENERATED, "", *_wrapped(detail.text), "", *_columns(), *_plots(detail, results)]
    for about in detail.sections:
        if chosen := _figures(about, results):
            lines += ["", f"## {about.title}", "", *_wrapped(about.text), "", *_measures(chosen)]
    return "\n".join(lines) + "\n"


def _columns() -> list[str]:
    return _wrapped(
        "[Benchmarks](../benchmarks.md) explains how the savers are measured. *Ratio* is above 1 where this package "
        "is faster or smaller than PostgresSaver; *× floor* is this package beside the [floor](../glossary.md#floor)."
    )


def _belongs(workload: str, about: About) -> bool:
    return any(fnmatchcase(workload, pattern) for pattern in about.workloads.split("|"))


def _figures(about: About, results: Results) -> list[Measure]:
    groups = results.workloads()
    return [measure for name, measures in groups.items() if _belongs(name, about) for measure in measures]


def _has_figures(detail: DetailPage, results: Results) -> bool:
    return any(_figures(about, results) for about in detail.sections)


def _plots(detail: DetailPage, results: Results) -> list[str]:
    drawn = [plot for plot in PLOTS if plot.file in detail.plots and _has_lines(plot, results)]
    lines = [line for plot in drawn for line in ("", f"{plot.says}:", "", f"![{plot.says}](../images/{plot.file})")]
    return ["", "## Costs as work grows", *lines] if lines else []


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
                _with_spread(each, EVENTLOG),
                _with_spread(each, POSTGRES),
                times(each.ratio),
                figure(each.floor, each.unit),
                times(each.over_floor),
                *(figure(each.others.get(who), each.unit) for who in others),
                f"{each.samples:,}",
            )
        )
        before = each.workload
    header = ("", "", "this package", "PostgresSaver", "ratio", "floor", "× floor", *others, "samples")
    filled = [number for number, name in enumerate(header) if number < 2 or any(row[number] != "–" for row in rows)]
    return table([header[number] for number in filled], [[row[number] for number in filled] for row in rows], text=2)


def _with_spread(measure: Measure, who: str) -> str:
    """The median, and the quartiles if there are several samples."""
    told = figure(measure.of(who), measure.unit)
    if who not in measure.spread:
        return told
    low, high = (figure(each, measure.unit).rsplit(" ", 1)[0] for each in measure.spread[who])
    return f"{told} ({low} to {high})"


# --- the README


def numbers(results: Results) -> str:
    """The text between the README's markers: one table, and where and when it was measured."""
    rows = [row for row in [_one_conversation(results)] if row is not None]
    about = shown = ""
    for headline in HEADLINES:
        if not headline.says.startswith("–"):
            about = headline.says.split(":")[0]
        each = find(headline, results)
        if headline.is_in_readme and each is not None:
            says = headline.says if shown == about else headline.says.replace("– ", f"{about}: ", 1)
            shown = about
            beside = _beside(each.postgres, each.ratio, each)
            columns = ("–", beside) if headline.has_delta_channel else (beside, "–")
            rows.append((says, figure(each.eventlog, each.unit), *columns))
    versions = results.versions
    return "\n".join(
        [
            BEGIN,
            "",
            *table(("", "this package", "PostgresSaver", "PostgresSaver with DeltaChannel"), rows),
            "",
            *_wrapped(
                f"Measured on {_date(results)} on {_machine(results)}, with PostgreSQL {versions['PostgreSQL']} and "
                f"Python {versions['Python']}. [Benchmarks](docs/benchmarks.md) has all figures and the reasons for "
                "ratios below 1."
            ),
            "",
            END,
        ]
    )


def _beside(value: float | None, ratio: float | None, measure: Measure) -> str:
    return "–" if value is None else f"{figure(value, measure.unit)} ({times(ratio)})"


def _one_conversation(results: Results) -> tuple[str, str, str, str] | None:
    """WAL of one conversation in three ways: in this package, in PostgresSaver, and there with `DeltaChannel`.

    The third is measured at one length of the conversation. The first two are read at that length from the lines of the
    plot of the same conversation.
    """
    growing = results.find("agent, growing", "WAL")
    for delta in results.measures:
        match = re.fullmatch(r"DeltaChannel, frequency 100, (\d+) turns", delta.workload)
        if growing is None or match is None or delta.name != "WAL" or not delta.postgres:
            continue
        at = {line.saver: dict(zip(line.x, line.y, strict=True)).get(float(match[1])) for line in growing.series}
        ours, theirs = at.get(EVENTLOG), at.get(POSTGRES)
        if ours and theirs:
            return (
                f"A conversation of {match[1]} turns: bytes of WAL",
                figure(ours, growing.unit),
                _beside(theirs, theirs / ours, growing),
                _beside(delta.postgres, delta.postgres / ours, growing),
            )
    return None


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


def main() -> None:
    """Write the pages, the plots and the README's table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help="from `suite.py --out`")
    results = Results.load(parser.parse_args().results)
    debian = Results.load(DEBIAN) if DEBIAN.exists() else None
    PAGE.write_text(page(results, read_reasons(REASONS.read_text()), debian))
    DETAILS.mkdir(exist_ok=True)
    for name, text in details(results).items():
        (DETAILS / name).write_text(text)
    README.write_text(with_numbers(README.read_text(), numbers(results)))
    draw(results, IMAGES)


if __name__ == "__main__":
    main()
