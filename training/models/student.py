"""The student: by default DistilHuBERT's (arXiv 2110.01900), the teacher's convolutions and first layers with heads on the last.

Those heads are s3prl's "expand-last": one linear layer to as many parts as there are target layers, GELU, and a linear layer of
its own for each part. They read the last transformer layer only, so everything they predict from must pass through it. Deep and thin
students (FitHuBERT, arXiv 2207.00555; ARMHuBERT, 2305.11685) are distilled layer to layer instead, by a linear layer each. All
heads are thrown away after distillation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from manifests.errors import UsageError
from training.data.sampler import named_number
from training.models.encoder import EncoderConfig, transformer_outputs
from training.models.huggingface_format import model_type_of
from training.models.initialisation import SEED_RANGE, copy_parts, draw_weights
from training.models.native_format import built

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.config.model import StudentShape
    from training.models.encoder import Encoder


__all__ = ["SEED_RANGE", "Heads", "LayerHeads", "Student", "StudentOutput"]


class StudentOutput(NamedTuple):
    """The student's output for a batch.

    Attributes:
        hidden: Output of its last transformer layer, shape (batch, frame, feature).
        predictions: Of the teacher's chosen layers, shape (batch, layer, frame, feature).
        num_frames: Real frames of each utterance, shape (batch,).
        layers: Output of every transformer layer, layer k at k-1, each of shape (batch, frame, feature).
    """

    hidden: Tensor
    predictions: Tensor
    num_frames: Tensor
    layers: tuple[Tensor, ...]


class Heads(nn.Module):
    """Predictions of several teacher layers from the student's last layer.

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

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """The student's layers, each of shape (batch, frame, feature), to (batch, target, frame, feature)."""
        hidden = layers[-1]
        batch, frames, _ = hidden.shape
        parts = functional.gelu(self.expand(hidden)).view(batch, frames, self.num_targets, -1)
        return by_target(parts.transpose(1, 2), self.weight) + self.bias


class LayerHeads(nn.Module):
    """Predictions of several teacher layers, each from a layer of the student by a linear layer of its own.

    Args:
        num_features: Of the student's layers.
        predict_from: Which of them, counted from 1, predicts each target.
        num_target_features: Of the teacher's layers.
    """

    def __init__(self, num_features: int, predict_from: Sequence[int], num_target_features: int) -> None:
        super().__init__()
        self.predict_from = tuple(predict_from)
        bound = num_features**-0.5
        shape = (len(self.predict_from), num_features, num_target_features)
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(shape[0], 1, num_target_features).uniform_(-bound, bound))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """The student's layers, each of shape (batch, frame, feature), to (batch, target, frame, feature)."""
        chosen = torch.stack([layers[number - 1] for number in self.predict_from], dim=1)
        return by_target(chosen, self.weight) + self.bias


def by_target(parts: Tensor, weight: Tensor) -> Tensor:
    """Each target's part times its matrix: (batch, target, frame, input) and (target, input, output) to (batch, target, frame, output).

    One product a target: `torch.matmul` would copy the matrices for each utterance.
    """
    batch, targets, frames, inputs = parts.shape
    products = torch.bmm(parts.transpose(0, 1).reshape(targets, batch * frames, inputs), weight)
    return products.view(targets, batch, frames, weight.shape[2]).transpose(0, 1)


class Student(nn.Module):
    """A trunk like the teacher's, thinner or with fewer layers, and heads.

    Args:
        teacher: Whose layers it predicts.
        layers: How many transformer layers it has.
        num_targets: How many teacher layers it predicts.
        dropout: In attention, feed-forward and residual paths.
        cnn_gradient: What gradients into the convolutions are multiplied by; at 0 they are frozen.
        seed: Of all first weights that are drawn.
        shape: Everything else that a config can ask of it.
        source: Whose weights it begins with; the teacher's by default, where `shape.init` does not say `random`.

    Attributes:
        config: Its shape.
        copied: Names of the parts that were copied; all others were drawn.
        trained_on: What its first weights were trained on, as `Encoder.trained_on`.

    Raises:
        UsageError: If the source has fewer layers, or no part that fits.
        BadDocumentError: If no model can have its shape.
    """

    def __init__(
        self,
        teacher: Encoder,
        *,
        layers: int,
        num_targets: int,
        dropout: float,
        cnn_gradient: float,
        seed: int,
        shape: StudentShape | None = None,
        source: Encoder | None = None,
    ) -> None:
        super().__init__()
        is_random = shape is not None and shape.init == "random"
        source = source or teacher
        if layers > source.num_layers and not is_random:
            who = "the teacher" if source is teacher else "student.init"
            raise UsageError(
                f"student.layers: {layers}, but {who} {source.name} has {source.num_layers} to begin with; "
                "choose fewer, or set student.init: random"
            )
        self.config = student_config(source.config, layers=layers, dropout=dropout, shape=shape)
        self.cnn_gradient = cnn_gradient
        self.mask = shape.mask if shape is not None else None
        width = self.config.encoder_embed_dim
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(named_number(seed, "heads") % SEED_RANGE)
            self.trunk = built(self.config, where="student")
            self.heads: Heads | LayerHeads = (
                LayerHeads(width, even_layers(shape, layers, num_targets), teacher.num_features)
                if shape is not None and shape.predict == "layers"
                else Heads(width, num_targets, teacher.num_features)
            )
            if self.mask is not None:
                self.mask_vector = nn.Parameter(torch.empty(width).uniform_())
            draw_weights(self.trunk, seed=seed)
        self.copied = () if is_random else copy_parts(self.trunk, source)
        self.trained_on = frozenset() if is_random else source.trained_on
        if cnn_gradient == 0:
            self.trunk.feature_extractor.requires_grad_(requires_grad=False)

    def forward(self, wave: Tensor, num_samples: Tensor, frame_is_masked: Tensor | None = None) -> StudentOutput:
        """Run a batch through trunk and heads.

        Args:
            wave: Shape (batch, time), zeros after each utterance's end.
            num_samples: Shape (batch,).
            frame_is_masked: Frames hidden from it, shape (batch, frame); see `masking.masked_frames`.
        """
        layers, num_frames = transformer_outputs(
            self.trunk,
            self.config,
            wave,
            num_samples,
            cnn_gradient=self.cnn_gradient or 1.0,
            mask=(frame_is_masked, self.mask_vector) if frame_is_masked is not None else None,
        )
        return StudentOutput(layers[-1], self.heads(layers), num_frames, tuple(layers))


def frame_grid(config: EncoderConfig) -> list[tuple[int, int]]:
    """Kernels and strides, which decide where the frames of an encoder are."""
    return [(kernel, stride) for _, kernel, stride in config.extractor_conv_layer_config]


def even_layers(shape: StudentShape, layers: int, num_targets: int) -> tuple[int, ...]:
    """The layer that predicts each target: as configured, or evenly, the last by the last; 12 targets and 12 layers are pairs."""
    if shape.predict_from is not None:
        return shape.predict_from
    return tuple(max(1, round((number + 1) * layers / num_targets)) for number in range(num_targets))


def keeps_norm(source: EncoderConfig, shape: StudentShape) -> bool:
    """Whether a layer norm is before the student's projection: as configured, or, of a HuBERT of base shape, as in DistilHuBERT."""
    if shape.projection_norm is not None:
        return shape.projection_norm
    is_base = source.extractor_mode == "group_norm" and not source.encoder_layer_norm_first
    return not (is_base and model_type_of(source) == "hubert")


def student_config(
    source: EncoderConfig, *, layers: int, dropout: float, shape: StudentShape | None = None
) -> EncoderConfig:
    """The source's shape with the student's own numbers, its dropout and, as in s3prl, none on the projection."""
    own: dict[str, object] = {
        "encoder_num_layers": layers,
        "encoder_projection_dropout": 0.0,
        "encoder_attention_dropout": dropout,
        "encoder_ff_interm_dropout": dropout,
        "encoder_dropout": dropout,
        "encoder_layer_drop": 0.0,
        "aux_num_out": None,
    }
    if shape is not None:
        configured = {
            "encoder_embed_dim": shape.width,
            "encoder_num_heads": shape.attention_heads,
            "encoder_ff_interm_features": shape.feed_forward,
        }
        own |= {key: value for key, value in configured.items() if value is not None}
        own["projection_norm"] = source.projection_norm and keeps_norm(source, shape)
    return source.whole().model_copy(update=own)
