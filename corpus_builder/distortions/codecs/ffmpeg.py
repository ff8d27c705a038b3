"""FFmpeg's coders and decoders through PyAV, packet by packet, without a container."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from av.audio.codeccontext import AudioCodecContext
    from numpy.typing import NDArray


def av_packets(
    samples: NDArray[np.int16] | NDArray[np.float32],
    *,
    coder: str,
    sample_format: str,
    bitrate_kbps: float,
    rate_hz: int,
    options: Mapping[str, str] | None = None,
) -> tuple[list[bytes], bytes]:
    """Code a wave.

    Args:
        samples: In the coder's own sample format, shape (time,); silence fills the last frame.
        coder: FFmpeg's name of the coder.
        sample_format: FFmpeg's name of the format.
        bitrate_kbps: Bit rate.
        rate_hz: Sample rate of the samples.
        options: The coder's own.

    Returns:
        The packets, and the header that the decoder needs (empty if it needs none).
    """
    writer = cast("AudioCodecContext", av.CodecContext.create(coder, "w"))
    writer.sample_rate, writer.layout, writer.format = rate_hz, "mono", sample_format
    writer.bit_rate, writer.time_base = round(1000 * bitrate_kbps), Fraction(1, rate_hz)
    if options:
        writer.options = dict(options)
    writer.open()
    size = writer.frame_size
    whole = np.concatenate([samples, np.zeros(-samples.size % size, samples.dtype)])
    packets: list[bytes] = []
    for start in range(0, whole.size, size):
        frame = av.AudioFrame.from_ndarray(whole[None, start : start + size], format=sample_format, layout="mono")
        frame.sample_rate, frame.pts = rate_hz, start
        packets += map(bytes, writer.encode(frame))
    packets += map(bytes, writer.encode(None))
    return packets, bytes(writer.extradata or b"")


def av_samples(
    packets: Sequence[bytes],
    *,
    decoder: str,
    rate_hz: int,
    header: bytes = b"",
    options: Mapping[str, str] | None = None,
) -> NDArray[Any]:
    """Decode packets.

    Args:
        packets: As they came from the coder.
        decoder: FFmpeg's name of the decoder.
        rate_hz: Sample rate that the coder had.
        header: As it came from the coder.
        options: The decoder's own.

    Returns:
        Samples at the decoder's own rate and in its own format, shape (time,).
    """
    reader = cast("AudioCodecContext", av.CodecContext.create(decoder, "r"))
    reader.sample_rate, reader.layout = rate_hz, "mono"
    if options:
        reader.options = dict(options)
    if header:
        reader.extradata = header
    frames = [frame.to_ndarray()[0] for packet in packets for frame in reader.decode(av.Packet(packet))]
    assert frames, "a decoder that gives nothing for packets would pass as silence"
    return np.concatenate(frames)
