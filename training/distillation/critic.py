"""The domain classifier (critic): its input features, and a network of two layers. The authors published none; this one is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, assert_never

import torch
from torch import Tensor, nn

from training.data.sampler import named_number
from training.distillation.losses import real_frames
from training.models.initialisation import SEED_RANGE

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_VARIANCE = 1e-5
LEAST_DEVIATION = 1e-6

Features = Literal["pooled", "frames"]
WIDTH = 256  # ours: the authors published no critic


class CriticInput(NamedTuple):
    """The rows of features that the critic classifies.

    Attributes:
        features: Shape (row, feature), float32.
        utterance_index: Which utterance of the micro-batch each row is of, shape (row,).
        weight: Shape (row,), 1 in sum over an utterance; None where each utterance has one row.
    """

    features: Tensor
    utterance_index: Tensor
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


def critic_input(kind: Features, layers: Sequence[Tensor], num_frames: Tensor, *, is_labelled: Tensor) -> CriticInput:
    """The critic's input from hidden layers, of the utterances that have a label.

    Args:
        kind: `pooled` gives one row an utterance, `frames` one a real frame.
        layers: Hidden layers side by side, each of shape (batch, frame, feature).
        num_frames: Shape (batch,); utterances without a frame are left out.
        is_labelled: Which utterances have a label, shape (batch,).
    """
    is_used = is_labelled.to(num_frames.device) & (num_frames > 0)
    match kind:
        case "pooled":
            features = torch.cat([pooled(hidden, num_frames) for hidden in layers], dim=1)
            return CriticInput(features[is_used], torch.nonzero(is_used)[:, 0], None)
        case "frames":
            hidden = torch.cat([layer.float() for layer in layers], dim=2)
            is_real = real_frames(num_frames, hidden.shape[1]) & is_used[:, None]
            utterance_index = torch.nonzero(is_real)[:, 0]
            return CriticInput(hidden[is_real], utterance_index, 1.0 / num_frames[utterance_index])
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
