"""Decodes audio in memory, a block at a time and never beyond a given number of samples.

Verification has a decoder of its own, as it shares no code with what it checks.
"""

from __future__ import annotations

import hashlib
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from corpus_builder.audio.formats.mpeg_stream import no_warnings
from corpus_builder.audio.levels import FULL_SCALE, SILENT_SOURCE_DBFS, power_dbfs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from corpus_builder.audio.levels import Pcm

BLOCK_SAMPLES = 1 << 18
DECODING_ERRORS = (soundfile.LibsndfileError, RuntimeError, TypeError)
"""What `decode_bytes` raises for bytes that are no audio, or damaged."""
SHORT_CODINGS = frozenset({"PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW"})  # which 16 bits hold
WIDE_CODINGS = frozenset({"PCM_24", "PCM_32"})


@dataclass(frozen=True)
class DecodedBytes:
    """Audio that was decoded from memory.

    Attributes:
        header_samples: How many samples a channel libsndfile gives the file, and it reads no more.
        num_samples: How many samples a channel were decoded, at most the requested number.
        is_silent: Whether the first channel is below -80 dBFS without its mean.
        is_finite: Whether none of them is NaN or infinite.
        peak: Largest magnitude of a sample, full scale being 1; 0 where 16 bits hold all of them.
        is_exact: Whether the format stores integer samples, so that every decoder gives these.
        pcm_sha256: Of the decoded samples: little-endian int16, channels interleaved.
        pcm: The first channel, shape (time,), int16; empty if it was not to be kept.
    """

    header_samples: int
    num_samples: int
    num_channels: int
    rate_hz: int
    is_silent: bool
    is_finite: bool
    peak: float
    is_exact: bool
    pcm_sha256: str
    pcm: Pcm


def decode_bytes(content: bytes, *, most_samples: int, keep_pcm: bool = True) -> DecodedBytes:
    """Decode a file's content as libsndfile does by itself, which is how a shard is read in training.

    Args:
        content: A file of any format that libsndfile reads.
        most_samples: Samples a channel after which to stop: a few bytes of FLAC can stand for hours.
        keep_pcm: Return the samples of the first channel.

    Raises:
        soundfile.LibsndfileError: Or another of `DECODING_ERRORS`, if it cannot be decoded.
    """
    state, num_samples, total, total_squares, is_finite, peak = hashlib.sha256(), 0, 0, 0, True, 0.0
    kept = [np.zeros(0, np.int16)]
    with no_warnings(), soundfile.SoundFile(io.BytesIO(content)) as stream:
        dtype = "int16" if stream.subtype in SHORT_CODINGS else "int32" if stream.subtype in WIDE_CODINGS else "float64"
        while num_samples < most_samples:
            block = stream.read(min(BLOCK_SAMPLES, most_samples - num_samples), dtype=dtype, always_2d=True)
            if not block.shape[0]:
                break
            num_samples += block.shape[0]
            if dtype == "float64":
                is_finite = is_finite and bool(np.isfinite(block).all())
                peak = max(peak, float(np.abs(block).max()))
            pcm = in_16_bits(block)
            first = pcm[:, 0].astype(np.int64)
            total, total_squares = total + int(first.sum()), total_squares + int(np.dot(first, first))
            state.update(pcm.astype("<i2", copy=False).tobytes())
            if keep_pcm:
                kept.append(pcm[:, 0])
        return DecodedBytes(
            header_samples=stream.frames,
            num_samples=num_samples,
            num_channels=stream.channels,
            rate_hz=stream.samplerate,
            is_silent=variance_dbfs(num_samples, total, total_squares) < SILENT_SOURCE_DBFS,
            is_finite=is_finite,
            peak=peak,
            is_exact=stream.subtype.startswith("PCM_"),
            pcm_sha256=state.hexdigest(),
            pcm=np.concatenate(kept),
        )


def in_16_bits(block: NDArray[Any]) -> Pcm:
    """Samples of any type as int16: the upper bits of integers, and full scale for what a float has beyond it."""
    if block.dtype.kind == "i":
        shorter: Pcm = (block >> 16 if block.dtype == np.int32 else block).astype(np.int16, copy=False)
        return shorter
    pcm: Pcm = np.rint(np.clip(np.nan_to_num(block), -1.0, 32767 / 32768) * 32768.0).astype(np.int16)
    return pcm


def variance_dbfs(count: int, total: int, total_squares: int) -> float:
    """Level without the mean of 16-bit samples, from their sum and that of their squares, exact before the last step."""
    return power_dbfs((count * total_squares - total * total) / (count * FULL_SCALE) ** 2) if count else -math.inf
