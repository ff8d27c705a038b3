"""What can be measured on a room response: its energy decay, reverberation time, and direct-to-reverberant ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from manifests.errors import StillroomError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIRECT_WINDOW_S = 0.0025


class NoDecayError(StillroomError, ValueError):
    """A response whose energy does not decay through -5 to -35 dB so that a line can be fitted."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} has no decay from -5 to -35 dB; no reverberation time can be measured")


@dataclass(frozen=True)
class Response:
    """One room response and what was measured on it.

    Attributes:
        wave: Shape (taps,), float32.
        direct_sample: Where the direct sound arrives, to within half a sample.
        t30_s: Reverberation time.
        direct_to_reverberant_db: Direct over reverberant energy; None where nothing is reverberant.
        rival: The strongest reflection over the direct sound, after whitening.
    """

    wave: NDArray[np.float32]
    direct_sample: int
    t30_s: float
    direct_to_reverberant_db: float | None
    rival: float


def measured_response(wave: NDArray[np.floating], *, direct_sample: int, rate_hz: int) -> Response:
    """Measure a response; its samples are rounded to float32 first.

    Raises:
        NoDecayError: If no reverberation time can be measured.
    """
    rounded = wave.astype(np.float32)
    return Response(
        wave=rounded,
        direct_sample=direct_sample,
        t30_s=measured_t30_s(rounded, direct_sample=direct_sample, rate_hz=rate_hz),
        direct_to_reverberant_db=direct_to_reverberant_db(rounded, direct_sample=direct_sample, rate_hz=rate_hz),
        rival=loudest_rival(rounded, direct_sample=direct_sample),
    )


def energy_decay_db(response: NDArray[np.floating]) -> NDArray[np.float64]:
    """Schroeder's curve (1965): the energy still to come at each sample, in dB of the whole; shape (taps,), falling from 0."""
    to_come = np.cumsum(np.square(response, dtype=np.float64)[::-1])[::-1]
    if not to_come.size or to_come[0] <= 0.0:
        return np.zeros(0)
    return np.asarray(10.0 * np.log10(np.maximum(to_come / to_come[0], 1e-30)), dtype=np.float64)


def measured_t30_s(response: NDArray[np.float32], *, direct_sample: int, rate_hz: int) -> float:
    """Reverberation time T30: 60 dB over the slope of the energy decay from -5 to -35 dB (ISO 3382-2).

    Args:
        response: Shape (taps,).
        direct_sample: Where the direct sound arrives; the decay is counted from there.
        rate_hz: Sample rate.

    Returns:
        Seconds.

    Raises:
        NoDecayError: If fewer than 5 ms lie between -5 and -35 dB.
    """
    decay_db = energy_decay_db(response[direct_sample:])
    inside = np.flatnonzero((decay_db <= -5.0) & (decay_db >= -35.0))
    if inside.size < 0.005 * rate_hz or decay_db[-1] > -35.0:
        raise NoDecayError("a room response")
    time_s = inside / rate_hz - np.mean(inside / rate_hz)
    slope_db_per_s = np.sum(time_s * decay_db[inside]) / np.sum(
        time_s**2
    )  # least squares, without LAPACK and its threads
    return float(-60.0 / slope_db_per_s)


def direct_to_reverberant_db(response: NDArray[np.float32], *, direct_sample: int, rate_hz: int) -> float | None:
    """Energy within 2.5 ms to both sides of the direct sound over all energy after it, in dB; None if nothing comes after."""
    reach_samples = round(DIRECT_WINDOW_S * rate_hz)
    energy = np.square(response, dtype=np.float64)
    direct = float(energy[max(direct_sample - reach_samples, 0) : direct_sample + reach_samples + 1].sum())
    after = float(energy[direct_sample + reach_samples + 1 :].sum())
    return 10.0 * math.log10(direct / after) if after > 0.0 and direct > 0.0 else None


def loudest_rival(response: NDArray[np.floating], *, direct_sample: int) -> float:
    """How strong the strongest reflection is against the direct sound, in the whitened response.

    Whitening is what the phase transform does (GCC-PHAT), so this is the ratio of the two highest peaks that a measurement of
    lag will see: above 1 it takes the reflection for the direct sound. The larger of the ratios over the whole band and over
    its lower half, where most of speech is and where reflections that arrive two samples apart add up.

    Args:
        response: Shape (taps,).
        direct_sample: Where the direct sound arrives; its peak may lie one sample to either side.
    """
    size = 1 << (2 * response.size - 1).bit_length()
    spectrum = np.fft.rfft(np.asarray(response, dtype=np.float64), size)
    spectrum /= np.maximum(np.abs(spectrum), 1e-300)
    lower_half = np.where(np.arange(spectrum.size) <= size // 4, spectrum, 0.0)
    return max(peak_ratio(spectrum, direct_sample, lobe=1), peak_ratio(lower_half, direct_sample, lobe=2))


def peak_ratio(spectrum: NDArray[np.complex128], place: int, *, lobe: int) -> float:
    """Highest magnitude away from a place over the highest there, to both sides the lobe's samples, of a spectrum's wave."""
    wave = np.abs(np.fft.irfft(spectrum))
    near = slice(max(place - lobe, 0), place + lobe + 1)
    here = float(wave[near].max())
    wave[near] = 0.0
    return float(wave.max()) / here if here > 0.0 else math.inf
