"""Contrasts between systems, with their standard error over replicates and over voices: the statistics of `claims.md`.

Source of the degrees of freedom: F. E. Satterthwaite, "An approximate distribution of estimates of variance components" (1946); of the
correction: S. Holm, "A simple sequentially rejective multiple test procedure" (1979).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import materials
import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray
    from record import StudyCell

    Value = Callable[[StudyCell], NDArray[np.float64]]
    Term = tuple[float, str, Value]
    """A weight, a system, and what is taken of each of its cells: shape (weighting,)."""

RESAMPLES = 2000
LEVEL = 0.95
ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
PLAIN = "plain"
Invariance = Literal["retrieval", "gap", "rank"]


@dataclass(frozen=True)
class Estimate:
    """A contrast.

    Attributes:
        value: Mean over replicates.
        low: End of the 95 % interval.
        high: The other.
        p: One-sided, that it is not above 0.
        p_contrary: One-sided, that it is not below 0.
        percentile: Interval of the plain hierarchical bootstrap.
        replicates: How many.
    """

    value: float
    low: float
    high: float
    p: float
    p_contrary: float
    percentile: tuple[float, float]
    replicates: int


@dataclass(frozen=True)
class Closed:
    """How much of the plain student's shortfall a system closes.

    Attributes:
        value: In % of the shortfall; in points where the shortfall's interval reaches 0.
        low: End of the 95 % interval.
        high: The other.
        is_share: Whether it is in %.
    """

    value: float
    low: float
    high: float
    is_share: bool


def voice_weights(voices: int, *, seed: int = 0, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """How often each voice counts, shape (weighting, voice): first once each, then a bootstrap; the same for all systems and tasks."""
    drawn = np.random.default_rng([seed, 0]).multinomial(voices, np.full(voices, 1 / voices), resamples)
    return np.concatenate([np.ones((1, voices)), drawn.astype(np.float64)])


def accuracies(cell: StudyCell, task: str, weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Accuracy of one task in points by condition and by group (`seen` and `new`, the mean of their conditions), shape (weighting,)."""
    found = cell.tasks[task]
    out_of = np.maximum(weights @ np.array(found.totals), 1e-9)
    by_condition = {name: 100.0 * (weights @ np.array(right)) / out_of for name, right in found.counts.items()}
    groups = {"seen": list(materials.SEEN), "new": list(materials.NEW[cell.side])}
    return by_condition | {
        group: np.mean([by_condition[name] for name in names], axis=0) for group, names in groups.items()
    }


def invariance(cell: StudyCell, which: Invariance, *, layer: int = -1) -> float:
    """Of one layer, mean over distorted conditions: retrieval@1 or matched minus mismatched cosine, times 100, or effective rank."""

    def mean_of(measure: str) -> float:
        values = [layers[layer] for condition, layers in cell.label_free[measure].items() if condition != "clean"]
        return float(np.mean(values))

    if which == "gap":
        return 100.0 * (mean_of("cosine") - mean_of("mismatched"))
    return mean_of(which) * (100.0 if which == "retrieval" else 1.0)


def estimate(table: NDArray[np.float64], *, units: int, seed: int = 0) -> Estimate:
    """From a contrast's values, a row a replicate, a column a weighting of the units (the first: each once).

    A single column means that units were not drawn.
    """
    replicates = len(table)
    point = float(table[:, 0].mean())
    over_replicates = float(table[:, 0].var(ddof=1)) / replicates if replicates > 1 else 0.0
    drawn = table[:, 1:].mean(axis=0)
    over_units = float(drawn.var(ddof=1)) * units / (units - 1) if drawn.size and units > 1 else 0.0
    variance = over_replicates + over_units
    if variance == 0.0:
        certain = 0.0 if point > 0 else 1.0
        return Estimate(point, point, point, certain, 1.0 - certain if point else 1.0, (point, point), replicates)
    parts = (over_replicates, replicates - 1), (over_units, units - 1)
    freedom = variance**2 / sum(part**2 / many for part, many in parts if part > 0)
    error = variance**0.5
    half = float(stats.t.ppf(ENDS[1], freedom)) * error
    columns = table[:, 1:] if drawn.size else np.repeat(table, RESAMPLES, axis=1)
    low, high = np.quantile(replicates_drawn([columns], seed=seed)[0], ENDS)
    return Estimate(
        point, point - half, point + half, float(stats.t.sf(point / error, freedom)),
        float(stats.t.cdf(point / error, freedom)), (float(low), float(high)), replicates,
    )  # fmt: skip


def replicates_drawn(tables: Sequence[NDArray[np.float64]], *, seed: int = 0) -> list[NDArray[np.float64]]:
    """Means over replicates that are drawn anew for each weighting, alike for all tables; shape (weighting,) each."""
    replicates, weightings = tables[0].shape
    rows = np.random.default_rng([seed, 1]).integers(0, replicates, (weightings, replicates))
    return [np.take_along_axis(table.T, rows, axis=1).mean(axis=1) for table in tables]


def shortfall_closed(
    own: NDArray[np.float64], plain: NDArray[np.float64], clean: NDArray[np.float64], *, seed: int = 0
) -> Closed:
    """(own - plain) / (plain on clean - plain), with the percentile interval of a bootstrap over replicates and voices.

    Args:
        own: The system's accuracy under distortion, shape (replicate, weighting); the first column weighs every voice once.
        plain: The plain student's, of the same replicates.
        clean: The plain student's on clean speech.
        seed: Of the draw of replicates.
    """
    gain, shortfall = own - plain, clean - plain
    drawn_gain, drawn_shortfall = replicates_drawn([gain[:, 1:], shortfall[:, 1:]], seed=seed)
    if np.quantile(drawn_shortfall, ENDS[0]) <= 0:
        return Closed(float(gain[:, 0].mean()), *map(float, np.quantile(drawn_gain, ENDS)), is_share=False)
    share = 100.0 * float(gain[:, 0].mean() / shortfall[:, 0].mean())
    return Closed(share, *map(float, np.quantile(100.0 * drawn_gain / drawn_shortfall, ENDS)), is_share=True)


@dataclass(frozen=True)
class Comparison:
    """Cells by system and replicate (corpus and seed), and the weights of voices that all of them share."""

    cells: Mapping[str, Mapping[tuple[str, int], StudyCell]]
    weights: NDArray[np.float64]

    def table(self, terms: Sequence[Term]) -> NDArray[np.float64]:
        """A weighted sum of systems' values in each replicate that all of them have, shape (replicate, weighting)."""
        keys = sorted(set.intersection(*(set(self.cells[system]) for _, system, _ in terms)))
        return np.stack([
            np.sum([weight * value(self.cells[system][key]) for weight, system, value in terms], axis=0) for key in keys
        ])  # fmt: skip

    def contrast(self, *terms: Term, plus: float = 0.0) -> Estimate:
        """Of that sum, and a constant."""
        return estimate(self.table(terms) + plus, units=self.weights.shape[1])

    def accuracy(self, task: str, group: str) -> Value:
        """Accuracy on a condition or a group, as a term takes it."""
        return lambda cell: accuracies(cell, task, self.weights)[group]

    def values(self, system: str, task: str, group: str) -> list[float]:
        """The accuracy of every run of a system."""
        return [float(accuracies(cell, task, self.weights[:1])[group][0]) for cell in self.cells[system].values()]

    def closed(self, system: str, task: str, group: Literal["seen", "new"]) -> Closed | None:
        """Of the plain student's shortfall; None for the plain student itself, and for the teacher, which has no replicates."""
        if system == PLAIN or not set(self.cells[system]) & set(self.cells[PLAIN]):
            return None
        places = (system, group), (PLAIN, group), (PLAIN, "clean")
        keys = sorted(set(self.cells[system]) & set(self.cells[PLAIN]))
        own, plain, clean = (
            np.stack([accuracies(self.cells[name][key], task, self.weights)[at] for key in keys]) for name, at in places
        )
        return shortfall_closed(own, plain, clean)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p of each hypothesis."""
    adjusted, most = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        most = max(most, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = most
    return adjusted
