"""What is drawn of the study: the contrasts of the claims, and every system on each task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from cells import TASKS

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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from estimates import Comparison

GROUPS = ("clean", "seen", "new")
STYLES = {
    **{
        verdict: {"color": light(name)}
        for verdict, name in (("supported", "good"), ("not supported", "faint"), ("contrary", "bad"))
    },
    **{which: line_style(number) for which, number in (("clean", 0), ("seen", 4), ("new", 6))},
}
"""What has a colour has it in every figure, and on the page; verdicts and groups have none in common."""
Row = tuple[str, dict[str, tuple[float, float, float]]]
"""A row of a figure: its name, and of each series a value with the ends of its interval."""


def figures(comparison: Comparison, document: Sequence[Mapping[str, Any]]) -> list[tuple[str, Any]]:
    """In the order of the page, captions with SVG."""
    claims = "Contrasts of the claims, 95 % intervals; right of 0 speaks for the claim, grey strokes are the margins"
    systems = [
        (f"Accuracy on {task}, probes trained on clean speech, ± standard deviation over runs", systems_figure(comparison, task))
        for task in TASKS
    ]  # fmt: skip
    return [*systems, (claims, claims_figure(document))]


def claims_figure(document: Sequence[Mapping[str, Any]]) -> Any:
    """Every contrast with its margin, in the colour of its claim's verdict."""
    rows: list[Row] = []
    margins: dict[int, float] = {}
    for one in document:
        for name, each in one["contrasts"].items():
            margins[len(rows)] = each["margin"]
            rows.append((f"{one['claim']}: {name}", {one["verdict"]: (each["effect"], *each["interval"])}))
    return intervals(rows, unit="points (effective rank: dimensions)", marks=margins, with_zero=True)


def systems_figure(comparison: Comparison, task: str) -> Any:
    """Clean, seen and new of every system."""
    rows: list[Row] = [
        (system, {group: around(comparison.values(system, task, group)) for group in GROUPS})
        for system in comparison.cells
    ]
    return intervals(rows, unit="accuracy in points")


def around(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and a standard deviation to both sides."""
    middle, reach = float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
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
