"""What is drawn of the study: the contrasts of the claims, the systems, and the answers to (e) and (f)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cells as study_cells
import numpy as np

from evaluation.report.plots import curves, intervals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimates import Comparison, Metric

COLOURS = {"supported": "#009e73", "not supported": "#8a8f98", "contrary": "#d55e00"}
SIDES: tuple[Metric, ...] = ("seen", "new")
FAMILY_COUNTS = (1, 2, 4)
Row = tuple[str, dict[str, tuple[float, float, float]]]
"""A row of a figure: its name, and of each series a value with the ends of its interval."""


def figures(comparison: Comparison, document: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    """In the order of the page, captions with SVG."""
    return [
        ("Contrasts of the claims, 95 % intervals; right of 0 speaks for the claim, grey strokes are the margins", claims_figure(document)),
        ("Accuracy of every system, mean over tasks, ± standard deviation over runs", systems_figure(comparison)),
        ("(e) Copies of an utterance, equal steps", copies_figure(comparison)),
        ("(f) Families, four copies an utterance", families_figure(comparison)),
    ]  # fmt: skip


def claims_figure(document: Sequence[Mapping[str, Any]]) -> Any:
    """Every contrast in the colour of its claim's verdict; a margin stands beside the first of each claim."""
    rows: list[Row] = []
    margins: dict[int, float] = {}
    for one in document:
        margins[len(rows)] = one["margin"]
        rows += [
            (f"{one['claim']}: {name}", {one["verdict"]: (each["effect"], *each["interval"])})
            for name, each in one["contrasts"].items()
        ]
    return intervals(rows, unit="points", marks=margins, with_zero=True, colours=COLOURS)


def systems_figure(comparison: Comparison) -> Any:
    """Clean, seen and new of every system."""
    shown: tuple[Metric, ...] = ("clean", *SIDES)
    rows: list[Row] = [
        (system, {which: around(comparison.values([system], which)) for which in shown}) for system in comparison.cells
    ]
    return intervals(rows, unit="accuracy in points")


def copies_figure(comparison: Comparison) -> Any:
    """Accuracy by the number of copies, and with copies that are never met twice."""
    systems = {str(count): [f"copies-{count:02d}"] for count in study_cells.COPY_COUNTS} | {"fresh": ["copies-fresh"]}
    return curve_figure(comparison, systems)


def families_figure(comparison: Comparison) -> Any:
    """Accuracy by the number of families, over all systems of so many."""
    systems = {
        str(count): [name for name in comparison.cells if name.startswith(f"families-{count}")]
        for count in FAMILY_COUNTS
    }
    return curve_figure(comparison, systems)


def curve_figure(comparison: Comparison, systems: Mapping[str, Sequence[str]]) -> Any:
    """Seen and new over places, each the mean of some systems' runs."""
    series: dict[str, list[tuple[float, float, float]]] = {}
    for which in SIDES:
        found = [(float(at), comparison.values(names, which)) for at, names in enumerate(systems.values())]
        series[which] = [(at, float(np.mean(values)), deviation(values)) for at, values in found if values]
    marks = {float(at): mark for at, mark in enumerate(systems)}
    return curves(series, unit="accuracy in points", marks=marks)


def deviation(values: Sequence[float]) -> float:
    """Standard deviation over runs, 0 of a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def around(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and a standard deviation to both sides."""
    middle, reach = float(np.mean(values)), deviation(values)
    return middle, middle - reach, middle + reach
