"""Algorithmic reverberation: Freeverb, the Schroeder-Moorer reverberator behind `sox reverb`.

Eight comb filters in parallel, each with a low-pass of first order in its feedback (Moorer 1979), then four all-passes in series
(Schroeder 1962). The delays and the allpass gain are those of Freeverb ("Jezar at Dreampoint", 2000, public domain), given for
44.1 kHz; how percentages become delays, feedback and damping is what `sox reverb` documents and does, so a recipe that was made
for sox means the same here. The dry wave has gain 1, so the result is in step with it by construction.

The parallel combs are run together in blocks as long as the shortest of their delays: within a block nothing depends on the
block's own output, so that one `lfilter` call does the low-pass of all eight. Cost: 2 to 12 ms a second of speech, the more the
smaller the room scale.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from corpus_builder.audio.levels import Wave, mean_power

if TYPE_CHECKING:
    from numpy.typing import NDArray

TUNED_AT_HZ = 44_100
COMB_DELAYS: Final = (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)
ALLPASS_DELAYS: Final = (225, 341, 441, 556)
ALLPASS_GAIN = 0.5
LEAST_FEEDBACK, MOST_FEEDBACK = 0.3, 0.98
LEAST_DAMPING, DAMPING_SPAN = 0.2, 0.3
SMALLEST_SCALE = 0.1
WET_GAIN = 0.015
PIECE_SAMPLES = 1 << 18


def freeverb(
    wave: Wave,
    *,
    reverberance: float = 50.0,
    hf_damping: float = 50.0,
    room_scale: float = 100.0,
    pre_delay_ms: float = 0.0,
    wet_gain_db: float = 0.0,
    rate_hz: int,
    keep_rms: bool = True,
) -> Wave:
    """Add Freeverb's reverberation to a wave.

    Args:
        wave: Mono samples, shape (time,).
        reverberance: 0 to 100 %: feedback of the combs, from 0.3 to 0.98, the distance to 1 shrinking geometrically.
        hf_damping: 0 to 100 %: how much the high frequencies of the tail are damped.
        room_scale: 0 to 100 %: delays of the combs, from a tenth of Freeverb's to all of them.
        pre_delay_ms: How much later than the wave its reverberation begins.
        wet_gain_db: Gain of the reverberation; the wave itself keeps its own.
        rate_hz: Sample rate.
        keep_rms: Give the result the RMS of the wave.

    Returns:
        Samples, shape (time,); the tail beyond the wave's end is cut.
    """
    if not wave.size:
        return wave
    late = min(round(pre_delay_ms / 1000.0 * rate_hz), wave.size)
    delayed = np.concatenate([np.zeros(late), wave[: wave.size - late]])
    feedback = 1.0 - (1.0 - LEAST_FEEDBACK) * ((1.0 - MOST_FEEDBACK) / (1.0 - LEAST_FEEDBACK)) ** (reverberance / 100.0)
    damping = LEAST_DAMPING + DAMPING_SPAN * hf_damping / 100.0
    scale = SMALLEST_SCALE + (1.0 - SMALLEST_SCALE) * room_scale / 100.0
    wet = combs(delayed, delays_at(COMB_DELAYS, rate_hz, scale=scale), feedback=feedback, damping=damping)
    del delayed
    for delay in delays_at(ALLPASS_DELAYS, rate_hz):
        wet = allpass(wet, delay)
    wet *= WET_GAIN * 10.0 ** (wet_gain_db / 20.0)
    wet += wave
    power = mean_power(wet)
    if keep_rms and power > 0.0:
        wet *= math.sqrt(mean_power(wave) / power)
    return wet


def delays_at(delays: tuple[int, ...], rate_hz: int, *, scale: float = 1.0) -> list[int]:
    """Delays given for 44.1 kHz as whole samples at another rate, halves up, one at least."""
    return [max(1, math.floor(scale * delay * rate_hz / TUNED_AT_HZ + 0.5)) for delay in delays]


def combs(wave: Wave, delays: list[int], *, feedback: float, damping: float) -> Wave:
    """The sum of parallel feedback combs with damped feedback.

    Of each: ``out[n] = fed[n - delay]``, ``low[n] = (1 - damping) * out[n] + damping * low[n - 1]``,
    ``fed[n] = wave[n] + feedback * low[n]``.

    Args:
        wave: Shape (time,).
        delays: Of each comb, in samples.
        feedback: Below 1.
        damping: Pole of the low-pass.

    Returns:
        Shape (time,).
    """
    from scipy.signal import lfilter

    block, ahead, size = min(delays), min(delays) + max(delays), wave.size
    piece = block * -(-min(size, PIECE_SAMPLES) // block)
    outputs = np.zeros((len(delays), piece + ahead))  # of a piece of the wave and of what it feeds into the next one
    state: NDArray[np.float64] = np.zeros((len(delays), 1))
    total = np.empty(size)
    known = 0  # up to where the wave has been put in
    for first in range(0, size, piece):
        end = min(first + piece + ahead, size + ahead)
        for output, delay in zip(outputs, delays, strict=True):
            put_in(output[known - first : end - first], wave, known - delay)
        known = end
        for start in range(0, min(piece, size - first), block):
            low, state = lfilter(
                [feedback * (1.0 - damping)], [1.0, -damping], outputs[:, start : start + block], axis=1, zi=state
            )
            for output, fed, delay in zip(outputs, low, delays, strict=True):
                output[start + delay : start + delay + block] += fed
        length = min(piece, size - first)
        total[first : first + length] = outputs[:, :length].sum(axis=0)
        if first + piece < size:
            outputs[:, :ahead] = outputs[:, piece:].copy()
    return total


def put_in(output: Wave, wave: Wave, start: int) -> None:
    """Set a stretch to the wave from a sample on; it is zero outside."""
    begin, end = max(start, 0), min(start + output.size, wave.size)
    if begin < end:
        output[begin - start : end - start] = wave[begin:end]


def allpass(wave: Wave, delay: int) -> Wave:
    """Freeverb's all-pass, ``H(z) = (-1 + (1 + g) z^-delay) / (1 - g z^-delay)``.

    In powers of ``z^-delay`` it is a filter of first order over every delay-th sample.
    """
    from scipy.signal import lfilter

    rows = -(-wave.size // delay)
    folded = np.pad(wave, (0, rows * delay - wave.size)).reshape(rows, delay)
    filtered = lfilter([-1.0, 1.0 + ALLPASS_GAIN], [1.0, -ALLPASS_GAIN], folded, axis=0)
    result: Wave = filtered.reshape(-1)[: wave.size]
    return result
