"""Resampling to the corpus rate with soxr, pinned to one filter so that two builds agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr

if TYPE_CHECKING:
    from corpus_builder.audio.levels import Wave


RESAMPLER = "HQ"


def num_samples_at(num_frames: int, *, from_hz: int, to_hz: int) -> int:
    """Length at another rate, ``round(num_frames * to_hz / from_hz)``, halves up, in whole numbers."""
    return (2 * num_frames * to_hz + from_hz) // (2 * from_hz)


def at_rate(wave: Wave, *, from_hz: int, to_hz: int) -> Wave:
    """Bring a wave to another rate; at the same rate it is the very same samples.

    Returns:
        Samples, shape (`num_samples_at(time)`,); the filter's delay is taken out.
    """
    if from_hz == to_hz:
        return wave
    length = num_samples_at(wave.size, from_hz=from_hz, to_hz=to_hz)
    result: Wave = soxr.resample(wave, from_hz, to_hz, quality=RESAMPLER)[:length]
    return np.pad(result, (0, length - result.size)) if result.size < length else result
