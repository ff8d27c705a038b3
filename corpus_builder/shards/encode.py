"""The waves of one sample, coded one by one as they are rendered: FLAC, digest and fingerprint, and nothing else is kept.

The JSON member comes first in a tar and tells of every copy, so the coded copies wait until the last is made: in memory while they
are few, in an unnamed temporary file beyond that. So memory depends neither on how many copies there are nor on their sum.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from corpus_builder.audio.flac import flac, pcm_digest
from corpus_builder.shards.fingerprint import print_of, signs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from corpus_builder.audio.levels import Pcm, Wave


HELD_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class EncodedWave:
    """One wave of a sample: its name, the size of its FLAC in bytes, and what tells it from others."""

    name: str
    size: int
    pcm_sha256: str
    fingerprint: str


class EncodedWaves:
    """The coded waves of one sample, in the order in which they were added; a context.

    Args:
        key: The sample's, which keys the signs of fingerprints.
        num_samples: Length of every wave.
        rate_hz: Sample rate.
        scratch: Where the temporary file would lie; the system's own folder by default.
    """

    def __init__(self, key: str, num_samples: int, *, rate_hz: int, scratch: Path | None = None) -> None:
        self.sign = signs(key, num_samples)
        self.rate_hz = rate_hz
        self.held = tempfile.SpooledTemporaryFile(max_size=HELD_BYTES, dir=None if scratch is None else str(scratch))  # noqa: SIM115 (closed by __exit__)
        self.waves: list[EncodedWave] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.held.close()

    def add(self, name: str, pcm: Pcm, *, uncoded: Wave | None = None) -> None:
        """Code a wave, shape (num_samples,); `uncoded` is what entered its first codec, if there was one."""
        size = self.held.write(flac(pcm, rate_hz=self.rate_hz))
        self.waves.append(EncodedWave(name, size, pcm_digest(pcm), print_of(pcm, self.sign, uncoded=uncoded)))

    def __iter__(self) -> Iterator[tuple[EncodedWave, bytes]]:
        """Each wave and its FLAC."""
        self.held.seek(0)
        for wave in self.waves:
            yield wave, self.held.read(wave.size)
