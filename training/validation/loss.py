"""The validation loss, the same for every method: how far the student is from the clean teacher, condition by condition.

Fixed utterances of the dev split; the teacher gets them clean; the student gets them clean, then the first copy of each
condition in turn, without dropout and without adversary. `val_loss` is the mean over clean and all conditions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from training.data.views import condition_of
from training.distillation.losses import layer_distance

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    """`val_loss`, `val_clean`, and `val_<condition>` for each condition.

    The student is left in the mode it was found in.
    """
    was_training = student.training
    student.eval()
    sums = dict.fromkeys(utterances.copies, 0.0)
    frames = 0
    for crops in utterances.batches:
        target = None
        for copy in utterances.copies:
            wave, num_samples = utterances.waves(crops, copy)
            wave = wave.to(device)
            if target is None:  # the first copy is the clean one
                target, num_frames = utterances.teacher_outputs(teacher, crops, copy, only=layers, device=device)
                frames += int(num_frames.sum())
            predictions = student(wave, num_samples).predictions
            distance = layer_distance(predictions, target, num_frames, weights=weights, standardise=standardise)
            sums[copy] += float(weights.l1 * distance.l1 + weights.cosine * distance.cosine)
    student.train(was_training)
    means = {copy: total / max(1, frames) for copy, total in sums.items()}
    return {
        "val_loss": sum(means.values()) / len(means),
        **{f"val_{condition_of(copy)}": mean for copy, mean in means.items()},
    }
