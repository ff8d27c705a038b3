"""Discrete units against slow loops and rival implementations; a collapsed model is seen."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics import mutual_info_score

from evaluation.data.alignments import FrameClock
from evaluation.features import Scaling, UtteranceFeatures
from evaluation.measures import units as measure
from evaluation.measures.units import TrainingFrames, Units, edit_distance, perplexity, pnmi, purity

LAYERS, FEATURES = 3, 4
CLOCK = FrameClock(hop=10, receptive=10, rate_hz=1000)  # frame i is at 10 i + 5 ms


def random_frames(seed, num_frames, *, layers=LAYERS):
    return torch.randn(layers, num_frames, FEATURES, generator=torch.Generator().manual_seed(seed))


def plain_scaling(layers=LAYERS):
    return Scaling(np.zeros((layers, FEATURES)), np.ones((layers, FEATURES)))


def slow_edits(first, second):
    """Levenshtein's table over what is left when each run is one unit."""
    first, second = ([unit for unit, _ in itertools.groupby(units)] for units in (first, second))
    row = list(range(len(second) + 1))
    for i, one in enumerate(first, 1):
        before, row = row, [i]
        for j, other in enumerate(second, 1):
            row.append(min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (one != other)))
    return row[-1]


def values(scores, name, layer):
    return {one.condition: one.value for one in scores if (one.measure, one.layer) == (name, layer)}


def test_every_number_is_that_of_a_slow_loop():
    """Two layers of three, two phones and frames of none, one utterance without an alignment and without a second copy."""
    scaling = Scaling(np.full((2, FEATURES), 0.25), np.full((2, FEATURES), 2.0))
    centres = random_frames(9, 6, layers=2)
    alignments = {"a": ((0.0, 0.1, "x"), (0.1, 0.15, "y"), (0.2, 0.3, "x")), "b": ((0.02, 0.3, "y"),)}
    found = Units(centres, scaling, (0, 2), CLOCK, alignments)
    lengths = {"a": 30, "b": 20, "c": 11}
    waves = {
        key: {
            member: random_frames(10 * number + place, length)
            for place, member in enumerate(("clean", "noise-0", "noise-1") if key != "c" else ("clean", "noise-1"))
        }
        for number, (key, length) in enumerate(lengths.items())
    }
    for key, frames in waves.items():
        found.add(UtteranceFeatures(key, 1.0, frames))
    scores = found.scores()
    for place, layer in enumerate((0, 2)):
        units_of = {
            (key, member): cdist((frames[layer].numpy() - 0.25) * 2.0, centres[place].numpy()).argmin(axis=1)
            for key, members in waves.items()
            for member, frames in members.items()
        }
        ratios = [
            slow_edits(units_of[key, "clean"], units_of[key, member]) / lengths[key]
            for key, member in units_of
            if member != "clean"
        ]
        assert values(scores, "unit_edits", layer + 1) == {"noise": pytest.approx(np.mean(ratios), abs=1e-9)}
        pairs = {"clean": [], "noise": []}
        for (key, member), units in units_of.items():
            for frame, unit in enumerate(units):
                for start_s, end_s, phone in alignments.get(key, ()):
                    if start_s <= (10 * frame + 5) / 1000 < end_s:
                        pairs[member.split("-")[0]].append((phone, unit))
        commonest = {
            unit: min(sorted("xy"), key=lambda phone, unit=unit: -Counter(pairs["clean"])[phone, unit])
            for _, unit in pairs["clean"]
        }
        for condition, known in pairs.items():
            phones, units = zip(*known, strict=True)
            expected = mutual_info_score(phones, units) / mutual_info_score(phones, phones)
            assert values(scores, "pnmi", layer + 1)[condition] == pytest.approx(expected, abs=1e-9)
            right = np.mean([commonest.get(unit) == phone for phone, unit in known])
            assert values(scores, "phone_purity", layer + 1)[condition] == pytest.approx(right, abs=1e-9)
            used = np.concatenate([units_of[one] for one in units_of if one[1].startswith(condition)])
            shares = np.bincount(used)[np.bincount(used) > 0] / len(used)
            assert values(scores, "unit_perplexity", layer + 1)[condition] == pytest.approx(np.prod(shares**-shares))
    counts = {(one.measure, one.condition): one.count for one in scores}
    assert counts["unit_edits", "noise"] == 5
    assert (counts["unit_perplexity", "clean"], counts["unit_perplexity", "noise"]) == (61, 2 * 50 + 11)
    assert counts["pnmi", "clean"] == counts["phone_purity", "clean"] == 25 + 18


def test_runs_count_as_one_unit():
    first, second = (np.array([int(letter) for letter in word]) for word in ("0001122", "0111123"))
    assert edit_distance(first, second) == slow_edits(first, second) == 1
    assert edit_distance(first, first[:1]) == 2


def test_counts_give_what_a_hand_gives():
    assert perplexity(np.array([5, 5, 0, 5])) == pytest.approx(3.0)
    assert pnmi(np.array([[4, 0, 0], [0, 2, 2]])) == pytest.approx(1.0)
    assert pnmi(np.array([[2, 2], [2, 2]])) == pytest.approx(0.0, abs=1e-12)
    assert pnmi(np.array([[3, 1]])) == 0.0  # one phone has no entropy to take away
    known = np.array([[3, 1, 0], [3, 2, 0]])  # units 0 and 1 are the phones 0 and 1, unit 2 is not known
    assert purity(np.array([[4, 1, 1], [1, 2, 1]]), known) == pytest.approx((4 + 2) / 10)


def test_a_collapsed_model_has_one_unit():
    flat = torch.full((LAYERS, 12, FEATURES), 3.7) * (1 + 1e-7 * random_frames(4, 12))
    scaling = Scaling.from_moments(np.full((LAYERS, FEATURES), 3.7), np.full((LAYERS, FEATURES), 1e-9))
    frames = TrainingFrames(100)
    frames.add(flat)
    found = Units(
        frames.centres(scaling, range(LAYERS), seed=0),
        scaling,
        range(LAYERS),
        CLOCK,
        {"a": ((0, 0.06, "x"), (0.06, 1, "y"))},
    )
    found.add(UtteranceFeatures("a", 1.0, {"clean": flat, "noise-0": flat.flip(1)}))
    for layer in range(1, LAYERS + 1):
        assert values(found.scores(), "unit_edits", layer) == {"noise": 0.0}
        assert values(found.scores(), "unit_perplexity", layer) == {"clean": 1.0, "noise": 1.0}
        assert values(found.scores(), "pnmi", layer) == {"clean": 0.0, "noise": 0.0}


def test_centres_are_those_of_clusters_of_scaled_frames_of_the_layers_that_are_named(monkeypatch):
    monkeypatch.setattr(measure, "NUM_UNITS", 4)
    middles = 10.0 * torch.eye(4)
    frames = TrainingFrames(8)
    for number in range(5):
        noise = 0.01 * random_frames(number, 40)
        frames.add(torch.stack([noise[0], middles.repeat(10, 1) + noise[1], 2 * middles.repeat(10, 1) + noise[2]]))
    assert [one.shape for one in frames.frames] == [(LAYERS, 8, FEATURES)] * 5
    scaling = Scaling(np.full((2, FEATURES), 1.0), np.full((2, FEATURES), 3.0))
    found, again = (frames.centres(scaling, (2, 1), seed=5) for _ in range(2))
    assert torch.equal(found, again)
    for centres, size in zip(found, (2, 1), strict=True):
        ordered = centres[centres.argmax(dim=1).argsort()]
        torch.testing.assert_close(ordered, 3 * (size * middles - 1), atol=0.1, rtol=0)


def test_fewer_frames_than_units_are_noted():
    frames = TrainingFrames(7)
    frames.add(random_frames(1, 30))
    centres = frames.centres(plain_scaling(), range(LAYERS), seed=0)
    assert Units(centres, plain_scaling(), range(LAYERS), CLOCK).notes == [
        "units: 7 and not 100, for train has as many frames"
    ]
    full = Units(random_frames(0, 100), plain_scaling(), range(LAYERS), CLOCK)
    assert full.notes == []
    full.add(UtteranceFeatures("a", 1.0, {"clean": random_frames(1, 5), "noise-0": random_frames(2, 5)}))
    assert {one.measure for one in full.scores()} == {"unit_edits", "unit_perplexity"}, "no phones without alignments"
