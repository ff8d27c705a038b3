"""Retrieval@1: is the clean frame the nearest of 1000 clean frames of the same speaker to its distorted self?

A measure that collapse cannot win: where all frames are alike none is nearest, and a tie is an error. The speaker is the same,
so that who speaks does not help; frames of one utterance are among the wrong ones, so that where it was said does not either.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from evaluation.features import condition_of
from manifests.corpus.sample import CLEAN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from evaluation.data.utterances import ListedUtterance
    from evaluation.features import Scaling, UtteranceFeatures

POOL = 1000
QUERIES = 100
MOST_SPEAKERS = 16
MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Places:
    """Frames of one utterance that take part.

    Attributes:
        pool: Number of the speaker's pool.
        slots: Place in the pool of each frame.
        frames: Frame numbers.
    """

    pool: int
    slots: NDArray[np.int64]
    frames: NDArray[np.int64]


@dataclass(frozen=True)
class RetrievalPlan:
    """Which frames are candidates (all places) and queries (slots below `QUERIES`), by sample key.

    Attributes:
        sizes: Candidates of each pool.
    """

    places: dict[str, Places]
    sizes: tuple[int, ...]


def plan_retrieval(
    entries: Mapping[str, ListedUtterance],
    *,
    num_frames: Callable[[int], int],
    bytes_a_frame: int,
    num_conditions: int,
    seed: int,
) -> RetrievalPlan:
    """Deal frames of test utterances into one pool a speaker.

    Args:
        entries: Test utterances by key.
        num_frames: Of an utterance of so many samples.
        bytes_a_frame: Of all layers; with `MOST_BYTES` it limits how many speakers take part.
        num_conditions: Of the test.
        seed: Of what is drawn.
    """
    speakers: dict[str, list[tuple[str, int]]] = {}
    for key, entry in entries.items():
        length = num_frames(entry.sample.num_samples)
        if length > 0:
            speakers.setdefault(entry.sample.speaker or "", []).append((key, length))
    totals = {speaker: sum(length for _, length in found) for speaker, found in speakers.items()}
    full = [speaker for speaker, total in totals.items() if total >= POOL]
    most = max(1, min(MOST_SPEAKERS, MOST_BYTES // (bytes_a_frame * (POOL + QUERIES * num_conditions))))
    order = sorted(
        full or sorted(totals, key=lambda speaker: (-totals[speaker], speaker))[:1], key=lambda s: draw(seed, s)
    )
    places: dict[str, Places] = {}
    sizes = []
    for pool, speaker in enumerate(order[:most]):
        dice = np.random.default_rng(draw(seed, speaker))
        chosen = dice.permutation(totals[speaker])[:POOL]
        sizes.append(len(chosen))
        first = 0
        for key, length in speakers[speaker]:
            slots = np.flatnonzero((chosen >= first) & (chosen < first + length))
            if len(slots):
                places[key] = Places(pool, slots, chosen[slots] - first)
            first += length
    return RetrievalPlan(places, tuple(sizes))


def draw(seed: int, speaker: str) -> int:
    """A number for a speaker, free of the order in which speakers are met."""
    return int.from_bytes(
        hashlib.sha256(f"{seed}\x1fretrieval\x1f{speaker}".encode("utf-8", "surrogatepass")).digest()[:8]
    )


@dataclass
class Retrieval:
    """Collects candidates and queries, on features centred and scaled on clean train.

    Args:
        plan: Which frames take part.
        scaling: Of clean train.

    Attributes:
        pools: Unit-length clean frames by pool, each of shape (layer, slot, feature).
        queries: By condition and pool: slots, and unit-length distorted frames of shape (layer, query, feature).
    """

    plan: RetrievalPlan
    scaling: Scaling
    pools: dict[int, Tensor] = field(default_factory=dict)
    queries: dict[str, dict[int, list[tuple[NDArray[np.int64], Tensor]]]] = field(default_factory=dict)

    def add(self, utterance: UtteranceFeatures) -> None:
        """Take in one utterance: its first copy of each condition asks."""
        places = self.plan.places.get(utterance.key)
        if places is None:
            return
        clean = self.unit(utterance.frames[CLEAN][:, torch.from_numpy(places.frames)])
        if places.pool not in self.pools:
            self.pools[places.pool] = clean.new_zeros(clean.shape[0], self.plan.sizes[places.pool], clean.shape[2])
        self.pools[places.pool][:, torch.from_numpy(places.slots)] = clean
        asks = np.flatnonzero(places.slots < QUERIES)
        done: set[str] = set()
        for member in sorted(utterance.frames):
            condition = condition_of(member)
            if member == CLEAN or condition in done or not len(asks):
                continue
            done.add(condition)
            query = self.unit(utterance.frames[member][:, torch.from_numpy(places.frames[asks])])
            self.queries.setdefault(condition, {}).setdefault(places.pool, []).append((places.slots[asks], query))

    def unit(self, frames: Tensor) -> Tensor:
        """Scaled frames of length one; a frame of nothing stays nothing."""
        return functional.normalize(self.scaling.scaled(frames), dim=-1).cpu()

    def shares(self, condition: str) -> tuple[NDArray[np.float64], int]:
        """Share of queries whose own clean frame is nearer than every other, by layer, and how many asked."""
        right: NDArray[np.float64] | float = 0.0
        total = 0
        for pool, asked in self.queries.get(condition, {}).items():
            slots = torch.from_numpy(np.concatenate([slots for slots, _ in asked]))
            query = torch.cat([frames for _, frames in asked], dim=1)
            nearness = query @ self.pools[pool].mT
            index = slots[None, :, None].expand(len(nearness), -1, 1)
            own = nearness.gather(2, index)
            others = nearness.scatter(2, index, -torch.inf).amax(dim=2) if nearness.shape[2] > 1 else None
            hits = own[..., 0] > (others if others is not None else torch.inf)
            right = right + hits.double().sum(dim=1).numpy()
            total += len(slots)
        return np.asarray(right) / max(1, total), total
