"""Discrete units: what a distortion does to the units that speech language models and codecs make of features.

Units are the nearest of `NUM_UNITS` centres, found by k-means on clean frames of train, layer by layer; 100 is the number of HuBERT's first
iteration (arXiv 2106.07447) and one of GSLM's 50, 100 and 200 (arXiv 2102.01192). The unit edit distance (Gat et al., arXiv 2209.15483) is the number of
edits between the units of a clean utterance and those of its copy, runs of one unit taken as one, over the number of frames; the mean over copies.
Collapsed features have few units and so a small distance: it is read with the units' perplexity (how many are really used), and where
there are alignments with phone-normalised mutual information (PNMI: share of the phones' entropy that the unit takes away) and phone purity (share of frames
whose phone is the commonest one of their unit on clean test speech), both of HuBERT's section IV-D.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from evaluation.data.alignments import frame_classes
from evaluation.features import condition_of
from evaluation.measures.cka import evenly_spaced
from manifests.corpus.sample import CLEAN
from manifests.results.scores import Score

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from evaluation.data.alignments import FrameClock, Segments
    from evaluation.features import Scaling, UtteranceFeatures
    from manifests.results.scores import Measure

    Counts = NDArray[np.int64]

NUM_UNITS = 100
MOST_FRAMES = 10_000  # that centres are fitted to: 370 MB of all layers of HuBERT base
PROTOCOL = {"units": NUM_UNITS, "frames": MOST_FRAMES}
"""What decides scores beside the config."""


@dataclass
class TrainingFrames:
    """Clean frames of train that centres are fitted to, evenly spaced in every utterance.

    Args:
        frames_each: Most frames of one utterance.
    """

    frames_each: int
    frames: list[Tensor] = field(default_factory=list)

    def add(self, frames: Tensor) -> None:
        """Add clean frames of one utterance, shape (layer, frame, feature)."""
        self.frames.append(frames[:, torch.from_numpy(evenly_spaced(frames.shape[1], self.frames_each))].cpu())

    def centres(self, scaling: Scaling, layers: Sequence[int], *, seed: int) -> Tensor:
        """Centres of each layer, shape (layer, unit, feature); as many units as frames, where those are fewer than `NUM_UNITS`.

        Args:
            scaling: Of clean train, of these layers.
            layers: Their numbers, from 0.
            seed: Of k-means.
        """
        scaled = scaling.scaled(torch.cat([one[list(layers)] for one in self.frames], dim=1)).numpy()
        found = []
        with warnings.catch_warnings(), threadpool_limits(1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct frames than units: some are alike
            for rows in scaled:
                clusters = KMeans(min(NUM_UNITS, len(rows)), n_init=1, random_state=seed)
                found.append(clusters.fit(rows).cluster_centers_)
        return torch.from_numpy(np.stack(found))


@dataclass
class Units:
    """Counts units of clean utterances and their copies.

    Args:
        centres: Shape (layer, unit, feature).
        scaling: Of clean train, of these layers.
        layers: Their numbers, from 0.
        clock: Times of the model's frames.
        alignments: Of test utterances that have one, by sample key.

    Attributes:
        names: All phones, sorted.
        edits: By condition, one row a copy: edits over frames, by layer.
        used: By condition, frames of each unit, shape (layer, unit).
        joint: By condition, aligned frames of each phone and unit, shape (layer, phone, unit).
    """

    centres: Tensor
    scaling: Scaling
    layers: Sequence[int]
    clock: FrameClock
    alignments: Mapping[str, Segments] = field(default_factory=dict)
    edits: dict[str, list[list[float]]] = field(default_factory=dict)
    used: dict[str, Counts] = field(default_factory=dict)
    joint: dict[str, Counts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = tuple(sorted({phone for segments in self.alignments.values() for *_, phone in segments}))

    def add(self, utterance: UtteranceFeatures) -> None:
        """Add one utterance with its clean wave and its copies."""
        clean = self.nearest(utterance.frames[CLEAN])
        segments = self.alignments.get(utterance.key)
        times_s = self.clock.times_s(clean.shape[1])
        phones = None if segments is None else frame_classes(segments, self.names, times_s)
        for member, frames in utterance.frames.items():
            condition = condition_of(member)
            units = clean if member == CLEAN else self.nearest(frames)
            if member != CLEAN:
                distances = [edit_distance(*rows) / clean.shape[1] for rows in zip(clean, units, strict=True)]
                self.edits.setdefault(condition, []).append(distances)
            layers, num_units = self.centres.shape[:2]
            add_counts(self.used.setdefault(condition, np.zeros((layers, num_units), dtype=np.int64)), units)
            if phones is not None:
                shape = (layers, len(self.names), num_units)
                counts = self.joint.setdefault(condition, np.zeros(shape, dtype=np.int64))
                add_counts(counts, phones[phones >= 0], units[:, phones >= 0])

    def nearest(self, frames: Tensor) -> Counts:
        """The unit of each frame, shape (layer, frame); of equally near ones the first."""
        scaled = self.scaling.scaled(frames[list(self.layers)]).cpu()
        distance = self.centres.square().sum(dim=-1)[:, None] - 2.0 * scaled @ self.centres.mT
        return np.asarray(distance.argmin(dim=-1).numpy())

    def scores(self) -> list[Score]:
        """All measures by condition and layer."""
        found: list[Score] = []

        def add(measure: Measure, condition: str, values: Sequence[float], count: int) -> None:
            found.extend(
                Score(measure=measure, condition=condition, layer=layer + 1, value=float(value), count=count)
                for layer, value in zip(self.layers, values, strict=True)
            )

        for condition, rows in sorted(self.edits.items()):
            add("unit_edits", condition, np.mean(rows, axis=0).tolist(), len(rows))
        for condition, used in sorted(self.used.items()):
            add("unit_perplexity", condition, [perplexity(counts) for counts in used], int(used[0].sum()))
        known = self.joint.get(CLEAN)
        for condition, joint in sorted(self.joint.items()):
            if known is not None and joint[0].any():
                total = int(joint[0].sum())
                add("pnmi", condition, [pnmi(counts) for counts in joint], total)
                add("phone_purity", condition, [purity(*pair) for pair in zip(joint, known, strict=True)], total)
        return found

    @property
    def notes(self) -> list[str]:
        """What readers of the scores should know."""
        count = self.centres.shape[1]
        return [f"units: {count} and not {NUM_UNITS}, for train has as many frames"] if count < NUM_UNITS else []


def edit_distance(first: Counts, second: Counts) -> int:
    """Edits between two sequences of units, runs of one unit taken as one."""
    collapsed = [units[np.flatnonzero(np.diff(units, prepend=-1))].tolist() for units in (first, second)]
    return int(Levenshtein.distance(*collapsed))


def add_counts(counts: Counts, *places: Counts) -> None:
    """Add one at the places of each layer; those of shape (layer, frame) differ from layer to layer, others are of all."""
    for layer, of_layer in enumerate(counts):
        np.add.at(of_layer, tuple(place[layer] if place.ndim == 2 else place for place in places), 1)


def entropy(counts: Counts) -> float:
    """Entropy in nats of shares, from counts."""
    shares = counts[counts > 0] / counts.sum()
    return float(-np.sum(shares * np.log(shares)))


def perplexity(counts: Counts) -> float:
    """Exponential of the entropy: 1 where one unit is used, as many as there are where all are used alike."""
    return float(np.exp(entropy(counts)))


def pnmi(joint: Counts) -> float:
    """Mutual information of phone and unit over the entropy of the phone, from counts of shape (phone, unit); 0 where one phone is all there is."""
    of_phones = entropy(joint.sum(axis=1))
    return (of_phones + entropy(joint.sum(axis=0)) - entropy(joint)) / of_phones if of_phones > 0 else 0.0


def purity(joint: Counts, known: Counts) -> float:
    """Share of frames whose phone is the commonest of their unit in `known`, the first of equally common ones; a unit that is not there is wrong."""
    right = joint[known.argmax(axis=0), np.arange(known.shape[1])]
    return float(right[known.any(axis=0)].sum() / joint.sum())
