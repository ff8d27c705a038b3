"""Which spans of an utterance are hidden from the student (wav2vec 2.0, arXiv 2006.11477, section 3.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from training.data.batch import on_device
from training.data.sampler import named_number
from training.models.initialisation import SEED_RANGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.config.model import InputMask
    from training.data.batch import PairBatch
    from training.models.encoder import EncoderConfig


def masked_frames_of(mask: InputMask | None, batch: PairBatch, shape: EncoderConfig, *, seed: int) -> Tensor | None:
    """Which frames of a batch are hidden from the student, shape (batch, frame); None if its input is not masked.

    Args:
        mask: As configured; None for no mask.
        batch: Whose frames.
        shape: Of the student.
        seed: Of the run.
    """
    if mask is None:
        return None
    hidden = masked_frames(
        mask,
        keys=batch.keys,
        num_frames=[shape.num_frames(length) for length in batch.num_samples.tolist()],
        longest=shape.num_frames(max(batch.student_wave.shape[1], shape.receptive_samples)),
        seed=seed,
        epoch=batch.cursor.epoch,
    )
    return on_device(hidden, batch.student_wave.device)


def masked_frames(
    mask: InputMask, *, keys: Sequence[str], num_frames: Sequence[int], longest: int, seed: int, epoch: int
) -> Tensor:
    """Which frames of some utterances are hidden.

    The random stream is named by (seed, epoch, utterance): it does not depend on batches, ranks or workers, nor they on it.

    Args:
        mask: How many and how long.
        keys: Of the utterances.
        num_frames: Real frames of each.
        longest: Frames of the batch, padding included.
        seed: Of the run.
        epoch: Of the batch.

    Returns:
        Shape (batch, longest), True for hidden; on the CPU.
    """
    rows = []
    for key, frames in zip(keys, num_frames, strict=True):
        generator = torch.Generator().manual_seed(named_number(seed, "mask", epoch, key) % SEED_RANGE)
        # One draw at least: an utterance may be too short for a frame, and nothing of that draw is used then.
        starts = (torch.rand(max(1, frames), generator=generator) < mask.start).float()
        # A frame is hidden if a span began at it or at one of the span - 1 frames before it.
        reached = functional.max_pool1d(functional.pad(starts, (mask.span - 1, 0))[None], mask.span, stride=1)[0]
        rows.append(functional.pad(reached[:frames] > 0, (0, longest - frames)))
    return torch.stack(rows) if rows else torch.zeros(0, longest, dtype=torch.bool)
