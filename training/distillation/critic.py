"""The critic: what it is given of hidden layers, and the two layers it answers with. The authors published none; it is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, assert_never

import torch
from torch import Tensor, nn

from training.data.sampler import named_number
from training.distillation.losses import real_frames
from training.models.initialisation import SEED_RANGE

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIANCE_FLOOR = 1e-5
DEVIATION_FLOOR = 1e-6

Features = Literal["pooled", "frames"]


class CriticRows(NamedTuple):
    """What the critic is asked about.

    Attributes:
        features: Shape (row, feature), float32.
        voices: Which utterance of the micro-batch each row is of, shape (row,).
        weight: Shape (row,), 1 in sum over an utterance; None where each utterance has one row.
    """

    features: Tensor
    voices: Tensor
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
    return torch.cat([mean, torch.sqrt(variance + VARIANCE_FLOOR)], dim=1)


def critic_rows(kind: Features, layers: Sequence[Tensor], num_frames: Tensor, *, asked: Tensor) -> CriticRows:
    """Features for the critic, of the utterances it is asked about.

    Args:
        kind: `pooled` gives one row an utterance, `frames` one a real frame.
        layers: Hidden layers side by side, each of shape (batch, frame, feature).
        num_frames: Shape (batch,).
        asked: Which utterances have a label, shape (batch,), True for those; those without a frame are left out too.
    """
    asked = asked.to(num_frames.device) & (num_frames > 0)
    match kind:
        case "pooled":
            features = torch.cat([pooled(hidden, num_frames) for hidden in layers], dim=1)
            return CriticRows(features[asked], torch.nonzero(asked)[:, 0], None)
        case "frames":
            hidden = torch.cat([layer.float() for layer in layers], dim=2)
            is_real = real_frames(num_frames, hidden.shape[1]) & asked[:, None]
            voices = torch.nonzero(is_real)[:, 0]
            return CriticRows(hidden[is_real], voices, 1.0 / num_frames[voices])
        case _:
            assert_never(kind)


def row_size(kind: Features, *, num_features: int, num_layers: int) -> int:
    """Features of one row."""
    return num_features * num_layers * (2 if kind == "pooled" else 1)


class Critic(nn.Module):
    """Two layers: a row of features in, one logit a domain out.

    Args:
        num_inputs: Features of a row.
        hidden: Width.
        num_domains: Classes.
        seed: Of its first weights.
        name: Of the stream of chance that they come from.
        standardise: Whether features are shifted and scaled first, by what `settle` found.
    """

    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        num_inputs: int,
        *,
        hidden: int,
        num_domains: int,
        seed: int,
        name: str = "critic",
        standardise: bool = False,
    ) -> None:
        super().__init__()
        self.standardise = standardise
        if standardise:  # buffers: part of a checkpoint, so that a resumed run has the same
            self.register_buffer("centre", torch.zeros(num_inputs))
            self.register_buffer("scale", torch.ones(num_inputs))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(named_number(seed, name) % SEED_RANGE)
            self.first = nn.Linear(num_inputs, hidden)
            self.second = nn.Linear(hidden, num_domains)

    def forward(self, features: Tensor) -> Tensor:
        """Shape (row, feature) to (row, domain)."""
        if self.standardise:
            features = (features - self.centre) / self.scale
        return torch.as_tensor(self.second(torch.relu(self.first(features))))

    def settle(self, features: Tensor) -> None:
        """Bring features like these, of shape (row, feature), to zero mean and unit variance from now on."""
        self.centre.copy_(features.mean(dim=0))
        self.scale.copy_(features.std(dim=0).clamp(min=DEVIATION_FLOOR))
