"""The index of one shard, and of a corpus.

A shard index is written after its tar and is the mark of a finished shard. `corpus.json` is written after all of them and is
the mark of a sealed corpus.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from manifests.plan import Refusal
from manifests.records import Document, Name, Record, Sha256

Size = Annotated[int, Field(ge=0, lt=2**48)]


class Member(Record):
    """Where the content of one tar member lies, and the digest of its PCM (little-endian int16), for audio."""

    offset: Size
    size: Size
    pcm_sha256: Sha256 | None = None


class IndexedSample(Record):
    """One sample of a shard; `members` by suffix: `json`, `clean`, `<condition>-<n>`."""

    key: str
    num_samples: Annotated[int, Field(ge=1, lt=2**40)]
    members: dict[str, Member]

    @property
    def copies(self) -> list[str]:
        """Names of the distorted copies, sorted."""
        return sorted(name for name in self.members if name not in {"json", "clean"})

    @property
    def span(self) -> tuple[int, int]:
        """First byte of the first member's content, and the byte after the last one's: one read brings the sample."""
        return (
            min(member.offset for member in self.members.values()),
            max(member.offset + member.size for member in self.members.values()),
        )


class ShardIndex(Document):
    """The `.json` beside a tar.

    Attributes:
        plan_sha256: Digest of the plan file that the shard was rendered from.
        refused: Utterances of the plan file that are not in the shard.
    """

    SCHEMA: ClassVar[str] = "stillroom/shard/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    name: str
    split: Name
    sample_rate: int
    bytes: Size
    sha256: Sha256
    plan_sha256: Sha256
    samples: Annotated[tuple[IndexedSample, ...], Field(strict=False)]
    refused: Annotated[tuple[Refusal, ...], Field(strict=False)] = ()


class ShardEntry(Record):
    """One shard in `corpus.json`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")]
    samples: Annotated[int, Field(ge=0)]
    seconds: float
    bytes: Size
    sha256: Sha256


class Totals(Record):
    """Sums over a corpus; `seconds` counts each utterance once."""

    samples: int
    seconds: float
    bytes: Size
    shards: int


class Corpus(Document):
    """`corpus.json`: what a sealed corpus holds.

    Attributes:
        copies: For each split, the copies that every utterance has, by condition.
        filtered: Utterances left out by the recipe's own filters, by split and reason.
        refused: How many utterances were refused, by split; their reasons stand in `refused.jsonl`.
    """

    SCHEMA: ClassVar[str] = "stillroom/corpus/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    name: Name
    recipe_sha256: Sha256
    plan_sha256: Sha256
    sample_rate: int
    splits: dict[Name, Annotated[tuple[ShardEntry, ...], Field(strict=False)]]
    copies: dict[Name, dict[str, int]]
    totals: Totals
    filtered: dict[str, dict[str, int]] = {}
    refused: dict[str, int] = {}
