"""Cuts and checks a recorded response: its direct sound, the beginning of its noise floor, its decay.

A recording differs from a simulation in all three: it begins with silence or noise of any length, a reflection or a mode of the
room may be its largest sample, and it ends in the noise of its measurement.

The direct sound is looked for as a measurement of lag will find it: the highest peak of the whitened response (what the phase
transform of GCC-PHAT leaves). That peak must also come first, and stand out; then the copy is in step with the dry speech (law 2).
Otherwise no place of the response is, and it is refused.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from corpus_builder.audio.decode import read_stretch
from corpus_builder.audio.errors import MissingAudioError, UnfitAudioError
from corpus_builder.audio.resample import at_rate
from corpus_builder.rooms.acoustics import NoDecayError, Response, energy_decay_db, measured_response
from manifests.errors import BadDocumentError, MissingFileError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from manifests.io.place import Place
    from manifests.plan.steps import FileSpan


LOUDEST_RIVAL = 0.95
EARLIER_SHARE = 0.25
GUARD_S = 0.001
LEAD_S = 0.005
BLOCK_S = 0.01
FADE_S = 0.005
FLOOR_SHARE = 0.1
LEAST_BLOCKS = 4
SMOOTHED_BLOCKS = 5
FIT_ABOVE_FLOOR_DB = 8.0
LEAST_RANGE_DB = 35.0
KEPT_DB = 60.0


class UnfitResponseError(UnfitAudioError):
    """A recorded response that cannot be used."""

    def __init__(self, name: object, what: str) -> None:
        super().__init__(f"{printable(name)} {what}")


def usable_response(wave: NDArray[np.float64], *, rate_hz: int, name: object) -> Response:
    """Cut a recorded response to what can be used, and measure it.

    What comes before the direct sound is cut to 5 ms, the noise after the decay is cut off, and the polarity is turned so that the
    direct sound is positive: a microphone's polarity means nothing, and a turned one has no peak of GCC-PHAT.

    Args:
        wave: One channel at the corpus rate, shape (time,).
        rate_hz: Sample rate.
        name: What to call it in a message.

    Raises:
        UnfitResponseError: If it is silent or too short, has no dominant onset, or does not decay by 35 dB before its noise.
    """
    peak = float(np.abs(wave).max(initial=0.0))
    if peak == 0.0:
        raise UnfitResponseError(name, "is digital silence: every sample is zero")
    if wave.size < 2 * GUARD_S * rate_hz:
        raise UnfitResponseError(name, f"has {wave.size} samples, too few for a room response")
    scaled = wave / peak
    first = direct_place(scaled)
    check_onset(scaled, first, rate_hz=rate_hz, name=name)
    ends = decay_end(scaled[first:], rate_hz=rate_hz, name=name)
    begins = max(first - round(LEAD_S * rate_hz), 0)
    kept = faded(scaled[begins : first + ends], head=begins > 0, direct=first - begins, rate_hz=rate_hz)
    direct_sample = direct_place(kept)
    check_onset(kept, direct_sample, rate_hz=rate_hz, name=name)
    kept = kept * math.copysign(1.0, whitened(kept)[direct_sample])
    try:
        response = measured_response(kept, direct_sample=direct_sample, rate_hz=rate_hz)
    except NoDecayError:
        what = "has no decaying Schroeder curve: no line can be laid through -5 to -35 dB, so it holds next to no reverberation"
        raise UnfitResponseError(name, what) from None
    if response.rival > LOUDEST_RIVAL:
        what = f"has no dominant onset: a reflection is {response.rival:.2f} times as strong as its direct sound (whitened)"
        raise UnfitResponseError(name, what)
    return response


def whitened(wave: NDArray[np.float64]) -> NDArray[np.float64]:
    """A response whose spectrum has magnitude 1, shape (time,); bins 100 dB under the strongest are left out."""
    size = 1 << (2 * wave.size - 1).bit_length()
    spectrum = np.fft.rfft(wave, size)
    magnitude = np.abs(spectrum)
    is_strong = magnitude > 1e-5 * magnitude.max()
    return np.asarray(
        np.fft.irfft(np.where(is_strong, spectrum / np.maximum(magnitude, 1e-300), 0.0), size)[: wave.size]
    )


def direct_place(wave: NDArray[np.float64]) -> int:
    """The highest peak of the whitened response."""
    return int(np.abs(whitened(wave)).argmax())


def check_onset(wave: NDArray[np.float64], place: int, *, rate_hz: int, name: object) -> None:
    """Check that nothing as strong as a quarter of the largest sample comes before the direct sound.

    Raises:
        UnfitResponseError: If something does, or if next to nothing is at the place.
    """
    guard = round(GUARD_S * rate_hz)
    peak = float(np.abs(wave).max())
    earlier = np.abs(wave[: max(place - guard, 0)])
    if earlier.size and float(earlier.max()) >= EARLIER_SHARE * peak:
        ahead_ms = 1000.0 * (place - int(np.argmax(earlier >= EARLIER_SHARE * peak))) / rate_hz
        what = f"has no dominant onset: strong sound begins {ahead_ms:.1f} ms before the peak that a measurement of lag would find"
        raise UnfitResponseError(name, what)
    here = float(np.abs(wave[max(place - guard, 0) : place + guard + 1]).max())
    if here < EARLIER_SHARE * peak:
        raise UnfitResponseError(
            name, f"has no dominant onset: its direct sound is {here / peak:.2f} of its largest sample"
        )


def decay_end(wave: NDArray[np.float64], *, rate_hz: int, name: object) -> int:
    """Where the decay meets the noise floor, or has fallen by 60 dB, as a number of samples from the direct sound on.

    Raises:
        UnfitResponseError: If the decay has less than 35 dB before the floor.
    """
    wave = np.trim_zeros(wave, "b")  # a response padded with digital silence has its noise before that
    block = max(round(BLOCK_S * rate_hz), 1)
    if wave.size < LEAST_BLOCKS * block:
        ends_ms = 1000.0 * wave.size / rate_hz
        raise UnfitResponseError(name, f"ends {ends_ms:.0f} ms after its direct sound, before it could decay")
    end, beyond = noise_knee(wave, block)
    range_db = 10.0 * math.log10(float(np.square(wave[:end]).sum()) / beyond)
    if range_db < LEAST_RANGE_DB:
        what = f"has no decaying Schroeder curve: it falls by {range_db:.1f} dB before its noise, {LEAST_RANGE_DB:g} are needed"
        raise UnfitResponseError(name, what)
    return min(end, int(np.searchsorted(-energy_decay_db(wave[:end]), KEPT_DB)) + 1)


def noise_knee(wave: NDArray[np.float64], block: int) -> tuple[int, float]:
    """Where the decay of a response meets its noise floor.

    The floor is the mean power of the last tenth; a line is laid through the levels of 10 ms blocks from the second (the first holds
    the direct sound, which is no part of the decay) to the last 8 dB above the floor, and meets it at the knee (Lundeby 1995, one round).
    Without a floor the knee is near the end.

    Args:
        wave: From the direct sound on, its last sample not zero.
        block: Samples of a block.

    Returns:
        Samples before the knee, and the energy that the decay would have after it.
    """
    blocks = wave.size // block
    power = np.square(wave[: blocks * block]).reshape(blocks, block).mean(axis=1)
    floor = max(float(np.square(wave[-max(round(FLOOR_SHARE * wave.size), block) :]).mean()), 1e-30)
    around = np.convolve(power, np.full(SMOOTHED_BLOCKS, 1.0 / SMOOTHED_BLOCKS), mode="same")[: power.size]
    above = np.flatnonzero(around >= floor * 10.0 ** (FIT_ABOVE_FLOOR_DB / 10.0))
    used = int(above[-1]) + 1 if above.size else 1
    level_db = 10.0 * np.log10(np.maximum(power[:used], 1e-30) / floor)
    at = np.flatnonzero(level_db > 0.0)  # a sparse simulation may be silent for a while before it goes on
    at = at[1:] if at.size >= LEAST_BLOCKS else at
    slope, height = fitted(at, level_db[at]) if at.size > 1 else (0.0, 0.0)
    if slope >= 0.0:
        return used * block, floor * block
    knee = math.ceil((height / -slope + 0.5) * block)
    return min(max(knee, used * block), wave.size), floor * block * 10.0 / (math.log(10.0) * -slope)


def fitted(at: NDArray[np.intp], levels: NDArray[np.float64]) -> tuple[float, float]:
    """Slope, and height at 0, of a line by least squares, without LAPACK and its threads."""
    centred = at - at.mean()
    slope = float(np.sum(centred * levels) / np.sum(centred**2))
    return slope, float(levels.mean() - slope * at.mean())


def faded(wave: NDArray[np.float64], *, head: bool, direct: int, rate_hz: int) -> NDArray[np.float64]:
    """Raised-cosine fades: out over the last 5 ms, in over half of what comes before the direct sound."""
    result = wave.copy()
    out = min(round(FADE_S * rate_hz), max(wave.size - direct - 1, 0) // 2)
    if out:
        result[-out:] *= 0.5 + 0.5 * np.cos(np.pi * (np.arange(out) + 1) / (out + 1))
    into = direct // 2 if head else 0
    if into:
        result[:into] *= 0.5 - 0.5 * np.cos(np.pi * (np.arange(into) + 1) / (into + 1))
    return result


def copied_response(file: FileSpan, roots: Mapping[str, Place], *, rate_hz: int) -> Response:
    """The response of a planned file, cut as it was at planning; see `usable_response`.

    Raises:
        MissingFileError: If it is not there.
        UnfitAudioError: If it is not what it was when it was planned.
    """
    if file.root not in roots:
        raise BadDocumentError("plan", f"root {file.root!r} is not among the roots of this machine: {', '.join(roots)}")
    place = roots[file.root] / file.path
    try:
        wave = read_stretch(
            place,
            name=file.path,
            start=round(file.start * file.rate_hz),
            num_frames=file.num_frames,
            channel=file.channel,
            rate_hz=file.rate_hz,
        )
    except MissingAudioError:
        needed = f"a response of root {file.root!r}; say --root {file.root}=DIR if it is elsewhere"
        raise MissingFileError(place, needed=needed) from None
    return usable_response(at_rate(wave, from_hz=file.rate_hz, to_hz=rate_hz), rate_hz=rate_hz, name=file.path)
