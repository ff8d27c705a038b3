"""Measures and sets power, peak and level of a wave, and rounds it once to 16 bits.

A wave is float64 with full scale at +-1 from the first sample read to the last step. Sixteen-bit samples are the wave
times 32768, so what was read from a 16-bit file and left alone comes out bit for bit.

A constant is no signal: powers and levels are those of a wave without the mean of its samples (DC).
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from corpus_builder.audio.errors import SilentAudioError
from manifests.errors import StillroomError

Wave: TypeAlias = NDArray[np.float64]
Pcm: TypeAlias = NDArray[np.int16]
Level: TypeAlias = Literal["keep", "match_clean"] | float

FULL_SCALE = 32768.0
HIGHEST = 32767.0 / FULL_SCALE  # two's complement has one step less above zero than below
SILENT_DBFS = -120.0  # below what 16 bits can represent
SILENT_SOURCE_DBFS = -80.0  # of a whole utterance: dither has -96 dBFS


class SilentSignalError(StillroomError, ValueError):
    """A signal without energy, of which no level or ratio of powers can be set."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is silent, so that no level or SNR can be set; leave it out")


class NotFiniteError(StillroomError, ValueError):
    """A wave holds NaN or infinity."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} holds NaN or infinite samples; repair the file or leave it out")


def mean_power(wave: Wave) -> float:
    """Mean of the squared samples without their mean, which is their variance; 0.0 for an empty wave."""
    if not wave.size:
        return 0.0
    mean = float(wave.sum()) / wave.size
    return max(float(np.square(wave).sum()) / wave.size - mean * mean, 0.0)


def peak(wave: Wave) -> float:
    """Largest magnitude of a sample; 0.0 for an empty wave."""
    return float(max(wave.max(), -wave.min())) if wave.size else 0.0


def rms_dbfs(wave: Wave) -> float:
    """RMS without the mean in dB relative to full scale, where a square wave between +-1 is 0 dBFS; minus infinity for silence."""
    return power_dbfs(mean_power(wave))


def power_dbfs(power: float) -> float:
    """A mean power in dB relative to 1.0; minus infinity for none."""
    return 10.0 * math.log10(power) if power > 0.0 else -math.inf


def is_silent(wave: Wave) -> bool:
    """Whether there is next to no energy (RMS below -120 dBFS)."""
    return rms_dbfs(wave) < SILENT_DBFS


def refuse_silence(wave: Wave, *, name: object) -> None:
    """Refuse a source that is silent (RMS without the mean below -80 dBFS).

    Raises:
        SilentAudioError: If it is.
    """
    level_dbfs = rms_dbfs(wave)
    if level_dbfs < SILENT_SOURCE_DBFS:
        raise SilentAudioError(name, level_dbfs=level_dbfs, least_dbfs=SILENT_SOURCE_DBFS)


def amplify(wave: Wave, *, gain_db: float) -> Wave:
    """The wave times ``10 ** (gain_db / 20)``; at 0.0 dB the very same samples."""
    if gain_db == 0.0:
        return wave
    gain: float = 10.0 ** (gain_db / 20.0)
    return wave * gain


def set_level(wave: Wave, *, level: Level, clean_power: float) -> Wave:
    """Bring a finished copy to its level.

    Args:
        wave: Mono samples, shape (time,).
        level: `keep` leaves it, `match_clean` gives it the RMS of the clean wave, a number is its RMS in dBFS.
        clean_power: Mean power of the clean wave.

    Raises:
        SilentSignalError: If a level is requested and the wave, or the clean wave to match, is silent.
    """
    if level == "keep":
        return wave
    if is_silent(wave):
        raise SilentSignalError("a distorted copy that was to be brought to a level")
    if level == "match_clean":
        if power_dbfs(clean_power) < SILENT_DBFS:
            raise SilentSignalError("the clean utterance")
        return wave * math.sqrt(clean_power / mean_power(wave))
    return amplify(wave, gain_db=level - rms_dbfs(wave))


def fit_peak(wave: Wave) -> tuple[Wave, float]:
    """Scale a wave that would clip in 16 bits, and only such a wave.

    The gain is rounded downward to hundredths of a decibel before it is applied, so that the recorded number is the applied
    gain.

    Args:
        wave: Mono samples, shape (time,).

    Returns:
        The wave, shape (time,), within what 16 bits hold, and the gain in dB: 0.0 (and the same samples) where none
        was needed.

    Raises:
        NotFiniteError: If a sample is NaN or infinite.
    """
    if not np.isfinite(wave).all():
        raise NotFiniteError("a rendered wave")
    if not wave.size or (wave.max() <= HIGHEST and wave.min() >= -1.0):
        return wave, 0.0
    gain_db = math.floor(100.0 * 20.0 * math.log10(HIGHEST / peak(wave))) / 100.0
    fitted = amplify(wave, gain_db=gain_db)
    assert peak(fitted) <= 1.0
    return fitted, gain_db


def quantise(wave: Wave) -> Pcm:
    """Round once, to nearest, to 16-bit samples; fit the peak first.

    Args:
        wave: Mono samples, shape (time,), within [-1, 32767/32768].

    Returns:
        Samples, shape (time,), int16; those of a 16-bit file exactly as they were.
    """
    scaled = np.rint(wave * FULL_SCALE)
    assert scaled.max(initial=0.0) <= FULL_SCALE - 1, "fit_peak comes first"
    assert scaled.min(initial=0.0) >= -FULL_SCALE, "fit_peak comes first"
    return scaled.astype(np.int16)
