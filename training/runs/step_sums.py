"""The sums of one step: losses, counts and signals side by side in one vector, that ranks add up and the host reads a step later."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch

from training.data.batch import on_device
from training.runs.signals import StopSignals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from training.data.batch import PairBatch
    from training.data.sampler import Cursor

# The order of `training.step.Losses.sums`; the names are those of a checkpoint. The first are means over the global batch.
MEANS = ("loss", "l1", "cosine", "domain")
LOSSES = (*MEANS, "right")
COUNTS = ("fell_back", "lost", "lost_frames", "lost_samples")
LOST_FRAMES = len(LOSSES) + COUNTS.index("lost_frames")
NORMS = ("gradient_norm", "critic_norm")


class HostCopy:
    """Numbers of a device on their way to the host, which waits for them only when it reads them.

    Args:
        tensor: Shape (number,).
    """

    def __init__(self, tensor: Tensor) -> None:
        self.values = tensor.to("cpu", non_blocking=True)  # pinned, if it comes from a GPU
        self.arrived: torch.cuda.Event | None = None
        if tensor.device.type == "cuda":
            self.arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.arrived.record()

    def numbers(self) -> list[float]:
        """As Python's floats."""
        if self.arrived is not None:
            self.arrived.synchronize()
        found: list[float] = self.values.tolist()
        return found


class StepResult(NamedTuple):
    """What the host has read of a step.

    Attributes:
        step: Its number.
        cursor: Its place in the order.
        sums: By name, over all ranks: losses, norms, counts, `utterances`, `audio_s`.
        problem: Which is not finite, if one is; the step was then not taken.
        signal: The largest that a rank has received; 0 for none.
    """

    step: int
    cursor: Cursor
    sums: dict[str, float]
    problem: Literal["loss", "gradient"] | None
    signal: int


@dataclass(frozen=True)
class UnreadStep:
    """A step whose sums are on their way.

    Attributes:
        step: Its number.
        cursor: Its place in the order.
        lengths: Samples of every utterance of its global batch.
        copy: Of its sums and norms.
    """

    step: int
    cursor: Cursor
    lengths: tuple[int, ...]
    copy: HostCopy


class StepSums:
    """Makes the vector of a step and reads it.

    Args:
        domains: Classes of the domain classifier.
        rate_hz: Of the waves.
        device: Where the models are.
    """

    def __init__(self, domains: Sequence[str], *, rate_hz: int, device: torch.device) -> None:
        self.counts = (*COUNTS, *(f"domain.{name}" for name in domains))
        self.num_domains, self.rate_hz, self.device = len(domains), rate_hz, device

    def vector(self, losses: Sequence[Tensor], counts: Mapping[str, float], *, signal: int | None) -> Tensor:
        """Losses summed over micro-batches, then this rank's counts, then a flag for each signal: float32, exact up to 2**24."""
        added = torch.stack(list(losses)).sum(dim=0) if losses else torch.zeros(len(LOSSES), device=self.device)
        known = [counts[name] for name in self.counts] + [float(signal == one) for one in StopSignals.CAUGHT]
        return torch.cat([added, on_device(torch.tensor(known), self.device)])

    def classified(self, sums: Tensor) -> Tensor:
        """Utterances that were given to the domain classifier, shape ()."""
        first = len(LOSSES) + len(COUNTS)
        return sums[first : first + self.num_domains].sum()

    def sent(self, step: int, batch: PairBatch, sums: Tensor, *norms: Tensor) -> UnreadStep:
        """A step whose sums and norms are sent to the host."""
        values = torch.cat([sums, *(on_device(norm, self.device).reshape(1) for norm in norms)])
        return UnreadStep(step, batch.cursor, batch.global_lengths, HostCopy(values))

    def read(self, unread: UnreadStep) -> StepResult:
        """The sums of a step by name; the host waits for them, if they are not here yet."""
        numbers = unread.copy.numbers()
        signals = numbers[len(LOSSES) + len(self.counts) : -len(NORMS)]
        sums = dict(zip((*LOSSES, *self.counts), numbers, strict=False)) | dict(
            zip(NORMS, numbers[-len(NORMS) :], strict=True)
        )
        sums["utterances"] = len(unread.lengths) - sums["lost"]
        sums["audio_s"] = (sum(unread.lengths) - sums["lost_samples"]) / self.rate_hz
        problem: Literal["loss", "gradient"] | None = None
        if not all(math.isfinite(sums[name]) for name in (*LOSSES, *NORMS)):
            problem = "gradient" if all(math.isfinite(sums[name]) for name in LOSSES) else "loss"
        received = [number for number, count in zip(StopSignals.CAUGHT, signals, strict=True) if count]
        return StepResult(unread.step, unread.cursor, sums, problem, max(received, default=0))
