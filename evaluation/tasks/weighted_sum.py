"""Probes that are trained by gradient, on a learned weighted sum of states, as s3prl's featurizer.

The states (layers, and heads where they are requested) are centred and scaled on clean train, weighted by a softmax over one
number a state, and summed. Probes are trained by Adam with batches from a named random stream; the learning rate is the one of
`LEARNING_RATES` that is best on clean dev, the same for all seeds of a probe.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from evaluation.features import Scaling

LEARNING_RATES = (1e-4, 1e-3, 1e-2, 1e-1)
UPDATES = 400
BATCH = 256


class WeightedSum(nn.Module):
    """Softmax-weighted sum over states.

    Args:
        num_states: How many; with one it is the identity.
    """

    def __init__(self, num_states: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(num_states))

    def forward(self, states: Tensor) -> Tensor:
        """Shape (..., state, feature) to (..., feature)."""
        return torch.einsum("s,...sd->...d", self.weights.softmax(dim=0), states)


@contextlib.contextmanager
def seeded_thread(seed: int, *names: object) -> Iterator[torch.Generator]:
    """One thread, so that results do not depend on cores, and a random stream of this name; gives its generator."""
    text = "\x1f".join(map(str, (seed, *names))).encode("utf-8", "surrogatepass")
    number = int.from_bytes(hashlib.sha256(text).digest()[:7])
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            yield torch.Generator().manual_seed(number)
    finally:
        torch.set_num_threads(before)


def run_adam(module: nn.Module, loss_of: Callable[[], Tensor], *, learning_rate: float, updates: int) -> None:
    """Steps of Adam; a loss that is not finite ends them (the rate is too high, which dev will show)."""
    optimiser = torch.optim.Adam(module.parameters(), lr=learning_rate)
    module.train()
    for _ in range(updates):
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of()
        if not torch.isfinite(loss):
            break
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
        optimiser.step()
    module.eval()


@dataclass(frozen=True)
class SumProbe:
    """A linear classifier on the weighted sum of pooled states.

    Attributes:
        names: Labels by class number.
    """

    scaling: Scaling
    module: nn.Module
    names: NDArray[np.str_]
    learning_rate: float

    @torch.no_grad()
    def predictions(self, rows: NDArray[np.float32]) -> NDArray[np.str_]:
        """The label of each row, shape (row, state, feature)."""
        if not len(rows):
            return np.array([], dtype=np.str_)
        logits: Tensor = self.module(scaled_rows(rows, self.scaling))
        return np.asarray(self.names[logits.argmax(dim=1).numpy()])


def scaled_rows(rows: NDArray[np.float32], scaling: Scaling) -> Tensor:
    """Rows as a float32 tensor, centred and scaled."""
    return torch.from_numpy(scaling.apply(rows).astype(np.float32))


def fitted_sum(
    rows: NDArray[np.float32],
    labels: NDArray[np.str_],
    scaling: Scaling,
    *,
    learning_rate: float,
    seed: int,
    probe: int,
) -> SumProbe:
    """Train a classifier on the weighted sum of states.

    Args:
        rows: Pooled states, shape (row, state, feature).
        labels: Shape (row,).
        scaling: Of clean train.
        learning_rate: Adam's.
        seed: Of the evaluation.
        probe: Number of the probe: its first weights and its batches are its own.
    """
    names, classes = np.unique(labels, return_inverse=True)
    states, target = scaled_rows(rows, scaling), torch.from_numpy(classes.reshape(-1))
    with seeded_thread(seed, "sum probe", probe) as generator:
        module = nn.Sequential(WeightedSum(rows.shape[1]), nn.Linear(rows.shape[2], len(names)))

        def loss_of() -> Tensor:
            batch = torch.randint(len(states), (min(BATCH, len(states)),), generator=generator)
            return functional.cross_entropy(module(states[batch]), target[batch])

        run_adam(module, loss_of, learning_rate=learning_rate, updates=UPDATES)
    return SumProbe(scaling, module, names, learning_rate)
