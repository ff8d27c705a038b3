from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from corpus_builder.build import scheduler
from corpus_builder.build.build_corpus import Slice
from corpus_builder.build.scheduler import Dispatcher, ExecutorLostError
from corpus_builder.shards.writer import ShardOutcome, ShardTask
from corpus_builder.workers.pool import worker_pool
from corpus_builder.workers.preemption import Stop, StoppedError, parse_time
from manifests.errors import BadDocumentError, DamagedDocumentError, NotAFolderError, UsageError
from tests.corpus_builder.build.test_build_corpus import (
    command,
    environment,
    lives,
    many,
    shard_tasks,
    tars,
    wait_until,
)
from tests.corpus_builder.conftest import Inline, Lab

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["many"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("3h50m", 13_800.0), ("45s", 45.0), ("1d12h", 129_600.0), ("90m", 5400.0), ("1h1m1s", 3661.0)]
)
def test_a_time_is_told_in_days_hours_minutes_and_seconds(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "3", "h", "3m2h", "-3m", "1.5h", "9999d", "3h "])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a time such as 3h50m"):
        parse_time(text)


def test_a_request_ends_planning_at_once_and_is_only_noted_while_shards_are_rendered() -> None:
    with Stop() as stop:
        assert not stop
        with stop.waiting_for_shards():
            os.kill(os.getpid(), signal.SIGUSR1)
        assert stop
        assert stop.reason == "SIGUSR1"
        with pytest.raises(StoppedError):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.reason == "SIGUSR1"
    with Stop(0.001) as late, pytest.raises(StoppedError):
        time.sleep(30)
    assert late.reason == "the time is over"
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_build_that_is_asked_to_stop_finishes_the_shard_in_hand_and_the_next_goes_on(many: Lab) -> None:
    stop = Stop()

    class Asked(Inline):
        count = 0

        def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
            self.count += 1
            if self.count == 3:
                stop.reason = "SIGTERM"
            return super().submit(function, *args, **named)

    built = many.build("asked", executor=Asked(), stop=stop)
    assert built.stopped == "SIGTERM"
    assert built.corpus is None
    assert len(tars(many.folder / "asked")) == 3
    assert built.left == len(built.plan.files) - 3
    assert many.build("asked").corpus is not None
    assert tars(many.folder / "asked") == tars(many.folder / "straight")


def test_sigterm_to_the_whole_job_leaves_whole_shards_and_exit_code_75(many: Lab) -> None:
    corpus = many.folder / "terminated"
    process = subprocess.Popen(
        command(many, str(corpus), "--workers", "2"), env=environment(), stderr=subprocess.PIPE, start_new_session=True
    )
    wait_until(lambda: len(list((corpus / "shards").glob("*.json"))) >= 1)
    os.killpg(process.pid, signal.SIGTERM)  # as Slurm does: the workers hear it too
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert b"stopped (SIGTERM)" in said
    assert b"Traceback" not in said
    assert tars(corpus).items() < tars(many.folder / "straight").items()
    assert len(tars(corpus)) == len(list((corpus / "shards").glob("*.json")))
    assert not list(corpus.rglob(".*"))
    again = subprocess.run(command(many, str(corpus)), env=environment(), check=False, capture_output=True)
    assert again.returncode == 0, again.stderr
    assert tars(corpus) == tars(many.folder / "straight")


def test_a_time_limit_leaves_with_75(many: Lab) -> None:
    corpus = many.folder / "late"
    process = subprocess.Popen(
        command(many, str(corpus), "--stop-after", "1s"), env=environment(), stderr=subprocess.PIPE
    )
    wait_until((corpus / "plan" / "plan.json").exists)
    process.send_signal(signal.SIGSTOP)  # its clock goes on: however fast the machine, the time is over before the end
    time.sleep(1.1)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 75, said
    assert b"the time is over" in said
    assert many.build("late").corpus is not None


def test_a_worker_leaves_no_temporary_file_when_its_parent_is_killed(many: Lab) -> None:
    corpus = many.folder / "orphaned"
    process = subprocess.Popen(
        command(many, str(corpus), "--workers", "1"), env=environment(), stderr=subprocess.DEVNULL
    )
    wait_until(lambda: list((corpus / "shards").glob(".*.part")))
    workers = {int(path.name.rpartition("-")[2].removesuffix(".part")) for path in (corpus / "shards").glob(".*.part")}
    process.kill()
    process.wait()
    wait_until(lambda: not any(lives(pid) for pid in workers), seconds=5.0)
    assert not list((corpus / "shards").glob(".*.part"))


class Counting:
    """A pool that tells how many utterances its workers have rendered."""

    class Counter:
        value = 0

    def __init__(self) -> None:
        self.counter = self.Counter()

    def submit(self, *_: Any) -> Future[ShardOutcome]:
        return Future()

    def shutdown(self, **_: Any) -> None:
        pass


def test_progress_counts_utterances_of_shards_in_hand_once() -> None:
    dispatcher = Dispatcher(workers=2)
    dispatcher.pool = Counting()  # type: ignore[assignment]
    dispatcher.pool.counter.value = 7  # type: ignore[union-attr]
    assert dispatcher.in_progress() == 7
    dispatcher.accounted = 5
    assert dispatcher.in_progress() == 2
    dispatcher.accounted = 9  # a shard that was done again
    assert dispatcher.in_progress() == 0


def test_utterances_of_finished_shards_are_in_hand_no_more_and_a_new_pool_counts_from_0(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Renders(Counting):
        def submit(self, _: Any, task: ShardTask) -> Future[ShardOutcome]:
            self.counter.value += task.rows
            future: Future[ShardOutcome] = Future()
            future.set_result(ShardOutcome(task.name, task.rows, "done"))
            return future

        def shutdown(self, **_: Any) -> None:
            pass

    monkeypatch.setattr(scheduler, "new_pool", lambda _: Renders())
    tasks = [ShardTask("c", f"train-{number:06d}", "train", "0" * 64, 16_000, 3, ()) for number in range(4)]
    in_hand: list[int] = []
    dispatcher = Dispatcher(workers=1, on_progress=in_hand.append)
    assert len(list(dispatcher.outcomes(tasks))) == 4
    assert in_hand == [0] * 4
    assert dispatcher.accounted == 12
    dispatcher.replace()
    dispatcher.submit(deque(tasks))
    assert dispatcher.in_progress() == 3


def test_a_request_that_comes_with_the_last_shard_leaves_a_sealed_corpus_and_slices_count_those_of_others(
    lab: Lab,
) -> None:
    lab.without_rooms()
    lab.build(only_rooms=True)
    stop = Stop()

    class Asked(Inline):
        def __init__(self, count: int) -> None:
            self.left = count

        def submit(self, function: Any, /, *args: Any, **named: Any) -> Future[Any]:
            self.left -= 1
            if not self.left:
                stop.reason = "SIGTERM"
            return super().submit(function, *args, **named)

    built = lab.build(executor=Asked(1), stop=stop, part=Slice(1, 2))
    count = len(built.plan.files)
    assert (built.stopped, built.left) == ("SIGTERM", count - 1)
    assert count > 3
    stop.reason = ""
    built = lab.build(executor=Asked(count - 1), stop=stop)
    assert built.corpus is not None
    assert (built.stopped, built.left) == ("", 0)


def test_real_workers_tell_how_far_they_are(many: Lab) -> None:
    heard: list[int] = []
    plan = many.build("heard").plan
    from corpus_builder.workers.pool import Ticks, WorkerPool

    with WorkerPool(1) as pool:
        for _ in range(3):
            pool.submit(Ticks.tick).result()
        heard.append(pool.counter.value)
    assert heard == [3]
    assert plan.files


def test_a_worker_gives_the_memory_of_large_waves_back_whatever_lies_between_them(tmp_path: Path) -> None:
    code = f"""
import numpy as np

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

np.ones(1 << 20)  # with its first release glibc would move such waves into the heap
before, large, small = resident(), [], []
for _ in range(40):
    large.append(np.ones(1 << 20))
    small.append(np.ones(1000))
held = resident() - before
del large
open({str(tmp_path / "left")!r}, "w").write(f"{{held}} {{resident() - before}}")
"""
    with worker_pool(1) as pool:
        pool.submit(exec, code, {}).result()
    held, left = map(int, (tmp_path / "left").read_text().split())
    assert held > 300e6
    assert left < 20e6


def test_an_executor_that_takes_work_back_is_one_line() -> None:
    class Gone:
        def submit(self, *_: Any) -> Future[ShardOutcome]:
            future: Future[ShardOutcome] = Future()
            future.cancel()
            future.set_running_or_notify_cancel()
            return future

    with pytest.raises(ExecutorLostError, match="run the same command again") as caught:
        list(Dispatcher(workers=1, executor=Gone()).outcomes(shard_tasks(3)))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_an_executors_own_fault_leaves_a_shard_undone_and_the_others_finish() -> None:
    class KilledWorker(Exception):  # noqa: N818 (Dask calls its own so)
        pass

    class Dask:
        def submit(self, _: Any, task: Any) -> Future[ShardOutcome]:
            future: Future[ShardOutcome] = Future()
            if task.name.endswith("1"):
                future.set_exception(KilledWorker("died\nfour times"))
            else:
                future.set_result(ShardOutcome(task.name, 1, "done"))
            return future

    outcomes = {one.name: one for one in Dispatcher(workers=1, executor=Dask()).outcomes(shard_tasks(4))}  # type: ignore[arg-type]
    assert {name for name, one in outcomes.items() if one.state == "undone"} == {"train-000001"}
    assert outcomes["train-000001"].message == "KilledWorker: died\\nfour times"


def test_several_threads_of_one_process_render_the_same_bytes(many: Lab) -> None:
    with ThreadPoolExecutor(3) as threads:
        assert many.build("threaded", executor=threads).corpus is not None
    assert tars(many.folder / "threaded") == tars(many.folder / "straight")


@pytest.mark.parametrize("name", ["corpus.json", "plan/plan.json"])
@pytest.mark.parametrize("damage", ["cut", "mangled", "empty"])
def test_a_damaged_index_of_our_own_is_one_line_that_says_how_to_mend_it(lab: Lab, name: str, damage: str) -> None:
    lab.without_rooms()
    lab.build()
    path = lab.folder / "corpus" / name
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-40], "mangled": content.replace(b'"schema"', b'"sketch"'), "empty": b""}[damage])
    with pytest.raises(DamagedDocumentError, match="remove it and run the same command again") as caught:
        lab.build()
    assert isinstance(caught.value, BadDocumentError)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    path.unlink()
    assert lab.build().corpus is not None
    assert path.read_bytes() == content


def test_a_file_where_a_folder_is_due_is_called_a_file(lab: Lab, tmp_path: Path) -> None:
    lab.without_rooms()
    (tmp_path / "file").write_text("x")
    lab.recipe["speech"]["train"]["dir"] = str(tmp_path / "file")
    with pytest.raises(NotAFolderError, match=r"file is a file, not a folder: the folder of 'train'"):
        lab.build()
