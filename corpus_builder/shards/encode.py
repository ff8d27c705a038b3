"""The encoded waves of one sample: FLAC, digest and fingerprint of each, made as it is rendered.

The JSON member, which describes every copy, comes first in a tar, so the encoded copies wait until the last is made: in memory up to
8 MB, beyond that in an unnamed temporary file. A recipe may have any number of copies, and memory does not grow with it.
"""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import soundfile

from corpus_builder.shards.fingerprint import fingerprint, signs
from manifests.io.digest import bytes_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corpus_builder.audio.levels import Pcm, Wave


MEMORY_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class EncodedWave:
    """One wave of a sample: its name, the size of its FLAC in bytes, digest and fingerprint."""

    name: str
    size: int
    pcm_sha256: str
    fingerprint: str


class EncodedWaves:
    """The encoded waves of one sample, in the order in which they were added; a context.

    Args:
        key: The sample's, which keys the signs of fingerprints.
        num_samples: Length of every wave.
        rate_hz: Sample rate.
        scratch: Folder of the temporary file; the system's own by default.
    """

    def __init__(self, key: str, num_samples: int, *, rate_hz: int, scratch: Path | None = None) -> None:
        self.sign = signs(key, num_samples)
        self.rate_hz = rate_hz
        self.encoded = tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=None if scratch is None else str(scratch))  # noqa: SIM115 (closed by __exit__)
        self.waves: list[EncodedWave] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.encoded.close()

    def add(self, name: str, pcm: Pcm, *, uncoded: Wave | None = None) -> None:
        """Encode a wave, shape (num_samples,); `uncoded` is the input of its first codec, if there was one."""
        size = self.encoded.write(flac(pcm, rate_hz=self.rate_hz))
        self.waves.append(EncodedWave(name, size, pcm_digest(pcm), fingerprint(pcm, self.sign, uncoded=uncoded)))

    def __iter__(self) -> Iterator[tuple[EncodedWave, bytes]]:
        """Each wave and its FLAC."""
        self.encoded.seek(0)
        for wave in self.waves:
            yield wave, self.encoded.read(wave.size)


def flac(pcm: Pcm, *, rate_hz: int) -> bytes:
    """16-bit mono FLAC in memory; the same samples are the same bytes."""
    stream = io.BytesIO()
    soundfile.write(stream, pcm, rate_hz, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def pcm_digest(pcm: Pcm) -> str:
    """SHA-256 of little-endian 16-bit samples."""
    return bytes_digest(pcm.astype("<i2", copy=False).tobytes())
