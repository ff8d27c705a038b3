"""Opus (RFC 6716), by libopus through PyAV: 6 to 64 kbit/s, narrow to full band, in packets of 20 ms."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from corpus_builder.distortions.codecs.ffmpeg import av_packets, av_samples
from corpus_builder.distortions.codecs.packets import Coded

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from manifests.recipe.codecs import Application

DECODED_HZ: Final = 48_000


def opus(samples: NDArray[np.float32], *, bitrate_kbps: float, application: Application, rate_hz: int) -> Coded:
    """Linear prediction (SILK), lapped transform (CELT), or both, as libopus chooses by bit rate and application.

    Args:
        samples: At one of Opus's rates, shape (time,).
        bitrate_kbps: Mean of the variable bit rate that is aimed at.
        application: `voip` or `audio`.
        rate_hz: 8, 12, 16, 24 or 48 kHz; what is decoded is at 48 kHz.
    """
    packets, header = av_packets(
        samples,
        coder="libopus",
        sample_format="flt",
        bitrate_kbps=bitrate_kbps,
        rate_hz=rate_hz,
        options={"application": application},
    )
    # The decoder would take the pre-skip (RFC 7845, section 4.2) from the first packet that it gets, which may not be the first
    skip = int.from_bytes(header[10:12], "little")
    decode = partial(
        av_samples,
        decoder="libopus",
        rate_hz=rate_hz,
        header=header[:10] + b"\0\0" + header[12:],
        options={"request_sample_fmt": "flt"},
    )
    return Coded(packets, decode, DECODED_HZ // 50, stand_in=empty_frame, skip_samples=skip)


def empty_frame(latest: bytes) -> bytes:
    """A packet of the same configuration with a frame of no bytes, which a decoder takes for a lost one (RFC 6716, 3.2.1)."""
    return bytes([latest[0] & 0xFC])
