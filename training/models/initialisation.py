"""A student's first weights: drawn by name, then replaced part by part with those of a source, where a part fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from manifests.errors import UsageError
from training.data.sampler import named_number

if TYPE_CHECKING:
    from torchaudio.models import Wav2Vec2Model

    from training.models.encoder import Encoder

SEED_RANGE = 1 << 63
LINEAR_DEVIATION = 0.02
WHOLE_PARTS = (
    "feature_extractor.",
    "encoder.feature_projection.",
    "encoder.transformer.pos_conv_embed.",
    "encoder.transformer.layer_norm.",
)


def draw_weights(trunk: Wav2Vec2Model, *, seed: int) -> None:
    """HuBERT's first weights: normal, 0.02, for linear layers, Kaiming's for convolutions.

    torchaudio leaves torch's own, and those shrink the signal layer by layer.

    Args:
        trunk: Gets them.
        seed: Of the run; the draw has its own name, so that it moves no other.
    """
    torch.manual_seed(named_number(seed, "trunk") % SEED_RANGE)
    for module in trunk.feature_extractor.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight)
    for module in trunk.encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=LINEAR_DEVIATION)
            nn.init.zeros_(module.bias)


def copy_parts(trunk: Wav2Vec2Model, source: Encoder) -> tuple[str, ...]:
    """Copy every part of a source that has the student's sizes, whole or not at all; gives the parts' names.

    Parts are the convolutions, the projection, the position embedding with its norm, and each transformer layer.

    Raises:
        UsageError: If not even the convolutions fit: then it is no source for this student.
    """
    ours, theirs = trunk.state_dict(), source.trunk.state_dict()
    layers = tuple(f"encoder.transformer.layers.{number}." for number in range(len(trunk.encoder.transformer.layers)))
    copied: list[str] = []
    for part in WHOLE_PARTS + layers:
        names = [name for name in ours if name.startswith(part)]
        if names and all(name in theirs and theirs[name].shape == ours[name].shape for name in names):
            trunk.load_state_dict({name: theirs[name] for name in names}, strict=False)
            copied.append(part.rstrip("."))
    if not copied or copied[0] != WHOLE_PARTS[0].rstrip("."):
        raise UsageError(
            f"student.init: the convolutions of {source.name} are not those of the student; choose another source, or random"
        )
    return tuple(copied)
