"""The DistilHuBERT student (arXiv 2110.01900): the teacher's convolutions and first layers, and heads that are thrown away.

The heads are s3prl's "expand-last": one linear layer to as many parts as there are target layers, GELU, and a linear layer of
its own for each part. They read the last transformer layer only, so everything they are told must pass through it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from manifests.errors import UsageError
from training.encoder import EncoderConfig, transformer_outputs
from training.order import named_number

if TYPE_CHECKING:
    from training.encoder import Encoder

SEED_RANGE = 1 << 63


class Heard(NamedTuple):
    """What the student makes of a batch.

    Attributes:
        hidden: Output of its last transformer layer, shape (batch, frame, feature).
        predictions: Of the teacher's chosen layers, shape (batch, layer, frame, feature).
        num_frames: Real frames of each utterance, shape (batch,).
    """

    hidden: Tensor
    predictions: Tensor
    num_frames: Tensor


class Heads(nn.Module):
    """Predictions of several teacher layers from one student layer.

    Args:
        num_features: Of the student's layer.
        num_targets: Teacher layers.
        num_target_features: Of the teacher's layers.
    """

    def __init__(self, num_features: int, num_targets: int, num_target_features: int) -> None:
        super().__init__()
        self.num_targets = num_targets
        self.expand = nn.Linear(num_features, num_features * num_targets)
        bound = num_features**-0.5
        self.weight = nn.Parameter(torch.empty(num_targets, num_features, num_target_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_targets, 1, num_target_features).uniform_(-bound, bound))

    def forward(self, hidden: Tensor) -> Tensor:
        """Shape (batch, frame, feature) to (batch, layer, frame, feature)."""
        batch, frames, _ = hidden.shape
        parts = functional.gelu(self.expand(hidden)).view(batch, frames, self.num_targets, -1)
        return torch.matmul(parts.transpose(1, 2), self.weight) + self.bias


class Student(nn.Module):
    """A trunk like the teacher's, thinner by its upper layers, and heads.

    Args:
        teacher: Whose weights it begins with.
        layers: How many transformer layers it keeps.
        num_targets: How many teacher layers it predicts.
        dropout: In attention, feed-forward and residual paths.
        cnn_gradient: What gradients into the convolutions are multiplied by; at 0 they are frozen.
        seed: Of the heads' first weights.

    Raises:
        UsageError: If the teacher has fewer layers.
    """

    def __init__(
        self, teacher: Encoder, *, layers: int, num_targets: int, dropout: float, cnn_gradient: float, seed: int
    ) -> None:
        super().__init__()
        if layers > teacher.num_layers:
            raise UsageError(
                f"student.layers: {layers} asked for, the teacher {teacher.name} has {teacher.num_layers} to begin with"
            )
        self.config = student_config(teacher.config, layers=layers, dropout=dropout)
        self.cnn_gradient = cnn_gradient
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(named_number(seed, "heads") % SEED_RANGE)
            self.trunk = self.config.build()
            self.heads = Heads(self.config.encoder_embed_dim, num_targets, teacher.num_features)
        kept = self.trunk.state_dict().keys()
        self.trunk.load_state_dict(
            {name: tensor for name, tensor in teacher.trunk.state_dict().items() if name in kept}
        )
        if cnn_gradient == 0:
            self.trunk.feature_extractor.requires_grad_(requires_grad=False)

    def forward(self, wave: Tensor, num_samples: Tensor) -> Heard:
        """Hear a batch.

        Args:
            wave: Shape (batch, time), zeros after each utterance's end.
            num_samples: Shape (batch,).
        """
        outputs, num_frames = transformer_outputs(
            self.trunk,
            self.config,
            wave,
            num_samples,
            depth=self.config.encoder_num_layers,
            cnn_gradient=self.cnn_gradient or 1.0,
        )
        return Heard(outputs[-1], self.heads(outputs[-1]), num_frames)


def student_config(teacher: EncoderConfig, *, layers: int, dropout: float) -> EncoderConfig:
    """The teacher's shape with fewer layers, the student's dropout and, as in s3prl, none on the projection."""
    return teacher.model_copy(
        update={
            "encoder_num_layers": layers,
            "encoder_projection_dropout": 0.0,
            "encoder_attention_dropout": dropout,
            "encoder_ff_interm_dropout": dropout,
            "encoder_dropout": dropout,
            "encoder_layer_drop": 0.0,
            "aux_num_out": None,
        }
    )
