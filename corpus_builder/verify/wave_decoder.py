"""Decodes a wave in memory for verification, which shares no code with what it checks."""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import soundfile

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_SAMPLES = 1 << 18
DECODING_ERRORS = (soundfile.LibsndfileError, RuntimeError, TypeError)


@dataclass(frozen=True)
class DecodedWave:
    """A decoded wave.

    Attributes:
        header_samples: Number of samples by its header.
        num_samples: Number of samples that were decoded, at most the requested number.
        pcm_sha256: Of the decoded samples: little-endian int16, channels interleaved.
        level_dbfs: RMS without the mean, of all channels together; minus infinity for a constant.
        problem: What training would stumble over in samples that are no integers: NaN, infinity, or a peak beyond full scale.
        pcm: The first channel, shape (time,); None if it was not requested.
    """

    header_samples: int
    num_samples: int
    num_channels: int
    rate_hz: int
    pcm_sha256: str
    level_dbfs: float
    problem: str | None
    pcm: NDArray[np.int16] | None


def decoded_wave(content: bytes, *, most_samples: int, keep_pcm: bool) -> DecodedWave:
    """Decode a wave.

    Args:
        content: An audio file.
        most_samples: Samples after which to stop: a header may claim, and a few bytes may stand for, any number.
        keep_pcm: Return the first channel.

    Raises:
        soundfile.LibsndfileError: Or another of `DECODING_ERRORS`, if it cannot be decoded.
    """
    state, num_samples, mean, power = hashlib.sha256(), 0, 0.0, 0.0
    problem: str | None = None
    blocks = [np.zeros(0, np.int16)]
    with soundfile.SoundFile(io.BytesIO(content)) as wave:
        is_float = wave.subtype in {"FLOAT", "DOUBLE", "VORBIS", "OPUS"} or wave.subtype.startswith("MPEG_")
        while num_samples < most_samples:
            wanted = min(BLOCK_SAMPLES, most_samples - num_samples)
            if is_float:  # libsndfile's own conversion to integers makes zeros of a float WAV
                block, found = as_integers(wave.read(wanted, dtype="float64", always_2d=True))
                problem = problem or found
            else:
                block = wave.read(wanted, dtype="int16", always_2d=True)
            if not block.shape[0]:
                break
            share = block.shape[0] / (num_samples + block.shape[0])
            apart = float(block.mean()) - mean
            power += share * (float(block.var()) - power + (1.0 - share) * apart * apart)  # Chan and others, 1979
            mean += share * apart
            num_samples += block.shape[0]
            state.update(block.astype("<i2", copy=False).tobytes())
            if keep_pcm:
                blocks.append(block[:, 0])
        return DecodedWave(
            header_samples=wave.frames,
            num_samples=num_samples,
            num_channels=wave.channels,
            rate_hz=wave.samplerate,
            pcm_sha256=state.hexdigest(),
            level_dbfs=10.0 * math.log10(power / 32768.0**2) if power > 0.0 else -math.inf,
            problem=problem,
            pcm=np.concatenate(blocks) if keep_pcm else None,
        )


def as_integers(block: NDArray[np.float64]) -> tuple[NDArray[np.int16], str | None]:
    """Samples as 16-bit integers, and what is wrong with them."""
    if not np.all(np.isfinite(block)):
        return np.zeros(block.shape, np.int16), "holds NaN or infinite samples"
    loudest = float(np.max(np.abs(block), initial=0.0))
    problem = f"has a peak of {loudest:.3g}, beyond full scale (1)" if loudest > 1.0 else None
    return np.rint(np.clip(block, -1.0, 32767 / 32768) * 32768).astype(np.int16), problem
