"""What a step divides by, and how it makes up for what could not be read; by hand, for a student of one frame in ten samples."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from training.runs.step_sums import COUNTS, LOSSES
from training.step import correct_for_lost, frames_of, global_counts

STUDENT = SimpleNamespace(config=SimpleNamespace(num_frames=lambda samples: samples // 10))


def batch_of(*global_lengths, local=()):
    return SimpleNamespace(global_lengths=global_lengths, num_samples=torch.tensor(local, dtype=torch.int64))


def test_means_are_over_all_frames_and_over_the_utterances_that_have_one():
    assert global_counts(batch_of(35, 9, 80, 10), STUDENT) == (3 + 0 + 8 + 1, 3)
    assert global_counts(batch_of(5), STUDENT) == (1, 1), "nothing is divided by nought"
    assert frames_of(batch_of(99, local=(35, 9, 80)), STUDENT) == [3, 0, 8]


def scaled(lost_frames):
    """Sums (all of them 12 but the lost frames) and the gradient of a weight after the correction, of 12 planned frames."""
    sums = torch.full((len(LOSSES) + len(COUNTS) + 3,), 12.0)
    sums[len(LOSSES) + COUNTS.index("lost_frames")] = lost_frames
    weight, frozen = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([1.0, -2.0])
    correct_for_lost(sums, [frozen, weight], batch_of(35, 9, 80, 10), STUDENT)
    assert frozen.grad is None
    return sums.tolist(), weight.grad.tolist()


def test_lost_frames_scale_means_and_gradients_to_those_that_were_read():
    """Of 12 frames 4 were read: a third of the sum is the mean of a third."""
    sums, gradient = scaled(8.0)
    names = (*LOSSES, *COUNTS, "a", "b", "c")
    assert {name: value for name, value in zip(names, sums, strict=True) if value != 12} == {
        "loss": 36.0, "l1": 36.0, "cosine": 36.0, "domain": 36.0, "lost_frames": 8.0,
    }  # fmt: skip
    assert gradient == [3.0, -6.0]


def test_nothing_is_scaled_where_nothing_is_lost_and_not_beyond_all_where_all_is():
    assert scaled(0.0)[1] == [1.0, -2.0]
    assert scaled(12.0)[1] == [12.0, -24.0]
