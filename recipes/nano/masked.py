"""The model, and what HuBERT's training adds to it: masked spans, a vector in their place, a cosine head over units.

Source: Hsu et al., "HuBERT" (arXiv 2106.07447), section II; torchaudio's wav2vec 2.0 modules.
"""

from __future__ import annotations

from typing import Any

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

MODEL: dict[str, Any] = {
    # Layer norm in the convolutional layers would cost 70 % more a step here (1.37 s against 0.80 s).
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [[64, 10, 5]] + [[64, 3, 2]] * 4 + [[64, 2, 2]] * 2,
    "extractor_conv_bias": False,
    "encoder_embed_dim": 144,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 64,
    "encoder_pos_conv_groups": 16,
    "encoder_num_layers": 8,
    "encoder_num_heads": 4,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 576,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.0,
    "aux_num_out": None,
}


class MaskedPredictor(nn.Module):
    """The model, with what training adds: a vector in place of masked frames, and a cosine head over units."""

    def __init__(self, model: torchaudio.models.Wav2Vec2Model, num_units: int) -> None:
        super().__init__()
        width = MODEL["encoder_embed_dim"]
        self.model = model
        self.mask_vector = nn.Parameter(torch.empty(width).uniform_())
        self.project = nn.Linear(width, width)
        self.unit_vectors = nn.Parameter(torch.randn(num_units, width))

    def forward(self, wave: Tensor, frame_is_masked: Tensor) -> Tensor:
        """Logits of the units, shape (batch, frame, unit).

        Args:
            wave: Shape (batch, time).
            frame_is_masked: Shape (batch, frame).
        """
        extracted, _ = self.model.feature_extractor(wave, None)
        projected = self.model.encoder.feature_projection(extracted)
        masked = torch.where(frame_is_masked[..., None], self.mask_vector.to(projected.dtype), projected)
        hidden = self.model.encoder.transformer(masked)
        # HuBERT's temperature.
        return (
            functional.linear(
                functional.normalize(self.project(hidden), dim=-1), functional.normalize(self.unit_vectors, dim=-1)
            )
            / 0.1
        )


def new_model() -> torchaudio.models.Wav2Vec2Model:
    """The model with HuBERT's initial weights.

    torchaudio leaves torch's own: these shrink the signal layer by layer until it is denormal, which costs a factor of three in time.
    """
    model = torchaudio.models.wav2vec2_model(**MODEL)
    for module in model.feature_extractor.modules():
        if isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight)
    for module in model.encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return model


def spans(shape: tuple[int, int], *, start: float, span: int, dice: torch.Generator) -> Tensor:
    """Which frames are masked, shape (batch, frame): spans start anywhere with chance ``start`` and may overlap."""
    starts = torch.rand(shape, generator=dice) < start
    padded = functional.pad(starts.float(), (span - 1, 0))
    return functional.max_pool1d(padded[:, None], span, stride=1)[:, 0] > 0
