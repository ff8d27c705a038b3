"""What surrounds a pool of workers: order of results, the environment and signals of workers, and how a pool ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.workers import pool
from corpus_builder.workers.pool import WorkerDiedError, end_pool, mapped, mapped_with_progress, started_as_workers
from corpus_builder.workers.preemption import Stop
from tests.corpus_builder.conftest import Inline

if TYPE_CHECKING:
    from collections.abc import Iterator


class Backwards(Executor):
    """Does nothing until a result is needed; then what came last first."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Future[Any], Any]] = []
        self.most = 0

    def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
        made: Future[Any] = Late(self)
        self.waiting.append((made, lambda: function(*args, **named)))
        self.most = max(self.most, len(self.waiting))
        return made


class Late(Future[Any]):
    def __init__(self, executor: Backwards) -> None:
        super().__init__()
        self.executor = executor

    def result(self, timeout: float | None = None) -> Any:
        while not self.done():
            made, work = self.executor.waiting.pop()
            made.set_result(work())
        return super().result(timeout)


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, Backwards]]:
    """How many workers each pool was to have; a pool works in this process, backwards."""
    begun: list[tuple[int, Backwards]] = []

    @contextlib.contextmanager
    def worker_pool(workers: int) -> Iterator[Backwards]:
        begun.append((workers, Backwards()))
        yield begun[-1][1]

    monkeypatch.setattr(pool, "worker_pool", worker_pool)
    return begun


def test_results_come_in_the_order_of_the_items_and_few_are_in_hand(pools: list[tuple[int, Backwards]]) -> None:
    assert list(mapped(str, range(30), workers=3, what="counting")) == [str(number) for number in range(30)]
    (workers, executor) = pools[0]
    assert workers == 3
    assert executor.most == 12  # four for each worker
    pairs = list(mapped_with_progress(str, [5, 7], workers=4, what="counting", unit="numbers", progress=False))
    assert pairs == [(5, "5"), (7, "7")]
    assert [workers for workers, _ in pools] == [3, 2]  # no more than there are items
    assert list(mapped(str, [1], workers=4, what="counting")) == ["1"]
    assert list(mapped(str, [1, 2], workers=1, what="counting")) == ["1", "2"]
    assert len(pools) == 2


def test_the_work_that_a_worker_died_at_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(pool, "worker_pool", lambda _: contextlib.nullcontext(Inline()))
    with pytest.raises(
        WorkerDiedError, match=r"^a worker process died while reading noises \(killed, or out of memory\)"
    ):
        list(mapped(dies, [1, 2], workers=2, what="reading noises"))


def test_nothing_is_displayed_without_work_or_where_it_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    for items, progress in (([], True), ([1, 2], False)):
        list(mapped_with_progress(str, items, workers=1, what="counting", unit="numbers", done=3, progress=progress))
        assert capsys.readouterr().err == ""


def test_a_worker_has_one_thread_and_no_signals_until_it_is_set_up_and_all_is_restored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        with started_as_workers():
            assert {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")} == {
                "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
            }  # fmt: skip
            blocked = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM}
            assert blocked <= signal.pthread_sigmask(signal.SIG_BLOCK, [])
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


class Ended(Executor):
    def __init__(self) -> None:
        self.done: list[str] = []
        self._processes = {1: self}

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.done.append(f"shutdown {wait} {cancel_futures}")

    def kill(self) -> None:
        self.done.append("kill")

    def join(self, timeout: float) -> None:
        self.done.append("join")


def test_a_pool_ends_after_its_work_or_at_once_by_ending_its_processes() -> None:
    after, now = Ended(), Ended()
    end_pool(after, at_once=False)
    end_pool(now, at_once=True)
    assert after.done == ["shutdown True False"]
    assert now.done == ["shutdown False True", "kill", "join"]


SET_UP = """
import multiprocessing, os, signal, sys, time
from corpus_builder.workers.pool import HANDLED_BY_THE_PARENT, Ticks, start_worker
from manifests.io.atomic import BEING_WRITTEN
from pathlib import Path
BEING_WRITTEN.add(Path(sys.argv[1]))
counter = multiprocessing.get_context("spawn").Value("q", 5)
signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_BY_THE_PARENT)
start_worker(os.getppid() if sys.argv[2] == "alive" else -1, counter)
Ticks.tick()
Ticks.tick()
names = [number.name for number in HANDLED_BY_THE_PARENT if signal.getsignal(number) is signal.SIG_IGN]
print(counter.value, *names, len(signal.pthread_sigmask(signal.SIG_BLOCK, [])), flush=True)
time.sleep(0.2 if sys.argv[2] == "alive" else 60)
"""


@pytest.mark.parametrize("parent", ["alive", "gone"])
def test_a_worker_leaves_signals_to_its_parent_counts_its_work_and_ends_with_its_parent(
    tmp_path: Path, parent: str
) -> None:
    """Its temporary files go when its parent has gone."""
    path = tmp_path / "a.part"
    path.write_bytes(b"x")
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", SET_UP, str(path), parent]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=50)
    assert run.returncode == (parent == "gone"), run.stderr
    assert path.exists() == (parent == "alive")
    if parent == "alive":
        assert run.stdout.split() == ["7", "SIGINT", "SIGTERM", "SIGUSR1", "SIGALRM", "0"]


def test_requests_to_stop_are_handled_as_before_afterwards() -> None:
    def own(*_: Any) -> None:
        pass

    before = signal.signal(signal.SIGUSR1, own)
    try:
        with Stop(after_s=1000.0) as stop:
            assert signal.getsignal(signal.SIGUSR1) == stop.request
            assert 900 < signal.getitimer(signal.ITIMER_REAL)[0] <= 1000
            with stop.waiting_for_shards():
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGUSR1)
        assert stop.reason == "SIGTERM"  # the first one
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0
        assert signal.getsignal(signal.SIGUSR1) is own
    finally:
        signal.signal(signal.SIGUSR1, before)
