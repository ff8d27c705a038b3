"""Pitch shift with the duration kept: the signal is stretched without a change of pitch, then played back faster or slower.

Stretching is WSOLA, waveform similarity overlap-add (Verhelst and Roelands, ICASSP 1993): frames are added at a fixed hop,
and each is taken where, near its nominal position, the signal continues the frame before most similarly, so that periods of the voice
join without a seam. A phase vocoder smears the onsets of speech; WSOLA is also what sox's `pitch` does, with which the method's authors
trained. Formants move with the pitch, as they do there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr
from scipy.fft import next_fast_len

from corpus_builder.audio.resample import RESAMPLER
from corpus_builder.distortions.channel import fitted_length

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from corpus_builder.audio.levels import Wave

FRAME_S = 0.032
REACH_S = 0.008  # to both sides: 16 ms hold a period of any voice above 63 Hz
CENTRE_BIAS = 0.9  # weighs a frame's distance from its nominal position against similarity


def shift_pitch(wave: Wave, *, cents: float, rate_hz: int) -> Wave:
    """Raise or lower the pitch and keep the duration.

    A frame may be taken up to 8 ms from its nominal position, which itself never drifts; envelopes of clean and shifted speech agree to
    within 2.5 ms (law 2). Cost: about 5 ms a second of audio.

    Args:
        wave: Mono samples, shape (time,).
        cents: Hundredths of a semitone; positive is higher.
        rate_hz: Sample rate.

    Returns:
        Samples, shape (time,).
    """
    ratio: float = 2.0 ** (cents / 1200.0)
    if cents == 0.0 or wave.size < 2:
        return wave
    stretched = stretch(wave, ratio=ratio, rate_hz=rate_hz)
    return fitted_length(soxr.resample(stretched, ratio, 1.0, quality=RESAMPLER), wave.size)


def stretch(wave: Wave, *, ratio: float, rate_hz: int) -> Wave:
    """Make a signal `ratio` times as long at the same pitch.

    Args:
        wave: Mono samples, shape (time,).
        ratio: Length wanted over length.
        rate_hz: Sample rate.

    Returns:
        Samples, shape (round(time * ratio),).
    """
    hop = round(FRAME_S * rate_hz / 2.0)
    reach = round(REACH_S * rate_hz)
    wanted = round(wave.size * ratio)
    count = -(-wanted // hop) + 1
    nominal = np.rint(np.arange(count) * (hop / ratio)).astype(np.int64).tolist()
    padded = np.pad(
        wave, (hop + reach, 4 * hop + 2 * reach)
    )  # the frame with nominal position t begins at t + reach and is centred on sample t
    search = Search(padded, hop=hop, reach=reach)
    window = np.hanning(2 * hop + 1)[:-1]
    result = np.zeros((count + 1) * hop)
    begins = [reach]
    for number, place in enumerate(nominal):
        if number:
            begins.append(search.most_similar(begins[-1] + hop, place + reach))
        result[number * hop : (number + 2) * hop] += padded[begins[-1] : begins[-1] + 2 * hop] * window
    late = search.mean_lateness(np.array(begins), np.array(nominal) + reach)
    first = hop - round(late * ratio)  # frames that come from later in the signal make the result early
    return result[first : first + wanted]


class Search:
    """Finds where a signal is most similar to itself.

    Args:
        wave: The signal, shape (time,).
        hop: How many samples are compared: half a frame.
        reach: How far from the nominal position it looks, to both sides.
    """

    def __init__(self, wave: Wave, *, hop: int, reach: int) -> None:
        self.wave, self.hop, self.reach = wave, hop, reach
        self.size: int = next_fast_len(hop + 2 * reach, real=True)  # so that no lag within the search wraps around
        energy = np.concatenate([[0.0], np.cumsum(np.square(wave))])
        self.norm = np.sqrt(np.maximum(energy[hop:] - energy[:-hop], 0.0))
        self.favour = 1.0 - CENTRE_BIAS * np.square(np.linspace(-1.0, 1.0, 2 * reach + 1))

    def mean_lateness(self, begins: NDArray[np.int64], nominal: NDArray[np.int64]) -> float:
        """By how many samples frames begin after their nominal positions, in the mean over their energies."""
        energy = np.square(self.norm[begins]) + np.square(self.norm[begins + self.hop])
        total = float(energy.sum())
        return float((energy * (begins - nominal)).sum()) / total if total > 0.0 else 0.0

    def most_similar(self, continued: int, nominal: int) -> int:
        """Where a frame begins that continues the one before: near its nominal position, and rather nearer than farther.

        Args:
            continued: Where the second half of the frame before begins in the signal.
            nominal: Where the new frame would begin without a search.

        Returns:
            The beginning with the highest normalised correlation; the nominal one where nothing is similar.
        """
        first, last = nominal - self.reach, nominal + self.reach + 1
        field = np.fft.rfft(self.wave[first : last - 1 + self.hop], self.size)
        target = np.fft.rfft(self.wave[continued : continued + self.hop], self.size)
        similarity = np.fft.irfft(field * target.conj(), self.size)[: last - first]
        norm = self.norm[first:last]
        score = similarity / (norm + (1e-3 * norm.max() + 1e-9)) * self.favour
        best = int(score.argmax())
        return first + best if score[best] > 0.0 else nominal
