"""The plots of docs/benchmarks.md, as SVG that is the same for the same figures.

Text is grey. Line colours are distinguishable on white and on black, also with red-green colour blindness. Each line
also has its own dash, and its name at its end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter

from bench.results import EVENTLOG, FLOOR, POSTGRES, Measure, Results, Series
from bench.show import figure

__all__ = ["PLOTS", "Plot", "draw"]

TEXT = "#7d8590"
#: By saver: colour, dash, name.
LINES: dict[str, tuple[str, str, str]] = {
    EVENTLOG: ("#2a85d0", "-", "this package"),
    POSTGRES: ("#d55e00", "--", "PostgresSaver"),
    FLOOR: (TEXT, ":", "floor"),
}
STYLE: dict[Any, Any] = {
    "axes.edgecolor": TEXT,
    "axes.labelcolor": TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": TEXT,
    "axes.titlesize": "medium",
    "font.size": 10,
    "grid.alpha": 0.25,
    "grid.color": TEXT,
    "lines.linewidth": 2,
    "savefig.transparent": True,
    # A reproducible file, and letters instead of their outlines.
    "svg.fonttype": "none",
    "svg.hashsalt": "bench",
    "text.color": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}


class Plot(NamedTuple):
    """One file: panels side by side, each the lines of a measure."""

    file: str
    says: str
    panels: tuple[tuple[str, str, str], ...]
    """Workload, name of the measure, title."""
    across: str
    """The meaning of x."""
    logarithmic: tuple[bool, bool] = (False, False)
    """Whether the axes x and y are."""


PLOTS: tuple[Plot, ...] = (
    Plot(
        "bytes.svg",
        "Bytes over turns of an agent's thread",
        (("agent, growing", "tables", "tables and indexes"), ("agent, growing", "WAL", "WAL")),
        "turns",
        (False, True),
    ),
    Plot(
        "calls.svg",
        "Time of put and get_tuple over turns of an agent's thread",
        (("agent, growing", "put", "put"), ("agent, growing", "get_tuple, latest", "get_tuple, latest")),
        "turns",
    ),
    Plot(
        "turns.svg",
        "Cost of one turn over the turns that a thread has",
        (
            ("one turn as the thread grows", "put", "put"),
            ("one turn as the thread grows", "WAL", "WAL of a turn"),
        ),
        "turns",
        (True, True),
    ),
    Plot(
        "log.svg",
        "Time of calls over the checkpoints that a log has",
        (
            ("calls as the log grows", "put", "put"),
            ("calls as the log grows", "get_tuple, nothing cached", "get_tuple, nothing cached"),
        ),
        "checkpoints",
        (True, False),
    ),
    Plot(
        "workers.svg",
        "Operations per second over workers on a pool",
        (("workers", "throughput, sync", "threads"), ("workers", "throughput, async", "tasks")),
        "workers",
        (True, False),
    ),
)


def draw(results: Results, folder: Path) -> list[Plot]:
    """Write the plots that have figures; returns these."""
    drawn = []
    for plot in PLOTS:
        found = [(results.find(workload, name), title) for workload, name, title in plot.panels]
        panels = [(measure, title) for measure, title in found if measure is not None and measure.series]
        if len(panels) == len(plot.panels):
            folder.mkdir(parents=True, exist_ok=True)
            with matplotlib.rc_context(STYLE):
                _draw(plot, panels, folder / plot.file)
            drawn.append(plot)
    return drawn


def _draw(plot: Plot, panels: list[tuple[Measure, str]], path: Path) -> None:
    drawing, all_axes = pyplot.subplots(1, len(panels), figsize=(9, 3.4), layout="constrained")
    for axes, (measure, title) in zip(all_axes, panels, strict=True):
        axes.set_title(f"{title}, {measure.unit}", loc="left")
        axes.set_xlabel(plot.across)
        axes.grid(axis="y")
        if plot.logarithmic[0]:
            axes.set_xscale("log", base=2)
            axes.set_xticks(measure.series[0].x)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        if plot.logarithmic[1]:
            axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(_with_unit(measure)))
        axes.minorticks_off()
        _lines(axes, measure.series, at_zero=not plot.logarithmic[1])
    drawing.savefig(path, format="svg", metadata={"Date": None, "Creator": None, "Title": plot.says})
    pyplot.close(drawing)
    # matplotlib ends lines with blanks.
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def _with_unit(measure: Measure) -> Callable[[float, Any], str]:
    def write(y: float, _: Any) -> str:
        return figure(y, "bytes") if measure.unit == "bytes" else f"{y:,g}"

    return write


def _lines(axes: Any, series: list[Series], *, at_zero: bool) -> None:
    known = [each for each in series if each.saver in LINES]
    for each in known:
        color, dash, _ = LINES[each.saver]
        axes.plot(each.x, each.y, color=color, linestyle=dash)
    if at_zero:
        axes.set_ylim(bottom=0)
    _names(axes, known)


def _names(axes: Any, series: list[Series]) -> None:
    """Each at the end of its line, or as near as the others let it be."""
    axes.figure.canvas.draw()
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = [(float(to_axes.transform((each.x[-1], each.y[-1]))[1]), each) for each in series]
    height = -1.0
    for at, each in sorted(ends, key=lambda end: end[0]):
        height = max(at, height + 0.09)
        color, _, name = LINES[each.saver]
        axes.annotate(name, (1.01, height), xycoords="axes fraction", color=color, va="center", annotation_clip=False)
