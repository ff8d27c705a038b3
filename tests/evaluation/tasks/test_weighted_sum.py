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


def adam_by_hand(parameters, loss_of, *, rate, updates):
    """Adam as its paper has it, on gradients whose length is at most 5."""
    moments = [(torch.zeros_like(one), torch.zeros_like(one)) for one in parameters]
    for update in range(1, updates + 1):
        gradients = torch.autograd.grad(loss_of(), parameters)
        length = math.sqrt(sum(float((one**2).sum()) for one in gradients))
        for number, (one, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            shorter = gradient * min(1.0, 5.0 / (length + 1e-6))
            first, second = moments[number]
            moments[number] = 0.9 * first + 0.1 * shorter, 0.999 * second + 0.001 * shorter**2
            first, second = moments[number][0] / (1 - 0.9**update), moments[number][1] / (1 - 0.999**update)
            with torch.no_grad():
                one.sub_(rate * first / (second.sqrt() + 1e-8))


def test_a_probe_on_a_sum_is_trained_as_a_slow_loop_trains_it(monkeypatch):
    """Cross-entropy of batches that its own stream draws, of a softmax over states and one linear layer."""
    monkeypatch.setattr(weighted_sum, "UPDATES", 3)
    monkeypatch.setattr(weighted_sum, "BATCH", 5)
    rows, labels = rows_of(9)
    scaling = Scaling(np.full((3, 2), 0.5), np.full((3, 2), 2.0))
    found = fitted_sum(rows, labels, scaling, learning_rate=0.05, seed=4, probe=2)
    states = torch.from_numpy((rows - 0.5) * 2).float()
    target = torch.tensor([["ant", "zebra"].index(label) for label in labels])
    with seeded_thread(4, "sum probe", 2) as generator:
        linear = torch.nn.Linear(2, 2)
    weights = torch.zeros(3, requires_grad=True)

    def loss_of():
        batch = torch.randint(9, (5,), generator=generator)
        summed = sum(weights.softmax(0)[state] * states[batch, state] for state in range(3))
        logits = summed @ linear.weight.T + linear.bias
        return -sum(logits[row].log_softmax(0)[target[one]] for row, one in enumerate(batch)) / 5

    adam_by_hand([weights, linear.weight, linear.bias], loss_of, rate=0.05, updates=3)
    torch.testing.assert_close(found.module[0].weights.detach(), weights.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.module[1].weight.detach(), linear.weight.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.module[1].bias.detach(), linear.bias.detach(), rtol=1e-4, atol=1e-6)
