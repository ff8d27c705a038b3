"""An acoustic fingerprint of a recording: 32 bits every 11.6 ms that hardly change with sample rate, gain, trimming and codec.

The method is that of J. Haitsma and T. Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002. The power of 33 bands
from 300 to 2000 Hz is taken in long frames that overlap by 31 of 32 parts; a bit says whether the difference of two neighbouring
bands rose or fell from one frame to the next:

``bit(n, m) = E(n, m) - E(n, m + 1) - (E(n - 1, m) - E(n - 1, m + 1)) > 0``

A gain changes no sign; the bands exist at 8 kHz too; and as neighbouring frames are nearly the same, a cut at any sample
changes few bits. Measurements are in `docs/audit.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.fft

from corpus_builder.audio.decode import channel_of, file_blocks, read_header
from corpus_builder.audio.downmix import Downmix
from corpus_builder.audio.resample import at_rate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from corpus_builder.audio.decode import Header
    from corpus_builder.audio.levels import Wave
    from manifests.recipe.speech import Channel

METHOD: Final = "haitsma-kalker-1"
RATE_HZ: Final = 8000
FRAME: Final = 2960
HOP: Final = 93
FRAME_S: Final = FRAME / RATE_HZ
HOP_S: Final = HOP / RATE_HZ
BITS: Final = 32
LOWEST_HZ, HIGHEST_HZ = 300.0, 2000.0
TRANSFORM: Final = 4096
FRAMES_AT_ONCE: Final = 512
QUIET_DB: Final = -60.0
SILENT_POWER: Final = 1e-9
STRETCH_S: Final = 60

EDGES: Final = np.rint(
    LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (np.arange(BITS + 2) / (BITS + 1)) * TRANSFORM / RATE_HZ
).astype(np.intp)
WINDOW: Final = np.hanning(FRAME)
WEIGHTS: Final = np.uint32(1) << np.arange(BITS, dtype=np.uint32)


def band_powers(wave: Wave) -> NDArray[np.float64]:
    """Power of each band in each frame.

    Args:
        wave: Samples at 8 kHz, shape (time,), full scale at +-1.

    Returns:
        Shape (frame, 33); no frame reaches beyond the wave.
    """
    count = max(0, 1 + (wave.size - FRAME) // HOP) if wave.size >= FRAME else 0
    powers = np.empty((count, BITS + 1))
    if not count:
        return powers
    frames = np.lib.stride_tricks.sliding_window_view(wave, FRAME)[::HOP]
    for first in range(0, count, FRAMES_AT_ONCE):
        spectrum = scipy.fft.rfft(frames[first : first + FRAMES_AT_ONCE] * WINDOW, TRANSFORM, axis=1)[:, : EDGES[-1]]
        power = spectrum.real**2 + spectrum.imag**2
        powers[first : first + FRAMES_AT_ONCE] = np.add.reduceat(power, EDGES[:-1], axis=1)
    return powers


def prints_of(powers: NDArray[np.float64]) -> NDArray[np.uint32]:
    """One fingerprint of 32 bits for each frame but the first; 0 where a frame is quiet.

    A frame 60 dB under the loudest, or of no power at all, depends more on the rounding of a coder than on the recording.

    Args:
        powers: Shape (frame, 33).
    """
    if powers.shape[0] < 2:
        return np.zeros(0, dtype=np.uint32)
    slope = powers[:, :-1] - powers[:, 1:]
    bits = (slope[1:] - slope[:-1]) > 0
    prints: NDArray[np.uint32] = (bits * WEIGHTS).sum(axis=1, dtype=np.uint32)
    total = powers.sum(axis=1)
    lowest = max(float(total.max()) * 10.0 ** (QUIET_DB / 10.0), SILENT_POWER)
    prints[np.minimum(total[1:], total[:-1]) < lowest] = 0
    return prints


def fingerprint(path: Path, *, name: object, channel: Channel | None = None) -> NDArray[np.uint32]:
    """The fingerprint of a whole file, read a minute at a time.

    About 2.7 ms of one core for each second of the recording, without decoding, and 344 bytes.

    Args:
        path: An audio file.
        name: What to call it in a message.
        channel: Which channel, or `mix` for the mean of all; None means that the file has one.

    Returns:
        Shape (frame,); empty if the file is shorter than two frames, 0.38 s.

    Raises:
        UnfitAudioError: One of its subclasses, if the file cannot be used.
    """
    header = read_header(path, name=name)
    channel = channel_of(header.num_channels, channel, name=name)
    rest = np.zeros(0)
    powers: list[NDArray[np.float64]] = []
    for wave in stretches(path, name=name, downmix=Downmix(channel), header=header):
        rest = np.concatenate([rest, wave])
        found = band_powers(rest)
        powers.append(found)
        rest = rest[found.shape[0] * HOP :]
    return prints_of(np.concatenate(powers) if powers else np.zeros((0, BITS + 1)))


def stretches(path: Path, *, name: object, downmix: Downmix, header: Header) -> Iterator[Wave]:
    """One channel of a file, or the mean of all, at 8 kHz, about a minute at a time.

    Each stretch is resampled with a second more on both sides, so that there is no edge between two.
    """
    rate_hz = header.rate_hz
    margin, step = rate_hz, STRETCH_S * rate_hz
    pieces = file_blocks(path, name=name, num_frames=header.num_frames, step=step, downmix=downmix)
    before = np.zeros(0)
    block = next(pieces, np.zeros(0))
    while block.size:
        after = next(pieces, np.zeros(0))
        wave = np.nan_to_num(np.concatenate([before, block, after[:margin]]), posinf=0.0, neginf=0.0)
        first = before.size * RATE_HZ // rate_hz
        whole = at_rate(wave, from_hz=rate_hz, to_hz=RATE_HZ)
        length = -(-block.size * RATE_HZ // rate_hz)
        yield whole[first : first + length] if after.size else whole[first:]
        before, block = block[-margin:], after
