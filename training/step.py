"""One forward and backward pass of a micro-batch: the distillation loss and the adversarial loss, and their gradients.

Losses are sums over a micro-batch, divided by the frames and utterances of the *global* batch: gradients of micro-batches and of
ranks are added, and the sum is that of the mean over the global batch (law 5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from training.data.sampler import named_number
from training.data.views import condition_of
from training.distillation.losses import layer_distance
from training.models.initialisation import SEED_RANGE
from training.models.masking import masked_frames_of
from training.runs.precision import backpropagate, computed_in
from training.runs.step_sums import LOST_FRAMES, MEANS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn

    from training.config.schema import TrainConfig
    from training.data.batch import PairBatch
    from training.data.view_keys import Views
    from training.distillation.adversary import DomainAdversary, NoAdversary
    from training.models.encoder import Encoder
    from training.models.student import Student


@dataclass(frozen=True)
class Models:
    """What takes part in a step.

    Attributes:
        student: Trained.
        teacher: Frozen; not run where batches carry its stored outputs.
        target_layers: Those of the teacher's layers that the student predicts.
        adversary: The domain classifier with its objective, or `NoAdversary`.
        device: Where all of them compute.
    """

    student: Student
    teacher: Encoder
    target_layers: tuple[int, ...]
    adversary: DomainAdversary | NoAdversary
    device: torch.device

    @property
    def teacher_layers(self) -> tuple[int, ...]:
        """Every layer of the teacher that a step needs: the targets, then those that the domain classifier compares with the student's."""
        return (*self.target_layers, *self.adversary.teacher_layers)


class Losses(NamedTuple):
    """Losses of a micro-batch as shares of the global batch's means, without gradient.

    Attributes:
        sums: Shape (5,): distillation loss, its L1 part, its cosine part, the domain classifier's cross-entropy, and how many
            utterances the classifier named correctly.
        domains: Utterances of each domain, in the order of `adversary.domains`.
    """

    sums: Tensor
    domains: list[int]


def forward_backward(models: Models, batch: PairBatch, config: TrainConfig, *, step: int) -> Losses:
    """Add the gradients of a micro-batch to those of its step; the batch has at least one utterance.

    Nothing here waits for a GPU: what must be known of lengths, frames, labels and masks is made on the CPU, and sent ahead.
    """
    student, adversary = models.student, models.adversary
    local = batch.to(models.device)
    num_frames, num_utterances = global_counts(batch, student)
    # Dropout has a named random stream of its own, so a resumed run draws the same numbers.
    torch.manual_seed(named_number(config.seed, "dropout", step, batch.lane) % SEED_RANGE)
    with computed_in(config.precision, models.device):
        teacher = teacher_outputs(models, local)
        masked = masked_frames_of(config.student.mask, local, student.config, seed=config.seed)
        output = student(local.student_wave, local.num_samples, masked)
    target, compared = teacher[:, : len(models.target_layers)], teacher[:, len(models.target_layers) :]
    distance = layer_distance(
        output.predictions,
        target,
        output.num_frames,
        weights=config.loss,
        standardise=config.teacher.standardise,
        of_utterances=distillation_weights(batch, config.views),
    )
    l1, cosine = distance.l1 / num_frames, distance.cosine / num_frames
    distillation = config.loss.l1 * l1 + config.loss.cosine * cosine
    adversarial = adversary.loss(
        output,
        batch,
        compared,
        progress=step / config.steps,
        num_utterances=num_utterances,
        num_frames=frames_of(batch, student),
    )
    backpropagate(distillation + adversarial.term, config.precision)
    sums = torch.stack([distillation, l1, cosine, adversarial.cross_entropy, adversarial.correct])
    return Losses(sums.detach(), adversarial.domains)


def distillation_weights(batch: PairBatch, views: Views) -> list[float] | None:
    """The weight of each utterance's frames in the distillation loss; None if all of them have 1."""
    weights = [views.distillation_weight(condition_of(copy)) for copy in batch.student_copies]
    return None if all(weight == 1 for weight in weights) else weights


def teacher_outputs(models: Models, batch: PairBatch) -> Tensor:
    """The teacher's layers for a micro-batch, shape (batch, layer, frame, feature): computed here, or stored before."""
    if batch.target is not None:
        return batch.target.float()
    outputs, _ = models.teacher.layers(batch.teacher_wave, batch.num_samples, only=models.teacher_layers)
    return outputs


def not_finite(models: Models, batches: Iterable[PairBatch], *, precision: str) -> str | None:
    """A phrase on the first layer of the teacher that gives numbers which are not finite for some batches; None if they all are."""
    for batch in batches:
        local = batch.to(models.device)
        with computed_in(precision, models.device):
            outputs = teacher_outputs(models, local)
        spoilt = [not bool(outputs[:, place].isfinite().all()) for place in range(outputs.shape[1])]
        if any(spoilt):
            layer = models.teacher_layers[spoilt.index(True)]
            return f"layer {layer} of the teacher {models.teacher.name} gives numbers that are not, in {precision}"
    return None


def frames_of(batch: PairBatch, student: Student) -> list[int]:
    """Frames of each utterance of a micro-batch."""
    return [student.config.num_frames(length) for length in batch.num_samples.tolist()]


def global_counts(batch: PairBatch, student: Student) -> tuple[int, int]:
    """Frames of the global batch, and its utterances that have a frame; each at least 1."""
    frames = [student.config.num_frames(length) for length in batch.global_lengths]
    return max(1, sum(frames)), max(1, sum(count > 0 for count in frames))


def correct_for_lost(sums: Tensor, parameters: Sequence[nn.Parameter], batch: PairBatch, student: Student) -> None:
    """Rescale losses and gradients where frames could not be read: the mean is over those that were, not over all that were planned.

    Args:
        sums: Of the step over all ranks, as `training.runs.step_sums`; changed in place.
        parameters: Whose gradients are changed in place.
        batch: Any micro-batch of the step.
        student: Counts frames.
    """
    planned = torch.full_like(sums[LOST_FRAMES], global_counts(batch, student)[0])
    # Of tensors: a number over a tensor is rounded twice, and where nothing is lost the scale is 1.
    scale = planned / (planned - sums[LOST_FRAMES]).clamp(min=1.0)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad *= scale
    sums[: len(MEANS)] *= scale
