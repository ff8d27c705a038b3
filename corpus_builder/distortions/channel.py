"""Channel distortions: filters, spectral tilt, gain, clipping, a lower sample rate.

Every filter here is linear in phase and its delay is taken out, so that a copy stays in step with the clean wave to the sample:
a symmetric impulse response moves no frequency in time. Filters are designed with a Kaiser window (Kaiser 1974; Oppenheim and
Schafer, Discrete-Time Signal Processing, section 7.5): 60 dB down outside a transition that is as wide as 200 Hz, or as the band
itself if that is less. Pitch has a file of its own.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import soxr

from corpus_builder.audio.levels import Wave, amplify, peak
from corpus_builder.audio.resample import RESAMPLER
from corpus_builder.distortions.convolution import convolved

if TYPE_CHECKING:
    from numpy.typing import NDArray

Keeps: TypeAlias = Literal["lowpass", "highpass", "bandpass", "bandstop"]

STOPBAND_DB = 60.0
TRANSITION_HZ = 200.0
NARROWEST_HZ = 10.0
PIVOT_HZ = 1000.0
TILT_TAPS_S = 0.032
TILT_FROM_HZ = 62.5


def lowpass(wave: Wave, *, cutoff_hz: float, rate_hz: int) -> Wave:
    """Keep what is below a frequency, where the gain is one half (-6 dB).

    Args:
        wave: Mono samples, shape (time,).
        cutoff_hz: Below half the sample rate.
        rate_hz: Sample rate.

    Returns:
        Samples, shape (time,).
    """
    return filtered(wave, band_filter([cutoff_hz], keeps="lowpass", rate_hz=rate_hz))


def highpass(wave: Wave, *, cutoff_hz: float, rate_hz: int) -> Wave:
    """Keep what is above a frequency, where the gain is one half (-6 dB); arguments as of `lowpass`."""
    return filtered(wave, band_filter([cutoff_hz], keeps="highpass", rate_hz=rate_hz))


def bandpass(wave: Wave, *, low_hz: float, high_hz: float, rate_hz: int) -> Wave:
    """Keep a band, at whose edges the gain is one half (-6 dB).

    Args:
        wave: Mono samples, shape (time,).
        low_hz: Lower edge.
        high_hz: Upper edge, below half the sample rate.
        rate_hz: Sample rate.

    Returns:
        Samples, shape (time,).
    """
    return filtered(wave, band_filter([low_hz, high_hz], keeps="bandpass", rate_hz=rate_hz))


def bandreject(wave: Wave, *, low_hz: float, high_hz: float, rate_hz: int) -> Wave:
    """Take a band out, at whose edges the gain is one half (-6 dB); arguments as of `bandpass`, but `low_hz` may be 0."""
    if low_hz <= 0.0:
        return highpass(wave, cutoff_hz=high_hz, rate_hz=rate_hz)
    return filtered(wave, band_filter([low_hz, high_hz], keeps="bandstop", rate_hz=rate_hz))


def band_filter(edges_hz: list[float], *, keeps: Keeps, rate_hz: int) -> NDArray[np.float64]:
    """A symmetric filter with an odd number of taps, by the windowed Fourier series.

    Args:
        edges_hz: One or two, rising, between 0 and half the rate.
        keeps: What, in scipy's words.
        rate_hz: Sample rate.
    """
    from scipy.signal import firwin, kaiserord

    borders_hz = [0.0, *edges_hz, rate_hz / 2.0]
    narrowest_hz = min(high - low for low, high in pairwise(borders_hz))
    width_hz = min(TRANSITION_HZ, max(narrowest_hz, NARROWEST_HZ))
    taps, beta = kaiserord(STOPBAND_DB, width_hz / (rate_hz / 2.0))
    found: NDArray[np.float64] = firwin(taps | 1, edges_hz, window=("kaiser", beta), pass_zero=keeps, fs=rate_hz)
    return found


def filtered(wave: Wave, taps: NDArray[np.float64]) -> Wave:
    """Convolve with a symmetric filter of odd length and take its delay out, shape (time,).

    Beyond its ends the wave goes on at the value it has there: a recording with an offset would click if it began from zero.
    """
    if not wave.size:
        return wave
    found = convolved(np.pad(wave, taps.size // 2, mode="edge"), taps)
    return found[taps.size - 1 : taps.size - 1 + wave.size]


def tilt(wave: Wave, *, db_per_octave: float, rate_hz: int) -> Wave:
    """Tilt the spectrum about 1 kHz, which keeps its level; below 62.5 Hz the gain stays what it is there.

    Args:
        wave: Mono samples, shape (time,).
        db_per_octave: Gain of each octave over the one below.
        rate_hz: Sample rate.

    Returns:
        Samples, shape (time,); as loud as the tilt makes them.
    """
    from scipy.signal import firwin2, kaiser_beta

    taps = round(TILT_TAPS_S * rate_hz) | 1
    frequency_hz = np.linspace(0.0, rate_hz / 2.0, 1 + taps)
    gain_db = db_per_octave * np.log2(np.maximum(frequency_hz, TILT_FROM_HZ) / PIVOT_HZ)
    design = firwin2(
        taps, frequency_hz, 10.0 ** (gain_db / 20.0), window=("kaiser", kaiser_beta(STOPBAND_DB)), fs=rate_hz
    )
    return filtered(wave, design)


def gain(wave: Wave, *, gain_db: float) -> Wave:
    """Change the level, shape (time,)."""
    return amplify(wave, gain_db=gain_db)


def clip(wave: Wave, *, percent: float) -> Wave:
    """Cut the largest samples down to one magnitude.

    The threshold is the magnitude that a share of the samples reaches or goes beyond, so that the effect does not depend on the
    recording's level. A recording whose peaks are at one magnitude already is cut at the next one below.

    Args:
        wave: Mono samples, shape (time,).
        percent: Share of the samples at the threshold in the result; at least one sample.

    Returns:
        Samples, shape (time,).
    """
    if not wave.size:
        return wave
    magnitude = np.abs(wave)
    count = min(max(1, math.ceil(magnitude.size * percent / 100.0)), magnitude.size)
    threshold = float(np.partition(magnitude, magnitude.size - count)[magnitude.size - count])
    highest = peak(wave)
    if threshold >= highest:
        below = magnitude[magnitude < highest]
        threshold = float(below.max()) if below.size else highest
    return np.clip(wave, -threshold, threshold)


def through_rate(wave: Wave, *, lower_hz: int, rate_hz: int) -> Wave:
    """Resample to a lower rate and back (soxr's HQ filter, linear in phase, delay taken out).

    Args:
        wave: Mono samples, shape (time,).
        lower_hz: The rate in between.
        rate_hz: Sample rate.

    Returns:
        Samples, shape (time,).
    """
    if lower_hz >= rate_hz or not wave.size:
        return wave
    low = soxr.resample(wave, rate_hz, lower_hz, quality=RESAMPLER)
    back: Wave = soxr.resample(low, lower_hz, rate_hz, quality=RESAMPLER) if low.size else np.zeros(0)
    return fitted_length(back, wave.size)


def fitted_length(wave: Wave, num_samples: int) -> Wave:
    """Cut, or filled up with zeros, to a length; what a resampler rounds away is at most a sample or two."""
    return wave[:num_samples] if wave.size >= num_samples else np.pad(wave, (0, num_samples - wave.size))
