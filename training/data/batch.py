"""A micro-batch of pairs: named tensors with their shapes, and how they get to a device without the host waiting for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

import torch
from torch.utils.data._utils.collate import default_collate_fn_map

from manifests.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from training.data.sampler import Cursor


@dataclass(frozen=True)
class PairBatch:
    """One lane's share of a global batch.

    Attributes:
        teacher_wave: Shape (batch, time), float32 in [-1, 1), zeros after each utterance's end.
        student_wave: The same stretches of other copies (or the same tensor), shape (batch, time).
        num_samples: Real samples of each row, shape (batch,), int64; the same for both views. It stays on the CPU, where lengths,
            frame counts, labels and masks are made: reading a number from a GPU would wait for all that it has to do.
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
        """The same with its waves and targets on another device."""
        return self if device.type == "cpu" else self.moved(lambda tensor: on_device(tensor, device))

    def pin_memory(self) -> PairBatch:
        """The same with its waves and targets in pinned memory; a DataLoader's thread calls this."""
        return self.moved(lambda tensor: tensor.pin_memory())

    def moved(self, move: Callable[[Tensor], Tensor]) -> PairBatch:
        """The same after a move of waves and targets; views that are one tensor stay one."""
        teacher_wave = move(self.teacher_wave)
        shared = self.student_wave is self.teacher_wave
        return replace(
            self,
            teacher_wave=teacher_wave,
            target=move(self.target) if self.target is not None else None,
            student_wave=teacher_wave if shared else move(self.student_wave),
        )


def refuse_to_batch(batches: list[PairBatch], **_: object) -> NoReturn:
    """A DataLoader with a `batch_size` would put batches into batches.

    Raises:
        UsageError: Always.
    """
    raise UsageError(
        f"DataLoader(batch_size={len(batches)}): what the stream gives are batches already; write DataLoader(stream, batch_size=None), "
        "and say how many utterances a batch has by stillroom.pairs(..., utterances=8)"
    )


# Torch's own place for such rules: see torch.utils.data.default_collate.
default_collate_fn_map[PairBatch] = refuse_to_batch


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; a GPU copies it from pinned memory, and the host does not wait until it has."""
    if (
        device.type == "cuda" and tensor.device.type == "cpu" and torch.cuda.is_available()
    ):  # one that is there, not a fake
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
