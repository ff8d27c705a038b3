"""Fixed utterances of a split, each clean and as the first copy of every condition: the input of validations and probes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch

from manifests.corpus.sample import CLEAN
from training.data.audio import batch_waves, recorded_copies
from training.data.sampler import Batching, Crop, global_batches
from training.data.tar_reader import UNREADABLE
from training.data.views import Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from training.data.corpus import CorpusReader
    from training.data.sampler import CropGrid
    from training.models.encoder import Encoder
    from training.targets.reader import TargetsReader

BATCH_UTTERANCES = 8
WINDOW_SHARDS = 8


class FixedUtterances:
    """The same utterances in every run.

    Args:
        reader: Of the corpus; used again each time.
        split: Which split.
        utterances: How many, at most; chosen by hash from the split's first window.
        crop_samples: Longer utterances are cut.
        skip: How many of that order are left to another set.
        grid: Where crops may begin; at any sample by default.
        only_readable: Whether utterances that cannot be read are left out, instead of being an error when they are.
        targets: The teacher's stored outputs, if they take its place.

    Attributes:
        batches: Crops of like length, batch by batch.
        copies: `clean` and the first copy of each condition that every utterance has.
    """

    def __init__(
        self,
        reader: CorpusReader,
        *,
        split: str,
        utterances: int,
        crop_samples: int,
        skip: int = 0,
        grid: CropGrid | None = None,
        targets: TargetsReader | None = None,
        only_readable: bool = False,
    ) -> None:
        self.reader, self.targets = reader, targets
        shards = [entry.name for entry in reader.shards(split)]
        singly = Batching(lanes=1, crop_samples=crop_samples, lane_utterances=1, window_shards=WINDOW_SHARDS, grid=grid)
        chosen = itertools.islice(
            global_batches(shards, reader.samples, singly, seed=0, epochs=1), skip, skip + utterances
        )
        crops = sorted((batch.lanes[0][0] for batch in chosen), key=lambda crop: (crop.length, crop.sample.key))
        if only_readable:
            crops = [crop for crop in crops if self.is_readable(crop)]
        self.batches = [crops[start : start + BATCH_UTTERANCES] for start in range(0, len(crops), BATCH_UTTERANCES)]
        self.copies = shared_copies(crops)

    def is_readable(self, crop: Crop) -> bool:
        """Whether every copy of an utterance can be decoded."""
        try:
            for copy in (CLEAN, *crop.sample.copies):
                batch_waves(self.reader, [crop], [Pair(copy, copy)])
        except UNREADABLE:
            return False
        return True

    def waves(self, crops: Sequence[Crop], copy: str) -> tuple[Tensor, Tensor]:
        """One copy of a batch: waves of shape (batch, time), and the samples of each, shape (batch,)."""
        waves, _ = batch_waves(self.reader, crops, [Pair(copy, copy)] * len(crops))
        return waves, torch.tensor([crop.length for crop in crops])

    def teacher_outputs(
        self, teacher: Encoder, crops: Sequence[Crop], copy: str, *, only: Sequence[int], device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """The teacher's outputs for one copy of a batch, as `Encoder.layers`; computed here, or stored before."""
        if self.targets is None:
            wave, num_samples = self.waves(crops, copy)
            outputs, num_frames = teacher.layers(wave.to(device), num_samples, only=only)
            return outputs.float(), num_frames
        num_frames = torch.tensor([teacher.config.num_frames(crop.length) for crop in crops])
        stored = self.targets.batch(crops, [copy] * len(crops), layers=only)
        return stored.to(device).float(), num_frames.to(device)

    def families(self, crops: Sequence[Crop], copy: str) -> list[str]:
        """The family of one copy of each utterance of a batch."""
        if copy == CLEAN:
            return [CLEAN] * len(crops)
        records = [recorded_copies(self.reader, crop.shard, crop.sample) for crop in crops]
        return [next(found.family for found in copies if found.name == copy) for copies in records]


def shared_copies(crops: Sequence[Crop]) -> list[str]:
    """`clean` and the first copy of each condition that every utterance has."""
    shared = set.intersection(*(set(crop.sample.copies) for crop in crops)) if crops else set()
    return [CLEAN, *sorted(name for name in shared if name.endswith("-0"))]
