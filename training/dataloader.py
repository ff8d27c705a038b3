"""The stream in worker processes: its batches in their order, the errors of workers as if they were raised here, and new ones for those that die."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from manifests.errors import StillroomError, printable
from manifests.io.progress import stderr_line
from training.data.batch import PairBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from training.stream import PairStream

PREFETCHED = 4
MOST_DEATHS = 10
LONGEST_END_S = 1.0
LONGEST_SOCKET_PATH = 107  # bytes, by Linux' unix(7)
SOCKET = "/pymp-12345678/listener-12345678"  # as Python's multiprocessing names one in the temporary folder
CPU = torch.device("cpu")
LIKELY = {
    -signal.SIGKILL: ", most likely because memory ran out",
    -signal.SIGBUS: ", most likely because /dev/shm is full",
}


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


def loader(
    stream: PairStream,
    *,
    workers: int,
    device: torch.device = CPU,
    report: Callable[[str], None] = stderr_line,
    give_up: Callable[[], None] = lambda: None,
) -> Generator[PairBatch]:
    """Batches by a DataLoader whose workers start by spawn, leave signals to their parent, and end with it.

    Not by forkserver: a scheduler's SIGTERM would end its server process, and the workers with it. Close it: workers ignore
    SIGTERM, so one that is not ended would keep its parent from ending.

    A worker that dies (memory, a signal) may leave the queue that all share in any state. So all are ended, and as many start
    anew behind the last batch that arrived: batches are a function of their place, and what comes is the same. At the tenth
    death this process reads alone, and `give_up` is called.

    Args:
        stream: Whose batches.
        workers: How many processes read and decode.
        device: What computes: for a GPU batches come in pinned memory, from which it copies without the host waiting.
        report: Gets a line a death.
        give_up: Asks for the run's end, as workers die again and again.

    Raises:
        StillroomError: As a worker raised it.
        OSError: The same.
    """
    deaths = of_step = 0
    batch: PairBatch | None = None
    while True:
        try:
            with contextlib.closing(worker_batches(stream, workers=workers, device=device)) as batches:
                for batch in batches:
                    of_step = 0 if batch.ends_step else of_step + 1
                    yield batch
        except WorkerDiedError as death:
            deaths += 1
            stream = stream if batch is None else stream.after(batch, of_step=of_step)
            if deaths < MOST_DEATHS:
                report(f"{death}: reading goes on behind the last batch ({deaths} of at most {MOST_DEATHS - 1} times)")
                continue
            workers = 0
            report(
                f"{death}: {deaths} times, so the run stops with a checkpoint; set workers lower, or ask for more memory"
            )
            give_up()
        else:
            return


class WorkerDiedError(Exception):
    """A worker ended without a word; caught in this module."""

    def __init__(self, pid: int | None, code: int) -> None:
        cause = f"ended with exit code {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                cause = f"was killed by {signal.Signals(-code).name}"
        cause += LIKELY.get(code, "")
        super().__init__(f"a process that reads the corpus ({pid}) {cause}")


def worker_batches(stream: PairStream, *, workers: int, device: torch.device) -> Generator[PairBatch]:
    """The batches of one set of workers.

    Raises:
        WorkerDiedError: If one of them died.
        StillroomError: As a worker raised it.
        OSError: The same.
    """
    options: dict[str, Any] = {"pin_memory": device.type == "cuda"}
    if workers:
        check_sockets()
        options |= {
            "multiprocessing_context": "spawn",
            "prefetch_factor": PREFETCHED,
            "worker_init_fn": leave_signals_to_parent,
        }
    # With a generator of its own, so that one that starts anew draws nothing from torch's.
    batches = DataLoader(Workers(stream), batch_size=None, num_workers=workers, generator=torch.Generator(), **options)
    with contextlib.ExitStack() as stack:
        stack.enter_context(deaths_unsignalled())
        iterator = iter(batches)
        processes = list(getattr(iterator, "_workers", ()))
        stack.enter_context(deaths_unsignalled())  # torch sets its handler when the first worker starts
        try:
            while True:
                try:
                    item = next(iterator, None)
                except Exception:
                    ended = ended_badly(processes)
                    if ended is None:
                        raise
                    raise ended from None
                if item is None:
                    return
                if isinstance(item, WorkerError):
                    raise item.problem
                yield item
        finally:
            del iterator  # torch asks its workers to end, and waits some seconds for each
            kill(processes)


def check_sockets() -> None:
    """Check that workers can hand batches over: they do so by sockets in the temporary folder, whose paths have a limit.

    With a longer path the worker's batch is lost, and its parent would wait for it for ever.

    Raises:
        TemporaryFolderError: If that folder's path is too long.
    """
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) > LONGEST_SOCKET_PATH - len(SOCKET):
        raise TemporaryFolderError(folder, limit=LONGEST_SOCKET_PATH - len(SOCKET))


class TemporaryFolderError(StillroomError, OSError):
    """The path of the temporary folder is too long for sockets in it."""

    def __init__(self, folder: str, *, limit: int) -> None:
        super().__init__(
            f"{printable(folder)}: the temporary folder has a path of {len(os.fsencode(folder))} bytes, and sockets between processes allow "
            f"{limit}; set TMPDIR to a shorter one, or workers: 0"
        )


def ended_badly(processes: list[Any]) -> WorkerDiedError | None:
    """The death of one of some workers; they are given a moment to be seen as dead."""
    for process in processes:
        process.join(LONGEST_END_S / len(processes))
        if process.exitcode:
            return WorkerDiedError(process.pid, process.exitcode)
    return None


def kill(processes: list[Any]) -> None:
    """Kill those of some workers that still live: one may wait for ever for a lock that a dead one held, and torch's SIGTERM is ignored."""
    for process in processes:
        process.kill()
        process.join()


@contextlib.contextmanager
def deaths_unsignalled() -> Iterator[None]:
    """Without torch's handler of SIGCHLD: it would raise in the middle of a step, an update or a checkpoint.

    A dead worker is noticed where its batch is waited for, within five seconds.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def leave_signals_to_parent(_: int) -> None:
    """A terminal's Ctrl-C and a scheduler's warning reach the whole process group; the parent decides what they mean."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
