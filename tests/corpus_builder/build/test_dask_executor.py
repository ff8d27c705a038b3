"""A real Dask scheduler with worker processes on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from corpus_builder.build.dask_executor import SchedulerGoneError, dask_executor
from manifests.errors import MissingFileError, UsageError
from tests.corpus_builder.build.test_build_corpus import command, environment, many, tars, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.corpus_builder.conftest import Lab

__all__ = ["many"]
pytestmark = pytest.mark.slow


class Cluster:
    """A scheduler and workers, each a process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "scheduler.json"
        self.workers: list[subprocess.Popen[bytes]] = []
        self.scheduler = self.start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self.file)
        )
        wait_until(lambda: self.file.exists() and self.file.read_text().strip())
        self.address = json.loads(self.file.read_text())["address"]

    def start(self, what: str, *words: str) -> subprocess.Popen[bytes]:
        code = [sys.executable, "-m", f"distributed.cli.dask_{what}", *words, "--no-dashboard"]
        with (self.folder / f"{what}.log").open("ab") as log:
            return subprocess.Popen(code, env=environment(), cwd=self.folder, stdout=log, stderr=log)

    def add_worker(self) -> None:
        words = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
        self.workers.append(self.start("worker", self.address, *words))

    def end(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path)
    running.add_worker()
    running.add_worker()
    yield running
    running.end()


def build_on(lab: Lab, name: str, address: str) -> subprocess.Popen[bytes]:
    words = command(lab, str(lab.folder / name), "--dask", address)
    return subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finished(folder: Path) -> int:
    return len(list((folder / "shards").glob("*.json")))


def test_a_build_on_dask_with_a_worker_killed_in_the_middle_gives_the_same_bytes(many: Lab, cluster: Cluster) -> None:
    process = build_on(many, "dask", cluster.address)
    wait_until(lambda: finished(many.folder / "dask") >= 2)
    cluster.workers[0].kill()
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert tars(many.folder / "dask") == tars(many.folder / "straight")
    assert b"Traceback" not in said


def test_a_scheduler_that_is_gone_is_one_line_and_the_build_goes_on_elsewhere(many: Lab, cluster: Cluster) -> None:
    process = build_on(many, "gone", str(cluster.file))
    wait_until(lambda: finished(many.folder / "gone") >= 1)
    cluster.scheduler.kill()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    told = [line for line in said.decode().splitlines() if not line.startswith(("rendering ", "planning ", "reading "))]
    assert len(told) == 1, said
    assert "the scheduler ended; finished shards are saved" in told[0]
    for worker in cluster.workers:
        worker.kill()
        worker.wait()
    assert many.build("gone").corpus is not None
    assert tars(many.folder / "gone") == tars(many.folder / "straight")


def test_no_scheduler_and_no_address_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from corpus_builder.build import dask_executor as module

    monkeypatch.setattr(module, "CONNECT_WITHIN_S", 1)
    with pytest.raises(SchedulerGoneError, match="no scheduler responds"), dask_executor("tcp://127.0.0.1:9"):
        pass
    with pytest.raises((UsageError, SchedulerGoneError)) as caught, dask_executor("no such thing://"):
        pass
    assert "\n" not in str(caught.value)
    with (
        pytest.raises(MissingFileError, match=r"scheduler\.json does not exist"),
        dask_executor("/nowhere/scheduler.json"),
    ):
        pass
