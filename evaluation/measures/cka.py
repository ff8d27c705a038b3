"""Linear CKA between clean and distorted frames, and what it is to be read with: effective rank and variance.

Linear CKA (Kornblith, Norouzi, Lee, Hinton 2019, arXiv 1905.00414) of centred X and Y, frames in rows:
``|Y'X|_F ** 2 / (|X'X|_F * |Y'Y|_F)``. The three products are summed up utterance by utterance, so that no frames stay in memory; at most
`MOST_FRAMES` a condition are taken, evenly spaced in every utterance. Effective rank (Roy, Vetterli 2007) is the exponential of
the entropy of the singular values' shares: features that collapse score well on any similarity and have a rank near 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from evaluation.features import condition_of
from manifests.corpus.sample import CLEAN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from evaluation.features import Scaling, UtteranceFeatures

MOST_FRAMES = 20_000
WIDE = 512  # features from which sums of products are in float32: 12 layers of 768 take 85 MB a condition so


def effective_rank(covariance: NDArray[np.float64]) -> float:
    """Exponential of the entropy of the singular values' shares, from a covariance matrix; 0 where nothing varies."""
    singular = np.sqrt(np.clip(np.linalg.eigvalsh(covariance), 0.0, None))
    if singular.sum() == 0:
        return 0.0
    shares = singular / singular.sum()
    shares = shares[shares > 0]
    return float(np.exp(-np.sum(shares * np.log(shares))))


def evenly_spaced(num_frames: int, most: int) -> NDArray[np.int64]:
    """At most so many frame numbers, spread over an utterance."""
    return np.unique(np.linspace(0, num_frames - 1, num=min(num_frames, most)).round().astype(np.int64))


@dataclass
class Products:
    """Sums of products of paired frames x and y, layer by layer.

    Attributes:
        first: Sum of x, shape (layer, feature).
        second: Sum of y.
        first_first: Sum of x x', shape (layer, feature, feature).
        first_second: Sum of x y', shape (layer, feature of x, feature of y).
        second_second: Sum of y y'.
    """

    count: int = 0
    first: Tensor | float = 0.0
    second: Tensor | float = 0.0
    first_first: Tensor | float = 0.0
    first_second: Tensor | float = 0.0
    second_second: Tensor | float = 0.0

    def add(self, first: Tensor, second: Tensor) -> None:
        """Add paired frames of an utterance, each of shape (layer, frame, feature); x may have one layer, paired with all of y."""
        kind = torch.float64 if max(first.shape[-1], second.shape[-1]) <= WIDE else torch.float32
        self.count += first.shape[1]
        self.first = self.first + first.sum(dim=1).to(kind)
        self.second = self.second + second.sum(dim=1).to(kind)
        self.first_first = self.first_first + (first.mT @ first).to(kind)
        self.first_second = self.first_second + (first.mT @ second).to(kind)
        self.second_second = self.second_second + (second.mT @ second).to(kind)

    def covariances(self, layer: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Centred sums of products xx, xy, yy of one layer."""
        means = [self.array(total) / self.count for total in (self.first, self.second)]
        x, y = (mean[min(layer, len(mean) - 1)] for mean in means)
        pairs = ((self.first_first, x, x), (self.first_second, x, y), (self.second_second, y, y))
        centred = []
        for total, left, right in pairs:
            products = self.array(total)
            centred.append(products[min(layer, len(products) - 1)] - self.count * np.outer(left, right))
        return centred[0], centred[1], centred[2]

    def cka(self, layer: int) -> float:
        """Linear CKA of one layer; 0 where x or y does not vary."""
        own_x, crossed, own_y = self.covariances(layer)
        own = np.linalg.norm(own_x) * np.linalg.norm(own_y)
        return float(np.sum(crossed**2) / own) if own > 0 else 0.0

    @staticmethod
    def array(total: Tensor | float) -> NDArray[np.float64]:
        """A sum as float64."""
        assert isinstance(total, torch.Tensor)
        return np.asarray(total.double().cpu().numpy())


@dataclass
class Energy:
    """Mean and mean square of raw features, shape (layer, feature) each."""

    count: int = 0
    total: Tensor | float = 0.0
    squares: Tensor | float = 0.0

    def add(self, frames: Tensor) -> None:
        """Add frames of shape (layer, frame, feature)."""
        wide = frames.double()
        self.count += wide.shape[1]
        self.total = self.total + wide.sum(dim=1)
        self.squares = self.squares + wide.square().sum(dim=1)

    def varying_share(self) -> NDArray[np.float64]:
        """Share of each layer's energy that varies from frame to frame, shape (layer,): 0 of a constant, 1 without a mean."""
        mean = Products.array(self.total) / self.count
        energy = (Products.array(self.squares) / self.count).sum(axis=-1)
        varying = np.clip(energy - (mean**2).sum(axis=-1), 0.0, None)
        return np.asarray(np.divide(varying, energy, out=np.zeros_like(energy), where=energy > 0))


@dataclass
class Similarity:
    """CKA, rank and variance by condition, on features centred and scaled on clean train.

    Args:
        scaling: Of clean train, shape (layer, feature).
        frames_each: Most frames of one utterance.
        teacher: Scaled features of the teacher's last layer on clean test, by sample key, at the same frames; or None.
    """

    scaling: Scaling
    frames_each: int
    teacher: Mapping[str, Tensor] | None = None
    pairs: dict[str, Products] = field(default_factory=dict)
    agreement: dict[str, Products] = field(default_factory=dict)
    energy: dict[str, Energy] = field(default_factory=dict)

    def add(self, utterance: UtteranceFeatures) -> None:
        """Add one utterance with its clean wave and its copies."""
        chosen = torch.from_numpy(evenly_spaced(utterance.frames[CLEAN].shape[1], self.frames_each))
        clean = self.scaling.scaled(utterance.frames[CLEAN][:, chosen])
        target = None if self.teacher is None else self.teacher.get(utterance.key)
        for member, frames in utterance.frames.items():
            condition = condition_of(member)
            raw = frames[:, chosen]
            copy = clean if member == CLEAN else self.scaling.scaled(raw)
            self.energy.setdefault(condition, Energy()).add(raw)
            self.pairs.setdefault(condition, Products()).add(clean, copy)
            if target is not None:
                self.agreement.setdefault(condition, Products()).add(target[None].to(copy.device), copy)
