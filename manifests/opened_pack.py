"""A pack that was unpacked and checked: what reading gives, and all others work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from manifests.files import read_json_lines
from manifests.proof import PACKED_SOURCES, DecodedSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from manifests.pack import Pack
    from manifests.plan import Plan
    from manifests.recipe import Recipe
    from manifests.shards import Corpus


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
