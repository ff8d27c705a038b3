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
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray
    from record import StudyCell, TaskCounts

RESAMPLES = 2000
LEVEL = 0.95
DAT_GAIN = {"cdm1-dat": 0.5, "cdm2-dat": 0.5, "cdm1": -0.5, "cdm2": -0.5}
CDM_GAIN = {"cdm1": 0.5, "cdm2": 0.5, "plain": -1.0}
Metric = Literal["clean", "seen", "new", "distorted", "shifted", "new kind", "loss seen", "loss new", "loss distorted"]


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


class Draws:
    """Weights of units, drawn once for every system: names that two tasks share (voices) are drawn alike.

    The first row weighs every unit once.
    """

    def __init__(self, cell: StudyCell, *, seed: int = 0, resamples: int = RESAMPLES) -> None:
        pools = sorted({task.units for task in cell.tasks.values()})
        self.weights: dict[tuple[str, ...], NDArray[np.float64]] = {}
        for number, units in enumerate(pools):
            dice = np.random.default_rng([seed, number])
            drawn = dice.multinomial(len(units), np.full(len(units), 1 / len(units)), resamples).astype(np.float64)
            self.weights[units] = np.concatenate([np.ones((1, len(units))), drawn])
        self.fewest = min(len(units) for units in pools)


def task_accuracies(task: TaskCounts, draws: Draws) -> dict[str, NDArray[np.float64]]:
    """Accuracy of one task in points by condition, shape (weighting,)."""
    weights = draws.weights[task.units]
    return {
        condition: 100.0 * (weights @ np.array(task.counts[condition])) / np.maximum(weights @ np.array(task.totals[condition]), 1e-9)
        for condition in task.counts
    }  # fmt: skip


def accuracies(cell: StudyCell, draws: Draws) -> dict[str, NDArray[np.float64]]:
    """Accuracy in points by condition, mean over tasks, shape (weighting,)."""
    by_task = [task_accuracies(task, draws) for task in cell.tasks.values()]
    return {condition: np.mean([task[condition] for task in by_task], axis=0) for condition in by_task[0]}


def grouped(
    found: Mapping[str, NDArray[np.float64]], side: str, *, without: Sequence[str] = ()
) -> dict[str, NDArray[np.float64]]:
    """Means over the conditions of each group, and clean; `shifted` and `new kind` where the side has both."""
    new = materials.NEW_NAMES[side]
    names = {
        "seen": materials.SEEN_NAMES,
        "new": new,
        "shifted": [one for one in new if one in materials.SHIFTED_NAMES],
        "new kind": [one for one in new if one not in materials.SHIFTED_NAMES],
    }
    kept = {group: [one for one in members if one not in without] for group, members in names.items()}
    groups = {group: np.mean([found[one] for one in members], axis=0) for group, members in kept.items() if members}
    return groups | {"clean": found["clean"], "distorted": (groups["seen"] + groups["new"]) / 2}


def metric(cell: StudyCell, draws: Draws, which: Metric, *, without: Sequence[str] = ()) -> NDArray[np.float64]:
    """One number of a cell for each weighting of the units, shape (weighting,)."""
    groups = grouped(accuracies(cell, draws), cell.side, without=without)
    if which.startswith("loss "):
        return np.asarray(groups["clean"] - groups[which.removeprefix("loss ")])
    return np.asarray(groups[which])


def relative_loss(cell: StudyCell, draws: Draws, which: Literal["seen", "new", "distorted"]) -> NDArray[np.float64]:
    """Loss in percent of what clean has above chance, mean over tasks, shape (weighting,)."""
    shares = []
    for task in cell.tasks.values():
        groups = grouped(task_accuracies(task, draws), cell.side)
        above = np.maximum(groups["clean"] - 100.0 * task.chance, 1e-9)
        shares.append(100.0 * (groups["clean"] - groups[which]) / above)
    return np.asarray(np.mean(shares, axis=0))


def estimate(table: NDArray[np.float64], *, fewest_units: int, seed: int = 0) -> Estimate:
    """From a contrast's values, a row a replicate, a column a weighting of the units (the first: each once).

    A single column means that units were not drawn.
    """
    replicates = len(table)
    point = float(table[:, 0].mean())
    over_replicates = float(table[:, 0].var(ddof=1)) / replicates if replicates > 1 else 0.0
    drawn = table[:, 1:].mean(axis=0)
    over_units = (
        float(drawn.var(ddof=1)) * fewest_units / (fewest_units - 1) if drawn.size and fewest_units > 1 else 0.0
    )
    variance = over_replicates + over_units
    if variance == 0.0:
        certain = 0.0 if point > 0 else 1.0
        return Estimate(point, point, point, certain, 1.0 - certain if point else 1.0, (point, point), replicates)
    parts = (over_replicates, replicates - 1), (over_units, fewest_units - 1)
    freedom = variance**2 / sum(part**2 / many for part, many in parts if part > 0)
    error = variance**0.5
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    dice = np.random.default_rng([seed, 1])
    columns = table[:, 1:] if drawn.size else np.repeat(table, RESAMPLES, axis=1)
    rows = dice.integers(0, replicates, columns.shape[::-1])
    spread = np.take_along_axis(columns.T, rows, axis=1).mean(axis=1)
    low, high = np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(
        point, point - half, point + half, float(stats.t.sf(point / error, freedom)),
        float(stats.t.cdf(point / error, freedom)), (float(low), float(high)), replicates,
    )  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Cells by system and replicate, and the draws that all of them share."""

    cells: Mapping[str, Mapping[tuple[str, int], StudyCell]]
    draws: Draws

    def contrast(self, weights: Mapping[str, float], value: Callable[[StudyCell], NDArray[np.float64]]) -> Estimate:
        """A weighted sum of systems, replicate by replicate; a system of one cell (a teacher) stands in each of them."""
        many = [set(self.cells[name]) for name in weights if len(self.cells[name]) > 1]
        keys = sorted(set.intersection(*many)) if many else [("", 0)]

        def of(name: str, key: tuple[str, int]) -> NDArray[np.float64]:
            found = self.cells[name]
            return value(next(iter(found.values())) if len(found) == 1 else found[key])

        cached = {(name, key): of(name, key) for name in weights for key in keys}
        rows = [np.sum([weight * cached[name, key] for name, weight in weights.items()], axis=0) for key in keys]
        return estimate(np.stack(rows), fewest_units=self.draws.fewest)

    def within(self, corpus: str) -> Comparison:
        """The runs of one corpus alone; systems of one cell, as teachers are, stay."""
        kept = {
            system: {key: cell for key, cell in found.items() if len(found) == 1 or key[0] == corpus}
            for system, found in self.cells.items()
        }
        return Comparison({system: found for system, found in kept.items() if found}, self.draws)

    def values(self, systems: Iterable[str], which: Metric) -> list[float]:
        """A metric of every run of some systems."""
        cells = [cell for name in systems for cell in self.cells.get(name, {}).values()]
        return [float(metric(cell, self.draws, which)[0]) for cell in cells]

    def task_metric(self, which: Metric, *, without: Sequence[str] = ()) -> Callable[[StudyCell], NDArray[np.float64]]:
        """A metric of tasks as `contrast` takes it."""
        return lambda cell: metric(cell, self.draws, which, without=without)


def label_free_metric(cell: StudyCell, which: Literal["retrieval", "gap"]) -> NDArray[np.float64]:
    """Retrieval@1, or matched minus mismatched cosine, times 100: last layer, mean over distorted conditions; shape (1,)."""

    def last(measure: str) -> float:
        values = [layers[-1] for condition, layers in cell.label_free[measure].items() if condition != "clean"]
        return 100.0 * float(np.mean(values))

    return np.array([last("retrieval") if which == "retrieval" else last("cosine") - last("mismatched")])


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjusted p of each hypothesis."""
    adjusted, most = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        most = max(most, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = most
    return adjusted
