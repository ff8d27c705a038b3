"""Worker processes: started clean, one thread each, gone within seconds of their parent's death.

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
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any, TypeVar

from manifests.errors import StillroomError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

WATCH_EVERY_S = 1.0
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerDiedError(StillroomError, RuntimeError):
    """A worker process ended before its work did."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"a worker process died while {what} (killed, or out of memory); run the same command again, with fewer --workers if "
            "memory is short: what was finished is kept"
        )


def start_worker(parent: int) -> None:
    """Set up a worker: Ctrl-C is the parent's business, and the parent's death is the end.

    Args:
        parent: Process id of the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watch-parent").start()


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Processes started inside use one thread each for linear algebra, and do not hear Ctrl-C while they start."""
    before = {name: os.environ.get(name) for name in THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(THREAD_SETTINGS, "1"))
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if in_main else None
    try:
        yield
    finally:
        if in_main:
            signal.signal(signal.SIGINT, handler)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def new_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of spawned workers (a forked one would inherit locks of threads that it does not have)."""
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=start_worker,
        initargs=(os.getpid(),),
    )
    with single_threaded():
        pool.submit(os.getpid)  # starts the workers
    return pool


def end_pool(pool: Executor, *, at_once: bool) -> None:
    """End a pool: after its work, or at once by ending its processes."""
    if not at_once:
        pool.shutdown()
        return
    processes = list((getattr(pool, "_processes", None) or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(timeout=5)


@contextlib.contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool that ends with its work, and at once when something goes wrong or Ctrl-C is pressed."""
    pool = new_pool(workers)
    try:
        yield pool
    except BaseException:
        end_pool(pool, at_once=True)
        raise
    end_pool(pool, at_once=False)


def mapped(function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, what: str) -> Iterator[Result]:
    """Results of a function in the order of the items, from a pool; in this process if there is one worker.

    Args:
        function: At the top of a module, so that a worker can import it.
        items: Read as they are needed.
        workers: Number of processes.
        what: Which work, for a message: `reading noises`.

    Raises:
        WorkerDiedError: If a worker is killed.
    """
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
