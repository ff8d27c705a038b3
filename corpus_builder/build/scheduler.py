"""Shards rendered through any `concurrent.futures.Executor`, with a dead worker replaced and its shard done again."""

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

DEATHS_BORNE = 3
LISTEN_EVERY_S = 0.5
AHEAD = 64  # shards queued with an executor whose size we do not know; one that grows on demand looks at its queue


class ExecutorLostError(StillroomError, ConnectionError):
    """An executor that was given took work back that nobody had cancelled."""

    def __init__(self) -> None:
        super().__init__(
            "the executor that renders the shards is gone (its scheduler ended, or the connection broke); what was finished is kept: "
            "run the same command again"
        )


class Dispatcher:
    """Runs shards on a pool of its own, or on an executor that it is given.

    When a worker dies, every shard in work is suspect: each is done again alone in a fresh pool, so that only the one that kills
    its worker is counted. After three more deaths a shard is left undone and the others finish.

    Args:
        workers: How many shards are in work at once, in a pool of its own.
        executor: Where they run; a pool of processes by default. One that is given is not ended, and not replaced when it breaks.
        stop: Once it is true no shard is begun any more; those in hand are finished.
        listen: Told twice a second how many utterances of unfinished shards are rendered.
    """

    def __init__(
        self,
        *,
        workers: int,
        executor: Executor | None = None,
        stop: Stop | None = None,
        listen: Callable[[int], None] | None = None,
    ) -> None:
        self.workers, self.given = workers if executor is None else AHEAD, executor
        self.stop, self.listen = stop, listen
        self.accounted = 0
        self.pool: Executor | None = executor
        self.running: dict[Future[ShardOutcome], ShardTask] = {}
        self.waiting: deque[ShardTask] = deque()
        self.suspects: deque[ShardTask] = deque()
        self.deaths: Counter[str] = Counter()

    def outcomes(self, tasks: Iterable[ShardTask]) -> Generator[ShardOutcome, None, None]:
        """What became of each shard, in the order in which they end."""
        self.waiting.extend(tasks)
        at_once = True
        try:
            while self.waiting or self.suspects or self.running:
                if self.stop:
                    self.take_back()
                else:
                    self.fill()
                ended, _ = wait(self.running, timeout=LISTEN_EVERY_S, return_when=FIRST_COMPLETED)
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
                if self.listen is not None:
                    self.listen(self.in_hand())
                if victims:
                    yield from self.bury([*victims, *self.running.values()])
            at_once = False
        finally:
            self.end(at_once=at_once)

    def outcome(self, future: Future[ShardOutcome], task: ShardTask) -> ShardOutcome:
        """What became of a shard.

        Raises:
            BrokenExecutor: If its worker died.
            ExecutorLostError: If the executor took it back.
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

    def in_hand(self) -> int:
        """Utterances that are rendered in shards that are not finished; 0 where workers do not tell."""
        counter = getattr(self.pool, "counter", None)
        return max(0, counter.value - self.accounted) if counter is not None else 0

    def take_back(self) -> None:
        """Begin nothing more: forget what waits, and cancel what an executor has not begun."""
        self.waiting.clear()
        self.suspects.clear()
        for future in [future for future in self.running if not future.done() and future.cancel()]:
            del self.running[future]

    def fill(self) -> None:
        """Put shards to work: a suspect alone, others up to the number of workers."""
        if self.suspects:
            if not self.running:
                self.submit(self.suspects)
            return
        while self.waiting and len(self.running) < self.workers:
            if not self.submit(self.waiting) or any(future.done() for future in self.running):
                return  # an outcome is heard before more is begun: some executors do all of it at once

    def submit(self, queue: deque[ShardTask]) -> bool:
        """Put the next shard of a queue to work; False if a worker had died while it was idle and the pool was replaced."""
        if self.pool is None:
            self.pool, self.accounted = new_pool(self.workers), 0
        try:
            self.running[self.pool.submit(render_shard, queue[0])] = queue[0]
        except BrokenExecutor:
            self.replace()
            return False
        queue.popleft()
        return True

    def bury(self, victims: list[ShardTask]) -> Iterator[ShardOutcome]:
        """A worker died: replace the pool; a shard that was in work once too often is left undone."""
        self.running.clear()
        self.replace()
        for task in victims:
            self.deaths[task.name] += 1
            if self.deaths[task.name] > DEATHS_BORNE:
                message = f"its worker died {self.deaths[task.name]} times (killed, or out of memory)"
                yield ShardOutcome(task.name, task.rows, "undone", message=message)
            else:
                self.suspects.append(task)

    def replace(self) -> None:
        """End a broken pool; the next shard starts a fresh one.

        Raises:
            WorkerDiedError: If the executor is not ours to replace.
        """
        if self.given is not None:
            raise WorkerDiedError("rendering shards")
        if self.pool is not None:
            end_pool(self.pool, at_once=True)
        self.pool = None

    def end(self, *, at_once: bool) -> None:
        """End the pool, or take what is waiting back from an executor that was given."""
        if self.given is not None:
            for future in self.running:
                future.cancel()
        elif self.pool is not None:
            end_pool(self.pool, at_once=at_once)
        self.pool = self.given
