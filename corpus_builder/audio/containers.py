"""Decodes what libsndfile does not read by PyAV: MP4, Matroska, AMR, WMA, MPEG transport streams, WavPack, Monkey's Audio and the like.

The kind of container follows from the first bytes of the file and is never guessed: ffmpeg would follow a playlist that calls itself
`.m4a`. ffmpeg is given a stream and may open containers of that one kind, so that nothing in the file can name another one.
"""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from corpus_builder.audio.errors import TruncatedAudioError, UnreadableAudioError
from corpus_builder.audio.formats.views import View, size_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from corpus_builder.audio.formats.views import Source

PREROLL_S = 1.0  # a decoder needs a few frames until its output after a seek is its output without one
SEEK_FROM_S = 600.0
MOST_FRAMES = 1 << 31
MOST_PADDING = 4096  # what an encoder of MP4 adds to fill its last frame, which the header does not count
LENGTH_IS_SAMPLES = frozenset({"wv", "ape", "tta"})  # kinds whose header has the number of samples
SAMPLE_TYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}  # by ffmpeg's names


class ContainerError(ValueError):
    """ffmpeg cannot decode a file; `decode` names it."""


@contextlib.contextmanager
def audio_stream(source: Source, kind: str) -> Iterator[tuple[Any, Any]]:
    """The opened container and its first audio stream.

    Raises:
        ContainerError: If there is none, or it cannot be decoded.
    """
    import av

    options = {"format_whitelist": kind}
    plain = View(source, [(0, size_of(source))])  # a damaged header can lead to before the file, which a file raises at
    try:
        with av.open(
            cast("IO[bytes]", plain), format=kind, container_options=options, metadata_errors="ignore"
        ) as container:
            if not container.streams.audio:
                raise ContainerError("it has no audio stream")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise ContainerError("its audio has a coding that is not read")
            if not stream.rate:
                raise ContainerError("its header does not say the sample rate")
            yield container, stream
    except (av.FFmpegError, EOFError, UnicodeDecodeError) as problem:
        # the whole message has the file's name and a number that only this system has
        raise ContainerError(getattr(problem, "strerror", None) or "it is damaged") from None


def container_shape(source: Source, kind: str, *, count: bool, name: object) -> tuple[int | None, int, int]:
    """Frames, rate and channels of the first audio stream.

    Args:
        source: The file.
        kind: Which of ffmpeg's readers it needs.
        count: Decode it to count its frames; they are None otherwise.
        name: What to call the file in a message.

    Raises:
        ContainerError: If it cannot be decoded.
        TruncatedAudioError: If it has fewer samples than its header says.
        UnreadableAudioError: If it does not end within reason.
    """
    with audio_stream(source, kind) as (_, stream):
        rate_hz, channels = int(stream.rate), int(stream.channels)
        promised = round(stream.duration * stream.time_base * rate_hz) if stream.duration else 0
    if not count:
        return None, rate_hz, channels
    found = 0
    for block in container_blocks(source, kind):
        found += block.shape[1]
        if found > MOST_FRAMES:
            raise UnreadableAudioError(name, f"it decodes to more than {MOST_FRAMES} samples")
    if kind in LENGTH_IS_SAMPLES and found < promised:
        raise TruncatedAudioError(name, found=found, promised=promised)
    if kind == "mov" and 0 <= found - promised < MOST_PADDING:
        found = promised
    return found, rate_hz, channels


def container_blocks(source: Source, kind: str, *, start: int = 0) -> Iterator[NDArray[np.float64]]:
    """Decodes from a frame on: what is before it is decoded and dropped, except that MP4 is sought in where that is long.

    Yields:
        Blocks, shape (channel, time), full scale at +-1.

    Raises:
        ContainerError: If it cannot be decoded, or changes its rate or channels on the way.
    """
    with audio_stream(source, kind) as (container, stream):
        rate_hz, channels = int(stream.rate), int(stream.channels)
        exact = (1 / stream.time_base) % rate_hz == 0 if stream.time_base else False
        sought = kind == "mov" and exact and start > SEEK_FROM_S * rate_hz
        if sought:
            target_s = start / rate_hz - PREROLL_S
            container.seek(int(target_s / stream.time_base) + (stream.start_time or 0), stream=stream)
        reached: int | None = None
        for frame in container.decode(stream):
            if frame.sample_rate != rate_hz or len(frame.layout.channels) != channels:
                raise ContainerError("it changes its rate or channels on the way")
            if frame.is_corrupt:
                raise ContainerError("it is damaged: a frame of it is not what was coded, or not all of it is there")
            if reached is None:
                reached = 0
                if sought:
                    reached = round(((frame.pts or 0) - (stream.start_time or 0)) * stream.time_base * rate_hz)
                if reached > start:
                    raise ContainerError("its index leads to the wrong place")
            block = frame_wave(frame)
            reached += block.shape[1]
            if reached > start:
                yield block[:, max(0, block.shape[1] - (reached - start)) :]


def frame_wave(frame: Any) -> NDArray[np.float64]:
    """A decoded frame, shape (channel, time), full scale at +-1."""
    channels = len(frame.layout.channels)
    dtype = SAMPLE_TYPES[frame.format.name.removesuffix("p")]
    if (
        frame.format.is_planar
    ):  # `frame.to_ndarray` reads a plane too many where there are eight, from an address that is none
        planes = frame.planes[:channels]
        found = np.stack([np.frombuffer(plane, dtype, frame.samples) for plane in planes])
    else:
        found = np.frombuffer(frame.planes[0], dtype, frame.samples * channels).reshape(-1, channels).T
    if found.dtype.kind == "f":
        return np.asarray(found, np.float64)
    if found.dtype == np.uint8:
        return np.asarray((found.astype(np.float64) - 128.0) / 128.0)
    return np.asarray(found.astype(np.float64) / -float(np.iinfo(found.dtype).min))
