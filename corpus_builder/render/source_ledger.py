"""Records what was decoded for a shard: the digest of each source file and of the PCM decoded from it.

Another lab's decoder may give other samples of the same file (MP3 and Vorbis are not defined to the last bit), and then its
copies differ although nobody did anything wrong. The digest of the decoded PCM distinguishes that case from all others.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from manifests.corpus.fingerprints import DecodedSource, SamplePrints
from manifests.corpus.layout import prints_name, sources_name
from manifests.io.digest import canonical_json, chunks_digest
from manifests.io.json_yaml import write_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from corpus_builder.audio.levels import Wave
    from manifests.recipe.speech import Channel

AT_ONCE = 1 << 18
MOST_REMEMBERED = 65_536  # far more than the caches of a worker hold waves


def decoded_digest(wave: Wave) -> str:
    """SHA-256 of decoded samples as little-endian float32, which holds 24-bit samples exactly; 0.4 ms for 10 s at 16 kHz."""
    return chunks_digest(
        wave[start : start + AT_ONCE].astype("<f4").tobytes() for start in range(0, wave.size, AT_ONCE)
    )


class SourceLedger:
    """Records which sources a worker decodes, and which of them the current shard uses."""

    def __init__(self) -> None:
        self.known: OrderedDict[object, DecodedSource] = OrderedDict()
        self.used: dict[object, DecodedSource] = {}

    def note(self, key: object, source: DecodedSource) -> None:
        """Record a decoded source."""
        self.known[key] = source
        self.known.move_to_end(key)
        while len(self.known) > MOST_REMEMBERED:
            self.known.popitem(last=False)

    def use(self, key: object) -> None:
        """Record that the current shard uses a source."""
        if key in self.known and key not in self.used:
            self.used[key] = self.known[key]

    def begin(self) -> None:
        """Begin another shard."""
        self.used = {}

    def sources(self) -> list[DecodedSource]:
        """The sources of the current shard, in the order of names."""
        return sorted(self.used.values(), key=lambda source: source.stretch)


def source_of(
    wave: Wave, *, root: str, path: str, start: int, rate_hz: int, channel: Channel | None, sha256: str
) -> DecodedSource:
    """A source from its decoded wave, shape (num_frames,), at the file's own rate."""
    return DecodedSource(
        root=root,
        path=path,
        start=start,
        num_frames=int(np.size(wave)),
        rate_hz=rate_hz,
        channel=channel,
        sha256=sha256,
        pcm_sha256=decoded_digest(wave),
    )


def write_proof(corpus: Path, shard: str, prints: Iterable[SamplePrints], sources: Iterable[DecodedSource]) -> None:
    """Write both files of a shard's proof; its index comes after them."""
    write_json_lines(corpus / prints_name(shard), (canonical_json(one) for one in prints))
    write_json_lines(corpus / sources_name(shard), (canonical_json(one) for one in sources))
