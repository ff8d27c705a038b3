"""A noise file read through once: its length, and its power per 100 ms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.audio.decode import channel_of, file_blocks, read_header
from corpus_builder.audio.errors import NotFiniteAudioError, SilentAudioError, TruncatedAudioError
from corpus_builder.audio.sound import MOST_INTERLEAVED

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

LEVEL_FRAME_S = 0.1
SILENCE_DB = -200.0


@dataclass(frozen=True)
class MeasuredLevels:
    """One noise file as it was read through once: its length at its own rate, and power per 100 ms."""

    num_frames: int
    rate_hz: int
    channel: int | None
    power_db: tuple[float, ...]


def measure_levels(path: Path, *, name: object, channel: int | None) -> MeasuredLevels:
    """Read a noise through, a minute in memory at a time.

    A file shorter than 100 ms has one power, that of the whole.

    Raises:
        UnfitAudioError: One of its subclasses, by what is wrong; digital silence too.
    """
    header = read_header(path, name=name)
    channel = channel_of(header.num_channels, channel, name=name)
    frame = max(1, round(LEVEL_FRAME_S * header.rate_hz))
    powers: list[NDArray[np.float64]] = []
    found = 0
    step = max(frame, min(600, MOST_INTERLEAVED // (frame * header.num_channels)) * frame)
    for block in file_blocks(path, name=name, num_frames=header.num_frames, step=step, channel=channel):
        if not np.isfinite(block).all():
            raise NotFiniteAudioError(name)
        found += block.size
        whole = block[: block.size - block.size % frame] if block.size >= frame else block if not powers else block[:0]
        if whole.size:
            powers.append(np.mean(whole.reshape(-1, min(frame, whole.size)) ** 2, axis=1))
    if found < header.num_frames:
        raise TruncatedAudioError(name, found=found, promised=header.num_frames)
    power = np.concatenate(powers)
    if not power.any():
        raise SilentAudioError(name)
    decibels = 10.0 * np.log10(np.maximum(power, 10.0 ** (SILENCE_DB / 10.0)))
    return MeasuredLevels(found, header.rate_hz, channel, tuple(round(float(value), 1) for value in decibels))
