"""The whole chain of a codec with its delay left in: to the codec's rate and level, coder, packet loss, decoder, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np
import soxr

from corpus_builder.audio.levels import FULL_SCALE, Pcm, Wave, peak
from corpus_builder.audio.resample import RESAMPLER
from corpus_builder.distortions.codecs import music, opus, telephony
from corpus_builder.distortions.codecs.packet_loss import packet_is_lost
from manifests.recipe.codecs import DEFAULT_APPLICATION, Application, Codec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from corpus_builder.distortions.codecs.packets import Coded
    from manifests.plan.steps import PlannedPacketLoss

HEADROOM = 0.9  # codecs clip what they overshoot, so a louder wave is coded softer and made louder again
TAIL_S = 0.12  # more than any codec's delay: silence after the end, so that the end comes out of the codec


@dataclass(frozen=True)
class Setting:
    """What the delay of a codec depends on.

    Attributes:
        codec: Which codec.
        bitrate_kbps: One of `manifests.recipe.codecs.BITRATES_KBPS`.
        rate_hz: Sample rate of the wave; the codec runs at its own.
        application: Of Opus.
    """

    codec: Codec
    bitrate_kbps: float
    rate_hz: int
    application: Application = DEFAULT_APPLICATION


def through(wave: Wave, setting: Setting, *, loss: PlannedPacketLoss | None = None) -> Wave:
    """Code and decode, the delay left in.

    Args:
        wave: Mono samples at `setting.rate_hz`, shape (time,).
        setting: Codec, bit rate, sample rate.
        loss: Packets lost, for the codecs that are sent in packets.

    Returns:
        Samples at `setting.rate_hz`, shape (about time + 0.12 s,).
    """
    coder_hz = codec_rate_hz(setting)
    padded = np.concatenate([wave, np.zeros(round(TAIL_S * setting.rate_hz))])
    native = resampled(padded, setting.rate_hz, coder_hz)
    loudest = peak(native)
    gain = HEADROOM / loudest if loudest > HEADROOM else 1.0
    if gain != 1.0:
        native = native * gain
    match setting.codec:
        case "mp3" | "aac" | "vorbis" | "opus":
            decoded, decoded_hz = music_coded(native.astype(np.float32), setting, loss=loss, coder_hz=coder_hz)
        case "g711-alaw" | "g711-mulaw" | "g722" | "g726" | "gsm-fr" | "amr-nb":
            conceals = loss is not None and loss.conceal == "codec"
            coded = telephone_coded(sixteen_bit(native), setting, conceals_itself=conceals)
            decoded, decoded_hz = received(coded, loss), coder_hz
        case _:
            assert_never(setting.codec)
    return resampled(decoded, decoded_hz, setting.rate_hz, divisor=gain)


def music_coded(
    samples: NDArray[np.float32], setting: Setting, *, loss: PlannedPacketLoss | None, coder_hz: int
) -> tuple[NDArray[Any], int]:
    """Code and decode with a codec that takes float samples: the decoded samples, shape (time,), and their rate."""
    match setting.codec:
        case "mp3":
            return music.mp3(samples, bitrate_kbps=setting.bitrate_kbps, rate_hz=coder_hz), coder_hz
        case "aac":
            return music.aac(samples, bitrate_kbps=setting.bitrate_kbps, rate_hz=coder_hz), coder_hz
        case "vorbis":
            return music.vorbis(samples, bitrate_kbps=setting.bitrate_kbps, rate_hz=coder_hz), coder_hz
        case "opus":
            coded = opus.opus(
                samples, bitrate_kbps=setting.bitrate_kbps, application=setting.application, rate_hz=coder_hz
            )
            return received(coded, loss), opus.DECODED_HZ
        case "g711-alaw" | "g711-mulaw" | "g722" | "g726" | "gsm-fr" | "amr-nb":
            raise AssertionError(setting.codec)
        case _:
            assert_never(setting.codec)


def telephone_coded(samples: Pcm, setting: Setting, *, conceals_itself: bool) -> Coded:
    """The packets of a codec of telephony."""
    match setting.codec:
        case "g711-alaw":
            return telephony.g711(samples, law="ALAW")
        case "g711-mulaw":
            return telephony.g711(samples, law="ULAW")
        case "g722":
            return telephony.g722(samples, bitrate_kbps=setting.bitrate_kbps)
        case "g726":
            return telephony.g726(samples, bitrate_kbps=setting.bitrate_kbps)
        case "gsm-fr":
            return telephony.gsm_full_rate(samples)
        case "amr-nb":
            return telephony.amr_narrow_band(
                samples, bitrate_kbps=setting.bitrate_kbps, conceals_itself=conceals_itself
            )
        case "opus" | "mp3" | "aac" | "vorbis":
            raise AssertionError(setting.codec)
        case _:
            assert_never(setting.codec)


def received(coded: Coded, loss: PlannedPacketLoss | None) -> NDArray[Any]:
    """The decoded samples, with packets lost if losses are planned, shape (time,)."""
    if loss is None:
        return coded.decoded()
    frame_is_lost = packet_is_lost(
        len(coded.packets),
        seed=loss.seed,
        percent=loss.percent,
        burst_packets=loss.burst_packets,
        bad_percent=loss.bad_percent,
        good_percent=loss.good_percent,
    )
    return coded.decoded_with_losses(frame_is_lost, conceal=loss.conceal)


def codec_rate_hz(setting: Setting) -> int:
    """The sample rate that a codec runs at: its own, or the next above the wave's that it supports."""
    match setting.codec:
        case "g711-alaw" | "g711-mulaw" | "g726" | "gsm-fr" | "amr-nb":
            return telephony.NARROW_BAND_HZ
        case "g722":
            return telephony.WIDE_BAND_HZ
        case "opus":
            known: tuple[int, ...] = (8_000, 12_000, 16_000, 24_000, 48_000)
        case "mp3":
            known = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
        case "aac":
            known = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # below 16 kHz the higher bit rates do not exist
        case "vorbis":
            # nor, in Vorbis, the lower ones above 24 kHz, so that coders bring the sample rate down
            known = (16_000, 22_050, 24_000, *((32_000, 44_100, 48_000) if setting.bitrate_kbps >= 48 else ()))
        case _:
            assert_never(setting.codec)
    return next((rate for rate in known if rate >= setting.rate_hz), known[-1])


def resampled(samples: NDArray[Any], from_hz: int, to_hz: int, *, divisor: float = 1.0) -> Wave:
    """The samples as a wave at another rate, by a filter of linear phase, its delay taken out.

    Args:
        samples: Full scale at +-1, or int16, shape (time,).
        from_hz: Their rate.
        to_hz: The rate wanted; at the same rate the same samples.
        divisor: What they are divided by.
    """
    if from_hz == to_hz:
        return as_wave(samples, divisor)
    wave: Wave = soxr.resample(as_wave(samples, divisor), from_hz, to_hz, quality=RESAMPLER)
    return wave


def as_wave(samples: NDArray[Any], divisor: float) -> Wave:
    """Samples of a decoder as float64 over a divisor; the very same samples if they are a wave and the divisor is 1."""
    wave = samples.astype(np.float64, copy=False)
    if samples.dtype == np.int16:
        wave = wave / FULL_SCALE
    return wave if divisor == 1.0 else wave / divisor


def sixteen_bit(wave: Wave) -> Pcm:
    """Samples rounded to 16 bits, which the coders of telephony take; the headroom keeps them from clipping."""
    return np.rint(wave * FULL_SCALE).astype(np.int16)
