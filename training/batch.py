"""A micro-batch of pairs: named tensors with their shapes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from training.order import Cursor


@dataclass(frozen=True)
class PairBatch:
    """One lane's share of a global batch.

    Attributes:
        teacher_wave: Shape (batch, time), float32 in [-1, 1), zeros after each utterance's end.
        student_wave: The same stretches of other copies (or the same tensor), shape (batch, time).
        num_samples: Real samples of each row, shape (batch,), int64; the same for both views.
        keys: Of the utterances.
        teacher_copies: Which copy the teacher hears: `clean` or `<condition>-<n>`.
        student_copies: Which copy the student hears.
        cursor: Place of the global batch.
        lane: Place in the global batch.
        ends_step: Whether it is the last micro-batch of the global batch for this rank.
        global_lengths: Samples of every utterance of the global batch, all lanes: a mean over it needs their frames.
        student_families: Family of each copy that the student hears; empty words if nobody asked.
        fell_back: Pairs in which a model hears clean speech because no copy fits its view.
    """

    teacher_wave: Tensor
    student_wave: Tensor
    num_samples: Tensor
    keys: tuple[str, ...]
    teacher_copies: tuple[str, ...]
    student_copies: tuple[str, ...]
    cursor: Cursor
    lane: int
    ends_step: bool
    global_lengths: tuple[int, ...]
    student_families: tuple[str, ...] = ()
    fell_back: int = 0

    @property
    def next_cursor(self) -> Cursor:
        """Where a run goes on after this global batch."""
        return self.cursor._replace(batch=self.cursor.batch + 1)

    def to(self, device: torch.device) -> PairBatch:
        """The same on another device."""
        if device.type == "cpu":
            return self
        teacher_wave = self.teacher_wave.to(device, non_blocking=True)
        shared = self.student_wave is self.teacher_wave
        return replace(
            self,
            teacher_wave=teacher_wave,
            student_wave=teacher_wave if shared else self.student_wave.to(device, non_blocking=True),
        )


def padded(waves: list[Tensor]) -> Tensor:
    """Waves of shape (time,) as one tensor of shape (batch, time) with zeros at their ends."""
    if not waves:
        return torch.zeros(0, 0)
    return torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
