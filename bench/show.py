"""Formatting figures, for a terminal and for a page."""

from __future__ import annotations

from bench.results import Unit

__all__ = ["figure", "times"]


def figure(value: float | None, unit: Unit) -> str:
    """A figure with its unit, in three digits or so; a dash where there is none."""
    if value is None:
        return "–"
    if unit == "bytes":
        for step, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
            if abs(value) >= step:
                return f"{digits(value / step)} {name}"
        return f"{value:.0f} bytes"
    return f"{digits(value)} {unit}"


def digits(value: float) -> str:
    """Three digits of a small number; of a large one all before the point, in groups."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def times(value: float | None) -> str:
    """How many times; a dash where there is nothing to compare with."""
    return "–" if value is None else f"{digits(value)}×"
