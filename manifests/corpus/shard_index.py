"""The index of a shard and of a corpus.

A shard index is written after its tar and is the mark of a finished shard. `corpus.json` is written after all of them and is
the mark of a sealed corpus.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator

from manifests.corpus.layout import CORPUS, index_name, tar_name
from manifests.errors import MissingFileError, printable
from manifests.io.json_yaml import safe_relative
from manifests.io.records import Document, Name, Rate, Record, Sha256
from manifests.plan.plan import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from manifests.io.place import Place

Size = Annotated[int, Field(ge=0, lt=2**48)]
ABOUT = frozenset({"json", "txt", "cls"})


class Member(Record):
    """Offset and size of a tar member's content and, for audio, the digest of its PCM (little-endian int16).

    Attributes:
        suffix: What follows the key and its dot in the member's name, where that is not `json` or `<name>.flac`.
    """

    offset: Size
    size: Size
    pcm_sha256: Sha256 | None = None
    suffix: Annotated[str, Field(min_length=1, max_length=255)] | None = None


class IndexedSample(Record):
    """One sample of a shard; `members` by suffix: `json`, `clean`, `<condition>-<n>`; in an external shard also `txt`, `cls`."""

    key: str
    num_samples: Annotated[int, Field(ge=1, lt=2**40)]
    members: dict[str, Member]

    @property
    def copies(self) -> list[str]:
        """Names of the distorted copies, sorted."""
        return sorted(name for name in self.members if name not in ABOUT and name != "clean")

    @property
    def span(self) -> tuple[int, int]:
        """Start and end of the stretch of the tar that holds all members: one read gives the sample."""
        return (
            min(member.offset for member in self.members.values()),
            max(member.offset + member.size for member in self.members.values()),
        )

    def file_name(self, name: str) -> str:
        """The name of a member in the tar."""
        suffix = self.members[name].suffix or (name if name == "json" else f"{name}.flac")
        return f"{self.key}.{suffix}"


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
    sample_rate: Rate
    bytes: Size
    sha256: Sha256
    plan_sha256: Sha256
    samples: Annotated[tuple[IndexedSample, ...], Field(strict=False)]
    refused: Annotated[tuple[Refusal, ...], Field(strict=False)] = ()


class ShardEntry(Record):
    """One shard in `corpus.json`.

    Attributes:
        tar: Path of its tar, relative to the folder of the tars; `shards/<name>.tar` by default.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")]
    samples: Annotated[int, Field(ge=0)]
    seconds: float
    bytes: Size
    sha256: Sha256
    tar: str | None = None

    @field_validator("tar")
    @classmethod
    def check_tar(cls, tar: str | None) -> str | None:
        """An untrusted path stays below its root."""
        return None if tar is None else safe_relative(tar, where="tar")

    @property
    def tar_path(self) -> str:
        """Path of its tar, relative to the folder of the tars."""
        return self.tar or tar_name(self.name)


class Linked(Record):
    """The shards that a linked corpus (a subset, or an index of external tars) reads, as it has none of its own.

    Attributes:
        root: Name, in `roots.local.json`, of the folder or URL of the tars; None for the corpus's own folder.
        foreign: Whether Stillroom did not write the shards: their JSON may hold anything.
        of_sha256: Digest of the `corpus.json` that this is a subset of.
        where: Filters of a subset; of a subset of a subset, all of them.
    """

    root: Name | None = None
    foreign: bool = False
    of_sha256: Sha256 | None = None
    where: Annotated[tuple[str, ...], Field(strict=False)] = ()


class Totals(Record):
    """Sums over a corpus; `seconds` counts each utterance once."""

    samples: int
    seconds: float
    bytes: Size
    shards: int


class Corpus(Document):
    """`corpus.json`: what a sealed corpus holds.

    Attributes:
        copies: For each split, the number of copies of each condition that every utterance has.
        filtered: Utterances left out by the recipe's own filters, by split and reason.
        refused: Number of refused utterances, by split; the reasons are in `refused.jsonl`.
        borrowed: The shards that a corpus of `stillroom subset` or `stillroom index` reads. The digests of recipe and plan are
            then those of the whole corpus; for external shards, of the indexing options and of the tars.
    """

    SCHEMA: ClassVar[str] = "stillroom/corpus/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    name: Name
    recipe_sha256: Sha256
    plan_sha256: Sha256
    sample_rate: Rate
    splits: dict[Name, Annotated[tuple[ShardEntry, ...], Field(strict=False)]]
    copies: dict[Name, dict[str, int]]
    totals: Totals
    filtered: dict[str, dict[str, int]] = {}
    refused: dict[str, int] = {}
    borrowed: Linked | None = None


def read_corpus(corpus: Place) -> Corpus:
    """What a sealed corpus holds.

    Raises:
        MissingFileError: If it is not sealed.
    """
    try:
        return Corpus.read(corpus / CORPUS, needed="a sealed corpus")
    except (MissingFileError, NotADirectoryError):
        raise MissingFileError(corpus / CORPUS, needed=f"a sealed corpus is needed; {found_instead(corpus)}") from None


def found_instead(corpus: Place) -> str:
    """What is there in place of a sealed corpus, and what to do about it; for messages."""
    name = printable(corpus)
    if isinstance(corpus, Path):
        if not corpus.exists():
            return f"there is no {name}: check the path"
        if corpus.is_file():
            return f"{name} is a file: name a folder (`stillroom build` makes one from a recipe, `stillroom rebuild` from a pack)"
        if (corpus / "plan").is_dir() and not (corpus / "shards").is_dir():
            return f"{name} is a plan: `stillroom build {name} CORPUS` makes the corpus"
        if (corpus / "checkpoints").is_dir() or (corpus / "results.json").is_file():
            return f"{name} is the folder of a run or of results: name that of the corpus"
        if not (corpus / "plan").is_dir():
            return f"{name} is no corpus: name a folder that `stillroom build` made"
    return "`stillroom build` writes this file last: run that build again to its end"


def read_index(corpus: Place, shard: str) -> ShardIndex:
    """The index of a shard."""
    return ShardIndex.read(corpus / index_name(shard), needed="the index of a shard")


def entry_of(index: ShardIndex, *, tar: str | None) -> ShardEntry:
    """A shard's entry in `corpus.json`."""
    num_samples = sum(sample.num_samples for sample in index.samples)
    seconds = round(num_samples / index.sample_rate, 3)
    return ShardEntry(
        name=index.name, samples=len(index.samples), seconds=seconds, bytes=index.bytes, sha256=index.sha256, tar=tar
    )


def copies_of(indexes: Iterable[ShardIndex]) -> dict[str, int]:
    """The smallest number of copies of each condition that an utterance has; conditions that one lacks are left out."""
    least: dict[str, int] | None = None
    for index in indexes:
        for sample in index.samples:
            counts: dict[str, int] = {}
            for name in sample.copies:
                condition = name.rpartition("-")[0]
                counts[condition] = counts.get(condition, 0) + 1
            least = counts if least is None else fewer(least, counts)
    return least or {}


def fewer(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """The smaller number of each condition that both have."""
    return {name: min(count, second[name]) for name, count in first.items() if name in second}


def totals_of(splits: Mapping[str, Sequence[ShardEntry]]) -> dict[str, Any]:
    """Sums over all shards."""
    entries = [entry for shards in splits.values() for entry in shards]
    return {
        "samples": sum(entry.samples for entry in entries),
        "seconds": round(sum(entry.seconds for entry in entries), 3),
        "bytes": sum(entry.bytes for entry in entries),
        "shards": len(entries),
    }
