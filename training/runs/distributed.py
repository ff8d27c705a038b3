"""Ranks: processes that train one student together, started by `torchrun`, or by whatever sets its variables.

Every rank has the whole student and takes whole lanes of each global batch (law 5). The loss of a micro-batch is divided by
the frames of the *global* batch, so gradients are summed over ranks, never averaged: once a step, in one buffer, with the losses,
the counts and the signals of the step. Rank 0 alone writes. That buffer and the models' weights travel over NCCL where there are
GPUs; what is on the CPU (checkpoints, text) over gloo.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from manifests.errors import StillroomError, UsageError, printable
from manifests.io.progress import stderr_line
from training.data.batch import on_device

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor, nn
    from torch._C._distributed_c10d import Store
    from torch.distributed import ProcessGroup

NAMED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

CPU = torch.device("cpu")
ANSWERS, ANSWER_S = 20, 0.5  # how long ranks that lost one wait to be sure which

Plain = TypeVar("Plain")


class TooManyRanksError(UsageError):
    """There are more ranks than lanes."""

    def __init__(self, *, ranks: int, lanes: int) -> None:
        super().__init__(
            f"{ranks} ranks and batch.lanes: {lanes}: a rank takes whole lanes, so start at most {lanes} ranks, or set "
            f"batch.lanes to {ranks} or more in a new run"
        )


class RankLostError(StillroomError, ConnectionError):
    """Another rank is gone, hangs, or cannot be reached."""

    def __init__(self, *, rank: int, why: object, lost: Sequence[int] = ()) -> None:
        reason = (str(why).splitlines() or [type(why).__name__])[0]
        who = f"rank{'s' * (len(lost) > 1)} {', '.join(map(str, lost))}" if lost else "another rank"
        super().__init__(
            f"rank {rank} lost {who} ({printable(reason)}): look for what ended or stopped it (memory, its machine, its disk); "
            "the last checkpoint is kept, the same command goes on from it"
        )


@dataclass(frozen=True)
class Timeouts:
    """How long a rank waits for the others; one that dies is noticed at once, by its closed connection.

    Attributes:
        gloo: On the CPU: rank 0 checks corpus and teacher before a run begins.
        nccl: Between GPUs: rank 0 validates and writes checkpoints.
    """

    gloo: timedelta = timedelta(hours=1)
    nccl: timedelta = timedelta(minutes=30)


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; by default it is alone, and nothing is sent.

    Attributes:
        number: Of this rank, from 0.
        count: How many there are.
        device: Where this one computes.
        device_group: Of torch.distributed, over NCCL; None where the device is the CPU.
        store: Where ranks find each other.
    """

    number: int = 0
    count: int = 1
    device: torch.device = CPU
    device_group: ProcessGroup | None = None
    store: Store | None = None

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
                    distributed.broadcast(tensor, src=0, group=self.device_group)

    def wait(self) -> None:
        """Wait until all ranks are here."""
        with self.connected():
            distributed.barrier()

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """Around what is sent.

        Raises:
            RankLostError: If it does not arrive.
        """
        try:
            yield
        except (RuntimeError, OSError) as problem:
            raise RankLostError(rank=self.number, why=problem, lost=self.silent_ranks()) from None

    def silent_ranks(self) -> list[int]:
        """The ranks that do not say that they lost another one too: those that died or hang; none if the store is gone with them.

        Ranks that wait for one that hangs stop waiting at almost the same time, and so do all that another one's end reaches.
        """
        if self.store is None:
            return []
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        names = {rank: f"stillroom/lost/{attempt}/{rank}" for rank in range(self.count)}
        try:
            self.store.set(names[self.number], "")
            for _ in range(ANSWERS):
                silent = [rank for rank, name in names.items() if not self.store.check([name])]
                if len(silent) <= 1:
                    break
                time.sleep(ANSWER_S)
        except (RuntimeError, OSError):
            return []
        return silent


class AllReduce:
    """Sums gradients, and a few numbers beside them, over ranks: one buffer, one message a step.

    A parameter without a gradient on any rank stays without one (AdamW would decay it). Which those are follows from the model, but a
    rank whose lanes are empty has none at all: so a flag for each is summed too, and read from the first global batch with
    anything in it; after that the host waits for nothing. Sums are the same bits on every rank, so are the updates.

    Args:
        ranks: Those that train together.
        parameters: Whose gradients.
    """

    def __init__(self, ranks: Ranks, parameters: Iterable[nn.Parameter]) -> None:
        self.ranks, self.parameters = ranks, list(parameters)
        self.has_gradient: list[float] = []

    def __call__(self, numbers: Tensor) -> Tensor:
        """Sum the gradients in place; returns the numbers, summed too: shape (number,), float32, on the device."""
        if self.ranks.count == 1:
            return numbers
        gradients = [parameter.grad for parameter in self.parameters]
        parts = [
            torch.zeros_like(parameter).reshape(-1) if gradient is None else gradient.reshape(-1)
            for parameter, gradient in zip(self.parameters, gradients, strict=True)
        ]
        has = on_device(torch.tensor([float(gradient is not None) for gradient in gradients]), numbers.device)
        buffer = torch.cat([*parts, has, numbers])
        with self.ranks.connected():
            distributed.all_reduce(buffer, group=self.ranks.device_group)
        *summed, has_any, numbers = torch.split(buffer, [*map(len, parts), len(has), len(numbers)])
        if not any(self.has_gradient):
            self.has_gradient = has_any.tolist()
        for parameter, values, has_one in zip(self.parameters, summed, self.has_gradient, strict=True):
            parameter.grad = values.view_as(parameter) if has_one else None
        return numbers.clone()  # not a view that would hold the buffer


ALONE = Ranks()


def alone() -> Ranks:
    """The only rank."""
    return Ranks(device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))


@contextlib.contextmanager
def joined_ranks(timeouts: Timeouts = Timeouts()) -> Iterator[Ranks]:
    """This process's place among those that torchrun started; alone without it.

    Args:
        timeouts: How long a rank waits for the others.

    Nobody leaves before all are done. An error is raised in the rank that met it first; the others, which meet it too or lose
    that one, leave with exit code 2 and without a message.

    Raises:
        UsageError: If torchrun's variables are not all there, or no number.
        RankLostError: If the other ranks cannot be reached.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        tasks = os.environ.get("SLURM_NTASKS", "1")
        if "WORLD_SIZE" not in os.environ and tasks.isdecimal() and int(tasks) > 1:
            stderr_line(
                f"SLURM_NTASKS is {tasks}, but this process trains alone: several train together as `srun torchrun ... -m stillroom train`, "
                "with one task a node; see docs/cluster.md"
            )
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
        store, _, _ = next(rendezvous("env://", number, count, timeout=timeouts.gloo))
        ranks = replace(ranks, store=store)
        distributed.init_process_group("gloo", store=store, rank=number, world_size=count, timeout=timeouts.gloo)
        if device.type == "cuda":
            torch.cuda.set_device(device)
            group: Any = distributed.new_group(backend="nccl", timeout=timeouts.nccl)  # this rank is in it
            ranks = replace(ranks, device_group=group)
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
