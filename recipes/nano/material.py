"""What is trained on: the speech, and the units of every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from crops import Crops, Utterance, collate, epoch_crops, read_utterances
from units import fit_units, frame_features, layer_features, nearest_units, read_model, standardised

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from train_nano import Settings
    from units import Features, Units

DEV_CROPS = 48
SETS = (
    "asterisk-en",
    "asterisk-es",
    "asterisk-fr",
    "librivox",
    "espeak-keywords",
    "espeak-sentences",
    "espeak-more-voices",
)


@dataclass(frozen=True)
class Material:
    """What is trained on and what it is checked on.

    Attributes:
        heard: Training utterances.
        units: The units of each, shape (frame,).
        centres: Of the clusters, shape (unit, feature).
        dev: Fixed crops of the development split.
    """

    heard: Sequence[Utterance]
    units: Sequence[Units]
    centres: Features
    dev: Sequence[Crops]


def unit_features(utterances: Sequence[Utterance], settings: Settings, teacher: Path | None) -> list[Features]:
    """What is clustered: MFCCs, or a layer of the model before, standardised for each speaker; shape (frame, feature) each."""
    if teacher is None or settings.layer == 0:
        return [frame_features(one.pcm) for one in utterances]
    model = read_model(teacher)
    features = [layer_features(model, one.pcm, layer=settings.layer) for one in utterances]
    return standardised(features, [one.speaker for one in utterances])


def read_material(
    data: Path, settings: Settings, teacher: Path | None = None, centres: Features | None = None
) -> Material:
    """Read the speech and label it with units; a minute, or some with a teacher.

    Args:
        data: What prepare.py wrote.
        settings: Of the run.
        teacher: Folder of the model before, for units of one of its layers.
        centres: Of the clusters, from a checkpoint; fitted to the training utterances by default.
    """
    utterances = {split: read_utterances(data, split, SETS) for split in ("train", "dev")}
    features = {split: unit_features(found, settings, teacher) for split, found in utterances.items()}
    if centres is None:
        centres = fit_units(features["train"], num_units=settings.num_units, seed=settings.seed)
    units = {
        split: [
            nearest_units(feature, centres, num_frames=one.num_frames)
            for one, feature in zip(utterances[split], features[split], strict=True)
        ]
        for split in utterances
    }
    for split, found in utterances.items():
        print(f"{split}: {len(found)} utterances, {sum(one.seconds for one in found) / 3600:.2f} h", flush=True)
    share = np.bincount(np.concatenate(units["train"]), minlength=settings.num_units) / sum(map(len, units["train"]))
    print(f"{settings.num_units} units, the largest holds {share.max():.1%} of the frames", flush=True)
    crops = epoch_crops(utterances["dev"], units["dev"], num_frames=settings.crop_frames, seed=settings.seed, epoch=0)
    firsts = range(0, len(crops[:DEV_CROPS]), settings.batch_size)
    dev = [collate(crops[first : first + settings.batch_size]) for first in firsts]
    return Material(utterances["train"], units["train"], centres, dev)
