"""How far the student's predictions lie from the teacher's layers, over real frames only.

DistilHuBERT's loss (arXiv 2110.01900, equation 1): the mean absolute difference plus the negative log-sigmoid of the cosine,
averaged over layers and frames. s3prl averages over padded frames as well; here they count for nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class LayerDistance(NamedTuple):
    """Sums over the real frames of a batch; divide by the frames of the global batch for its mean.

    Attributes:
        l1: Absolute difference, averaged over layers and features, summed over frames.
        cosine: -log(sigmoid(cosine)), averaged over layers, summed over frames.
    """

    l1: Tensor
    cosine: Tensor


def layer_distance(predictions: Tensor, target: Tensor, num_frames: Tensor) -> LayerDistance:
    """Both parts of the loss, in float32.

    Args:
        predictions: Shape (batch, layer, frame, feature).
        target: The same shape.
        num_frames: Real frames of each utterance, shape (batch,).
    """
    predictions, target = predictions.float(), target.float()
    is_real = real_frames(num_frames, predictions.shape[2])
    l1 = (predictions - target).abs().mean(dim=(1, 3))
    cosine = -functional.logsigmoid(functional.cosine_similarity(predictions, target, dim=-1)).mean(dim=1)
    return LayerDistance(l1[is_real].sum(), cosine[is_real].sum())


def real_frames(num_frames: Tensor, longest: int) -> Tensor:
    """Which frames are real, shape (batch, frame), True for real."""
    return torch.arange(longest, device=num_frames.device) < num_frames[:, None]
