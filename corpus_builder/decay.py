"""What can be measured on a room response: its energy decay, reverberation time, and direct-to-reverberant ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from manifests.errors import StillroomError

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIRECT_WINDOW_S = 0.0025


class NoDecayError(StillroomError, ValueError):
    """A response whose energy does not decay through -5 to -35 dB in a way a line could be laid through."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} has no decay from -5 to -35 dB; no reverberation time can be measured")


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
    slope_db_per_s = np.polyfit(inside / rate_hz, decay_db[inside], 1)[0]
    return float(-60.0 / slope_db_per_s)


def direct_to_reverberant_db(response: NDArray[np.float32], *, direct_sample: int, rate_hz: int) -> float | None:
    """Energy within 2.5 ms to both sides of the direct sound over all energy after it, in dB; None if nothing comes after."""
    reach_samples = round(DIRECT_WINDOW_S * rate_hz)
    energy = np.square(response, dtype=np.float64)
    direct = float(energy[max(direct_sample - reach_samples, 0) : direct_sample + reach_samples + 1].sum())
    after = float(energy[direct_sample + reach_samples + 1 :].sum())
    return 10.0 * math.log10(direct / after) if after > 0.0 and direct > 0.0 else None
