"""What a pack holds: `pack.json`, `SHA256SUMS`, and the limits on both; an opened pack as the other modules read it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

from pydantic import Field

from manifests.corpus.fingerprints import PACKED_SOURCES, DecodedSource
from manifests.errors import BadDocumentError
from manifests.io.json_yaml import read_json_lines
from manifests.io.records import Document, Name, Sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifests.corpus.shard_index import Corpus
    from manifests.plan.plan import Plan
    from manifests.recipe.recipe import Recipe


SUMS: Final = "SHA256SUMS"


SUM_LINE: Final = re.compile(r"^([0-9a-f]{64}) [ *](.+)$")


MOST_SOURCES_BYTES: Final = 4 << 30


class Pack(Document):
    """`pack.json`: what a pack is of.

    Attributes:
        corpus_sha256: Digest of the bytes of `corpus.json`.
        waves: Clean waves and copies, each with a digest and a fingerprint.
        responses: Simulated room responses in the pack.
        sources: Lines of `sources.jsonl`.
        fingerprint: How fingerprints were taken.
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
        folder: Holds it, in the layout of a corpus without tars.
    """

    folder: Path
    pack: Pack
    plan: Plan
    recipe: Recipe
    corpus: Corpus

    def sources(self) -> Iterator[DecodedSource]:
        """Every stretch of a source file."""
        path = self.folder / PACKED_SOURCES
        for number, document in enumerate(read_json_lines(path, needed="the sources of a pack"), 1):
            yield DecodedSource.parse(document, where=f"{PACKED_SOURCES}:{number}")


def listed_sums(content: bytes, *, where: object) -> dict[str, str]:
    """The digests of a SHA256SUMS by file name.

    Raises:
        BadDocumentError: If a line is no digest and name, or a name stands twice.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        match = SUM_LINE.match(line)
        if match is None or match[2] in sums:
            raise BadDocumentError(f"{where}:{number}", "not a digest and a new file name")
        sums[match[2]] = match[1]
    return sums
