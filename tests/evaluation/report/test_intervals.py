"""Intervals hold the truth as often as they say, by simulation; and that of EER is that of a slow loop."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.measures.error_rates import equal_error_rate
from evaluation.report.bootstrap import LEVEL, TRIAL_RESAMPLES, Copies, TaskOutcomes, difference, hierarchical_bootstrap
from manifests.results.scores import Trials, joined

SPEAKERS = 20


def counted(rng, *, accuracy, spread_of_speakers, seed_spread, seeds):
    """Counts and totals of two systems, shape (seed, speaker): a speaker is hard for both, each system's seeds are its own."""
    totals = rng.integers(5, 40, len(spread_of_speakers))
    found = []
    for level in accuracy:
        chance = level + spread_of_speakers + rng.normal(0, seed_spread, seeds)[:, None]
        counts = rng.binomial(totals, np.clip(chance, 0, 1))
        found.append((counts.astype(float), np.tile(totals, (seeds, 1)).astype(float)))
    return found


@pytest.mark.parametrize(("seeds", "seed_spread"), [(1, 0.0), (8, 0.05)])
def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says(seeds, seed_spread):
    """The true difference is -0.1; 400 repetitions leave a standard error of 1.1 %, few speakers and seeds cost the percentile interval 1 to 2."""
    rng = np.random.default_rng(seeds)
    holds, widths = [], []
    for repetition in range(400):
        hard = rng.normal(0, 0.08, SPEAKERS)
        first, second = counted(rng, accuracy=(0.6, 0.7), spread_of_speakers=hard, seed_spread=seed_spread, seeds=seeds)
        found = hierarchical_bootstrap(first, second, resamples=300, seed=repetition)
        holds.append(found.low <= -0.1 <= found.high)
        widths.append(found.high - found.low)
    assert 0.91 < np.mean(holds) < 0.98
    assert 0.02 < np.mean(widths) < 0.2


def trials_of(rng, *, speakers, each, distance):
    """A roll of clean utterances, and similarities of all of them against the next of one speaker and of another."""
    number = np.arange(speakers * each)
    own = number // each
    same = own * each + (number + 1) % each
    other = (number + each) % len(number)
    tested, enrolled = np.r_[number, number], np.r_[same, other]
    is_same = np.r_[np.ones(len(number), bool), np.zeros(len(number), bool)]
    hard = rng.normal(0, 0.5, speakers)
    scores = distance * is_same + hard[own[tested]] * (2 * is_same - 1) + rng.standard_normal(len(tested))
    copies = Copies(number, own, np.zeros(len(number), np.int64), np.full(len(number), np.nan), ("clean",))
    return copies, tested, enrolled, is_same, scores


def told_of(tested, enrolled, is_same, scores):
    record = Trials(
        task="who",
        copies=joined(map(float, tested)),
        enrolled=joined(map(float, enrolled)),
        same="".join(map(str, is_same.astype(int))),
        scores=tuple(joined(one, decimals=8) for one in scores),
    )
    return TaskOutcomes("eer", np.empty((0, 0)), np.empty((0, 0)), record)


def test_the_interval_of_an_eer_is_that_of_a_slow_loop_over_drawn_speakers():
    rng = np.random.default_rng(0)
    copies, tested, enrolled, is_same, scores = trials_of(rng, speakers=8, each=3, distance=2.0)
    systems = [
        [scores + 0.3 * rng.standard_normal(len(scores)) for _ in range(2)],
        [scores + 0.9 * rng.standard_normal(len(scores)) for _ in range(3)],
    ]
    told = [[told_of(tested, enrolled, is_same, [one]) for one in system] for system in systems]
    found = difference(told[0], told[1], copies.condition == 0, copies, seed=4)
    points = [np.mean([equal_error_rate(is_same, one) for one in system]) for system in systems]
    assert found is not None
    assert found.value == pytest.approx(points[0] - points[1], abs=1e-6)
    assert (found.seeds, found.units) == ((2, 3), "8 speakers")
    of_speakers, of_seeds = np.random.default_rng(4), np.random.default_rng([4, 1])
    spread = []
    for _ in range(TRIAL_RESAMPLES):
        drawn = of_speakers.integers(0, 8, 8)
        rows = np.concatenate([np.flatnonzero(copies.speaker[tested] == speaker) for speaker in drawn])
        means = [
            np.mean([equal_error_rate(is_same[rows], system[one][rows]) for one in of_seeds.integers(0, len(system), len(system))])
            for system in systems
        ]  # fmt: skip
        spread.append(means[0] - means[1])
    ends = np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    np.testing.assert_allclose((found.low, found.high), ends, atol=1e-6)
    assert found.low < found.value < found.high
