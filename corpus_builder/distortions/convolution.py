"""Convolution of a long wave with a short filter, in memory that does not grow with the wave."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.fft import next_fast_len
from scipy.signal import oaconvolve
from scipy.special import lambertw

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from corpus_builder.distortions.levels import Wave

PIECE_SAMPLES = 1 << 20
FEWEST_BLOCKS = 4


def convolved(wave: Wave, taps: NDArray[np.float64]) -> Wave:
    """The full convolution, by overlap-add: `scipy.signal.oaconvolve`, a piece of the wave at a time where it is long.

    Whole, `oaconvolve` holds four times the wave beside its result. Pieces begin where its own blocks begin, so that every transform
    is of the same samples and the result is that of one call to the last bit.

    Args:
        wave: Mono samples, shape (time,), at least one.
        taps: Shape (taps,), at least one.

    Returns:
        Samples, shape (time + taps - 1,).
    """
    piece = piece_samples(taps.size)
    if wave.size < 2 * piece:
        whole: Wave = oaconvolve(wave, taps)
        return whole
    result = np.zeros(wave.size + taps.size - 1)
    starts = range(0, wave.size - piece + 1, piece)
    for start in starts:
        end = (
            wave.size if start == starts[-1] else start + piece
        )  # the last takes the rest: alone it might be too short
        found = oaconvolve(wave[start:end], taps)
        result[start : start + found.size] += found
    return result


def piece_samples(num_taps: int) -> int:
    """A whole number of the blocks of `oaconvolve`, about a million samples.

    Its transforms have the length that costs least a sample (Press and others, Numerical Recipes, section 13.1), which depends on
    the filter alone: ``-overlap * W(-1 / (2 e overlap))``, W the lower branch of Lambert's function.
    """
    overlap = num_taps - 1
    if overlap < 1:
        return PIECE_SAMPLES
    best = -overlap * lambertw(-1.0 / (2.0 * math.e * overlap), k=-1).real
    step = int(next_fast_len(math.ceil(best))) - overlap
    return step * max(FEWEST_BLOCKS, -(-PIECE_SAMPLES // step))
