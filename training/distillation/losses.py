"""The distance of the student's predictions from the teacher's layers, over real frames only.

DistilHuBERT's loss (arXiv 2110.01900, equation 1): the mean absolute difference plus the negative log-sigmoid of the cosine,
averaged over layers and frames. s3prl averages over padded frames as well; here they do not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, assert_never

import torch
from torch import Tensor
from torch.nn import functional

from manifests.errors import UsageError
from training.config.model import LossWeights
from training.data.batch import on_device

if TYPE_CHECKING:
    from collections.abc import Sequence

EQUAL = LossWeights()


class LayerDistance(NamedTuple):
    """Sums over the real frames of a batch; divide by the frames of the global batch for its mean.

    Attributes:
        l1: Absolute difference, averaged over layers and features, summed over frames.
        cosine: -log(sigmoid(cosine)) or 1 - cosine, averaged over layers, summed over frames.
    """

    l1: Tensor
    cosine: Tensor


def layer_distance(
    predictions: Tensor,
    target: Tensor,
    num_frames: Tensor,
    *,
    weights: LossWeights = EQUAL,
    standardise: bool = False,
    of_utterances: Sequence[float] | None = None,
) -> LayerDistance:
    """Both parts of the loss, in float32, not yet weighted.

    Args:
        predictions: Shape (batch, layer, frame, feature).
        target: The same shape.
        num_frames: Real frames of each utterance, shape (batch,).
        weights: The form of the cosine, and the weights of the layers in both averages.
        standardise: Whether targets are standardised first.
        of_utterances: Weight of each utterance's frames in the sums, shape (batch,); all 1 by default.
    """
    predictions, target = predictions.float(), target.float()
    if standardise:
        target = standardised(target)
    is_real = real_frames(num_frames, predictions.shape[2])[:, None, :]
    l1 = (predictions - target).abs().mean(dim=3)
    cosine = functional.cosine_similarity(predictions, target, dim=-1)
    match weights.cosine_form:
        case "log_sigmoid":
            angle = -functional.logsigmoid(cosine)
        case "raw":
            angle = 1.0 - cosine
        case _:
            assert_never(weights.cosine_form)
    parts = [torch.where(is_real, part, 0.0) for part in (l1, angle)]
    if of_utterances is not None:
        weight = on_device(torch.tensor(of_utterances), predictions.device)[:, None, None]
        parts = [part * weight for part in parts]
    if weights.layers is None:
        return LayerDistance(*(part.mean(dim=1).sum() for part in parts))
    share = on_device(torch.tensor(weights.layers), predictions.device)[None, :, None] / sum(weights.layers)
    return LayerDistance(*((part * share).sum() for part in parts))


def standardised(target: Tensor) -> Tensor:
    """Each frame of a target with zero mean and unit variance over its features; shape (..., feature).

    A frame needs no other for it, so it does not depend on batches, ranks or padding.
    """
    return functional.layer_norm(target, target.shape[-1:])


def check_layer_weights(weights: LossWeights, layers: Sequence[int]) -> None:
    """Check that there are as many weights as target layers.

    Raises:
        UsageError: If not.
    """
    if weights.layers is not None and len(weights.layers) != len(layers):
        raise UsageError(
            f"loss.layers: {len(weights.layers)} weights for the {len(layers)} layers of the teacher "
            f"({', '.join(map(str, layers))}); give one for each"
        )


def real_frames(num_frames: Tensor, longest: int) -> Tensor:
    """Which frames are real, shape (batch, frame), True for real."""
    return torch.arange(longest, device=num_frames.device) < num_frames[:, None]
