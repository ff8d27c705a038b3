"""The stream by several processes: its batches in their order, or what one of them met, as if there were no process but this."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, IterableDataset

from manifests.errors import StillroomError
from training.data.batch import PairBatch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from training.stream import PairStream

PREFETCHED = 4


@dataclass(frozen=True)
class Unread:
    """What a worker sends instead of a batch, before it ends: torch would make a trace of many lines of an error that it meets."""

    problem: StillroomError | OSError


class Workers(IterableDataset[PairBatch | Unread]):
    """A stream as a loader's worker reads it: its last item may be what went wrong."""

    def __init__(self, stream: PairStream) -> None:
        super().__init__()
        self.stream = stream

    def __iter__(self) -> Iterator[PairBatch | Unread]:
        """The batches of this worker's share."""
        try:
            yield from self.stream
        except (StillroomError, OSError) as problem:
            yield Unread(problem)


def loader(stream: PairStream, *, workers: int) -> Generator[PairBatch]:
    """Batches by a DataLoader whose workers start by spawn, leave signals to their parent, and end with it.

    Not by forkserver: a scheduler's SIGTERM would end its server process, and the workers with it. Close it: workers are deaf to
    SIGTERM, so one that nobody told to end would keep its parent from ending.

    Raises:
        StillroomError: What a worker met, as it was there.
        OSError: The same.
    """
    options: dict[str, Any] = {}
    if workers:
        options = {
            "multiprocessing_context": "spawn",
            "prefetch_factor": PREFETCHED,
            "worker_init_fn": leave_signals_to_parent,
        }
    for item in DataLoader(Workers(stream), batch_size=None, num_workers=workers, **options):
        if isinstance(item, Unread):
            raise item.problem
        yield item


def leave_signals_to_parent(_: int) -> None:
    """A terminal's Ctrl-C and a scheduler's warning reach the whole process group; the parent decides what they mean."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
