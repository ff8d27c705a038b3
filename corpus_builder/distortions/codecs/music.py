"""Codecs of music files and broadcasts: MP3, AAC and Vorbis, coded as one stream."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

import fast_mp3_augment
import numpy as np
import soundfile

from corpus_builder.distortions.codecs.ffmpeg import av_packets, av_samples

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

BLOCK = 1 << 16

VORBIS_BITRATES_KBPS: Final[Mapping[int, tuple[tuple[float, ...], tuple[float, ...]]]] = {
    16_000: ((0.0, 0.05, 0.5, 1.0), (24.0, 28.0, 64.0, 100.0)),
    22_050: ((0.0, 0.05, 0.5, 1.0), (24.0, 28.0, 50.0, 90.0)),
    24_000: ((0.0, 0.05, 0.5, 1.0), (24.0, 28.0, 50.0, 90.0)),
    32_000: ((0.0, 0.1, 0.2, 0.3, 0.4, 0.5), (42.0, 52.0, 64.0, 72.0, 78.0, 86.0)),
    44_100: ((0.0, 0.1, 0.2, 0.3, 0.4, 0.5), (48.0, 60.0, 70.0, 80.0, 86.0, 96.0)),
    48_000: ((0.0, 0.1, 0.2, 0.3, 0.4, 0.5), (48.0, 60.0, 70.0, 80.0, 86.0, 96.0)),
}
"""Sample rate -> qualities and their nominal bit rates for one channel, as libvorbis writes them into the stream's header."""


def mp3(samples: NDArray[np.float32], *, bitrate_kbps: float, rate_hz: int) -> NDArray[Any]:
    """MPEG layer III (ISO/IEC 11172-3 and 13818-3), by LAME in fast-mp3-augment, shape (time,)."""
    return np.asarray(fast_mp3_augment.compress_roundtrip(samples, rate_hz, int(bitrate_kbps)))


def aac(samples: NDArray[np.float32], *, bitrate_kbps: float, rate_hz: int) -> NDArray[Any]:
    """Advanced audio coding, low complexity (ISO/IEC 14496-3), by FFmpeg, shape (time or more,).

    FFmpeg's `fast` search of quantisers: its `twoloop` costs five times as much and is no more accurate at these rates.
    """
    packets, header = av_packets(
        samples,
        coder="aac",
        sample_format="fltp",
        bitrate_kbps=bitrate_kbps,
        rate_hz=rate_hz,
        options={"aac_coder": "fast"},
    )
    return av_samples(packets, decoder="aac", rate_hz=rate_hz, header=header)


def vorbis(samples: NDArray[np.float32], *, bitrate_kbps: float, rate_hz: int) -> NDArray[Any]:
    """Vorbis I (Xiph.Org), by libvorbis in libsndfile, at the quality of that nominal bit rate, shape (time,)."""
    stream = io.BytesIO()
    quality = vorbis_quality(bitrate_kbps, rate_hz=rate_hz)
    with soundfile.SoundFile(
        stream,
        "w",
        samplerate=rate_hz,
        channels=1,
        format="OGG",
        subtype="VORBIS",
        compression_level=1.0 - quality,
    ) as writer:
        for start in range(
            0, samples.size, BLOCK
        ):  # libvorbis takes its working memory for a whole write from the stack
            writer.write(samples[start : start + BLOCK])
    stream.seek(0)
    decoded, _ = soundfile.read(stream, dtype="float32")
    return np.asarray(decoded)


def vorbis_quality(bitrate_kbps: float, *, rate_hz: int) -> float:
    """The quality, 0 to 1, with the given nominal bit rate."""
    qualities, rates = VORBIS_BITRATES_KBPS[rate_hz]
    return float(np.interp(bitrate_kbps, rates, qualities))
