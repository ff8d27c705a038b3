"""Codes and decodes a wave with a speech or music codec, and removes the delay.

The coders run in this process (`round_trip`), each at its own sample rate; the delay of each setting is measured (`delay`) and taken
out. Packets of the codecs of telephony may be lost (`packet_loss`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np
import soundfile

from corpus_builder.distortions.codecs.delay import delay_samples
from corpus_builder.distortions.codecs.round_trip import Setting, through
from manifests.errors import StillroomError, printable
from manifests.recipe.codecs import (
    BITRATES_KBPS,
    DEFAULT_APPLICATION,
    DEFAULT_BITRATE_KBPS,
    Application,
    Codec,
    known_bitrates,
)

if TYPE_CHECKING:
    from corpus_builder.audio.levels import Wave
    from manifests.plan.steps import PlannedPacketLoss

__all__ = ["BITRATES_KBPS", "DEFAULT_BITRATE_KBPS", "CodecFailedError", "UnknownBitrateError", "shifted", "transcode"]


class UnknownBitrateError(StillroomError, ValueError):
    """A plan has a bit rate that its codec does not have."""

    def __init__(self, codec: Codec, bitrate_kbps: float) -> None:
        super().__init__(f"{codec} has no bit rate of {bitrate_kbps:g} kbit/s; it has {known_bitrates(codec)}")


class CodecFailedError(StillroomError, RuntimeError):
    """A codec gave an error of its own."""

    def __init__(self, codec: str, reason: object) -> None:
        super().__init__(f"{codec} could not code the wave: {printable(reason)}")


def transcode(
    wave: Wave,
    *,
    codec: Codec,
    bitrate_kbps: float,
    rate_hz: int,
    application: Application = DEFAULT_APPLICATION,
    loss: PlannedPacketLoss | None = None,
) -> Wave:
    """Code and decode a wave.

    Args:
        wave: Mono samples, shape (time,); louder than +-1 is allowed and does not clip.
        codec: Which codec.
        bitrate_kbps: One of `BITRATES_KBPS`.
        rate_hz: Sample rate of the wave; the codec runs at its own.
        application: What Opus is tuned for.
        loss: Packets lost between coder and decoder.

    Returns:
        Samples, shape (time,), in step with the wave to within half a sample on the probe.

    Raises:
        UnknownBitrateError: If the codec has no such bit rate.
        CodecFailedError: If the coder or decoder gives up.
    """
    if bitrate_kbps not in BITRATES_KBPS[codec]:
        raise UnknownBitrateError(codec, bitrate_kbps)
    if not wave.size:
        return wave
    setting = Setting(codec, bitrate_kbps, rate_hz, application)
    try:
        delay = delay_samples(setting)
        coded = through(wave, setting, loss=loss)
    except (av.FFmpegError, soundfile.SoundFileError) as problem:
        raise CodecFailedError(codec, problem) from problem
    return shifted(coded, delay=delay, length=wave.size)


def shifted(wave: Wave, *, delay: int, length: int) -> Wave:
    """Samples `delay` to ``delay + length`` of a wave that is zero outside, shape (length,)."""
    result = np.zeros(length)
    kept = wave[max(delay, 0) : max(delay + length, 0)]
    start = max(-delay, 0)
    result[start : start + kept.size] = kept[: length - start]
    return result
