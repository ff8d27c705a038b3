"""A noise file read through once: its length, its mean, and its power per 100 ms.

The power of 100 ms is taken without their own mean, so that the mean of several is never above the power of the segment that they make up:
what looks loud enough is. For noise without a mean the difference is below a tenth of a decibel, unless it is of 10 Hz and less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.audio.decode import channel_of, file_blocks, read_header
from corpus_builder.audio.downmix import Downmix
from corpus_builder.audio.errors import NotFiniteAudioError, SilentAudioError, TruncatedAudioError
from corpus_builder.audio.sound import MOST_INTERLEAVED

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from manifests.recipe.speech import Channel

LEVEL_FRAME_S = 0.1
SILENCE_DB = -200.0
MEAN_DIGITS = 6


@dataclass(frozen=True)
class MeasuredLevels:
    """One noise file as it was read through once: its length at its own rate, the mean of its samples, and power per 100 ms without that."""

    num_frames: int
    rate_hz: int
    channel: Channel | None
    mean: float
    power_db: tuple[float, ...]


def measure_levels(path: Path, *, name: object, channel: Channel | None) -> MeasuredLevels:
    """Read a noise through, a minute in memory at a time.

    A file shorter than 100 ms has one power, that of the whole. Powers are variances: each 100 ms without their mean.

    Raises:
        UnfitAudioError: One of its subclasses, by what is wrong; a constant too.
    """
    header = read_header(path, name=name)
    channel = channel_of(header.num_channels, channel, name=name)
    frame = max(1, round(LEVEL_FRAME_S * header.rate_hz))
    downmix = Downmix(channel)
    powers: list[NDArray[np.float64]] = []
    found, total = 0, 0.0
    step = max(frame, min(600, MOST_INTERLEAVED // (frame * header.num_channels)) * frame)
    for block in file_blocks(path, name=name, num_frames=header.num_frames, step=step, downmix=downmix):
        if not np.isfinite(block).all():
            raise NotFiniteAudioError(name)
        found += block.size
        total += float(block.sum())
        whole = block[: block.size - block.size % frame] if block.size >= frame else block if not powers else block[:0]
        if whole.size:
            powers.append(np.var(whole.reshape(-1, min(frame, whole.size)), axis=1))
    if found < header.num_frames:
        raise TruncatedAudioError(name, found=found, promised=header.num_frames)
    downmix.check(name=name)
    power = np.concatenate(powers)
    if not (power >= 10.0 ** (SILENCE_DB / 10.0)).any():
        raise SilentAudioError(name, level_dbfs=-math.inf, least_dbfs=SILENCE_DB)
    decibels = 10.0 * np.log10(np.maximum(power, 10.0 ** (SILENCE_DB / 10.0)))
    mean = round(total / found, MEAN_DIGITS) + 0.0  # no minus zero
    return MeasuredLevels(found, header.rate_hz, channel, mean, tuple(round(float(value), 1) for value in decibels))
