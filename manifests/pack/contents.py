"""`pack.json`, and an unpacked pack as other modules read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from manifests.corpus.fingerprints import DecodedSource
from manifests.corpus.layout import PACKED_SOURCES
from manifests.io.records import Document, Name, Sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifests.corpus.shard_index import Corpus
    from manifests.plan.plan import Plan
    from manifests.recipe.recipe import Recipe


class Pack(Document):
    """`pack.json`: the corpus and contents of a pack.

    Attributes:
        corpus_sha256: Digest of the bytes of `corpus.json`.
        waves: Number of clean waves and copies, each with a digest and a fingerprint.
        responses: Number of simulated room responses in the pack.
        sources: Number of lines of `sources.jsonl`.
        fingerprint: Kind of the fingerprints.
    """

    SCHEMA: ClassVar[str] = "stillroom/pack/1"

    schema_: Annotated[str, Field(alias="schema")] = SCHEMA
    name: Name
    recipe_sha256: Sha256
    plan_sha256: Sha256
    corpus_sha256: Sha256
    samples: Annotated[int, Field(ge=0)]
    waves: Annotated[int, Field(ge=0)]
    responses: Annotated[int, Field(ge=0)]
    sources: Annotated[int, Field(ge=0)]
    fingerprint: str = "stillroom/fingerprint/1"


@dataclass(frozen=True)
class OpenedPack:
    """A pack that was unpacked into a folder and checked.

    Attributes:
        folder: Where it is, in the layout of a corpus without tars.
    """

    folder: Path
    pack: Pack
    plan: Plan
    recipe: Recipe
    corpus: Corpus

    def sources(self) -> Iterator[DecodedSource]:
        """Every stretch of a source file."""
        path = self.folder / PACKED_SOURCES
        return DecodedSource.read_lines(path, needed="the sources of a pack", where=PACKED_SOURCES)
