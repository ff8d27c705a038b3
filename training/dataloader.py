"""The stream in worker processes: its batches in their order, and the errors of workers as if they were raised here."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from manifests.errors import StillroomError
from training.data.batch import PairBatch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from training.stream import PairStream

PREFETCHED = 4
CPU = torch.device("cpu")


@dataclass(frozen=True)
class WorkerError:
    """An error that a worker sends instead of a batch, before it ends: torch would make a traceback of many lines from it."""

    problem: StillroomError | OSError


class Workers(IterableDataset[PairBatch | WorkerError]):
    """A stream as a loader's worker reads it: its last item may be an error."""

    def __init__(self, stream: PairStream) -> None:
        super().__init__()
        self.stream = stream

    def __iter__(self) -> Iterator[PairBatch | WorkerError]:
        """The batches of this worker's share."""
        try:
            yield from self.stream
        except (StillroomError, OSError) as problem:
            yield WorkerError(problem)


def loader(stream: PairStream, *, workers: int, device: torch.device = CPU) -> Generator[PairBatch]:
    """Batches by a DataLoader whose workers start by spawn, leave signals to their parent, and end with it.

    Not by forkserver: a scheduler's SIGTERM would end its server process, and the workers with it. Close it: workers ignore
    SIGTERM, so one that is not ended would keep its parent from ending.

    Args:
        stream: Whose batches.
        workers: How many processes read and decode.
        device: What computes: for a GPU batches come in pinned memory, from which it copies without the host waiting.

    Raises:
        StillroomError: As a worker raised it.
        OSError: The same.
    """
    options: dict[str, Any] = {"pin_memory": device.type == "cuda"}
    if workers:
        options |= {
            "multiprocessing_context": "spawn",
            "prefetch_factor": PREFETCHED,
            "worker_init_fn": leave_signals_to_parent,
        }
    for item in DataLoader(Workers(stream), batch_size=None, num_workers=workers, **options):
        if isinstance(item, WorkerError):
            raise item.problem
        yield item


def leave_signals_to_parent(_: int) -> None:
    """A terminal's Ctrl-C and a scheduler's warning reach the whole process group; the parent decides what they mean."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
