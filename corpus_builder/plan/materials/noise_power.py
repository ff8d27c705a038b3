"""A noise file read through once: its length, its mean, and its power per 100 ms.

The power of 100 ms is taken without their own mean, so that the mean of several is never above the power of the segment that they make up:
what looks loud enough is. For noise without a mean the difference is below a tenth of a decibel, unless it is of 10 Hz and less.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soundfile

from corpus_builder.audio.containers import ContainerError, container_blocks, container_kind
from corpus_builder.audio.decode import MOST_INTERLEAVED, byte_stream, channel_of, container_header, read_header
from corpus_builder.audio.downmix import Downmix
from corpus_builder.audio.errors import NotFiniteAudioError, SilentAudioError, TruncatedAudioError, UnreadableAudioError
from corpus_builder.audio.tar_members import audio_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from corpus_builder.audio.levels import Wave
    from manifests.recipe.speech import Channel

LEVEL_FRAME_S = 0.1
SILENCE_DB = -200.0
MEAN_DIGITS = 6


@dataclass(frozen=True)
class MeasuredLevels:
    """One noise file as it was read through once: its length at its own rate, the mean of its samples, and power per 100 ms without that."""

    num_frames: int
    rate_hz: int
    channel: Channel | None
    mean: float
    power_db: tuple[float, ...]


def measure_levels(path: Path, *, name: object, channel: Channel | None) -> MeasuredLevels:
    """Read a noise through, a minute in memory at a time.

    A file shorter than 100 ms has one power, that of the whole. Powers are variances: each 100 ms without their mean.

    Raises:
        UnfitAudioError: One of its subclasses, by what is wrong; a constant too.
    """
    header = read_header(path, name=name)
    channel = channel_of(header.num_channels, channel, name=name)
    frame = max(1, round(LEVEL_FRAME_S * header.rate_hz))
    downmix = Downmix(channel)
    powers: list[NDArray[np.float64]] = []
    found, total = 0, 0.0
    for block in blocks(
        path,
        name=name,
        num_frames=max(frame, min(600, MOST_INTERLEAVED // (frame * header.num_channels)) * frame),
        downmix=downmix,
    ):
        if not np.isfinite(block).all():
            raise NotFiniteAudioError(name)
        found += block.size
        total += float(block.sum())
        whole = block[: block.size - block.size % frame] if block.size >= frame else block if not powers else block[:0]
        if whole.size:
            powers.append(np.var(whole.reshape(-1, min(frame, whole.size)), axis=1))
    if found < header.num_frames:
        raise TruncatedAudioError(name, found=found, promised=header.num_frames)
    downmix.check(name=name)
    power = np.concatenate(powers)
    if not (power >= 10.0 ** (SILENCE_DB / 10.0)).any():
        raise SilentAudioError(name, level_dbfs=-math.inf, least_dbfs=SILENCE_DB)
    decibels = 10.0 * np.log10(np.maximum(power, 10.0 ** (SILENCE_DB / 10.0)))
    mean = round(total / found, MEAN_DIGITS) + 0.0  # no minus zero
    return MeasuredLevels(found, header.rate_hz, channel, mean, tuple(round(float(value), 1) for value in decibels))


def blocks(path: Path, *, name: object, num_frames: int, downmix: Downmix) -> Iterator[Wave]:
    """One channel of a file or the mean of all, piece by piece, all but the last of `num_frames`."""
    try:
        kind = container_kind(path)
        if kind is not None:
            yield from container_pieces(path, kind, num_frames=num_frames, downmix=downmix)
            return
        with soundfile.SoundFile(audio_file(path)) as stream:
            while (block := stream.read(num_frames, dtype="float64", always_2d=True)).shape[0]:
                yield downmix.take(block)
    except (soundfile.LibsndfileError, RuntimeError, ContainerError) as problem:
        raise UnreadableAudioError(name, getattr(problem, "error_string", problem)) from None


def container_pieces(path: Path, kind: str, *, num_frames: int, downmix: Downmix) -> Iterator[Wave]:
    """One channel, or the mean of all, of a file that PyAV decodes, up to the length in its header; the decoder's own blocks are joined."""
    left = container_header(path, kind, name=path.name).num_frames
    kept: list[Wave] = []
    with byte_stream(path) as stream:
        for block in container_blocks(stream, kind):
            kept.append(downmix.take(block[:, :left].T))
            left -= kept[-1].size
            while (held := sum(piece.size for piece in kept)) >= num_frames:
                joined = np.concatenate(kept)
                yield joined[:num_frames]
                kept = [joined[num_frames:]] if held > num_frames else []
    if kept:
        yield np.concatenate(kept)
