"""The validation loss, the same for every method: how far the student is from the clean teacher, condition by condition.

Fixed utterances of the dev split; the teacher gets them clean; the student gets them clean, then the first copy of each
condition in turn, without dropout and without adversary. `val_loss` is the mean over clean and all conditions. Beside it is the effective
rank of the student's last hidden layer, of all these frames together: a student that hides the domain by giving up dimensions shows here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from training.data.views import condition_of
from training.distillation.losses import layer_distance, real_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from training.config.model import LossWeights
    from training.models.encoder import Encoder
    from training.models.student import Student
    from training.validation.utterances import FixedUtterances


@torch.no_grad()
def validation_losses(
    utterances: FixedUtterances,
    student: Student,
    teacher: Encoder,
    *,
    layers: Sequence[int],
    weights: LossWeights,
    standardise: bool = False,
    device: torch.device,
) -> dict[str, float]:
    """`val_loss`, `val_clean`, `val_<condition>` for each condition, and `effective_rank`.

    The student is left in the mode it was found in.
    """
    was_training = student.training
    student.eval()
    sums = dict.fromkeys(utterances.copies, 0.0)
    seen = FrameSums()
    frames = 0
    for crops in utterances.batches:
        target = None
        for copy in utterances.copies:
            wave, num_samples = utterances.waves(crops, copy)
            wave = wave.to(device)
            if target is None:  # the first copy is the clean one
                target, num_frames = utterances.teacher_outputs(teacher, crops, copy, only=layers, device=device)
                frames += int(num_frames.sum())
            output = student(wave, num_samples)
            seen.add(output.hidden[real_frames(num_frames, output.hidden.shape[1])])
            distance = layer_distance(output.predictions, target, num_frames, weights=weights, standardise=standardise)
            sums[copy] += float(weights.l1 * distance.l1 + weights.cosine * distance.cosine)
    student.train(was_training)
    means = {copy: total / max(1, frames) for copy, total in sums.items()}
    return {
        "val_loss": sum(means.values()) / len(means),
        **{f"val_{condition_of(copy)}": mean for copy, mean in means.items()},
        "effective_rank": seen.effective_rank(),
    }


class FrameSums:
    """Sums over frames and over their products, in float64: enough for a covariance."""

    def __init__(self) -> None:
        self.count = 0
        self.frames: Tensor | float = 0.0
        self.products: Tensor | float = 0.0

    def add(self, frames: Tensor) -> None:
        """Frames of shape (frame, feature)."""
        frames = frames.double()
        self.count += len(frames)
        self.frames = self.frames + frames.sum(dim=0)
        self.products = self.products + frames.T @ frames

    def effective_rank(self) -> float:
        """Exponential of the entropy of the singular values' shares (Roy and Vetterli 2007) of the centred frames; 0 where nothing varies."""
        if not self.count:
            return 0.0
        mean = torch.as_tensor(self.frames) / self.count
        covariance = torch.as_tensor(self.products) / self.count - torch.outer(mean, mean)
        singular = torch.linalg.eigvalsh(covariance).clamp(min=0.0).sqrt()
        shares = singular / singular.sum()
        return float(torch.special.entr(shares).sum().exp()) if bool(singular.sum() > 0) else 0.0
