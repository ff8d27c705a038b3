"""A measurement that is the same for every method: how far the student is from the clean teacher, condition by condition.

Fixed utterances of the dev split; the teacher hears them clean; the student hears them clean, then the first copy of each
condition in turn, without dropout. `val_loss` is the mean over clean and all conditions.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch

from manifests.sample import CLEAN
from training.batch import padded
from training.losses import layer_distance
from training.order import Batching, Crop, global_batches
from training.stream import pair_waves
from training.views import Pair, condition_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.config import LossWeights
    from training.corpus import CorpusReader
    from training.encoder import Encoder
    from training.student import Student

BATCH_UTTERANCES = 8


class Validation:
    """The fixed utterances of a dev split.

    Args:
        reader: Of the corpus; used again at each validation.
        split: The dev split.
        utterances: How many, at most; chosen by hash from the split's first window, the same in every run.
        crop_samples: Longer utterances are cut.
    """

    def __init__(self, reader: CorpusReader, *, split: str, utterances: int, crop_samples: int) -> None:
        self.reader = reader
        shards = [entry.name for entry in reader.shards(split)]
        whole = Batching(lanes=1, crop_samples=crop_samples, lane_utterances=1, window_shards=8)
        chosen = itertools.islice(global_batches(shards, reader.samples, whole, seed=0, epochs=1), utterances)
        crops = sorted((batch.lanes[0][0] for batch in chosen), key=lambda crop: (crop.length, crop.sample.key))
        self.batches = [crops[start : start + BATCH_UTTERANCES] for start in range(0, len(crops), BATCH_UTTERANCES)]
        self.copies = shared_copies(crops)

    @torch.no_grad()
    def losses(
        self, student: Student, teacher: Encoder, *, layers: Sequence[int], weights: LossWeights, device: torch.device
    ) -> dict[str, float]:
        """`val_loss`, `val_clean`, and `val_<condition>` for each condition.

        The student is left in the mode it was found in.
        """
        was_training = student.training
        student.eval()
        sums = dict.fromkeys(self.copies, 0.0)
        frames = 0
        for crops in self.batches:
            num_samples = torch.tensor([crop.length for crop in crops])
            target = None
            for copy in self.copies:
                wave = padded([pair_waves(self.reader, crop, Pair(copy, copy))[0] for crop in crops]).to(device)
                if target is None:  # the first copy is the clean one
                    target, num_frames = teacher.layers(wave, num_samples, only=layers)
                    frames += int(num_frames.sum())
                distance = layer_distance(student(wave, num_samples).predictions, target, num_frames)
                sums[copy] += float(weights.l1 * distance.l1 + weights.cosine * distance.cosine)
        student.train(was_training)
        means = {copy: total / max(1, frames) for copy, total in sums.items()}
        return {
            "val_loss": sum(means.values()) / len(means),
            **{f"val_{condition_of(copy)}": mean for copy, mean in means.items()},
        }


def shared_copies(crops: Sequence[Crop]) -> list[str]:
    """`clean` and the first copy of each condition that every utterance has."""
    shared = set.intersection(*(set(crop.sample.copies) for crop in crops)) if crops else set()
    return [CLEAN, *sorted(name for name in shared if name.endswith("-0"))]
