"""Reverberation by a room response, with the direct path in step with the dry wave."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.audio.levels import SilentSignalError, Wave, mean_power
from corpus_builder.distortions.convolution import convolved

if TYPE_CHECKING:
    from numpy.typing import NDArray


def reverberate(wave: Wave, response: NDArray[np.float32], *, direct_sample: int, keep_rms: bool = True) -> Wave:
    """Convolve a wave with a room's response and take the travel of the direct sound out.

    The first `direct_sample` samples are dropped from the convolved wave and not from the response: the fractional delay
    filter of the direct path reaches to both sides of its peak, and cutting the response there would colour the speech.

    Args:
        wave: Mono samples, shape (time,).
        response: Impulse response, shape (taps,).
        direct_sample: Where in the response the direct sound arrives.
        keep_rms: Give the result the RMS of the wave; otherwise it is as loud as the response makes it.

    Returns:
        Samples, shape (time,); the tail beyond the wave's end is cut.

    Raises:
        SilentSignalError: If the result has no energy.
        ValueError: If the direct sound is outside the response.
    """
    if not 0 <= direct_sample < response.size:
        raise ValueError(f"direct_sample {direct_sample} is outside a response of {response.size} samples")
    if not wave.size:
        return wave
    full = convolved(wave, response.astype(np.float64))
    result: Wave = full[direct_sample : direct_sample + wave.size]
    if not keep_rms or mean_power(wave) == 0.0:
        return result
    if mean_power(result) == 0.0:
        raise SilentSignalError("the response of a room, or the wave after it,")
    result *= math.sqrt(mean_power(wave) / mean_power(result))
    return result
