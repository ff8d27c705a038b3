"""A pool of worker processes: spawned, one thread each, ended within seconds of their parent's death.

After SIGKILL of its parent a pool's worker finishes its queue and stays for ever, whichever way it was started; so each
worker watches its parent itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from manifests.errors import StillroomError
from manifests.io.atomic import remove_temporary_files
from manifests.io.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.sharedctypes import Synchronized


WATCH_EVERY_S = 1.0
HANDLED_BY_THE_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)
WORKER_SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    # glibc raises the first by itself to 32 MB, and then waves of long utterances fragment the heap; the second keeps the heap of usual
    # waves mapped, so that it is not faulted in again for each of them
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
}
Item = TypeVar("Item")
Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class WorkerDiedError(StillroomError, RuntimeError):
    """A worker process ended before its work did."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"a worker process died while {what} (killed, or out of memory); finished work is saved: run the same command again, "
            "with fewer --workers if memory is short"
        )


class Ticks:
    """Counts the units of work that the workers of a pool have done; does nothing in a process that is no such worker."""

    counter: Synchronized[int] | None = None

    @classmethod
    def tick(cls) -> None:
        """Count one more unit of work."""
        if cls.counter is not None:
            with cls.counter.get_lock():
                cls.counter.value += 1


def start_worker(parent: int, counter: Synchronized[int] | None = None) -> None:
    """Set up a worker: it ignores signals, which the parent handles, and exits when the parent dies, without its temporary files.

    A scheduler sends SIGTERM to every process of a job; a worker finishes the shard in hand while its parent waits for it.

    Args:
        parent: Process id of the parent.
        counter: Shared with the parent, for progress.
    """
    for number in HANDLED_BY_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_BY_THE_PARENT)
    Ticks.counter = counter

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_EVERY_S)
        remove_temporary_files()
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()


@contextlib.contextmanager
def started_as_workers() -> Iterator[None]:
    """Processes started inside use one thread each for linear algebra and free large arrays; signals are blocked until they are set up.

    Signals that come meanwhile are delayed, not lost.
    """
    before = {name: os.environ.get(name) for name in WORKER_SETTINGS}
    os.environ.update(WORKER_SETTINGS)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_BY_THE_PARENT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class WorkerPool(ProcessPoolExecutor):
    """A pool of spawned workers (a forked one would inherit locks of threads that it does not have).

    Args:
        workers: How many at most; each is started when there is work for it.
    """

    def __init__(self, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.counter: Synchronized[int] = context.Value("q", 0)
        super().__init__(workers, mp_context=context, initializer=start_worker, initargs=(os.getpid(), self.counter))

    def submit(
        self, function: Callable[Arguments, Result], /, *args: Arguments.args, **named: Arguments.kwargs
    ) -> Future[Result]:
        """Put work in the queue; a worker that is started for it is set up as `start_worker` says."""
        with started_as_workers():
            return super().submit(function, *args, **named)


def new_pool(workers: int) -> WorkerPool:
    """A pool whose first worker is starting."""
    pool = WorkerPool(workers)
    pool.submit(os.getpid)
    return pool


def end_pool(pool: Executor, *, at_once: bool) -> None:
    """End a pool: after its work, or at once by ending its processes."""
    if not at_once:
        pool.shutdown()
        return
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.kill()  # they ignore SIGTERM
    for process in processes:
        process.join(timeout=5)


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[WorkerPool]:
    """A pool that ends with its work, and at once when something goes wrong or Ctrl-C is pressed."""
    pool = new_pool(workers)
    try:
        yield pool
    except BaseException:
        end_pool(pool, at_once=True)
        raise
    end_pool(pool, at_once=False)


def mapped(function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, what: str) -> Iterator[Result]:
    """Results of a function in the order of the items, from a pool; in this process if there is one worker or one item.

    Args:
        function: At the top of a module, so that a worker can import it.
        items: Its arguments.
        workers: Number of processes at most.
        what: Which work, for a message: `reading noises`.

    Raises:
        WorkerDiedError: If a worker is killed.
    """
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(function, items)
        return
    waiting: deque[Any] = deque()
    try:
        with worker_pool(workers) as pool:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 4 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool:
        raise WorkerDiedError(what) from None


def mapped_with_progress(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    what: str,
    unit: str,
    size: Callable[[Item], float] = lambda _: 1,
    done: float = 0,
    progress: bool = True,
) -> Iterator[tuple[Item, Result]]:
    """Each item with its result, as `mapped` gives them, while a progress display counts the finished ones.

    Args:
        function: At the top of a module, so that a worker can import it.
        items: Its arguments.
        workers: Number of processes at most.
        what: Which work, for the display and for messages: `reading noises`.
        unit: What is counted, in the plural.
        size: How many units an item counts.
        done: Units that an earlier run finished.
        progress: Show the display, if there is anything to do.

    Raises:
        WorkerDiedError: If a worker is killed.
    """
    results = mapped(function, items, workers=workers, what=what)
    total = done + sum(map(size, items))
    with Progress(what, total=total, unit=unit, done=done, shown=progress and bool(items)) as display:
        for item, result in zip(items, results, strict=True):
            display.advance(size(item))
            yield item, result
