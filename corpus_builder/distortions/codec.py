"""Speech and music codecs: coded, decoded, and put back in step with what went in.

Each codec delays what it codes, by an amount that depends on codec, bit rate and the resampling around it, and that its
bit stream does not tell. So the delay of each setting is measured, once in a process, on a probe signal through the
whole chain, and taken out.

Codecs run in process: G.711 by libsndfile, AMR-NB (3GPP TS 26.090, by OpenCORE) and Opus (RFC 6716) by FFmpeg's libraries
through PyAV without a container, MP3 (ISO/IEC 11172-3 and 13818-3) by LAME in fast-mp3-augment.
"""

from __future__ import annotations

import io
from fractions import Fraction
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Final, assert_never, cast

import av
import fast_mp3_augment
import numpy as np
import soundfile
import soxr

from corpus_builder.distortions.levels import FULL_SCALE, Wave, peak
from manifests.errors import StillroomError, printable
from manifests.steps import CODECS, Codec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from av.audio.codeccontext import AudioCodecContext
    from numpy.typing import NDArray

BITRATES_KBPS: Final[Mapping[Codec, tuple[float, ...]]] = {
    "g711-mulaw": (64.0,),
    "amr-nb": (4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2),
    "opus": tuple(float(rate) for rate in range(6, 65)),
    "mp3": (8.0, 16.0, 24.0, 32.0, 40.0, 48.0, 56.0, 64.0, 80.0, 96.0, 112.0, 128.0),
}
"""What each codec can be asked for. MPEG-2 layer III at 16 kHz and Opus go higher, where nothing is left to hear."""

DEFAULT_BITRATE_KBPS: Final[Mapping[Codec, float]] = {"g711-mulaw": 64.0, "amr-nb": 12.2, "opus": 16.0, "mp3": 32.0}

HEADROOM = 0.9  # codecs clip what they overshoot, so a louder wave is coded softer and made louder again
TAIL_S = 0.12  # more than any codec's delay: silence after the end, so that the end comes out of the codec
PROBE_S = 4.0


class UnknownBitrateError(StillroomError, ValueError):
    """A codec is asked for a bit rate that it does not have."""

    def __init__(self, codec: str, bitrate_kbps: float) -> None:
        rates = BITRATES_KBPS[codec]  # type: ignore[index]
        known = (
            ", ".join(f"{rate:g}" for rate in rates)
            if len(rates) < 20
            else f"{rates[0]:g} to {rates[-1]:g} in whole numbers"
        )
        super().__init__(f"{codec} has no bit rate of {bitrate_kbps:g} kbit/s; it has {known}")


class CodecFailedError(StillroomError, RuntimeError):
    """A codec gave an error of its own."""

    def __init__(self, codec: str, reason: object) -> None:
        super().__init__(f"{codec} could not code the wave: {printable(reason)}")


def nearest_bitrate_kbps(codec: Codec, asked_kbps: float) -> float:
    """The codec's bit rate that lies nearest to the asked one; of two as near, the lower."""
    return min(BITRATES_KBPS[codec], key=lambda rate: (abs(rate - asked_kbps), rate))


def transcode(wave: Wave, *, codec: Codec, bitrate_kbps: float, rate_hz: int) -> Wave:
    """Code and decode a wave.

    Args:
        wave: Mono samples, shape (time,); louder than +-1 is allowed and does not clip.
        codec: Which codec.
        bitrate_kbps: One of `BITRATES_KBPS`.
        rate_hz: Sample rate of the wave; the codec runs at its own.

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
    try:
        delay = delay_samples(codec, bitrate_kbps, rate_hz)
        coded = through(wave, codec=codec, bitrate_kbps=bitrate_kbps, rate_hz=rate_hz)
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


def through(wave: Wave, *, codec: Codec, bitrate_kbps: float, rate_hz: int) -> Wave:
    """The whole chain with its delay left in: to the codec's rate, coder, decoder, and back.

    Returns:
        Samples at `rate_hz`, shape (about time + 0.12 s,).
    """
    native_hz = codec_rate_hz(codec, rate_hz)
    padded = np.concatenate([wave, np.zeros(round(TAIL_S * rate_hz))])
    native = resampled(padded, rate_hz, native_hz)
    loudest = peak(native)
    gain = HEADROOM / loudest if loudest > HEADROOM else 1.0
    native = native * gain
    decoded_hz = native_hz
    match codec:
        case "g711-mulaw":
            decoded = mu_law(native)
        case "amr-nb":
            packed = np.rint(native * FULL_SCALE).astype(np.int16)
            decoded = through_av(
                packed, coder="libopencore_amrnb", decoder="amrnb", bitrate_kbps=bitrate_kbps, rate_hz=native_hz
            )
        case "opus":
            packed = native.astype(np.float32)
            decoded = through_av(
                packed, coder="libopus", decoder="libopus", bitrate_kbps=bitrate_kbps, rate_hz=native_hz
            )
            decoded_hz = 48_000
        case "mp3":
            coded = fast_mp3_augment.compress_roundtrip(native.astype(np.float32), native_hz, int(bitrate_kbps))
            decoded = np.asarray(coded, dtype=np.float64)
        case _:
            assert_never(codec)
    return resampled(decoded / gain, decoded_hz, rate_hz)


def codec_rate_hz(codec: Codec, rate_hz: int) -> int:
    """At which rate a codec takes samples of a corpus at `rate_hz`: its own, or the next above that it knows."""
    match codec:
        case "g711-mulaw" | "amr-nb":
            return 8_000
        case "opus":
            return next(rate for rate in (8_000, 12_000, 16_000, 24_000, 48_000) if rate >= rate_hz)
        case "mp3":
            known = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
            return next(rate for rate in known if rate >= rate_hz)
        case _:
            assert_never(codec)


def resampled(wave: Wave, from_hz: int, to_hz: int) -> Wave:
    """The wave at another rate by a filter of linear phase, its delay taken out; the same samples at the same rate."""
    return wave if from_hz == to_hz else np.asarray(soxr.resample(wave, from_hz, to_hz), dtype=np.float64)


def mu_law(wave: Wave) -> Wave:
    """To 8-bit mu-law and back (ITU-T G.711), sample by sample."""
    coded = io.BytesIO()
    soundfile.write(coded, np.rint(wave * FULL_SCALE).astype(np.int16), 8_000, format="RAW", subtype="ULAW")
    coded.seek(0)
    pcm, _ = soundfile.read(coded, dtype="int16", samplerate=8_000, channels=1, format="RAW", subtype="ULAW")
    return np.asarray(pcm, dtype=np.float64) / FULL_SCALE


def through_av(
    samples: NDArray[np.int16] | NDArray[np.float32], *, coder: str, decoder: str, bitrate_kbps: float, rate_hz: int
) -> Wave:
    """Through one of FFmpeg's coders and back, packet by packet, without a container.

    Args:
        samples: In the coder's own sample format, shape (time,).
        coder: FFmpeg's name of the coder.
        decoder: FFmpeg's name of the decoder.
        bitrate_kbps: Bit rate.
        rate_hz: Sample rate of the samples.

    Returns:
        What the decoder gives, at its own rate, delayed, shape (at least time,).
    """
    sample_format = "s16" if samples.dtype == np.int16 else "flt"
    writer = cast("AudioCodecContext", av.CodecContext.create(coder, "w"))
    writer.sample_rate, writer.layout, writer.format = rate_hz, "mono", sample_format
    writer.bit_rate, writer.time_base = round(1000 * bitrate_kbps), Fraction(1, rate_hz)
    writer.open()
    reader = cast("AudioCodecContext", av.CodecContext.create(decoder, "r"))
    reader.sample_rate, reader.layout = rate_hz, "mono"
    if sample_format == "flt":
        reader.options = {"request_sample_fmt": "flt"}
    if writer.extradata:
        reader.extradata = writer.extradata
    size = writer.frame_size
    whole = np.concatenate([samples, np.zeros(-samples.size % size, samples.dtype)])
    packets = []
    for start in range(0, whole.size, size):
        frame = av.AudioFrame.from_ndarray(whole[None, start : start + size], format=sample_format, layout="mono")
        frame.sample_rate, frame.pts = rate_hz, start
        packets += writer.encode(frame)
    packets += writer.encode(None)
    frames = [frame.to_ndarray()[0] for packet in packets for frame in reader.decode(av.Packet(bytes(packet)))]
    decoded = np.concatenate(frames)
    return decoded.astype(np.float64) / (FULL_SCALE if decoded.dtype == np.int16 else 1.0)


@cache
def delay_samples(codec: Codec, bitrate_kbps: float, rate_hz: int) -> int:
    """How many samples the chain of a setting delays a wave: measured on the probe, rounded; about 50 ms a setting, once."""
    return round(measured_delay(codec, bitrate_kbps, rate_hz))


def measured_delay(codec: Codec, bitrate_kbps: float, rate_hz: int) -> float:
    """The delay of a setting on the probe, in samples at `rate_hz`, to a sixteenth of a sample."""
    clean = probe(rate_hz)
    coded = through(clean, codec=codec, bitrate_kbps=bitrate_kbps, rate_hz=rate_hz)
    return phase_delay(clean, coded, most=round(TAIL_S * rate_hz), finest=16)


@lru_cache(maxsize=4)
def probe(rate_hz: int) -> Wave:
    """Four seconds that a speech codec takes for speech: noise of a falling spectrum in syllables, at -26 dBFS."""
    time_s = np.arange(round(PROBE_S * rate_hz)) / rate_hz
    noise = np.random.RandomState(26090).standard_normal(time_s.size)  # a frozen stream
    spectrum = np.fft.rfft(noise)
    frequency_hz = np.fft.rfftfreq(time_s.size, 1.0 / rate_hz)
    spectrum *= (frequency_hz > 60.0) / (1.0 + (frequency_hz / 500.0) ** 2) ** 0.5
    wave = np.fft.irfft(spectrum, time_s.size) * np.sin(np.pi * 4.0 * time_s) ** 2
    return np.asarray(wave * (10.0 ** (-26.0 / 20.0) / np.sqrt(np.mean(wave**2))), dtype=np.float64)


def phase_delay(clean: Wave, delayed: Wave, *, most: int, finest: int) -> float:
    """Lag of the peak of the cross-correlation with phase transform (Knapp and Carter 1976, GCC-PHAT).

    Args:
        clean: Mono samples, shape (time,).
        delayed: The same, later, shape (time or more,).
        most: Largest lag looked at, to both sides, in samples.
        finest: Steps to a sample.

    Returns:
        The lag in samples.
    """
    length = 1 << (clean.size + delayed.size).bit_length()
    before, after = np.fft.rfft(clean, length), np.fft.rfft(delayed, length)
    cross = after * np.conj(before)
    told = np.abs(after) > 1e-3 * np.abs(after).max()  # where the codec let nothing through, the phase is noise
    cross = np.where(told, cross / np.maximum(np.abs(cross), 1e-300), 0.0)
    correlation = np.fft.irfft(cross, finest * length)
    near = np.concatenate([correlation[-most * finest :], correlation[: most * finest + 1]])
    return float(np.argmax(near) - most * finest) / finest


assert set(CODECS) == set(BITRATES_KBPS) == set(DEFAULT_BITRATE_KBPS)
