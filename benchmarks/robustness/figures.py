"""What is drawn of the study: the contrasts of the claims, the systems, and the answers to (e) and (f)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cells as study_cells
import numpy as np

from corpus_builder.pages.colours import light
from corpus_builder.pages.plots import (
    PLOT_INCHES,
    height_of,
    line_style,
    new_figure,
    plain_label,
    row_labels,
    with_legend,
)
from evaluation.report.plots import curves

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimates import Comparison, Metric

SIDES: tuple[Metric, ...] = ("seen", "new")
STYLES = {
    **{
        verdict: {"color": light(name)}
        for verdict, name in (("supported", "good"), ("not supported", "faint"), ("contrary", "bad"))
    },
    **{which: line_style(number) for which, number in (("clean", 0), ("seen", 4), ("new", 6))},
}
"""What has a colour has it in every figure, and on the page; verdicts and kinds of copies have none in common."""
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
    return intervals(rows, unit="points", marks=margins, with_zero=True)


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
    return curves(series, unit="accuracy in points", marks=marks, styles=STYLES)


def deviation(values: Sequence[float]) -> float:
    """Standard deviation over runs, 0 of a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def around(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and a standard deviation to both sides."""
    middle, reach = float(np.mean(values)), deviation(values)
    return middle, middle - reach, middle + reach


def intervals(
    rows: Sequence[tuple[str, Mapping[str, tuple[float, float, float]]]],
    *,
    unit: str,
    marks: Mapping[int, float] | None = None,
    with_zero: bool = False,
) -> Any:
    """Values with their intervals on a common horizontal axis, a row a name, with a legend, as SVG.

    Args:
        rows: From top to bottom: what it is, and of each series that it has: value, lower and upper end.
        unit: Of the values.
        marks: Values that are marked by a vertical stroke, by the number of the row: a margin, for instance.
        with_zero: Whether there is a line at 0.
    """
    series = list(dict.fromkeys(name for _, values in rows for name in values))
    figure = new_figure()
    axes = figure.subplots()
    if with_zero:
        axes.axvline(0.0, color=light("ink"), linewidth=0.8)
    for number, name in enumerate(series):
        style = line_style(number) | STYLES.get(name, {})
        found = [(row, *values[name]) for row, (_, values) in enumerate(rows) if name in values]
        places, middles, lows, highs = (list(column) for column in zip(*found, strict=True))
        reach = [
            [middle - low for middle, low in zip(middles, lows, strict=True)],
            [high - middle for middle, high in zip(middles, highs, strict=True)],
        ]
        axes.errorbar(
            middles, places, xerr=reach, label=plain_label(name), linestyle="none", elinewidth=1.5, capsize=2, **style
        )
    for row, mark in (marks or {}).items():
        axes.plot([mark, mark], [row - 0.3, row + 0.3], color=light("faint"), linewidth=1.2)
    labels = row_labels([name for name, _ in rows])
    axes.set_yticks(range(len(rows)), labels)
    axes.invert_yaxis()
    return with_legend(figure, unit=unit, inches=(PLOT_INCHES[0], height_of(labels)), axis="x")
