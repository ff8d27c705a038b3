"""Probes that are trained by gradient: their sum, their random stream, and their steps by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from evaluation.features import Scaling
from evaluation.tasks import weighted_sum
from evaluation.tasks.classification import UNCHOSEN_RATE, chosen_sum
from evaluation.tasks.weighted_sum import WeightedSum, fitted_sum, run_adam, seeded_thread


def test_states_are_weighed_by_a_softmax_that_begins_even():
    states = torch.tensor([[[4.0, 0.0], [8.0, 4.0]], [[0.0, 2.0], [0.0, -2.0]]])
    module = WeightedSum(2)
    assert module(states).tolist() == [[6.0, 2.0], [0.0, 0.0]]
    with torch.no_grad():
        module.weights.copy_(torch.tensor([math.log(3.0), 0.0]))
    torch.testing.assert_close(module(states), torch.tensor([[5.0, 1.0], [0.0, 1.0]]))


def drawn(seed, *names):
    with seeded_thread(seed, *names) as generator:
        return float(torch.rand(())), float(torch.rand((), generator=generator))


def test_a_stream_is_named_by_seed_and_names_and_leaves_threads_and_random_state_alone():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        torch.manual_seed(5)
        expected = float(torch.rand(()))
        torch.manual_seed(5)
        with seeded_thread(1, "a", 2):
            assert torch.get_num_threads() == 1
            torch.rand(9)
        assert torch.get_num_threads() == 3
        assert float(torch.rand(())) == expected
    finally:
        torch.set_num_threads(before)
    streams = [drawn(1, "a", 2), drawn(2, "a", 2), drawn(1, "a", 3), drawn(1, "b", 2), drawn(1, "a")]
    for place in (0, 1):
        assert len({one[place] for one in streams}) == 5
    assert drawn(1, "a", 2) == streams[0]


class Slope(torch.nn.Module):
    """One number; its loss has the gradients that are given, in turn."""

    def __init__(self, *gradients):
        super().__init__()
        self.number = torch.nn.Parameter(torch.zeros(()))
        self.gradients = list(gradients)
        self.modes = []

    def loss(self):
        self.modes.append(self.training)
        return self.number * self.gradients[len(self.modes) - 1]


def test_steps_are_adams_with_gradients_of_at_most_five():
    """By hand: the first step is the rate; then moments of 5 and 1: 0.55 / 0.19 over the root of 0.025975 / 0.001999."""
    slope = Slope(100.0, 1.0)
    slope.eval()
    run_adam(slope, slope.loss, learning_rate=0.01, updates=2)
    second = (0.55 / 0.19) / math.sqrt(0.025975 / 0.001999)
    assert float(slope.number.detach()) == pytest.approx(-0.01 * (1 + second), rel=1e-4)
    assert slope.modes == [True, True]
    assert not slope.training


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_steps(bad):
    slope = Slope(1.0, bad, 1.0)
    with torch.no_grad():
        slope.number.fill_(0.5)
    run_adam(slope, slope.loss, learning_rate=0.01, updates=3)
    assert len(slope.modes) == 2
    assert float(slope.number.detach()) == pytest.approx(0.49)
    assert not slope.training


def rows_of(count=60):
    """Of three states only the last tells the labels apart, by the sign of its second feature."""
    rng = np.random.RandomState(0)
    rows = rng.standard_normal((count, 3, 2)).astype(np.float32)
    labels = np.array(["zebra", "ant"])[(rows[:, 2, 1] > 0).astype(int)]
    rows[:, 2, 1] += np.sign(rows[:, 2, 1])
    return rows, labels


def test_a_probe_finds_the_state_and_names_labels_by_their_rows():
    rows, labels = rows_of()
    scaling = Scaling(rows.mean(axis=0), 1 / rows.std(axis=0))
    found = fitted_sum(rows, labels, scaling, learning_rate=0.1, seed=1, probe=0)
    assert found.names.tolist() == ["ant", "zebra"]
    assert found.learning_rate == 0.1
    assert found.predictions(rows).tolist() == labels.tolist()
    assert found.predictions(rows[:0]).tolist() == []
    weights = found.module[0].weights.detach()
    assert int(weights.argmax()) == 2
    moved = fitted_sum(
        7 * rows + 3,
        labels,
        Scaling(7 * rows.mean(axis=0) + 3, 1 / (7 * rows.std(axis=0))),
        learning_rate=0.1,
        seed=1,
        probe=0,
    )
    torch.testing.assert_close(moved.module[0].weights.detach(), weights, rtol=1e-3, atol=1e-4)


def test_each_probe_of_each_seed_has_a_stream_of_its_own(monkeypatch):
    """With nothing to choose on, at one rate; 20 updates tell them apart."""
    monkeypatch.setattr(weighted_sum, "UPDATES", 20)
    rows, labels = rows_of()
    scaling = Scaling(rows.mean(axis=0), 1 / rows.std(axis=0))
    given = {"dev_rows": rows[:0], "dev_labels": labels[:0]}
    made = [
        chosen_sum(rows, labels, scaling, **given, seed=seed, probe=probe)
        for seed, probe in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert {one.learning_rate for one in made} == {UNCHOSEN_RATE}
    first, again, other, reseeded = (one.module[0].weights.detach() for one in made)
    assert torch.equal(again, first)
    assert not torch.equal(other, first)
    assert not torch.equal(reseeded, first)
