"""The domain classifier (critic): its input features, and a network of two layers. The authors published none; this one is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, assert_never

import numpy as np
import torch
from torch import Tensor, nn

from training.data.batch import on_device
from training.data.sampler import named_number
from training.distillation.losses import real_frames
from training.models.initialisation import SEED_RANGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEAST_VARIANCE = 1e-5
LEAST_DEVIATION = 1e-6

Features = Literal["pooled", "frames"]
WIDTH = 256  # ours: the authors published no critic


class CriticInput(NamedTuple):
    """The rows of features that the critic classifies.

    Attributes:
        features: Shape (row, feature), float32.
        utterance_index: Which utterance of the micro-batch each row is of, shape (row,); on the host, where it is known before.
        weight: Shape (row,), 1 in sum over an utterance; None where each utterance has one row.
    """

    features: Tensor
    utterance_index: NDArray[np.int64]
    weight: Tensor | None


def pooled(hidden: Tensor, num_frames: Tensor) -> Tensor:
    """Mean and standard deviation over each utterance's real frames.

    Args:
        hidden: Shape (batch, frame, feature).
        num_frames: Shape (batch,).

    Returns:
        Shape (batch, 2 * feature), float32; means first.
    """
    hidden = hidden.float()
    weight = real_frames(num_frames, hidden.shape[1])[:, :, None] / num_frames.clamp(min=1)[:, None, None]
    mean = (hidden * weight).sum(dim=1)
    variance = ((hidden - mean[:, None]).square() * weight).sum(dim=1)
    return torch.cat([mean, torch.sqrt(variance + LEAST_VARIANCE)], dim=1)


def critic_input(
    kind: Features,
    layers: Sequence[Tensor],
    num_frames: Sequence[int],
    *,
    is_labelled: Sequence[bool] | NDArray[np.bool_],
) -> CriticInput:
    """The critic's input from hidden layers, of the utterances that have a label.

    Its rows are chosen on the host, by numbers that are known before: to find them on a GPU would wait for it.

    Args:
        kind: `pooled` gives one row an utterance, `frames` one a real frame.
        layers: Hidden layers side by side, each of shape (batch, frame, feature).
        num_frames: Of each utterance; those without a frame are left out.
        is_labelled: Which utterances have a label.
    """
    device, frames = layers[0].device, np.asarray(num_frames)
    is_used = np.asarray(is_labelled) & (frames > 0)
    match kind:
        case "pooled":
            utterance_index = np.flatnonzero(is_used)
            counts = on_device(torch.tensor(frames), device)
            features = torch.cat([pooled(hidden, counts) for hidden in layers], dim=1)
            return CriticInput(
                features.index_select(0, on_device(torch.tensor(utterance_index), device)), utterance_index, None
            )
        case "frames":
            hidden = torch.cat([layer.float() for layer in layers], dim=2)
            is_real = (np.arange(hidden.shape[1]) < frames[:, None]) & is_used[:, None]
            row = np.flatnonzero(is_real)
            utterance_index = row // hidden.shape[1]
            weight = np.float32(1) / frames[utterance_index].astype(np.float32)
            features = hidden.flatten(0, 1).index_select(0, on_device(torch.tensor(row), device))
            return CriticInput(features, utterance_index, on_device(torch.tensor(weight), device))
        case _:
            assert_never(kind)


def num_inputs(kind: Features, *, num_features: int, num_layers: int) -> int:
    """Features of one row."""
    return num_features * num_layers * (2 if kind == "pooled" else 1)


class Critic(nn.Module):
    """Two layers: a row of features in, one logit a domain out.

    Args:
        num_inputs: Features of a row.
        num_domains: Classes.
        seed: Of its first weights.
        name: Of the random stream that they come from.
        standardise: Whether features are shifted and scaled first, as `fit_scaling` found.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self, num_inputs: int, *, num_domains: int, seed: int, name: str = "critic", standardise: bool = False
    ) -> None:
        super().__init__()
        self.standardise = standardise
        if standardise:  # buffers: part of a checkpoint, so that a resumed run has the same
            self.register_buffer("centre", torch.zeros(num_inputs))
            self.register_buffer("scale", torch.ones(num_inputs))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(named_number(seed, name) % SEED_RANGE)
            self.first = nn.Linear(num_inputs, WIDTH)
            self.second = nn.Linear(WIDTH, num_domains)

    def forward(self, features: Tensor) -> Tensor:
        """Shape (row, feature) to (row, domain)."""
        if self.standardise:
            features = (features - self.centre) / self.scale
        return torch.as_tensor(self.second(torch.relu(self.first(features))))

    def fit_scaling(self, features: Tensor) -> None:
        """From now on, scale features so that these, of shape (row, feature), have zero mean and unit variance."""
        self.centre.copy_(features.mean(dim=0))
        self.scale.copy_(features.std(dim=0).clamp(min=LEAST_DEVIATION))
