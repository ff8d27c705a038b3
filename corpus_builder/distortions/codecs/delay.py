"""Measures the delay of a codec on a probe that goes through the whole chain.

A codec's delay depends on codec, bit rate, application and the resampling around it, and is not in its bit stream. So the
delay of each setting is measured, once in a process.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.distortions.codecs.round_trip import TAIL_S, Setting, through

if TYPE_CHECKING:
    from corpus_builder.audio.levels import Wave

PROBE_S = 4.0


@cache
def delay_samples(setting: Setting) -> int:
    """How many samples the chain of a setting delays a wave: measured on the probe, rounded; about 50 ms a setting, once."""
    return round(measured_delay(setting))


def measured_delay(setting: Setting) -> float:
    """The delay of a setting on the probe, in samples at its `rate_hz`, to a sixteenth of a sample."""
    clean = probe(setting.rate_hz)
    return phase_delay(clean, through(clean, setting), most=round(TAIL_S * setting.rate_hz), finest=16)


@lru_cache(maxsize=4)
def probe(rate_hz: int) -> Wave:
    """Four seconds of a speech-like signal: noise of a falling spectrum in syllables, at -26 dBFS."""
    time_s = np.arange(round(PROBE_S * rate_hz)) / rate_hz
    noise = np.random.RandomState(26090).standard_normal(time_s.size)  # a frozen stream
    spectrum = np.fft.rfft(noise)
    frequency_hz = np.fft.rfftfreq(time_s.size, 1.0 / rate_hz)
    spectrum *= (frequency_hz > 60.0) / (1.0 + (frequency_hz / 500.0) ** 2) ** 0.5
    wave = np.fft.irfft(spectrum, time_s.size) * np.sin(np.pi * 4.0 * time_s) ** 2
    return np.asarray(wave * (10.0 ** (-26.0 / 20.0) / np.sqrt(np.mean(wave**2))), dtype=np.float64)


def phase_delay(clean: Wave, delayed: Wave, *, most: int, finest: int) -> float:
    """Lag of the peak of the cross-correlation with phase transform (Knapp and Carter 1976, GCC-PHAT).

    Args:
        clean: Mono samples, shape (time,).
        delayed: The same, later, shape (time or more,).
        most: Largest lag looked at, to both sides, in samples.
        finest: Steps to a sample.

    Returns:
        The lag in samples.
    """
    length = 1 << (clean.size + delayed.size).bit_length()
    before, after = np.fft.rfft(clean, length), np.fft.rfft(delayed, length)
    cross = after * np.conj(before)
    is_strong = (
        np.abs(after) > 1e-3 * np.abs(after).max()
    )  # elsewhere the codec removed the signal, and the phase is noise
    cross = np.where(is_strong, cross / np.maximum(np.abs(cross), 1e-300), 0.0)
    correlation = np.fft.irfft(cross, finest * length)
    near = np.concatenate([correlation[-most * finest :], correlation[: most * finest + 1]])
    return float(np.argmax(near) - most * finest) / finest
