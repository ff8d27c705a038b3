"""Cosine between frames of a clean utterance and of its distorted copy: how little a distortion changes the features.

Raw features share a large common direction, so that all are similar; they are centred and scaled on clean train
first. Features that collapse are similar too, so the same cosine against a copy of another utterance is reported with it:
what counts is the gap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from torch.nn import functional

from evaluation.features import Scaling, condition_of
from manifests.corpus.sample import CLEAN

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from evaluation.features import UtteranceFeatures


@dataclass
class FrameMoments:
    """Mean and variance of frames, merged utterance by utterance (Chan, Golub, LeVeque 1979), in float64."""

    count: int = 0
    mean: Tensor | None = None
    squares: Tensor | None = None

    def add(self, frames: Tensor) -> None:
        """Add frames of shape (layer, frame, feature)."""
        found = frames.shape[1]
        if found == 0:
            return
        wide = frames.double()
        mean = wide.mean(dim=1)
        squares = (wide - mean[:, None]).square().sum(dim=1)
        if self.mean is None or self.squares is None:
            self.count, self.mean, self.squares = found, mean, squares
            return
        total = self.count + found
        step = mean - self.mean
        self.mean = self.mean + step * (found / total)
        self.squares = self.squares + squares + step.square() * (self.count * found / total)
        self.count = total

    def scaling(self) -> Scaling:
        """Centre and scale of each layer's dimensions, shape (layer, feature)."""
        assert self.mean is not None
        assert self.squares is not None
        deviation = (self.squares / self.count).sqrt()
        return Scaling.from_moments(self.mean.cpu().numpy(), deviation.cpu().numpy())


@dataclass
class Mean:
    """A running mean of one value a layer, over frames."""

    total: NDArray[np.float64] | float = 0.0
    count: int = 0

    def add(self, cosine: Tensor) -> None:
        """Add cosines of shape (layer, frame)."""
        self.total = self.total + cosine.double().sum(dim=1).cpu().numpy()
        self.count += cosine.shape[1]

    @property
    def value(self) -> NDArray[np.float64]:
        """The mean, shape (layer,)."""
        return np.asarray(self.total / self.count)


@dataclass
class FrameCosine:
    """Cosine of clean and distorted frames, by condition, on scaled features.

    Args:
        scaling: Of clean train, shape (layer, feature).

    Attributes:
        matched: Frame t of the clean utterance and of its copy.
        mismatched: Frame t of the previous clean utterance and of this copy, over the shorter of the two.
    """

    scaling: Scaling
    matched: dict[str, Mean] = field(default_factory=dict)
    mismatched: dict[str, Mean] = field(default_factory=dict)
    previous: Tensor | None = None

    def add(self, utterance: UtteranceFeatures) -> None:
        """Add one utterance with its clean wave and its copies."""
        clean = self.scaling.scaled(utterance.frames[CLEAN])
        if clean.shape[1] == 0:
            return
        for member, frames in utterance.frames.items():
            if member == CLEAN:
                continue
            condition = condition_of(member)
            copy = self.scaling.scaled(frames)
            self.matched.setdefault(condition, Mean()).add(functional.cosine_similarity(clean, copy, dim=-1))
            if self.previous is not None:
                shorter = min(self.previous.shape[1], copy.shape[1])
                other = functional.cosine_similarity(self.previous[:, :shorter], copy[:, :shorter], dim=-1)
                self.mismatched.setdefault(condition, Mean()).add(other)
        self.previous = clean
