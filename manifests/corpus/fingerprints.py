"""Fingerprints of the waves of a shard, and the source stretches that were decoded for it; `rebuild` compares both.

Beside `shards/` a corpus has, for each shard,

```
proof/<shard>.jsonl           one line a sample: the fingerprint of its clean wave and of every copy (docs/fingerprint.md)
proof/<shard>.sources.jsonl   one line a stretch of a source file that was decoded: digest of the file and of its decoded PCM
```

Both are written before the index of the shard, the mark of a finished shard. Training reads neither.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, field_validator

from manifests.corpus.layout import prints_name, sources_name
from manifests.io.json_yaml import safe_relative
from manifests.io.records import Name, Record, Samples, Sha256
from manifests.recipe.speech import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manifests.io.place import Place

Print = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$|^[A-Za-z0-9+/]{86}==$")]
BLOCK_BYTES = 32
MARKS = (1, 2)  # of the fine block, and of the coded one after it
MOST_EXPONENT = 64


class SamplePrints(Record):
    """The fingerprints of one sample, in base64, by member: `clean`, `<condition>-<n>`; each of 32 or 64 bytes."""

    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,60}$")]
    prints: dict[str, Print]

    @field_validator("prints")
    @classmethod
    def check_blocks(cls, prints: dict[str, str]) -> dict[str, str]:
        """A fine block and at most a coded one after it; checked when a pack is read, not only when its waves are rendered."""
        for name, text in prints.items():
            content = base64.b64decode(text)
            blocks = [content[at : at + BLOCK_BYTES] for at in range(0, len(content), BLOCK_BYTES)]
            if any(block[0] != mark or block[1] > MOST_EXPONENT for block, mark in zip(blocks, MARKS, strict=False)):
                raise ValueError(f"{name}: not a fingerprint, or one of a later Stillroom")
        return prints


MIX = -2  # sorts `mix` among the numbers of channels


class DecodedSource(Record):
    """A stretch of one channel of a source file, as it was decoded.

    Attributes:
        start: First frame of the stretch.
        num_frames: Its length, at the file's own rate.
        channel: Channel, or `mix` for the mean of all; None for a mono file.
        sha256: Digest of the file's bytes.
        pcm_sha256: Digest of the decoded stretch as little-endian float32, full scale at +-1, before any change of rate.
    """

    root: Name
    path: str
    start: Samples = 0
    num_frames: Samples
    rate_hz: Annotated[int, Field(ge=1, le=1_000_000)]
    channel: Channel | None = None
    sha256: Sha256
    pcm_sha256: Sha256

    @field_validator("path")
    @classmethod
    def check_path(cls, path: str) -> str:
        """An untrusted path stays below its root."""
        return safe_relative(path, where="path")

    @property
    def stretch(self) -> tuple[str, str, int, int, int]:
        """The file and the stretch of it: the key by which two lists of sources are joined."""
        channel = -1 if self.channel is None else MIX if self.channel == "mix" else self.channel
        return self.root, self.path, self.start, self.num_frames, channel


def sample_prints(corpus: Place, shard: str) -> Iterator[SamplePrints]:
    """The fingerprints of a shard."""
    return SamplePrints.read_lines(corpus / prints_name(shard), needed="the fingerprints of a shard")


def decoded_sources(corpus: Place, shard: str) -> Iterator[DecodedSource]:
    """The stretches of source files that were decoded for a shard."""
    needed = "the sources of a shard; if the corpus was built by an earlier Stillroom, build it again"
    return DecodedSource.read_lines(corpus / sources_name(shard), needed=needed)
