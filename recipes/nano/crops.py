"""Recorded utterances in, batches of equally long crops out.

Many utterances here last half a second. Rather than pad them (the model's group norm would hear the padding), the utterances of one
speaker are strung together in random order and the string is cut.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soundfile as sf
import torch
from units import FRAME_SAMPLES, RATE_HZ, RECEPTIVE_SAMPLES, Pcm, Units

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Utterance:
    """One recording: its PCM at 16 kHz, shape (time,), and what the table says of it."""

    id: str
    set_name: str
    speaker: str
    word: str
    pcm: Pcm

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.pcm) / RATE_HZ

    @property
    def num_frames(self) -> int:
        """Whole 20 ms frames in it."""
        return len(self.pcm) // FRAME_SAMPLES

    @property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of its PCM as little-endian 16-bit integers."""
        return hashlib.sha256(self.pcm.astype("<i2").tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Crops:
    """A batch.

    Attributes:
        wave: float32 in [-1, 1], shape (batch, time).
        units: The target of each frame, int64, shape (batch, frame).
    """

    wave: torch.Tensor
    units: torch.Tensor


def read_utterances(data: Path, split: str, sets: Sequence[str]) -> list[Utterance]:
    """Every utterance of some sets of one split, as ``recipes/realdata/prepare.py`` writes them."""
    folder = data / "speech" / split
    found = []
    with (folder / "labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["set"] in sets:
                pcm, rate_hz = sf.read(folder / row["path"], dtype="int16")
                if rate_hz != RATE_HZ:
                    raise ValueError(f"{row['path']}: {rate_hz} Hz where {RATE_HZ} Hz is needed; run prepare.py again")
                found.append(Utterance(row["id"], row["set"], row["speaker"], row["word"], pcm))
    return found


def epoch_crops(
    utterances: Sequence[Utterance], units: Sequence[Units], *, num_frames: int, seed: int, epoch: int
) -> list[tuple[Pcm, Units]]:
    """All crops of one pass through the data, shuffled: a pure function of seed and epoch.

    Args:
        utterances: The recordings.
        units: The units of each, shape (frame,).
        num_frames: Length of a crop; its wave has ``320 * num_frames + 80`` samples, just what gives so many frames.
        seed: Of the order.
        epoch: Which pass.
    """
    dice = np.random.default_rng([seed, epoch])
    of_speaker: dict[tuple[str, str], list[int]] = {}
    for index in dice.permutation(len(utterances)):
        of_speaker.setdefault((utterances[index].set_name, utterances[index].speaker), []).append(int(index))
    crops: list[tuple[Pcm, Units]] = []
    num_samples = num_frames * FRAME_SAMPLES + RECEPTIVE_SAMPLES - FRAME_SAMPLES
    for speaker in sorted(of_speaker):
        indexes = of_speaker[speaker]
        wave = np.concatenate([utterances[i].pcm[: utterances[i].num_frames * FRAME_SAMPLES] for i in indexes])
        target = np.concatenate([units[i] for i in indexes])
        phase = int(dice.integers(num_frames))
        for start in range(phase, len(target) - num_frames, num_frames):
            first = start * FRAME_SAMPLES
            crops.append((wave[first : first + num_samples], target[start : start + num_frames]))
    return [crops[i] for i in dice.permutation(len(crops))]


def collate(crops: Sequence[tuple[Pcm, Units]]) -> Crops:
    """Crops as tensors."""
    wave = np.stack([pcm for pcm, _ in crops]).astype(np.float32) / np.float32(32768.0)
    return Crops(torch.from_numpy(wave), torch.from_numpy(np.stack([units for _, units in crops])))


def endless_batches(
    utterances: Sequence[Utterance], units: Sequence[Units], *, batch_size: int, num_frames: int, seed: int
) -> Iterator[Crops]:
    """Epoch after epoch; the crops that do not fill the last batch of an epoch are left out of it."""
    for epoch in itertools.count():
        crops = epoch_crops(utterances, units, num_frames=num_frames, seed=seed, epoch=epoch)
        if len(crops) < batch_size:
            raise ValueError(
                f"only {len(crops)} crops of {num_frames} frames, fewer than a batch of {batch_size}; give more data"
            )
        for first in range(0, len(crops) - batch_size + 1, batch_size):
            yield collate(crops[first : first + batch_size])
