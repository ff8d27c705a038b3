"""Active speech level: the mean power over the time in which somebody speaks (ITU-T P.56, method B).

The mean power of an utterance falls with every pause in it. P.56 counts only the time in which the signal's envelope, smoothed
twice and held for 200 ms, is above a threshold that is itself 15.9 dB below the active level.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.audio.levels import SilentSignalError, Wave, is_silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

TIME_CONSTANT_S = 0.03
HANGOVER_S = 0.2
MARGIN_DB = 15.9
THRESHOLDS: NDArray[np.float64] = 2.0 ** np.arange(-30.0, 0.0)
"""The standard has fifteen for 16 bits, each twice the last up to half of full scale; more below them for softer speech."""


def active_power(wave: Wave, *, rate_hz: int) -> float:
    """Mean power over the active time of a speech signal.

    The envelope is ``q``, two exponential averages of ``|x|`` one after another. For each threshold ``c`` a sample is active if
    ``q >= c`` there or within the 200 ms before. With ``A = 10 log10(energy / active samples)`` and ``C = 20 log10(c)`` the
    active level is ``A`` where ``A - C = 15.9 dB``, interpolated between thresholds in decibels.
    Cost: about 1 ms a second of audio.

    Args:
        wave: Mono samples, shape (time,).
        rate_hz: Their rate.

    Returns:
        Power (not decibels): at least the mean power of the whole wave; as that, without the mean of the samples.

    Raises:
        SilentSignalError: If there is no energy.
    """
    if is_silent(wave):
        raise SilentSignalError("the speech whose active level was to be measured")
    wave = wave - wave.mean()
    envelope = smoothed_envelope(wave, rate_hz=rate_hz)
    hold = round(HANGOVER_S * rate_hz)
    active = np.array([active_samples(envelope, float(threshold), hold=hold) for threshold in THRESHOLDS])
    reached = active > 0
    if not reached.any():  # no more than a click, over before the envelope rose
        return float(np.square(wave).sum() / wave.size)
    level_db = 10.0 * np.log10(np.square(wave).sum() / active[reached])
    above_db = level_db - 20.0 * np.log10(THRESHOLDS[reached])
    below = np.flatnonzero(above_db <= MARGIN_DB)
    if not below.size:  # sparse clicks: even the highest threshold that is reached is too far below
        return float(10.0 ** (level_db[-1] / 10.0))
    after = int(below[0])  # never 0: the lowest threshold is 60 dB below what is silent
    share = (above_db[after - 1] - MARGIN_DB) / (above_db[after - 1] - above_db[after])
    found_db = level_db[after - 1] + share * (level_db[after] - level_db[after - 1])
    return float(10.0 ** (found_db / 10.0))


def smoothed_envelope(wave: Wave, *, rate_hz: int) -> Wave:
    """``|x|`` through two exponential averages of 30 ms, shape (time,)."""
    from scipy.signal import lfilter

    keep = math.exp(-1.0 / (rate_hz * TIME_CONSTANT_S))
    once: Wave = lfilter([1.0 - keep], [1.0, -keep], np.abs(wave))
    twice: Wave = lfilter([1.0 - keep], [1.0, -keep], once)
    return twice


def active_samples(envelope: Wave, threshold: float, *, hold: int) -> int:
    """How many samples have the envelope at or above the threshold, or had it so within `hold` samples before."""
    loud = np.flatnonzero(envelope >= threshold)
    if not loud.size:
        return 0
    gaps = np.diff(loud)
    np.minimum(gaps, hold + 1, out=gaps)
    return int(gaps.sum()) + min(envelope.size - int(loud[-1]), hold + 1)
