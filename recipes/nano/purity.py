#!/usr/bin/env python3
"""How phonetic the units are that could be learnt next: clusters of MFCCs and of every layer of a model, against phones.

    python recipes/nano/purity.py DATA MADE training/nano

DATA is what ``recipes/realdata/prepare.py`` wrote, MADE what ``benchmarks/robustness/data.py`` made of it: its phone sentences have alignments.
Clusters are fitted to every ``--every``-th training utterance. A line each: phone-normalised mutual information (PNMI: the share of the
phones' entropy that the unit takes away; Hsu et al., arXiv 2106.07447, section IV-D) on dev's phone sentences, and the accuracy on them when each
unit is named by its commonest phone in train's sentences, which are by other voices.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile as sf
import torch
from crops import Utterance, read_utterances
from material import SETS
from sklearn.metrics.cluster import contingency_matrix
from units import (
    FRAME_SAMPLES,
    RATE_HZ,
    RECEPTIVE_SAMPLES,
    fit_units,
    frame_features,
    nearest_units,
    read_model,
    standardised,
)

from evaluation.data.alignments import frame_classes
from evaluation.measures import units as measured_units

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torchaudio
    from units import Features, Pcm, Units

SPLITS = ("train", "dev")
Segments = tuple[tuple[float, float, str], ...]


def pnmi(phones: Units, units: Units) -> float:
    """Mutual information of phone and unit over the entropy of the phone."""
    return measured_units.pnmi(contingency_matrix(phones, units))


def named_accuracy(phones: Units, units: Units, *, known_phones: Units, known_units: Units) -> float:
    """Share of frames whose phone is the commonest one of their unit in other frames; a unit not met there is wrong."""
    counts: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for phone, unit in zip(known_phones.tolist(), known_units.tolist(), strict=True):
        counts[unit][phone] += 1
    names = {unit: max(sorted(found), key=found.__getitem__) for unit, found in counts.items()}
    return float(
        np.mean([names.get(unit) == phone for phone, unit in zip(phones.tolist(), units.tolist(), strict=True)])
    )


def all_features(model: torchaudio.models.Wav2Vec2Model, pcm: Pcm) -> list[Features]:
    """MFCCs, then every layer, as many frames each, shape (frame, feature)."""
    wave = torch.from_numpy(pcm.astype(np.float32) / np.float32(32768.0))[None]
    with torch.inference_mode():
        layers, _ = model.extract_features(wave)
    num_frames = layers[0].shape[1]
    return [frame_features(pcm)[:num_frames], *(layer[0].numpy() for layer in layers)]


def phone_sentences(made: Path) -> dict[str, list[tuple[str, Pcm, Segments]]]:
    """Speaker, samples and alignment of the phone sentences of train and dev."""
    segments: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    with (made / "phones.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            segments[row["id"]].append((float(row["start"]), float(row["end"]), row["label"]))
    found: dict[str, list[tuple[str, Pcm, Segments]]] = {}
    for split in SPLITS:
        with (made / "eval" / split / "labels.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["id"] in segments]
        found[split] = [
            (row["speaker"], sf.read(made / "eval" / split / row["path"], dtype="int16")[0], tuple(segments[row["id"]]))
            for row in rows
        ]
    return found


def measure(
    utterances: Sequence[Utterance], made: Path, model: torchaudio.models.Wav2Vec2Model, *, num_units: int
) -> None:
    """Print the table."""
    sentences = phone_sentences(made)
    names = tuple(sorted({label for split in SPLITS for *_, segments in sentences[split] for *_, label in segments}))
    fitted = [all_features(model, one.pcm) for one in utterances]
    features = {split: [all_features(model, pcm) for _, pcm, _ in sentences[split]] for split in SPLITS}
    speakers = {split: [speaker for speaker, *_ in sentences[split]] for split in SPLITS}
    phones = {
        split: np.concatenate(
            [
                frame_classes(
                    segments, names, (np.arange(len(found[0])) * FRAME_SAMPLES + RECEPTIVE_SAMPLES / 2) / RATE_HZ
                )
                for (*_, segments), found in zip(sentences[split], features[split], strict=True)
            ]
        )
        for split in SPLITS
    }
    print("features  PNMI on dev  accuracy on dev")
    for layer in range(len(fitted[0])):
        known = [one[layer] for one in fitted]
        if layer:
            known = standardised(known, [one.speaker for one in utterances])
        centres = fit_units(known, num_units=num_units, seed=1)
        units = {}
        for split in SPLITS:
            found = [one[layer] for one in features[split]]
            found = standardised(found, speakers[split]) if layer else found
            units[split] = np.concatenate([nearest_units(one, centres, num_frames=len(one)) for one in found])
        is_phone = {split: phones[split] >= 0 for split in SPLITS}
        kept = {split: (phones[split][is_phone[split]], units[split][is_phone[split]]) for split in SPLITS}
        accuracy = named_accuracy(*kept["dev"], known_phones=kept["train"][0], known_units=kept["train"][1])
        print(f"{f'layer {layer}' if layer else 'MFCC':8} {pnmi(*kept['dev']):12.3f} {accuracy:16.3f}", flush=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="what recipes/realdata/prepare.py wrote")
    parser.add_argument("made", type=Path, help="what benchmarks/robustness/data.py made of it")
    parser.add_argument("model", type=Path, help="folder that train_nano.py wrote")
    parser.add_argument("--num-units", type=int, default=250)
    parser.add_argument("--every", type=int, default=8, help="of the training utterances, to fit clusters to")
    given = parser.parse_args()
    if given.every < 1:
        parser.error(f"--every {given.every}: expected 1 or more")
    utterances = read_utterances(given.data, "train", SETS)[:: given.every]
    measure(utterances, given.made, read_model(given.model), num_units=given.num_units)


if __name__ == "__main__":
    main()
