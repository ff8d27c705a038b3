"""The targets of HuBERT's iterations: k-means units of MFCCs with first and second differences, then of a layer of the model before.

Source: Hsu et al., "HuBERT" (arXiv 2106.07447), section IV-B: 39 dimensions every 10 ms, 100 clusters, every second frame the target
of one 20 ms frame of the model; then a middle layer of the first iteration's model, 500 clusters. That a layer's features are centred and
scaled for each speaker first is from van Niekerk et al. (arXiv 2108.00917): clusters of such features follow speakers less and phones more.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torchaudio
from safetensors.torch import load_file
from sklearn.cluster import MiniBatchKMeans

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RATE_HZ = 16_000
FRAME_SAMPLES = 320
"""Hop of the model: 20 ms."""
RECEPTIVE_SAMPLES = 400
"""What one frame of the convolutional layers sees: 25 ms, as long as an MFCC window, and starting at the same sample."""

Pcm = npt.NDArray[np.int16]
Features = npt.NDArray[np.float32]
Units = npt.NDArray[np.int64]


def frame_features(pcm: Pcm) -> Features:
    """MFCCs with deltas and double deltas of every 20 ms frame, shape (frame, 39).

    The differences are taken at 100 frames a second. Windows are not padded at the edges, so frame i starts at sample 320 i, like frame
    i of the model.

    Args:
        pcm: At least 25 ms at 16 kHz, shape (time,).
    """
    wave = torch.from_numpy(pcm.astype(np.float32) / np.float32(32768.0))[None]
    mfcc = torchaudio.compliance.kaldi.mfcc(wave, sample_frequency=RATE_HZ, use_energy=False).T
    first = torchaudio.functional.compute_deltas(mfcc)
    second = torchaudio.functional.compute_deltas(first)
    features: Features = torch.cat([mfcc, first, second]).T[::2].numpy()
    return features


def read_model(folder: Path) -> torchaudio.models.Wav2Vec2Model:
    """A model of this recipe from the folder that its export wrote, in float32 and in eval mode."""
    config = json.loads((folder / "config.json").read_text())
    model = torchaudio.models.wav2vec2_model(
        **{name: value for name, value in config.items() if name not in {"sample_rate", "pretrained_as"}}
    )
    model.load_state_dict({name: value.float() for name, value in load_file(folder / "weights.safetensors").items()})
    return model.eval()


def weights_sha256(folder: Path) -> str:
    """SHA-256 of such a folder's file of weights."""
    return hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def layer_features(model: torchaudio.models.Wav2Vec2Model, pcm: Pcm, *, layer: int) -> Features:
    """Output of a transformer layer for every 20 ms frame of one utterance, alone in its batch, shape (frame, feature).

    Args:
        model: In eval mode.
        pcm: At least 25 ms at 16 kHz, shape (time,).
        layer: Counted from 1.
    """
    wave = torch.from_numpy(pcm.astype(np.float32) / np.float32(32768.0))[None]
    with torch.inference_mode():
        layers, _ = model.extract_features(wave, num_layers=layer)
    features: Features = layers[-1][0].numpy()
    return features


def standardised(features: Sequence[Features], speakers: Sequence[str]) -> list[Features]:
    """Features of utterances with zero mean and unit deviation in each dimension over all frames of a speaker.

    Args:
        features: Of each utterance, shape (frame, feature).
        speakers: Of each utterance.
    """
    scaling = {}
    for speaker in set(speakers):
        frames = np.concatenate([one for one, who in zip(features, speakers, strict=True) if who == speaker])
        scaling[speaker] = frames.mean(0), np.maximum(frames.std(0), np.float32(1e-5))
    return [(one - scaling[who][0]) / scaling[who][1] for one, who in zip(features, speakers, strict=True)]


def fit_units(features: Sequence[Features], *, num_units: int, seed: int) -> Features:
    """Cluster centres, shape (unit, feature), by mini-batch k-means over all frames; about 20 s for half a million frames."""
    clusters = MiniBatchKMeans(num_units, batch_size=10_000, n_init=5, max_no_improvement=100, random_state=seed)
    return np.asarray(clusters.fit(np.concatenate(features)).cluster_centers_, dtype=np.float32)


def nearest_units(features: Features, centres: Features, *, num_frames: int) -> Units:
    """The nearest centre of each frame, shape (num_frames,).

    The window of the last frames may reach beyond the recording's end: they repeat the last unit.
    """
    distance = (centres**2).sum(1)[None] - 2.0 * features @ centres.T
    units = distance.argmin(1)[:num_frames]
    return np.asarray(np.pad(units, (0, num_frames - len(units)), mode="edge"), dtype=np.int64)
