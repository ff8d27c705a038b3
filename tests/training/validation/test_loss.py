"""The validation loss by hand: sums over copies and batches, divided by the clean teacher's frames."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from training.config.model import LossWeights
from training.validation.loss import FrameSums, validation_losses

CPU = torch.device("cpu")


class OfOneNumber(torch.nn.Module):
    """A student whose every prediction is the first number of the wave."""

    def forward(self, wave, num_samples):
        assert not self.training
        assert num_samples.tolist() == [5] * len(wave)
        hidden = wave[:, :1, None].repeat(1, 3, 2)
        hidden[:, 2, 1] = 0.0
        return SimpleNamespace(predictions=wave[:, :1, None, None].expand(-1, 2, 3, 4), hidden=hidden)


def fixed(frames, *, requests):
    """Batches of one and two utterances; a copy is its number, and the teacher's target is 1."""
    numbers = {"clean": 1.0, "noise-0": 3.0, "room-0": 1.5}

    def teacher_outputs(teacher, crops, copy, *, only, device):
        requests.append((teacher, copy, only, device))
        return torch.ones(len(crops), 2, 3, 4), torch.tensor([frames[crop] for crop in crops])

    return SimpleNamespace(
        copies=list(numbers),
        batches=[["a"], ["b", "c"]],
        waves=lambda crops, copy: (torch.full((len(crops), 5), numbers[copy]), torch.tensor([5] * len(crops))),
        teacher_outputs=teacher_outputs,
    )


def rank_of(frames):
    """From singular values, not from a covariance."""
    singular = np.linalg.svd(frames - frames.mean(axis=0), compute_uv=False)
    shares = singular[singular > 1e-9] / singular.sum()
    return np.exp(-(shares * np.log(shares)).sum())


@pytest.mark.parametrize("was_training", [True, False])
def test_losses_are_sums_over_batches_by_the_frames_of_all(was_training):
    requests, student = [], OfOneNumber().train(was_training)
    given = {"layers": (2, 4), "weights": LossWeights(l1=2.0, cosine=0.5, cosine_form="raw"), "device": CPU}
    found = validation_losses(fixed({"a": 3, "b": 2, "c": 1}, requests=requests), student, "teacher", **given)
    expected = {"val_clean": 0.0, "val_noise": 4.0, "val_room": 1.0, "val_loss": 5 / 3}
    frames = [[number, number] for number in (1.0, 3.0, 1.5) for _ in range(5)] + [[1.0, 0.0], [3.0, 0.0], [1.5, 0.0]]
    assert found == pytest.approx({**expected, "effective_rank": rank_of(np.array(frames))}, abs=1e-6)
    assert requests == [("teacher", "clean", (2, 4), CPU)] * 2
    assert student.training == was_training
    nothing = validation_losses(fixed(dict.fromkeys("abc", 0), requests=requests), student, "teacher", **given)
    assert nothing == dict.fromkeys([*expected, "effective_rank"], 0.0)
    standardised = validation_losses(
        fixed({"a": 3, "b": 2, "c": 1}, requests=requests), student, "teacher", standardise=True, **given
    )
    assert standardised["val_clean"] == pytest.approx(2.5, abs=1e-3)  # targets of one number become nought


@pytest.mark.parametrize("layout", ["whole", "in parts"])
def test_the_effective_rank_is_that_of_all_centred_frames(layout):
    frames = torch.randn(60, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    frames = frames * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.0]) + 40.0
    sums = FrameSums()
    for part in [frames] if layout == "whole" else frames.split([1, 20, 39]):
        sums.add(part)
    assert sums.effective_rank() == pytest.approx(rank_of(frames.numpy()), rel=1e-6)


def test_frames_that_are_all_alike_have_no_rank():
    sums = FrameSums()
    assert sums.effective_rank() == 0.0
    sums.add(torch.full((7, 3), 0.5))
    assert sums.effective_rank() == 0.0
