"""Shards rendered through any `concurrent.futures.Executor`, with a dead worker replaced and its shard done again."""

from __future__ import annotations

from collections import Counter, deque
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from typing import TYPE_CHECKING

from corpus_builder.pool import WorkerDiedError, end_pool, new_pool
from corpus_builder.shard import ShardOutcome, ShardTask, render_shard

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

DEATHS_BORNE = 3
LISTEN_EVERY_S = 1.0


class Dispatcher:
    """Runs shards on a pool of its own, or on an executor that it is given.

    When a worker dies, every shard in work is suspect: each is done again alone in a fresh pool, so that only the one that kills
    its worker is counted. After three more deaths a shard is left undone and the others finish.

    Args:
        workers: How many shards are in work at once.
        executor: Where they run; a pool of processes by default. One that is given is not ended, and not replaced when it breaks.
    """

    def __init__(self, *, workers: int, executor: Executor | None = None) -> None:
        self.workers, self.given = workers, executor
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
                self.fill()
                ended, _ = wait(self.running, timeout=LISTEN_EVERY_S, return_when=FIRST_COMPLETED)
                victims: list[ShardTask] = []
                for future in ended:
                    task = self.running.pop(future)
                    try:
                        yield future.result()
                    except BrokenExecutor:
                        victims.append(task)
                if victims:
                    yield from self.bury([*victims, *self.running.values()])
            at_once = False
        finally:
            self.end(at_once=at_once)

    def fill(self) -> None:
        """Put shards to work: a suspect alone, others up to the number of workers."""
        if self.suspects:
            if not self.running:
                self.submit(self.suspects)
            return
        while self.waiting and len(self.running) < self.workers:
            if not self.submit(self.waiting):
                return

    def submit(self, queue: deque[ShardTask]) -> bool:
        """Put the next shard of a queue to work; False if a worker had died while it was idle and the pool was replaced."""
        if self.pool is None:
            self.pool = new_pool(self.workers)
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
