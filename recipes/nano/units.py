"""The targets of HuBERT's first iteration: k-means units of MFCCs with first and second differences.

Source: Hsu et al., "HuBERT" (arXiv 2106.07447), section IV-B: 39 dimensions every 10 ms, 100 clusters; every second frame is the target
of one 20 ms frame of the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
import torchaudio
from sklearn.cluster import MiniBatchKMeans

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def fit_units(features: Sequence[Features], *, num_units: int, seed: int) -> Features:
    """Cluster centres, shape (unit, 39), by mini-batch k-means over all frames; about 20 s for half a million frames."""
    clusters = MiniBatchKMeans(num_units, batch_size=10_000, n_init=5, max_no_improvement=100, random_state=seed)
    return np.asarray(clusters.fit(np.concatenate(features)).cluster_centers_, dtype=np.float32)


def nearest_units(features: Features, centres: Features, *, num_frames: int) -> Units:
    """The nearest centre of each frame, shape (num_frames,).

    The window of the last frames may reach beyond the recording's end: they repeat the last unit.
    """
    distance = (centres**2).sum(1)[None] - 2.0 * features @ centres.T
    units = distance.argmin(1)[:num_frames]
    return np.asarray(np.pad(units, (0, num_frames - len(units)), mode="edge"), dtype=np.int64)
