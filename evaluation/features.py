"""Extracts the features of every layer, utterance by utterance, so that no padding enters them.

The clean wave and the distorted copies of an utterance have the same length, so they are one batch without padding. Frame
features are in memory only while their utterance is processed; tables hold their mean over frames.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, assert_never

import numpy as np
import torch

from evaluation.config import LayerFeatures

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from evaluation.config import Features
    from training.data.audio import Utterance
    from training.models.encoder import Encoder

MAX_BATCH_S = 60.0
DEAD_RELATIVE_TO_MEAN = 1e-5
DEAD_RELATIVE_TO_LAYER = 1e-7


def condition_of(member: str) -> str:
    """The condition of a member: `noise` of `noise-0`, `clean` of `clean`."""
    return member.rpartition("-")[0] or member


def state_slice(features: Features, *, num_layers: int) -> slice:
    """Which states a probe reads, of those of all layers and heads in order."""
    match features:
        case "last":
            return slice(num_layers - 1, num_layers)
        case "sum":
            return slice(num_layers)
        case "sum+heads":
            return slice(None)
        case LayerFeatures(layer=layer):
            return slice(layer - 1, layer)
        case _:
            assert_never(features)


def is_one_state(features: Features) -> bool:
    """Whether a probe reads one layer, and no sum."""
    return features == "last" or isinstance(features, LayerFeatures)


@dataclass(frozen=True)
class UtteranceFeatures:
    """Frame features of one utterance.

    Attributes:
        key: Of the sample.
        seconds: Of audio, all members together.
        frames: By member, each of shape (layer, frame, feature); all of the same number of frames.
        heads: By member, predictions of the distillation heads, of shape (head, frame, feature); empty where they are not needed.
    """

    key: str
    seconds: float
    frames: dict[str, Tensor]
    heads: dict[str, Tensor] = field(default_factory=dict)

    def states(self, member: str, features: Features) -> Tensor:
        """States of a member that a probe reads: shape (1, frame, feature) for one layer, (state, frame, feature) for sums."""
        layers = self.frames[member]
        if features == "sum+heads" and member in self.heads:
            return torch.cat([layers, self.heads[member]])
        return layers[state_slice(features, num_layers=len(layers))]


def features_of(
    encoder: Encoder,
    utterances: Iterable[Utterance],
    *,
    advance: Callable[[float], None] = lambda _: None,
    workers: int | None = None,
    heads: nn.Module | None = None,
) -> Iterator[UtteranceFeatures]:
    """Features of every member of each utterance, in the order of the utterances.

    Several utterances are processed side by side, each on one thread: short ones leave a second thread of the same operation
    idle (measured on two busy cores: 2 seconds of audio a second with two threads an operation, 100 with one), and the
    features do not depend on how many cores there are.

    Args:
        encoder: The model.
        utterances: To extract features of.
        advance: Called with the seconds of audio that were just processed.
        workers: How many utterances at once; as many as there are cores by default, one where the model is on a GPU.
        heads: Distillation heads whose predictions are needed too.

    Yields:
        One `UtteranceFeatures` an utterance; one that is too short for a single frame has frame count 0.
    """
    if workers is None:
        workers = available_cores() if device_of(encoder).type == "cpu" else 1
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))  # a setting of each thread
    pending: deque[Future[UtteranceFeatures]] = deque()

    def finished() -> UtteranceFeatures:
        found = pending.popleft().result()
        advance(found.seconds)
        return found

    try:
        for utterance in utterances:
            pending.append(pool.submit(utterance_features, encoder, utterance, heads))
            if len(pending) > workers:
                yield finished()
        while pending:
            yield finished()
    finally:
        pool.shutdown(cancel_futures=True)


def available_cores() -> int:
    """Cores that this process may use, at most 8: more only wait for the reader."""
    return min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def device_of(encoder: Encoder) -> torch.device:
    """Where a model runs; one without parameters and buffers runs on the CPU."""
    held = next(chain(encoder.parameters(), encoder.buffers()), None)
    return torch.device("cpu") if held is None else held.device


@torch.no_grad()
def utterance_features(encoder: Encoder, utterance: Utterance, heads: nn.Module | None = None) -> UtteranceFeatures:
    """Features of one utterance; its members have one length and go through the model together."""
    names = list(utterance.waves)
    num_samples = utterance.sample.num_samples
    seconds = len(names) * num_samples / encoder.sample_rate
    if encoder.config.num_frames(num_samples) == 0:
        nothing = torch.empty(encoder.num_layers, 0, encoder.num_features)
        return UtteranceFeatures(utterance.key, seconds, dict.fromkeys(names, nothing))
    device = device_of(encoder)
    at_once = max(1, int(MAX_BATCH_S * encoder.sample_rate / num_samples))
    frames: dict[str, Tensor] = {}
    predicted: dict[str, Tensor] = {}
    for first in range(0, len(names), at_once):
        batch = names[first : first + at_once]
        wave = torch.stack([torch.from_numpy(utterance.waves[name]) for name in batch]).to(device)
        layers, num_frames = encoder.layers(wave, torch.full((len(batch),), num_samples))
        frames.update({name: layers[row, :, : int(num_frames[row])] for row, name in enumerate(batch)})
        if heads is not None:
            output = heads(list(layers.unbind(dim=1)))
            predicted.update({name: output[row, :, : int(num_frames[row])] for row, name in enumerate(batch)})
    return UtteranceFeatures(utterance.key, seconds, frames, predicted)


@dataclass
class PooledRows:
    """Mean-pooled features as a table: one row a member.

    Attributes:
        keys: Sample key of each row.
        members: Name of each row's copy, `clean` or `<condition>-<n>`.
        conditions: Condition of each row.
        rows: Features of each row.
    """

    keys: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    conditions: list[str] = field(default_factory=list)
    rows: list[NDArray[np.float32]] = field(default_factory=list)
    stacked: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    def add(self, key: str, member: str, frames: Tensor) -> None:
        """Pool one member's frames, shape (..., frame, feature), and add them as float32, shape (..., feature)."""
        self.keys.append(key)
        self.members.append(member)
        self.conditions.append(condition_of(member))
        self.stacked = None
        self.rows.append(frames.mean(dim=-2).cpu().numpy().astype(np.float32, copy=False))

    @property
    def features(self) -> NDArray[np.float32]:
        """All rows, shape (row, ..., feature)."""
        if self.stacked is None:
            self.stacked = np.stack(self.rows)
            self.rows = list(self.stacked)  # views of the table, so that it is in memory once
        return self.stacked

    def of(self, keys: Container[str]) -> list[int]:
        """Row numbers of these samples, whatever the copy, in the table's order."""
        return [row for row, key in enumerate(self.keys) if key in keys]


@dataclass(frozen=True)
class Scaling:
    """Centre and scale of each dimension; a dimension that does not vary becomes zero, not noise.

    Attributes:
        mean: Shape (..., feature).
        inverse: One over the standard deviation, 0.0 for a dead dimension; shape (..., feature).
    """

    mean: NDArray[np.float64]
    inverse: NDArray[np.float64]

    @classmethod
    def from_moments(cls, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> Scaling:
        """From mean and standard deviation, each of shape (..., feature).

        A dimension whose deviation is float32's rounding of its mean, or negligible beside its layer, is dead: scaled up,
        a constant model's rounding errors would pass for features.
        """
        layer_rms = np.sqrt(np.mean(mean**2 + deviation**2, axis=-1, keepdims=True))
        lowest = np.maximum(DEAD_RELATIVE_TO_MEAN * np.abs(mean), DEAD_RELATIVE_TO_LAYER * layer_rms)
        is_alive = deviation > lowest
        return cls(mean, np.divide(1.0, deviation, out=np.zeros_like(deviation), where=is_alive))

    @classmethod
    def fitted(cls, rows: NDArray[np.float32]) -> Scaling:
        """From the rows of a table, shape (row, feature)."""
        wide = rows.astype(np.float64)
        return cls.from_moments(wide.mean(axis=0), wide.std(axis=0))

    def apply(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Rows with zero mean and unit deviation, shape (row, feature)."""
        return np.asarray((rows - self.mean) * self.inverse)

    def scaled(self, frames: Tensor) -> Tensor:
        """Frames of shape (layer, frame, feature), centred and scaled, in float32."""
        mean = torch.as_tensor(self.mean, dtype=torch.float32, device=frames.device)
        inverse = torch.as_tensor(self.inverse, dtype=torch.float32, device=frames.device)
        return (frames - mean[:, None]) * inverse[:, None]

    def first(self, states: int) -> Scaling:
        """The scaling of the first so many states."""
        return Scaling(self.mean[:states], self.inverse[:states])
