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

from evaluation.measures.error_rates import SMALLER_IS_BETTER, equal_error_rate, is_two_sided
from manifests.results.scores import separated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from manifests.results.scores import CopyTable, ModelScores, TaskMeasure, Trials

UnitTable = tuple["NDArray[np.float64]", "NDArray[np.float64]"]
"""Counts and totals, each of shape (seed, unit)."""
Side = tuple["Sequence[TaskOutcomes]", "NDArray[np.bool_]"]
"""A system's seeds, and the copies that they are scored on."""
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


@dataclass(frozen=True)
class ShortfallClosed:
    """The share of a baseline's shortfall that a system closes: (system - baseline) / (baseline on clean - baseline), on distorted copies.

    Attributes:
        value: The share; NaN where there is no shortfall.
        low: End of its interval at 95 %.
        high: The other end.
        shortfall: How much better the baseline is on clean copies, and the ends of its interval; error rates have the sign turned.
    """

    value: float
    low: float
    high: float
    shortfall: tuple[float, float, float]

    @property
    def is_known(self) -> bool:
        """Whether the interval of the shortfall is above 0, without which a share of it says nothing."""
        return self.shortfall[1] > 0.0


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Percentile interval of the draws that have a value; NaN where none has."""
    known = values[~np.isnan(values)]
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def hierarchical_bootstrap(
    first: UnitTable, second: UnitTable, *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Difference of two ratios of sums over speakers, mean over seeds, with its percentile interval.

    Args:
        first: Counts and totals, each of shape (seed, speaker).
        second: The same; the number of seeds may differ. Where it does not, seeds are paired: drawn alike for both.
        resamples: How many.
        seed: Of the draws; speakers and seeds of the systems have streams of their own.
    """
    means = drawn_means(first, second, resamples=resamples, seed=seed)
    spread = means[0] - means[1]
    return Difference(float(spread[0]), *interval(spread[1:]), (len(first[0]), len(second[0])))


def drawn_means(first: UnitTable, *second: UnitTable, resamples: int, seed: int) -> NDArray[np.float64]:
    """Ratios of sums over speakers, mean over seeds, in every draw: shape (table, 1 + draw), of which the first draws nothing.

    Args:
        first: Of one system: counts and totals, each of shape (seed, speaker).
        second: Of another, on one or several sets of copies, of the same speakers: they have the same draws of seeds.
        resamples: How many draws.
        seed: As of `hierarchical_bootstrap`.
    """
    num_speakers = first[0].shape[1]
    speakers = np.random.default_rng(seed).integers(0, num_speakers, (resamples, num_speakers))
    weights = np.zeros((resamples, num_speakers))
    np.add.at(weights, (np.arange(resamples)[:, None], speakers), 1.0)
    sizes = len(first[0]), len(second[0][0])
    rng = np.random.default_rng([seed, 1])
    drawn = [rng.integers(0, size, (resamples, size)) for size in sizes]
    if sizes[0] == sizes[1]:
        drawn[1] = drawn[0]
    whole = np.ones((1, num_speakers))
    means = [
        np.r_[ratios(table, whole).mean(), np.take_along_axis(ratios(table, weights), chosen, axis=1).mean(axis=1)]
        for table, chosen in zip((first, *second), (drawn[0], *[drawn[1]] * len(second)), strict=True)
    ]
    return np.stack(means)


def ratios(table: UnitTable, weights: NDArray[np.float64]) -> NDArray[np.float64]:
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
    units = DrawnUnits.of((*first, *second), mask, copies)
    if first[0].trials is not None:
        means = drawn_rates((first, mask), (second, mask), units=units, seed=seed)
        spread = means[0] - means[1]
        found = Difference(float(spread[0]), *interval(spread[1:]), (len(first), len(second)))
    else:
        found = hierarchical_bootstrap(units.table(first, mask), units.table(second, mask), seed=seed)
    return replace(found, units=f"{units.count} {units.name}")


def shortfall_closed(
    own: Sequence[TaskOutcomes],
    baseline: Sequence[TaskOutcomes],
    mask: NDArray[np.bool_],
    copies: Copies,
    *,
    seed: int = 0,
) -> ShortfallClosed | None:
    """The share of a baseline's shortfall on some distorted copies that a system closes; None where one of them has nothing there.

    Seeds and speakers are drawn as for `difference`; all three scores of the share are of the same draw, so that a speaker takes part
    with the clean and the distorted copies.

    Args:
        own: Outcomes of the system's seeds.
        baseline: Of the baseline's.
        mask: The distorted copies.
        copies: The copy table.
        seed: Of the draws.
    """
    clean = copies.condition == 0
    sides = (own, mask), (baseline, mask), (baseline, clean)
    if any(np.isnan(one.values(chosen)).any() for outcomes, chosen in sides for one in outcomes):
        return None
    units = DrawnUnits.of((*own, *baseline), mask | clean, copies)
    if own[0].trials is not None:
        means = drawn_rates(*sides, units=units, seed=seed)
    else:
        tables = [units.table(outcomes, chosen) for outcomes, chosen in sides]
        means = drawn_means(*tables, resamples=RESAMPLES, seed=seed)
    system, distorted, best = -means if own[0].measure in SMALLER_IS_BETTER else means
    shortfall = best - distorted
    share = np.divide(system - distorted, shortfall, out=np.full_like(shortfall, np.nan), where=shortfall != 0)
    return ShortfallClosed(float(share[0]), *interval(share[1:]), (float(shortfall[0]), *interval(shortfall[1:])))


@dataclass(frozen=True)
class DrawnUnits:
    """What is drawn besides seeds: speakers, or utterances where there is one speaker.

    Attributes:
        is_used: Copies that have an outcome.
        numbers: The unit of each of them.
        count: How many units there are.
        name: What they are.
    """

    is_used: NDArray[np.bool_]
    numbers: NDArray[np.int64]
    count: int
    name: str

    @classmethod
    def of(cls, outcomes: Sequence[TaskOutcomes], mask: NDArray[np.bool_], copies: Copies) -> DrawnUnits:
        """Of those copies of a mask that have an outcome of some model."""
        is_used = np.any([one.takes_part(mask) for one in outcomes], axis=0)
        name, owner = "speakers", copies.speaker
        if len(np.unique(owner[is_used])) < 2:
            name, owner = "utterances", copies.utterance
        _, numbers = np.unique(owner[is_used], return_inverse=True)
        units = np.zeros(len(owner), dtype=np.int64)
        units[is_used] = numbers.reshape(-1)
        return cls(is_used, units, int(numbers.max()) + 1, name)

    def table(self, system: Sequence[TaskOutcomes], mask: NDArray[np.bool_]) -> UnitTable:
        """Counts and totals of a system's seeds on some copies."""
        sums = [one.by_unit(mask & self.is_used, self.numbers, num_units=self.count) for one in system]
        return np.stack([counts for counts, _ in sums]), np.stack([totals for _, totals in sums])


def drawn_rates(first: Side, *second: Side, units: DrawnUnits, seed: int) -> NDArray[np.float64]:
    """As `drawn_means` for EER, which is no ratio of sums: a trial counts as often as the unit of its tested copy was drawn."""
    rng, rng_of_seeds = np.random.default_rng(seed), np.random.default_rng([seed, 1])

    def mean(side: Side, chosen: NDArray[np.int64], weights: NDArray[np.float64] | None) -> float:
        system, mask = side
        return float(
            np.mean([system[one].values(mask & units.is_used, speaker_weights=weights).mean() for one in chosen])
        )

    sizes = len(first[0]), len(second[0][0])
    means = [[mean(first, np.arange(sizes[0]), None), *(mean(one, np.arange(sizes[1]), None) for one in second)]]
    for _ in range(TRIAL_RESAMPLES):
        drawn = np.bincount(rng.integers(0, units.count, units.count), minlength=units.count)
        chosen = [rng_of_seeds.integers(0, size, size) for size in sizes]
        if sizes[0] == sizes[1]:
            chosen[1] = chosen[0]
        weights = drawn[units.numbers].astype(np.float64)
        means.append([mean(first, chosen[0], weights), *(mean(one, chosen[1], weights) for one in second)])
    return np.array(means).T
