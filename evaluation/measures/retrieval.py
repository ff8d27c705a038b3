"""Retrieval@1: how often a distorted frame's own clean frame is the nearest of 1000 clean frames of the same speaker.

Collapsed features get 0: where all frames are the same none is nearest, and a tie is an error. The speaker is the same,
so that speaker information does not help; frames of the same utterance are among the wrong ones, so that its channel does not either.
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
class PoolFrames:
    """Frames of one utterance that are in a pool.

    Attributes:
        pool: Number of the speaker's pool.
        slots: Index in the pool of each frame.
        frames: Frame numbers.
    """

    pool: int
    slots: NDArray[np.int64]
    frames: NDArray[np.int64]


@dataclass(frozen=True)
class RetrievalPlan:
    """Which frames are candidates (all) and queries (slots below `QUERIES`), by sample key.

    Attributes:
        sizes: Candidates of each pool.
    """

    frames: dict[str, PoolFrames]
    sizes: tuple[int, ...]


def plan_retrieval(
    entries: Mapping[str, ListedUtterance],
    *,
    num_frames: Callable[[int], int],
    bytes_a_frame: int,
    num_conditions: int,
    seed: int,
) -> RetrievalPlan:
    """Assign frames of test utterances to one pool a speaker.

    Args:
        entries: Test utterances by key.
        num_frames: Number of frames of so many samples.
        bytes_a_frame: Of all layers; with `MOST_BYTES` it limits how many speakers take part.
        num_conditions: Of the test.
        seed: Of the draw of frames and speakers.
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
    frames: dict[str, PoolFrames] = {}
    sizes = []
    for pool, speaker in enumerate(order[:most]):
        rng = np.random.default_rng(draw(seed, speaker))
        chosen = rng.permutation(totals[speaker])[:POOL]
        sizes.append(len(chosen))
        first = 0
        for key, length in speakers[speaker]:
            slots = np.flatnonzero((chosen >= first) & (chosen < first + length))
            if len(slots):
                frames[key] = PoolFrames(pool, slots, chosen[slots] - first)
            first += length
    return RetrievalPlan(frames, tuple(sizes))


def draw(seed: int, speaker: str) -> int:
    """A pseudo-random number of a speaker that does not depend on the order of speakers."""
    return int.from_bytes(
        hashlib.sha256(f"{seed}\x1fretrieval\x1f{speaker}".encode("utf-8", "surrogatepass")).digest()[:8]
    )


@dataclass
class Retrieval:
    """Collects candidates and queries, on features centred and scaled on clean train.

    Args:
        plan: Which frames are candidates and queries.
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
        """Add one utterance: its clean frames are candidates, those of its first copy of each condition are queries."""
        chosen = self.plan.frames.get(utterance.key)
        if chosen is None:
            return
        clean = self.unit(utterance.frames[CLEAN][:, torch.from_numpy(chosen.frames)])
        if chosen.pool not in self.pools:
            self.pools[chosen.pool] = clean.new_zeros(clean.shape[0], self.plan.sizes[chosen.pool], clean.shape[2])
        self.pools[chosen.pool][:, torch.from_numpy(chosen.slots)] = clean
        queries = np.flatnonzero(chosen.slots < QUERIES)
        done: set[str] = set()
        for member in sorted(utterance.frames):
            condition = condition_of(member)
            if member == CLEAN or condition in done or not len(queries):
                continue
            done.add(condition)
            query = self.unit(utterance.frames[member][:, torch.from_numpy(chosen.frames[queries])])
            self.queries.setdefault(condition, {}).setdefault(chosen.pool, []).append((chosen.slots[queries], query))

    def unit(self, frames: Tensor) -> Tensor:
        """Scaled frames of length one; a frame of zeros stays zero."""
        return functional.normalize(self.scaling.scaled(frames), dim=-1).cpu()

    def shares(self, condition: str) -> tuple[NDArray[np.float64], int]:
        """Share of queries whose own clean frame is nearer than every other, by layer, and the number of queries."""
        right: NDArray[np.float64] | float = 0.0
        total = 0
        for pool, queries in self.queries.get(condition, {}).items():
            slots = torch.from_numpy(np.concatenate([slots for slots, _ in queries]))
            query = torch.cat([frames for _, frames in queries], dim=1)
            nearness = query @ self.pools[pool].mT
            index = slots[None, :, None].expand(len(nearness), -1, 1)
            own = nearness.gather(2, index)
            others = nearness.scatter(2, index, -torch.inf).amax(dim=2) if nearness.shape[2] > 1 else None
            hits = own[..., 0] > (others if others is not None else torch.inf)
            right = right + hits.double().sum(dim=1).numpy()
            total += len(slots)
        return np.asarray(right) / max(1, total), total
