"""What one split may draw from: noise sources and files, rooms, and its utterances."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from corpus_builder.plan.materials.seeded_random import index_below
from manifests.errors import StillroomError, printable
from manifests.plan.rooms import PlannedRoom, RecordedRoom

if TYPE_CHECKING:
    import numpy as np

    from corpus_builder.plan.materials.noise_levels import NoiseFile
    from corpus_builder.plan.materials.utterance_store import UtteranceStore
    from manifests.recipe.noises import NoiseSource


AnyRoom = PlannedRoom | RecordedRoom


class NoNoiseInSplitError(StillroomError, ValueError):
    """A divided noise has no files for a split that uses it."""

    def __init__(self, source: str, *, split: str) -> None:
        super().__init__(
            f"noises.{printable(source)} has nothing for split {split!r}, whose copies use it; give it {split}: {{dir: ...}}"
        )


class FilePool:
    """Files that are drawn from together, each equally likely or in proportion to its length.

    Args:
        files: In a fixed order.
        by_length: A file is drawn in proportion to its number of samples.
    """

    def __init__(self, files: tuple[NoiseFile, ...], *, by_length: bool) -> None:
        self.files = files
        self.ends = list(accumulate(file.num_samples for file in files)) if by_length else None

    def drawn(self, rng: np.random.Generator) -> NoiseFile:
        """One of them, drawn at random."""
        if self.ends is None:
            return self.files[index_below(len(self.files), rng)]
        return self.files[bisect_right(self.ends, index_below(self.ends[-1], rng))]


def pool_of(materials: Materials, sources: tuple[str, ...], *, by_length: bool) -> FilePool:
    """The files of some sources in one pool, which is made once.

    Raises:
        NoNoiseInSplitError: If a source has no file for the split.
    """
    if (sources, by_length) not in materials.pools:
        for source in sources:
            if not materials.files.get(source):
                raise NoNoiseInSplitError(source, split=materials.split)
        files = tuple(file for source in sources for file in materials.files[source])
        materials.pools[sources, by_length] = FilePool(files, by_length=by_length)
    return materials.pools[sources, by_length]


@dataclass(frozen=True)
class Materials:
    """What one split may draw from.

    Attributes:
        noises: The recipe's noise sources.
        files: Noise files by source.
        rooms: Rooms by bank.
        store: The split's utterances, for babble.
        pools: Noise files that are drawn from together, made when they are first needed.
    """

    seed: int
    split: str
    rate_hz: int
    noises: dict[str, NoiseSource]
    files: dict[str, list[NoiseFile]]
    rooms: dict[str, list[AnyRoom]]
    store: UtteranceStore
    root: str
    pools: dict[tuple[tuple[str, ...], bool], FilePool] = field(default_factory=dict)
