"""Pitch shift with the duration kept: the signal is stretched without a change of pitch, then played back faster or slower.

Stretching is WSOLA, waveform similarity overlap-add (Verhelst and Roelands, ICASSP 1993): frames are laid down at a fixed rhythm
and each is taken where, near its due place, the signal continues the frame before most alike, so that periods of the voice join
without a seam. A phase vocoder smears the onsets of speech; WSOLA is also what sox's `pitch` does, with which the method's authors
trained. Formants move with the pitch, as they do there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import soxr

from corpus_builder.audio.resample import RESAMPLER
from corpus_builder.distortions.channel import fitted_length
from corpus_builder.distortions.convolution import fast_length

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from corpus_builder.audio.levels import Wave

FRAME_S = 0.032
REACH_S = 0.008  # to both sides: 16 ms hold a period of any voice above 63 Hz
CENTRE_BIAS = 0.9  # a frame follows the one before away from its due place until this outweighs likeness


def shift_pitch(wave: Wave, *, cents: float, rate_hz: int) -> Wave:
    """Raise or lower the pitch and keep the duration.

    A frame may be taken up to 8 ms from its due place, which itself never drifts; envelopes of clean and shifted speech agree to
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
    due = np.rint(np.arange(count) * (hop / ratio)).astype(np.int64).tolist()
    padded = np.pad(
        wave, (hop + reach, 4 * hop + 2 * reach)
    )  # the frame due at t begins at t + reach and lies around sample t
    search = Search(padded, hop=hop, reach=reach)
    window = np.hanning(2 * hop + 1)[:-1]
    result = np.zeros((count + 1) * hop)
    begins = [reach]
    for number, place in enumerate(due):
        if number:
            begins.append(search.most_alike(begins[-1] + hop, place + reach))
        result[number * hop : (number + 2) * hop] += padded[begins[-1] : begins[-1] + 2 * hop] * window
    late = search.mean_lateness(np.array(begins), np.array(due) + reach)
    first = hop - round(late * ratio)  # frames that come from later in the signal make the result early
    return result[first : first + wanted]


class Search:
    """Finds where a signal is most alike itself.

    Args:
        wave: The signal, shape (time,).
        hop: How many samples are compared: half a frame.
        reach: How far from the due place it looks, to both sides.
    """

    def __init__(self, wave: Wave, *, hop: int, reach: int) -> None:
        self.wave, self.hop, self.reach = wave, hop, reach
        self.size = fast_length(hop + 2 * reach)  # no lag that is asked for wraps around
        energy = np.zeros(wave.size + 1)
        np.cumsum(np.square(wave, out=energy[1:]), out=energy[1:])
        self.norm = energy[hop:] - energy[:-hop]  # worked on in place: each wave more is 77 MB of ten minutes
        np.sqrt(np.maximum(self.norm, 0.0, out=self.norm), out=self.norm)
        self.favour = 1.0 - CENTRE_BIAS * np.square(np.linspace(-1.0, 1.0, 2 * reach + 1))

    def mean_lateness(self, begins: NDArray[np.int64], due: NDArray[np.int64]) -> float:
        """By how many samples frames begin after their due places, in the mean over their energies."""
        energy = np.square(self.norm[begins]) + np.square(self.norm[begins + self.hop])
        total = float(energy.sum())
        return float((energy * (begins - due)).sum()) / total if total > 0.0 else 0.0

    def most_alike(self, continued: int, due: int) -> int:
        """Where a frame begins that goes on as the one before would have: near its due place, and rather nearer than farther.

        Args:
            continued: Where the second half of the frame before begins in the signal.
            due: Where the new frame would begin without a search.

        Returns:
            The beginning with the highest normalised correlation; the due one where nothing is alike.
        """
        first, last = due - self.reach, due + self.reach + 1
        field = np.fft.rfft(self.wave[first : last - 1 + self.hop], self.size)
        target = np.fft.rfft(self.wave[continued : continued + self.hop], self.size)
        alike = np.fft.irfft(field * target.conj(), self.size)[: last - first]
        norm = self.norm[first:last]
        score = alike / (norm + (1e-3 * norm.max() + 1e-9)) * self.favour
        best = int(score.argmax())
        return first + best if score[best] > 0.0 else due
