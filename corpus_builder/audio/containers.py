"""Decodes AAC and ALAC in MP4 (`.m4a`, `.m4b`, `.mp4`) and AAC in ADTS (`.aac`) by PyAV, since libsndfile reads neither.

The kind of container follows from the name and is never guessed: ffmpeg would follow a playlist named `.m4a`. ffmpeg is given a
stream, so that nothing in the file can name another one.
"""

from __future__ import annotations

import contextlib
import os
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from corpus_builder.audio.downmix import Downmix

KINDS = {".m4a": "mov", ".m4b": "mov", ".mp4": "mov", ".aac": "aac"}
PREROLL_S = 1.0  # a decoder needs a few frames until its output after a seek is its output without one
SEEK_FROM_S = 5.0


class ContainerError(ValueError):
    """ffmpeg cannot decode a file; `decode` names it."""


def container_kind(name: object) -> str | None:
    """Which of ffmpeg's readers a file needs, by its suffix; None for libsndfile."""
    return KINDS.get(os.path.splitext(str(name))[1].lower())  # noqa: PTH122 (called for every file)


@contextlib.contextmanager
def audio_stream(source: IO[bytes], kind: str) -> Iterator[tuple[Any, Any]]:
    """The opened container and its first audio stream.

    Raises:
        ContainerError: If there is none, or it cannot be decoded.
    """
    import av

    try:
        with av.open(source, format=kind) as container:
            if not container.streams.audio:
                raise ContainerError("it has no audio stream")
            yield container, container.streams.audio[0]
    except (av.FFmpegError, av.error.FFmpegError, EOFError, UnicodeDecodeError) as problem:
        raise ContainerError(str(problem)) from None


def container_shape(source: IO[bytes], kind: str) -> tuple[int, int, int]:
    """Frames, rate and channels of the first audio stream.

    MP4 has the number of frames; ADTS does not, and is decoded to count them.

    Raises:
        ContainerError: If it cannot be decoded.
    """
    with audio_stream(source, kind) as (_, stream):
        rate_hz, channels = int(stream.rate or 0), int(stream.channels)
        if kind == "mov" and stream.duration:
            return round(stream.duration * stream.time_base * rate_hz), rate_hz, channels
    source.seek(0)
    return sum(block.shape[1] for block in container_blocks(source, kind)), rate_hz, channels


def container_blocks(source: IO[bytes], kind: str, *, start: int = 0) -> Iterator[NDArray[np.float64]]:
    """Decodes from a frame on, which is found by seeking where the container has an index.

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
    found: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        found = found.reshape(-1, len(frame.layout.channels)).T
    if found.dtype.kind == "f":
        return np.asarray(found, np.float64)
    if found.dtype == np.uint8:
        return np.asarray((found.astype(np.float64) - 128.0) / 128.0)
    return np.asarray(found.astype(np.float64) / -float(np.iinfo(found.dtype).min))


def container_stretch(
    source: IO[bytes], kind: str, *, start: int, num_frames: int, downmix: Downmix
) -> NDArray[np.float64]:
    """Frames of one channel or of the mean of all from `start` on, shape (time,): fewer if the stream ends before.

    Raises:
        ContainerError: If it cannot be decoded.
    """
    pieces: list[NDArray[np.float64]] = []
    found = 0
    with contextlib.closing(container_blocks(source, kind, start=start)) as blocks:  # type: ignore[type-var]
        for block in blocks:
            pieces.append(downmix.take(block.T[: num_frames - found]))
            found += block.shape[1]
            if found >= num_frames:
                break
    return np.concatenate(pieces)[:num_frames] if pieces else np.zeros(0)
