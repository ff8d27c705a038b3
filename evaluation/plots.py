"""Plots of the report: robustness against the SNR of the noise, and against the size of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from corpus_builder.sheet import curves, spans
from evaluation.outcomes import snr_bands
from evaluation.paper import WORDS, value_of
from manifests.errors import printable

if TYPE_CHECKING:
    from evaluation.paper import Paper


def snr_plots(paper: Paper) -> list[tuple[str, Any]]:
    """A plot a task, with its caption: bands of 5 dB from left to right, clean at the end; the same numbers as in the tables by SNR."""
    bands = snr_bands(paper.copies)
    if not bands:
        return []
    masks = [*bands.values(), paper.groups["clean"]]
    marks = {float(place): name.removesuffix(" dB") for place, name in enumerate((*bands, "clean"))}
    plots = []
    for task, measure in paper.tasks():
        series = {}
        for system in paper.systems:
            told = paper.told(system, task).get(measure, [])
            values = [(place, *value_of(told, mask)) for place, mask in enumerate(masks)] if told else []
            points = [
                (float(place), 100 * value, 100 * spread) for place, value, spread in values if not np.isnan(value)
            ]
            if points:
                series[system] = points
        if series:
            plots.append(
                (printable(f"{task}: {WORDS[measure]}"), curves(series, unit=f"{WORDS[measure]} in %", marks=marks))
            )
    return plots


def size_plots(paper: Paper) -> list[tuple[str, Any]]:
    """A plot a task, with its caption: every system at its number of parameters, from clean (hollow) to the mean of all distorted copies (full)."""
    is_distorted = paper.copies.condition > 0
    plots = []
    for task, measure in paper.tasks():
        ends = {}
        for system, cells in paper.systems.items():
            told = paper.told(system, task).get(measure, [])
            if not told:
                continue
            clean, _ = value_of(told, paper.groups["clean"])
            distorted, _ = value_of(told, is_distorted)
            if not np.isnan(clean) and not np.isnan(distorted):
                ends[system] = float(cells[0].facts.parameters), 100 * clean, 100 * distorted
        if ends:
            floors = [system for system, (parameters, _, _) in ends.items() if parameters == 0]
            unit = f"{WORDS[measure]} in %"
            plots.append(
                (printable(f"{task}: {WORDS[measure]}"), spans(ends, unit=unit, place="parameters", whole_width=floors))
            )
    return plots
