"""16-bit FLAC and the SHA-256 of PCM samples."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import soundfile

from manifests.io.digest import bytes_digest

if TYPE_CHECKING:
    from corpus_builder.audio.levels import Pcm


def flac(pcm: Pcm, *, rate_hz: int) -> bytes:
    """16-bit mono FLAC in memory; the same samples are the same bytes."""
    stream = io.BytesIO()
    soundfile.write(stream, pcm, rate_hz, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def pcm_digest(pcm: Pcm) -> str:
    """SHA-256 of little-endian 16-bit samples."""
    return bytes_digest(pcm.astype("<i2", copy=False).tobytes())
