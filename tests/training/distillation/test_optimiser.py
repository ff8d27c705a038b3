"""Learning rates."""

from __future__ import annotations

import pytest
import torch

from training.distillation.optimiser import adamw, learning_rate_scale


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
