"""Additive noise at an SNR: a recorded segment, coloured noise from a seed, the babble of several talkers, or several of these.

SNR is the power of the signal as it enters over the power of the noise put in, both over the whole utterance unless the signal's
active speech level is requested, and both without the mean of their samples. Noise that is shorter than the utterance is repeated with a cross-fade and never stretched:
stretching moves its spectrum.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from scipy.fft import next_fast_len

from corpus_builder.audio.levels import SilentSignalError, Wave, is_silent, mean_power
from manifests.errors import StillroomError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from manifests.recipe.noises import Colour

CROSS_FADE_S = 0.05
LOWEST_HZ = 20.0
MOST_AT_ONCE = (
    1 << 20
)  # samples of a recording that are read at once: at 48 kHz they are decoded to 25 MB, and resampled from a copy


class OffsetError(StillroomError, ValueError):
    """A planned segment begins outside its recording."""

    def __init__(self, *, offset: int, num_samples: int) -> None:
        super().__init__(
            f"a segment was planned to begin at sample {offset}, but the recording has {num_samples}; "
            "the file is not the one that was planned with: put it back, or plan again"
        )


def mix_at_snr(speech: Wave, noise: Wave, *, snr_db: float, speech_power: float | None = None) -> Wave:
    """Add noise to speech so that the mixture has the requested SNR.

    The speech is left as it is and the noise is scaled, so the clean target stays
    in step: ``gain = sqrt(P_speech / (P_noise * 10 ** (snr_db / 10)))``.

    Args:
        speech: Mono samples, shape (time,).
        noise: Mono samples, shape (time,); fit its length first.
        snr_db: Ratio of powers without the mean of the samples (DC), in dB; a mean of the noise is scaled with it.
        speech_power: Power that counts as the speech's, such as that of its active level; the mean over the whole by default.

    Returns:
        The mixture, shape (time,). May exceed +-1: the level is set later, in one place.

    Raises:
        SilentSignalError: If either signal has no energy.
        ValueError: If the lengths differ.
    """
    mixture = scaled_to_snr(speech, noise, snr_db=snr_db, speech_power=speech_power)
    mixture += speech
    return mixture


def scaled_to_snr(speech: Wave, noise: Wave, *, snr_db: float, speech_power: float | None = None) -> Wave:
    """The noise as `mix_at_snr` puts it in, shape (time,); same arguments, same errors."""
    if speech.shape != noise.shape:
        raise ValueError(f"speech of {speech.shape} and noise of {noise.shape} samples: cut the noise to length first")
    if is_silent(speech):
        raise SilentSignalError("the speech that noise was to be added to")
    if is_silent(noise):
        raise SilentSignalError("the noise that was to be added")
    power = mean_power(speech) if speech_power is None else speech_power
    gain = math.sqrt(power / (mean_power(noise) * 10.0 ** (snr_db / 10.0)))
    return noise * gain


class Recording(Protocol):
    """A wave, or an object that reads stretches of one when they are needed."""

    @property
    def size(self) -> int:
        """Its length in samples."""
        ...

    def __getitem__(self, wanted: slice, /) -> Wave:
        """A stretch, shape (time,)."""
        ...


def segment(recording: Recording, *, offset: int, num_samples: int, rate_hz: int) -> Wave:
    """Cut a segment out of a recording, which is repeated with a cross-fade where it ends too soon.

    If ``offset + num_samples`` is within the recording, the segment is a plain cut. Otherwise the recording is looped:
    the last `fade` samples of each pass overlap the first `fade` samples of the next at equal power (cosine and sine
    weights, right for signals that do not correlate), so the loop's period is ``len(recording) - fade``. A fade lasts 50 ms,
    or half the recording if that is less.

    Args:
        recording: Mono samples, shape (time,), at least one.
        offset: First sample, within the recording.
        num_samples: Length wanted.
        rate_hz: Sample rate, which sets the length of the fade.

    Returns:
        Samples, shape (num_samples,). Not scaled.

    Raises:
        OffsetError: If the offset is outside the recording.
    """
    if not 0 <= offset < recording.size:
        raise OffsetError(offset=offset, num_samples=recording.size)
    fade = min(round(CROSS_FADE_S * rate_hz), recording.size // 2)
    seam = recording.size - fade  # where a pass begins to fade out, if there is another
    is_cut = offset + num_samples <= recording.size
    joint = np.zeros(0) if is_cut else faded(recording[seam:], recording[:fade])
    start = max(offset - seam, 0)  # an offset in the last `fade` samples begins within the joint
    if not is_cut and recording.size < MOST_AT_ONCE:
        loop = np.concatenate([joint, recording[fade:seam]])
        first = recording[offset:seam]
        turns = -(-(start + num_samples - first.size) // loop.size)
        return np.concatenate([first, np.tile(loop, turns)[start:]])[:num_samples]
    result, filled, place = np.empty(num_samples), 0, offset
    while filled < num_samples:
        if is_cut or place < seam:
            most = min(num_samples - filled, MOST_AT_ONCE)
            piece = recording[place : place + most if is_cut else min(place + most, seam)]
            place += piece.size
        else:
            piece = joint[start : start + num_samples - filled]
            start, place = 0, fade
        result[filled : filled + piece.size] = piece
        filled += piece.size
    return result


def faded(ending: Wave, beginning: Wave) -> Wave:
    """One wave into another of the same length at equal power, shape (time,)."""
    angle = (np.arange(ending.size) + 0.5) * (math.pi / 2.0 / max(1, ending.size))
    mixed: Wave = ending * np.cos(angle) + beginning * np.sin(angle)
    return mixed


def white(*, seed: int, num_samples: int) -> Wave:
    """White Gaussian noise of unit power, always the same for a seed.

    From `numpy.random.RandomState`, whose stream is frozen; that of `numpy.random.Generator` may change between versions.

    Args:
        seed: From the plan, in [0, 2**32).
        num_samples: Length wanted.

    Returns:
        Samples, shape (num_samples,).
    """
    return np.random.RandomState(seed).standard_normal(num_samples)  # frozen on purpose


def coloured(
    colour: Colour,
    *,
    seed: int,
    num_samples: int,
    rate_hz: int,
    spectrum_db: NDArray[np.float64] | None = None,
) -> Wave:
    """Stationary Gaussian noise of a colour, always the same for a seed.

    White noise is weighted in the frequency domain: pink by ``f ** -1/2`` and brown by ``1 / f``, with nothing below 20 Hz
    (Kasdin, Proceedings of the IEEE 83(5), 1995, on noise whose power is ``1 / f ** a``); speech-shaped noise by the
    given spectrum, as Byrne and others (JASA 96, 1994) measured it for twelve languages. At least a second is made and cut, so
    that a short stretch has low frequencies, too.

    Args:
        colour: Which.
        seed: From the plan, in [0, 2**32).
        num_samples: Length wanted.
        rate_hz: Sample rate.
        spectrum_db: Power at equally spaced frequencies from 0 Hz to half the rate, for the colour `speech`.

    Returns:
        Samples, shape (num_samples,), of unit power (over what is made before it is cut).

    Raises:
        ValueError: If speech-shaped noise comes without a spectrum.
    """
    if colour == "white":
        return white(seed=seed, num_samples=num_samples)
    made: int = next_fast_len(max(num_samples, rate_hz), real=True)
    spectrum = np.fft.rfft(white(seed=seed, num_samples=made))
    frequency_hz = np.asarray(np.fft.rfftfreq(made, 1.0 / rate_hz), np.float64)
    spectrum *= weights_of(colour, frequency_hz, rate_hz=rate_hz, spectrum_db=spectrum_db)
    shaped: Wave = np.fft.irfft(spectrum, made)
    shaped /= math.sqrt(mean_power(shaped))
    return shaped[:num_samples]


def weights_of(
    colour: Literal["pink", "brown", "speech"],
    frequency_hz: NDArray[np.float64],
    *,
    rate_hz: int,
    spectrum_db: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """What white noise is weighted with at each frequency to have a colour; see `coloured`."""
    if colour == "speech":
        if spectrum_db is None:
            raise ValueError("speech-shaped noise needs the spectrum of speech")
        places_hz = np.linspace(0.0, rate_hz / 2.0, spectrum_db.size)
        shape: NDArray[np.float64] = 10.0 ** (np.interp(frequency_hz, places_hz, spectrum_db) / 20.0)
        return shape
    steepness = 0.5 if colour == "pink" else 1.0
    return np.where(frequency_hz >= LOWEST_HZ, np.maximum(frequency_hz, LOWEST_HZ) ** -steepness, 0.0)


def together(noises: Iterable[Wave], *, what: str = "one of several noises that were to be added") -> Wave:
    """Several waves at once, each brought to equal power.

    Args:
        noises: Mono samples, shape (time,) each, all of one length; taken one by one, so that a generator holds one at a time.
        what: What each is, for the message.

    Returns:
        Their sum over the square root of their number, shape (time,).

    Raises:
        SilentSignalError: If one has no energy.
        ValueError: If there is none.
    """
    total = np.zeros(0)
    count = 0
    for noise in noises:
        if is_silent(noise):
            raise SilentSignalError(what)
        if not count:
            total = np.zeros(noise.size)
        total += noise / math.sqrt(mean_power(noise))
        count += 1
        del noise  # or it would be held while the next one is made
    if not count:
        raise ValueError("at least one wave is needed")
    total /= math.sqrt(count)
    return total


def babble(talkers: Iterable[Wave]) -> Wave:
    """Several talkers at once, each brought to equal power.

    Args:
        talkers: For each talker a segment, shape (time,), all of one length; taken one by one.

    Returns:
        Their sum over the square root of their number, shape (time,).

    Raises:
        SilentSignalError: If a talker is silent in its segment.
        ValueError: If there is no talker.
    """
    return together(talkers, what="a talker of the babble")
