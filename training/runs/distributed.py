"""Ranks: processes that train one student together, started by `torchrun`, or by whatever sets its variables.

Every rank has the whole student and takes whole lanes of each global batch (law 5). The loss of a micro-batch is divided by
the frames of the *global* batch, so gradients are summed over ranks, never averaged: once a step, in one buffer. Rank 0 alone
writes. Numbers and signals travel over gloo, tensors of the models over NCCL where there are GPUs.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from manifests.errors import StillroomError, UsageError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor, nn
    from torch._C._distributed_c10d import Store

# Rank 0 validates and writes while the others wait; a rank that dies is noticed at once by its closed connection.
TIMEOUT = timedelta(hours=1)
NAMED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

CPU = torch.device("cpu")

Plain = TypeVar("Plain")


class TooManyRanksError(UsageError):
    """There are more ranks than lanes."""

    def __init__(self, *, ranks: int, lanes: int) -> None:
        super().__init__(
            f"{ranks} ranks and batch.lanes: {lanes}: a rank takes whole lanes, so start at most {lanes} ranks, or set "
            f"batch.lanes to {ranks} or more in a new run"
        )


class RankLostError(StillroomError, ConnectionError):
    """Another rank is gone, or cannot be reached."""

    def __init__(self, *, rank: int, why: object) -> None:
        reason = (str(why).splitlines() or [type(why).__name__])[0]
        super().__init__(
            f"rank {rank} lost another rank ({printable(reason)}): look for what ended it (memory, its machine); "
            "the last checkpoint is kept, the same command goes on from it"
        )


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; by default it is alone, and nothing is sent.

    Attributes:
        number: Of this rank, from 0.
        count: How many there are.
        device: Where this one computes.
    """

    number: int = 0
    count: int = 1
    device: torch.device = CPU

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.number == 0

    def lanes(self, lanes: int) -> tuple[int, ...]:
        """This rank's lanes.

        Raises:
            TooManyRanksError: If there are not enough for all.
        """
        if self.count > lanes:
            raise TooManyRanksError(ranks=self.count, lanes=lanes)
        return tuple(range(self.number, lanes, self.count))

    def sums(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Each number summed over ranks; all ranks give the same names."""
        if self.count == 1:
            return dict(numbers)
        values = torch.tensor(list(numbers.values()), dtype=torch.float64)
        with self.connected():
            distributed.all_reduce(values)
        return dict(zip(numbers, values.tolist(), strict=True))

    def any_of(self, numbers: Iterable[int]) -> int:
        """The largest of some numbers over all ranks, 0 if nobody has one."""
        value = torch.tensor(max(numbers, default=0))
        if self.count > 1:
            with self.connected():
                distributed.all_reduce(value, distributed.ReduceOp.MAX)
        return int(value)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients over ranks, in place; a parameter without one on any rank stays without.

        One buffer holds all of them, and one number for each that says whether there is one: ranks whose lanes are empty have
        none. Sums are the same bits on every rank, so are the updates.
        """
        if self.count == 1:
            return
        every = list(parameters)
        parts = [
            torch.zeros(parameter.numel(), device=self.device) if parameter.grad is None else parameter.grad.reshape(-1)
            for parameter in every
        ]
        has = torch.tensor([float(parameter.grad is not None) for parameter in every], device=self.device)
        buffer = torch.cat([*parts, has])
        with self.connected():
            distributed.all_reduce(buffer)
        *summed, has_any = torch.split(buffer, [*(parameter.numel() for parameter in every), len(every)])
        for parameter, values, holders in zip(every, summed, has_any.tolist(), strict=True):
            if holders:
                parameter.grad = values.view_as(parameter)

    def broadcast(self, plain: Plain) -> Plain:
        """Send text, numbers, lists and mappings from rank 0 to all."""
        box: list[Any] = [plain]
        if self.count > 1:
            with self.connected():
                distributed.broadcast_object_list(box, src=0, device=CPU)
        given: Plain = box[0]
        return given

    def broadcast_tensors(self, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Send tensors on the CPU from rank 0 to all: the others need not see its disk."""
        if self.count == 1:
            return dict(tensors or {})
        mine = dict(tensors or {}) if self.is_first else {}
        forms = self.broadcast([(name, tuple(tensor.shape), tensor.dtype) for name, tensor in mine.items()])
        found = {}
        for name, shape, kind in forms:
            tensor = mine[name].contiguous() if self.is_first else torch.empty(shape, dtype=kind)
            with self.connected():
                distributed.broadcast(tensor, src=0)
            found[name] = tensor
        return found

    def broadcast_modules(self, *modules: nn.Module) -> None:
        """Send rank 0's weights and buffers to all, so that they begin alike to the last bit."""
        if self.count == 1:
            return
        for module in modules:
            for tensor in module.state_dict().values():
                with self.connected():
                    distributed.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Wait until all ranks are here."""
        self.any_of([0])

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Around what is sent.

        Raises:
            RankLostError: If it does not arrive.
        """
        try:
            yield
        except (RuntimeError, OSError) as problem:
            raise RankLostError(rank=self.number, why=problem) from None


ALONE = Ranks()


def alone() -> Ranks:
    """The only rank."""
    return Ranks(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@contextlib.contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """This process's place among those that torchrun started; alone without it.

    Nobody leaves before all are done. An error is raised in the rank that met it first; the others, which meet it too or lose
    that one, leave with exit code 2 and without a message.

    Raises:
        UsageError: If torchrun's variables are not all there, or no number.
        RankLostError: If the other ranks cannot be reached.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield alone()
        return
    missing = [name for name in NAMED if name not in os.environ]
    if missing:
        raise UsageError(
            f"WORLD_SIZE is set and {missing[0]} is not: start ranks with torchrun, or set {', '.join(NAMED)}"
        )
    try:
        number, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        place = int(os.environ.get("LOCAL_RANK", "0"))
    except ValueError as problem:
        raise UsageError(f"RANK, WORLD_SIZE and LOCAL_RANK are numbers ({printable(problem)})") from None
    device = torch.device("cuda", place % torch.cuda.device_count()) if torch.cuda.is_available() else alone().device
    ranks = Ranks(number, count, device)
    with ranks.connected():
        store, _, _ = next(rendezvous("env://", number, count, timeout=TIMEOUT))
        if device.type == "cuda":
            torch.cuda.set_device(device)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=number,
            world_size=count,
            timeout=TIMEOUT,
        )
    try:
        yield ranks
        ranks.wait()
    except (StillroomError, OSError):
        if not is_first_error(store):
            raise SystemExit(2) from None
        raise
    distributed.destroy_process_group()


def is_first_error(store: Store) -> bool:
    """Whether no other rank raised an error before."""
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        return int(store.add(f"stillroom/errors/{attempt}", 1)) == 1
    except (RuntimeError, OSError):
        return True  # the store ended with the rank that held it
