"""Learning rates."""

from __future__ import annotations

import math

import pytest
import torch

from training.distillation.optimiser import adamw, learning_rate_scale, spoilt, update_unless


def test_warm_up_and_decay_are_linear_and_every_update_counts():
    scales = [learning_rate_scale(update, updates=100, warmup_share=0.1) for update in range(1, 101)]
    assert scales[:10] == pytest.approx([0.1 * update for update in range(1, 11)])
    assert scales[10:] == pytest.approx([(100 - update + 1) / 90 for update in range(11, 101)])
    assert max(scales) == 1
    assert min(scales) > 0


@pytest.mark.parametrize("share", [0.0, 0.07, 0.99])
@pytest.mark.parametrize("updates", [1, 2, 13])
def test_short_runs_never_train_with_nothing_or_too_much(share, updates):
    for update in range(1, updates + 1):
        assert 0 < learning_rate_scale(update, updates=updates, warmup_share=share) <= 1


def test_the_optimiser_is_adamw_with_the_papers_numbers():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimiser = adamw([weight], learning_rate=0.1)
    (group,) = optimiser.param_groups
    assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.98), 1e-6, 1e-6)
    group["weight_decay"] = 0.5
    weight.grad = torch.tensor([3.0, -0.5])
    optimiser.step()
    # The first update by hand: moments are corrected to the gradient itself, so the step is its sign, after decay.
    torch.testing.assert_close(weight.detach(), torch.tensor([1 - 0.05 - 0.1, -2 + 0.1 + 0.1]), atol=1e-5, rtol=1e-5)


def test_an_update_that_is_spoilt_leaves_weights_moments_and_their_count_as_they_are():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimiser = adamw([weight], learning_rate=0.1)
    states = []
    for is_spoilt, gradient in ((0.0, [3.0, -0.5]), (1.0, [math.nan, 1.0]), (0.0, [1.0, 1.0])):
        weight.grad = torch.tensor(gradient)
        update_unless(torch.tensor(is_spoilt), optimiser)
        states.append([weight.detach().clone(), *(value.clone() for value in optimiser.state[weight].values())])
    assert all(torch.equal(one, other) for one, other in zip(states[0], states[1], strict=True))
    assert int(optimiser.state[weight]["step"]) == 2
    assert not torch.equal(states[1][0], states[2][0])
    assert states[2][0].isfinite().all()


@pytest.mark.parametrize(
    ("norm", "sums", "expected"),
    [
        (1.0, [1.0, 0.0], 0),
        (math.nan, [1.0], 1),
        (math.inf, [1.0], 1),
        (1.0, [0.0, math.nan], 1),
        (1.0, [-math.inf], 1),
        (0.0, [1.0], 1),
    ],
)
def test_an_update_is_spoilt_by_what_is_not_finite_or_has_no_gradient(norm, sums, expected):
    found = spoilt(torch.tensor(norm), torch.tensor(sums))
    assert (found.dtype, found.shape, float(found)) == (torch.float32, (), expected)
