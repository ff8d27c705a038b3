"""A micro-batch of pairs: named tensors with their shapes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from training.data.sampler import Cursor


@dataclass(frozen=True)
class PairBatch:
    """One lane's share of a global batch.

    Attributes:
        teacher_wave: Shape (batch, time), float32 in [-1, 1), zeros after each utterance's end.
        student_wave: The same stretches of other copies (or the same tensor), shape (batch, time).
        num_samples: Real samples of each row, shape (batch,), int64; the same for both views.
        keys: Of the utterances.
        teacher_copies: Which copy the teacher gets: `clean` or `<condition>-<n>`.
        student_copies: Which copy the student gets.
        cursor: Place of the global batch.
        lane: Place in the global batch.
        ends_step: Whether it is the last micro-batch of the global batch for this rank.
        global_lengths: Samples of every utterance of the global batch, all lanes: a mean over it needs their frames.
        student_families: Family of each of the student's copies; empty if records were not read.
        target: The teacher's stored outputs, if they take its place: float16 of shape (batch, layer, frame, feature);
            `teacher_wave` is then empty.
        lost: Samples of crops of this lane that are left out, as their shards are damaged or gone.
        damage: What was found of each of those shards, by its name.
        fell_back: Pairs in which a model gets clean speech because no copy fits its view.
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
    target: Tensor | None = None
    lost: tuple[int, ...] = ()
    damage: tuple[tuple[str, str], ...] = ()

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
            target=self.target.to(device, non_blocking=True) if self.target is not None else None,
            student_wave=teacher_wave if shared else self.student_wave.to(device, non_blocking=True),
        )
