"""Renders shards through any `concurrent.futures.Executor`; a worker that dies is replaced and its shard rendered again."""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from typing import TYPE_CHECKING

from corpus_builder.shards.writer import ShardOutcome, ShardTask, render_shard
from corpus_builder.workers.pool import WorkerDiedError, end_pool, new_pool
from manifests.errors import StillroomError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from corpus_builder.workers.preemption import Stop

DEATHS_ALLOWED = 3
PROGRESS_EVERY_S = 0.5
AHEAD = 64  # shards queued with an executor of unknown size; one that grows on demand goes by its queue


class ExecutorLostError(StillroomError, ConnectionError):
    """An executor of the user's cancelled work by itself."""

    def __init__(self) -> None:
        super().__init__(
            "the executor that renders the shards is gone (its scheduler ended, or the connection broke); finished shards are "
            "saved: run the same command again"
        )


class Dispatcher:
    """Runs shards on a pool of its own, or on a given executor.

    When a worker dies, every running shard is suspect: each is rendered again alone in a new pool, so that only the one that kills
    its worker is counted. After three more deaths a shard is left undone and the others finish.

    Args:
        workers: How many shards run at once, in a pool of its own.
        executor: Where they run; a pool of processes by default. A given one is not ended, and not replaced when it breaks.
        stop: Once it is true no other shard is begun; those that run are finished.
        on_progress: Called twice a second with the number of utterances of unfinished shards that are rendered.
    """

    def __init__(
        self,
        *,
        workers: int,
        executor: Executor | None = None,
        stop: Stop | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        self.workers, self.given = workers if executor is None else AHEAD, executor
        self.stop, self.on_progress = stop, on_progress
        self.accounted = 0
        self.pool: Executor | None = executor
        self.running: dict[Future[ShardOutcome], ShardTask] = {}
        self.waiting: deque[ShardTask] = deque()
        self.suspects: deque[ShardTask] = deque()
        self.deaths: Counter[str] = Counter()

    def outcomes(self, tasks: Iterable[ShardTask]) -> Generator[ShardOutcome, None, None]:
        """The outcome of each shard, in the order in which they end."""
        self.waiting.extend(tasks)
        at_once = True
        try:
            while self.waiting or self.suspects or self.running:
                if self.stop:
                    self.cancel_waiting()
                else:
                    self.fill()
                ended, _ = wait(self.running, timeout=PROGRESS_EVERY_S, return_when=FIRST_COMPLETED)
                victims: list[ShardTask] = []
                for future in ended:
                    task = self.running.pop(future)
                    try:
                        outcome = self.outcome(future, task)
                    except BrokenExecutor:
                        victims.append(task)
                    else:
                        self.accounted += task.rows
                        yield outcome
                if self.on_progress is not None:
                    self.on_progress(self.in_progress())
                if victims:
                    yield from self.replace_worker([*victims, *self.running.values()])
            at_once = False
        finally:
            self.end(at_once=at_once)

    def outcome(self, future: Future[ShardOutcome], task: ShardTask) -> ShardOutcome:
        """The outcome of a shard.

        Raises:
            BrokenExecutor: If its worker died.
            ExecutorLostError: If the executor cancelled it.
        """
        try:
            return future.result()
        except BrokenExecutor:
            raise
        except CancelledError:
            raise ExecutorLostError from None
        except Exception as problem:  # noqa: BLE001 (an executor's own: Dask's KilledWorker, a worker without Stillroom)
            return ShardOutcome(
                task.name, task.rows, "undone", message=f"{type(problem).__name__}: {printable(problem)}"
            )

    def in_progress(self) -> int:
        """Utterances that are rendered in unfinished shards; 0 for an executor whose workers do not count."""
        counter = getattr(self.pool, "counter", None)
        return max(0, counter.value - self.accounted) if counter is not None else 0

    def cancel_waiting(self) -> None:
        """Begin no other shard: drop those that wait, and cancel what an executor has not begun."""
        self.waiting.clear()
        self.suspects.clear()
        for future in [future for future in self.running if not future.done() and future.cancel()]:
            del self.running[future]

    def fill(self) -> None:
        """Submit shards: a suspect alone, others up to the number of workers."""
        if self.suspects:
            if not self.running:
                self.submit(self.suspects)
            return
        while self.waiting and len(self.running) < self.workers:
            if not self.submit(self.waiting) or any(future.done() for future in self.running):
                return  # outcomes are handled before more is submitted: some executors run in `submit`

    def submit(self, queue: deque[ShardTask]) -> bool:
        """Submit the next shard of a queue; False if an idle worker had died and the pool was replaced."""
        if self.pool is None:
            self.pool, self.accounted = new_pool(self.workers), 0
        try:
            self.running[self.pool.submit(render_shard, queue[0])] = queue[0]
        except BrokenExecutor:
            self.replace()
            return False
        queue.popleft()
        return True

    def replace_worker(self, victims: list[ShardTask]) -> Iterator[ShardOutcome]:
        """Replace the pool after a worker's death; a shard that was running too often is left undone."""
        self.running.clear()
        self.replace()
        for task in victims:
            self.deaths[task.name] += 1
            if self.deaths[task.name] > DEATHS_ALLOWED:
                message = f"its worker died {self.deaths[task.name]} times (killed, or out of memory)"
                yield ShardOutcome(task.name, task.rows, "undone", message=message)
            else:
                self.suspects.append(task)

    def replace(self) -> None:
        """End a broken pool; the next shard starts a new one.

        Raises:
            WorkerDiedError: If it is a given executor.
        """
        if self.given is not None:
            raise WorkerDiedError("rendering shards")
        if self.pool is not None:
            end_pool(self.pool, at_once=True)
        self.pool = None

    def end(self, *, at_once: bool) -> None:
        """End the pool, or cancel what waits at a given executor."""
        if self.given is not None:
            for future in self.running:
                future.cancel()
        elif self.pool is not None:
            end_pool(self.pool, at_once=at_once)
        self.pool = self.given
