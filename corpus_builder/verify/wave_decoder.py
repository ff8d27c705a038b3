"""Decodes a wave in memory for verification, which shares no code with what it checks."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soundfile

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_SAMPLES = 1 << 18


@dataclass(frozen=True)
class DecodedWave:
    """A decoded wave.

    Attributes:
        said: Samples by its header.
        found: Samples that were decoded, at most the requested number.
        pcm_sha256: Of what was decoded: little-endian int16, channels interleaved.
        silent: Whether it is nothing but zeros.
        pcm: The first channel, shape (time,); None if it was not to be kept.
    """

    said: int
    found: int
    channels: int
    rate_hz: int
    pcm_sha256: str
    silent: bool
    pcm: NDArray[np.int16] | None


def decoded_wave(content: bytes, *, most: int, keep: bool) -> DecodedWave:
    """Decode a wave.

    Args:
        content: A FLAC or WAV file.
        most: Samples after which to stop: a header may claim, and a few bytes may unfold to, any number.
        keep: Return the first channel.

    Raises:
        soundfile.LibsndfileError: If it cannot be decoded.
        RuntimeError: Likewise.
    """
    state, found, silent = hashlib.sha256(), 0, True
    kept: list[NDArray[np.int16]] = []
    with soundfile.SoundFile(io.BytesIO(content)) as wave:
        while found < most:
            block = wave.read(min(BLOCK_SAMPLES, most - found), dtype="int16", always_2d=True)
            if not block.shape[0]:
                break
            found += block.shape[0]
            silent = silent and not np.any(block)
            state.update(block.astype("<i2", copy=False).tobytes())
            if keep:
                kept.append(block[:, 0])
        pcm = (np.concatenate(kept) if kept else np.zeros(0, np.int16)) if keep else None
        return DecodedWave(
            wave.frames, found, wave.channels, wave.samplerate, state.hexdigest(), silent=silent, pcm=pcm
        )
