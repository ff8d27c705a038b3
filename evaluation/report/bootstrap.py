"""Outcomes by group of copies, and differences between systems with their intervals.

Models that share a `system` are its seeds. A difference is judged by a hierarchical bootstrap: seeds are drawn with replacement
within each system, speakers with replacement once for both (the test set is the same, so the comparison is paired), and
all utterances of a drawn speaker under every drawn seed count as often as the speaker was drawn. Probes are averaged within a seed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from evaluation.measures.error_rates import equal_error_rate, is_two_sided
from manifests.results.scores import separated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from manifests.results.scores import CopyTable, ModelScores, TaskMeasure, Trials

RESAMPLES = 2000
TRIAL_RESAMPLES = 200
LEVEL = 0.95
GROUPS = {"heard": "h", "seen": "s", "shifted": "f", "new": "n"}
BAND_DB = 5.0


@dataclass(frozen=True)
class Copies:
    """The copy table as arrays, one value a copy.

    Attributes:
        snr_db: NaN where no noise was added.
    """

    utterance: NDArray[np.int64]
    speaker: NDArray[np.int64]
    condition: NDArray[np.int64]
    snr_db: NDArray[np.float64]
    conditions: tuple[str, ...]

    @classmethod
    def of(cls, table: CopyTable) -> Copies:
        """From its document."""
        return cls(
            np.array(separated(table.utterance), dtype=np.int64),
            np.array(separated(table.speaker), dtype=np.int64),
            np.array(separated(table.condition), dtype=np.int64),
            column(table.snr_db),
            table.conditions,
        )


@functools.lru_cache(maxsize=256)
def column(text: str) -> NDArray[np.float64]:
    """A column of numbers, not to be written to; NaN where there is none."""
    values = np.array([np.nan if value is None else value for value in separated(text)], dtype=np.float64)
    values.flags.writeable = False
    return values


def groups_of(copies: Copies, letters: str | None) -> dict[str, NDArray[np.bool_]]:
    """Which copies are clean, and of which category for a model; `distorted` where that is not known. Empty groups are left out."""
    clean = copies.condition == 0
    groups = {"clean": clean}
    marks = np.array(list(letters or ""), dtype=np.str_)
    if len(marks) == len(clean) and not np.any(marks == "u"):
        groups |= {name: marks == letter for name, letter in GROUPS.items()}
    else:
        groups["distorted"] = ~clean
    return {name: mask for name, mask in groups.items() if mask.any()}


def snr_bands(copies: Copies) -> dict[str, NDArray[np.bool_]]:
    """Copies by the SNR of their noise, in bands of 5 dB, lowest first; the band's upper end is not in it."""
    known = ~np.isnan(copies.snr_db)
    bands = np.floor(copies.snr_db / BAND_DB)
    return {
        f"{band * BAND_DB:g} to {(band + 1) * BAND_DB:g} dB": known & (bands == band)
        for band in sorted(set(bands[known].tolist()))
    }


@dataclass(frozen=True)
class TaskOutcomes:
    """Outcomes of one model on one task: a row a probe, a column a copy.

    Attributes:
        counts: NaN where the copy does not belong to the task.
        totals: The same.
        trials: In place of both, for verification: a column a probe.
    """

    measure: TaskMeasure
    counts: NDArray[np.float64]
    totals: NDArray[np.float64]
    trials: Trials | None = None

    def values(
        self, mask: NDArray[np.bool_], *, speaker_weights: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """The score of each probe on some copies; NaN where there are none.

        Args:
            mask: Which copies.
            speaker_weights: How often each copy counts.
        """
        if self.trials is not None:
            return trial_rates(self.trials, mask, speaker_weights)
        weights = mask if speaker_weights is None else mask * speaker_weights
        counts = np.where(np.isnan(self.counts), 0.0, self.counts) @ weights
        totals = np.where(np.isnan(self.totals), 0.0, self.totals) @ weights
        return np.asarray(np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0))

    def takes_part(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of some copies have an outcome."""
        if self.trials is not None:
            tested = np.zeros(len(mask), dtype=np.bool_)
            tested[column(self.trials.copies).astype(np.int64)] = True
            return mask & tested
        return np.asarray(mask & (np.nan_to_num(self.totals).sum(axis=0) > 0))

    def by_unit(
        self, mask: NDArray[np.bool_], units: NDArray[np.int64], *, num_units: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Counts and totals of each unit (speaker or utterance), mean of the probes, shape (unit,) each."""
        sums = []
        for table in (self.counts, self.totals):
            mean = np.where(np.isnan(table), 0.0, table).mean(axis=0) * mask
            summed = np.bincount(units, weights=mean, minlength=num_units)
            sums.append(summed.astype(np.float64))
        return sums[0], sums[1]


def trial_rates(trials: Trials, mask: NDArray[np.bool_], weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """EER of each probe over the trials whose tested copy is in the mask; NaN where one kind of trial is missing."""
    tested = column(trials.copies).astype(np.int64)
    chosen = mask[tested] if weights is None else mask[tested] & (weights[tested] > 0)
    is_same = np.array(list(trials.same), dtype=np.str_)[chosen] == "1"
    if not is_two_sided(is_same):
        return np.full(len(trials.scores), np.nan)
    drawn = None if weights is None else weights[tested][chosen]
    return np.array([equal_error_rate(is_same, column(scores)[chosen], weights=drawn) for scores in trials.scores])


def task_outcomes(scores: ModelScores, task: str) -> list[TaskOutcomes]:
    """Outcomes of a model on one task, one for each measure."""
    found = []
    for measure in dict.fromkeys(one.measure for one in scores.outcomes if one.task == task):
        probes = sorted(
            (one for one in scores.outcomes if (one.task, one.measure) == (task, measure)), key=lambda one: one.probe
        )
        counts = np.stack([column(one.counts) for one in probes])
        totals = np.stack(
            [
                np.where(np.isnan(counts[row]), np.nan, 1.0) if one.totals is None else column(one.totals)
                for row, one in enumerate(probes)
            ]
        )
        found.append(TaskOutcomes(measure, counts, totals))
    found += [
        TaskOutcomes("eer", np.empty((0, 0)), np.empty((0, 0)), trials)
        for trials in scores.trials
        if trials.task == task
    ]
    return found


@dataclass(frozen=True)
class Difference:
    """First minus second.

    Attributes:
        low: End of the interval at 95 %.
        high: The other end.
        seeds: Of first and second.
        units: What was drawn besides seeds: so many speakers, or utterances where there is one speaker.
    """

    value: float
    low: float
    high: float
    seeds: tuple[int, int]
    units: str = ""


def hierarchical_bootstrap(
    first: tuple[NDArray[np.float64], NDArray[np.float64]],
    second: tuple[NDArray[np.float64], NDArray[np.float64]],
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Difference:
    """Difference of two ratios of sums over speakers, mean over seeds, with its percentile interval.

    Args:
        first: Counts and totals, each of shape (seed, speaker).
        second: The same; the number of seeds may differ. Where it does not, seeds are paired: drawn alike for both.
        resamples: How many.
        level: Of the interval.
        seed: Of the draws; speakers and seeds of the systems have streams of their own.
    """
    num_speakers = first[0].shape[1]
    speakers = np.random.default_rng(seed).integers(0, num_speakers, (resamples, num_speakers))
    weights = np.zeros((resamples, num_speakers))
    np.add.at(weights, (np.arange(resamples)[:, None], speakers), 1.0)
    sizes = len(first[0]), len(second[0])
    rng = np.random.default_rng([seed, 1])
    drawn = [rng.integers(0, size, (resamples, size)) for size in sizes]
    if sizes[0] == sizes[1]:
        drawn[1] = drawn[0]
    whole = np.ones((1, num_speakers))
    points = [float(np.mean(ratios(table, whole))) for table in (first, second)]
    means = [
        np.take_along_axis(ratios(table, weights), chosen, axis=1).mean(axis=1)
        for table, chosen in zip((first, second), drawn, strict=True)
    ]
    spread = means[0] - means[1]
    spread = spread[~np.isnan(spread)]
    ends = np.quantile(spread, [(1 - level) / 2, (1 + level) / 2]) if len(spread) else (np.nan, np.nan)
    return Difference(points[0] - points[1], float(ends[0]), float(ends[1]), sizes)


def ratios(table: tuple[NDArray[np.float64], NDArray[np.float64]], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of counts over sum of totals for each weighting of the speakers, shape (weighting, seed); NaN where nothing counts."""
    counts, totals = (weights @ one.T for one in table)
    return np.asarray(np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0))


def difference(
    first: Sequence[TaskOutcomes],
    second: Sequence[TaskOutcomes],
    mask: NDArray[np.bool_],
    copies: Copies,
    *,
    seed: int = 0,
) -> Difference | None:
    """Difference of two systems on some copies, each given by its seeds; None where one of them has nothing there."""
    if any(np.isnan(one.values(mask)).any() for one in (*first, *second)):
        return None
    is_used = np.any([one.takes_part(mask) for one in (*first, *second)], axis=0)
    name, owner = "speakers", copies.speaker
    if len(np.unique(owner[is_used])) < 2:
        name, owner = "utterances", copies.utterance
    _, numbers = np.unique(owner[is_used], return_inverse=True)
    num_units = int(numbers.max()) + 1
    units = np.zeros(len(owner), dtype=np.int64)
    units[is_used] = numbers.reshape(-1)
    if first[0].trials is not None:
        found = trial_difference(first, second, is_used, units, num_units=num_units, seed=seed)
    else:
        tables = []
        for system in (first, second):
            sums = [one.by_unit(is_used, units, num_units=num_units) for one in system]
            tables.append((np.stack([counts for counts, _ in sums]), np.stack([totals for _, totals in sums])))
        found = hierarchical_bootstrap(tables[0], tables[1], seed=seed)
    return replace(found, units=f"{num_units} {name}")


def trial_difference(
    first: Sequence[TaskOutcomes],
    second: Sequence[TaskOutcomes],
    mask: NDArray[np.bool_],
    units: NDArray[np.int64],
    *,
    num_units: int,
    seed: int,
) -> Difference:
    """The same for EER, which is no ratio of sums: a trial counts as often as the unit of its tested copy was drawn."""
    rng, rng_of_seeds = np.random.default_rng(seed), np.random.default_rng([seed, 1])

    def mean(system: Sequence[TaskOutcomes], chosen: NDArray[np.int64], weights: NDArray[np.float64] | None) -> float:
        return float(np.mean([system[one].values(mask, speaker_weights=weights).mean() for one in chosen]))

    sizes = len(first), len(second)
    point = mean(first, np.arange(sizes[0]), None) - mean(second, np.arange(sizes[1]), None)
    spread = []
    for _ in range(TRIAL_RESAMPLES):
        drawn = np.bincount(rng.integers(0, num_units, num_units), minlength=num_units)
        chosen = [rng_of_seeds.integers(0, size, size) for size in sizes]
        if sizes[0] == sizes[1]:
            chosen[1] = chosen[0]
        weights = drawn[units].astype(np.float64)
        spread.append(mean(first, chosen[0], weights) - mean(second, chosen[1], weights))
    known = np.array([value for value in spread if not np.isnan(value)])
    ends = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) else (np.nan, np.nan)
    return Difference(point, float(ends[0]), float(ends[1]), sizes)
