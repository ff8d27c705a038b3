"""Plots of the report: robustness against the SNR of the noise, and against the size of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from corpus_builder.pages.colours import light
from corpus_builder.pages.plots import LETTER_INCHES, PLOT_INCHES, line_style, new_figure, plain_label, with_legend
from evaluation.report.bootstrap import snr_bands
from evaluation.report.robustness_table import WORDS, value_of
from manifests.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from evaluation.report.robustness_table import SystemOutcomes


def snr_plots(outcomes: SystemOutcomes) -> list[tuple[str, Any]]:
    """A plot a task, with its caption: bands of 5 dB from left to right, clean at the end; the same numbers as in the tables by SNR."""
    bands = snr_bands(outcomes.copies)
    if not bands:
        return []
    masks = [*bands.values(), outcomes.groups["clean"]]
    marks = {float(place): name.removesuffix(" dB") for place, name in enumerate((*bands, "clean"))}
    plots, styles = [], system_styles(outcomes)
    for task, measure in outcomes.tasks():
        series = {}
        for system in outcomes.systems:
            own = outcomes.of(system, task).get(measure, [])
            values = [(place, *value_of(own, mask)) for place, mask in enumerate(masks)] if own else []
            points = [
                (float(place), 100 * value, 100 * spread) for place, value, spread in values if not np.isnan(value)
            ]
            if points:
                series[system] = points
        if series:
            plots.append(
                (
                    printable(f"{task}: {WORDS[measure]}"),
                    curves(series, unit=f"{WORDS[measure]} in %", marks=marks, styles=styles),
                )
            )
    return plots


def size_plots(outcomes: SystemOutcomes) -> list[tuple[str, Any]]:
    """A plot a task, with its caption: every system at its number of parameters, from clean (hollow) to the mean of all distorted copies (full)."""
    is_distorted = outcomes.copies.condition > 0
    plots, styles = [], system_styles(outcomes)
    for task, measure in outcomes.tasks():
        ends = {}
        for system, models in outcomes.systems.items():
            own = outcomes.of(system, task).get(measure, [])
            if not own:
                continue
            clean, _ = value_of(own, outcomes.groups["clean"])
            distorted, _ = value_of(own, is_distorted)
            if not np.isnan(clean) and not np.isnan(distorted):
                ends[system] = float(models[0].facts.parameters), 100 * clean, 100 * distorted
        if ends:
            without_size = [system for system, (parameters, _, _) in ends.items() if parameters == 0]
            unit = f"{WORDS[measure]} in %"
            plots.append(
                (
                    printable(f"{task}: {WORDS[measure]}"),
                    spans(ends, unit=unit, place="parameters", whole_width=without_size, styles=styles),
                )
            )
    return plots


def system_styles(outcomes: SystemOutcomes) -> dict[str, dict[str, Any]]:
    """Colour and marker of each system, the same in every plot, whichever tasks it has."""
    return {system: line_style(number) for number, system in enumerate(outcomes.systems)}


def curves(
    series: Mapping[str, Sequence[tuple[float, float, float]]],
    *,
    unit: str,
    marks: Mapping[float, str],
    styles: Mapping[str, Mapping[str, Any]],
) -> Any:
    """Lines through points with error bars, one a name, with a legend, as SVG.

    Args:
        series: Of each name its points: place, value, half the length of the bar.
        unit: Of the values.
        marks: Label of each place on the axis.
        styles: Colour and marker of each name.
    """
    figure = new_figure()
    axes = figure.subplots()
    for name, points in series.items():
        places, values, spreads = zip(*points, strict=True) if points else ((), (), ())
        axes.errorbar(places, values, yerr=spreads, label=plain_label(name), capsize=2, linewidth=1.3, **styles[name])
    labels = [plain_label(mark) for mark in marks.values()]
    axes.set_xticks(list(marks), labels)
    width, height = PLOT_INCHES
    if LETTER_INCHES * sum(len(label) + 2 for label in labels) > 0.8 * width:
        axes.tick_params(axis="x", rotation=90)
        height += LETTER_INCHES * max(map(len, labels))
    return with_legend(figure, unit=unit, inches=(width, height))


def spans(
    ends: Mapping[str, tuple[float, float, float]],
    *,
    unit: str,
    place: str,
    styles: Mapping[str, Mapping[str, Any]],
    whole_width: Sequence[str] = (),
) -> Any:
    """From one value to another for each name at its place on a logarithmic axis, hollow to full, with a legend, as SVG.

    Args:
        ends: Of each name its place (above 0, where it is not in `whole_width`), the value it comes from and the one it goes to.
        unit: Of the values.
        place: What the places are.
        styles: Colour and marker of each name.
        whole_width: Names that have no place: two lines across the plot.
    """
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    figure = new_figure()
    axes = figure.subplots()
    taken: dict[float, int] = {}
    for name, (at, before, after) in ends.items():
        style = styles[name]
        if name in whole_width:
            axes.axhline(before, color=style["color"], linestyle=":", linewidth=1.0)
            axes.axhline(after, color=style["color"], linestyle="-", linewidth=1.0, label=plain_label(name))
            continue
        beside = at * 1.04 ** taken.get(at, 0)  # several at one place are drawn side by side
        taken[at] = taken.get(at, 0) + 1
        axes.plot([beside, beside], [before, after], color=style["color"], linewidth=1.3)
        axes.plot([beside], [before], **style, markerfacecolor=light("paper"), linestyle="none")
        axes.plot([beside], [after], **style, linestyle="none", label=plain_label(name))
    if taken:
        axes.set_xscale("log")
        axes.margins(x=0.15)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(place)
    return with_legend(figure, unit=unit)


def shade(value: float, *, low: float, high: float) -> str:
    """Style of a cell of a heat map: from the page's ground at `low` to `heat` at `high`; ink is readable on both."""
    share = min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.0
    return f"background:color-mix(in srgb,var(--heat) {100 * share:.0f}%,var(--paper))"
