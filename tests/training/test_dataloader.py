"""A worker that dies costs nothing: the batches go on behind the last one, and at the tenth death the run stops with a checkpoint."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from manifests.errors import StillroomError
from manifests.io.json_yaml import read_json
from tests.training.conftest import write_corpus
from tests.training.test_loop import assert_same_run, config_of
from tests.training.test_stream import same
from training import dataloader, loop
from training.dataloader import (
    MOST_DEATHS,
    SOCKET,
    TemporaryFolderError,
    WorkerDiedError,
    WorkerError,
    Workers,
    check_sockets,
    deaths_unsignalled,
    ended_badly,
    leave_signals_to_parent,
    loader,
    worker_batches,
)
from training.stream import pairs


@pytest.fixture(scope="module", name="made")
def small_corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader") / "corpus"
    write_corpus(folder, shards=2, samples=4, lengths_s=(0.3, 0.9))
    return folder


def made_stream(folder, **options):
    return pairs(folder, views="cdm2", utterances=3, lanes=3, crop_s=0.5, **options)


def test_a_stream_goes_on_behind_any_of_its_batches(made):
    stream = made_stream(made, epochs=2)
    straight = list(stream)
    assert {batch.ends_step for batch in straight} == {True, False}
    of_step = 0
    for place, batch in enumerate(straight):
        of_step += 1
        rest = stream.after(batch, of_step=of_step)
        of_step = 0 if batch.ends_step else of_step
        found = list(rest)
        assert len(found) == len(straight) - place - 1
        assert all(map(same, found, straight[place + 1 :]))


def dying_after(counts, calls):
    """`worker_batches` whose set of workers dies after so many batches, as often as there are counts."""
    deaths = iter(counts)

    def batches(stream, *, workers, device):
        calls.append(workers)
        left = next(deaths, None) if workers else None
        for number, batch in enumerate(stream):
            if number == left:
                raise WorkerDiedError(77, -signal.SIGKILL)
            yield batch

    return batches


@pytest.mark.parametrize("counts", [(0,), (1, 1, 1), (2, 0, 5), (3, 4)])
def test_what_comes_after_a_death_is_what_would_have_come(made, monkeypatch, counts):
    stream = made_stream(made, epochs=2)
    calls, lines, gave_up = [], [], []
    monkeypatch.setattr(dataloader, "worker_batches", dying_after(counts, calls))
    found = list(loader(stream, workers=2, report=lines.append, give_up=lambda: gave_up.append(True)))
    straight = list(made_stream(made, epochs=2))
    assert len(found) == len(straight)
    assert all(map(same, found, straight))
    assert calls == [2] * (len(counts) + 1)
    assert not gave_up
    assert lines[0] == (
        "a process that reads the corpus (77) was killed by SIGKILL, most likely because memory ran out: reading goes on behind the "
        "last batch (1 of at most 9 times)"
    )
    assert len(lines) == len(counts)


def test_the_tenth_death_asks_for_the_end_and_reading_goes_on_in_this_process(made, monkeypatch):
    calls, lines, gave_up = [], [], []
    monkeypatch.setattr(dataloader, "worker_batches", dying_after([1, *[0] * 50], calls))
    found = list(loader(made_stream(made), workers=2, report=lines.append, give_up=lambda: gave_up.append(len(calls))))
    assert all(map(same, found, made_stream(made)))
    assert calls == [2] * MOST_DEATHS + [0]
    assert gave_up == [MOST_DEATHS]
    assert len(lines) == MOST_DEATHS == 10
    assert lines[-1].endswith("10 times, so the run stops with a checkpoint; set workers lower, or ask for more memory")


def test_a_run_whose_workers_die_ten_times_stops_with_a_checkpoint(tmp_path, made, teacher_folder, monkeypatch, capsys):
    config = config_of(made, teacher_folder, steps=3, workers=1, adversary=None, dev="none")
    with monkeypatch.context() as patched:
        patched.setattr(dataloader, "worker_batches", dying_after([0] * 50, []))
        assert loop.distil(config, tmp_path / "run", report=str) == "preempted"
    status = read_json(tmp_path / "run" / "status.json", needed="test")
    assert (status["state"], status["step"]) == ("preempted", 1)
    said = [line for line in capsys.readouterr().err.splitlines() if "a process that reads" in line]
    assert len(said) == MOST_DEATHS
    assert [path.stem for path in (tmp_path / "run" / "checkpoints").glob("*.json")] == ["step-000000001"]


class Ended:
    """A process that has ended."""

    pid = 5

    def __init__(self, exitcode):
        self.exitcode = exitcode
        self.waited_s = 0.0
        self.did = []

    def join(self, timeout_s=0.0):
        self.waited_s += timeout_s
        self.did.append("joined")

    def kill(self):
        self.did.append("killed")


CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Loader:
    """In place of torch's: what it was given, and one item; then `at_end`, an error or the end."""

    made: list[tuple]

    def __init__(self, dataset, **options):
        options["generator"] = type(options["generator"])
        self.made.append((dataset.stream, options))

    def __iter__(self):
        return Batches(self.items, self._workers)


class Batches:
    """Its iterator; as torch's does, it asks its workers to end when it goes."""

    def __init__(self, items, workers):
        self.items, self._workers = items, workers

    def __next__(self):
        if not self.items:
            raise StopIteration
        item = self.items.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    def __del__(self):
        for worker in self._workers:
            worker.did.append("asked to end")


@pytest.fixture(name="fake")
def loader_of_torch_that_is_not_there(monkeypatch):
    """`fake(items, workers)` makes the loader of the next call give these items, by these processes."""
    monkeypatch.setattr(dataloader, "DataLoader", Loader)
    monkeypatch.setattr(dataloader, "LONGEST_END_S", 6.0)
    Loader.made = []

    def fake(*items, workers=()):
        monkeypatch.setattr(Loader, "items", list(items), raising=False)
        monkeypatch.setattr(Loader, "_workers", list(workers), raising=False)
        return Loader.made

    return fake


def test_workers_start_by_spawn_leave_signals_to_their_parent_and_read_four_batches_ahead(fake):
    made = fake()
    plain = {"batch_size": None, "num_workers": 0, "generator": torch.Generator, "pin_memory": False}
    for workers, device in ((0, CPU), (3, GPU), (2, CPU)):
        fake(SimpleNamespace(ends_step=True))
        assert len(list(loader("stream", workers=workers, device=device))) == 1
        more = {
            "multiprocessing_context": "spawn", "prefetch_factor": 4, "worker_init_fn": leave_signals_to_parent,
        }  # fmt: skip
        expected = {**plain, "num_workers": workers, "pin_memory": device == GPU, **(more if workers else {})}
        assert made[-1] == ("stream", expected)


def test_an_error_where_no_worker_died_is_raised_as_it_came_and_a_death_takes_its_place(fake):
    alive, dead = Ended(None), Ended(-signal.SIGBUS)
    fake("batch", RuntimeError("of the loader"), workers=[alive, alive])
    batches = worker_batches("stream", workers=2, device=CPU)
    assert next(batches) == "batch"
    with pytest.raises(RuntimeError, match="of the loader"):
        next(batches)
    assert alive.waited_s == 6.0, "all of them together"
    fake("batch", RuntimeError("of the loader"), workers=[alive, dead, Ended(-signal.SIGKILL)])
    with pytest.raises(WorkerDiedError, match="was killed by SIGBUS") as caught:
        list(worker_batches("stream", workers=3, device=CPU))
    assert caught.value.__suppress_context__
    assert dead.waited_s == 2.0
    for problem in (OSError("of the disk"), StillroomError("of the corpus")):
        fake("batch", WorkerError(problem), "more")
        with pytest.raises(type(problem)) as caught:
            list(worker_batches("stream", workers=1, device=CPU))
        assert caught.value is problem


def test_a_worker_that_does_not_end_when_asked_is_killed(fake):
    for leave in ("closed", "at the end", "by an error"):
        alive = Ended(None)
        fake("batch", *([StillroomError("x")] if leave == "by an error" else []), workers=[alive])
        batches = worker_batches("stream", workers=1, device=CPU)
        next(batches)
        if leave == "closed":
            batches.close()
        elif leave == "at the end":
            assert list(batches) == []
        else:
            with pytest.raises(StillroomError) as caught:
                next(batches)
            del caught
        assert alive.did[-2:] == ["killed", "joined"], leave
        if leave != "by an error":
            assert alive.did == ["asked to end", "killed", "joined"], leave


def test_when_one_has_died_the_others_are_killed_before_torch_waits_for_them(fake):
    alive = Ended(None)
    fake(RuntimeError("of the loader"), workers=[alive, Ended(-signal.SIGKILL)])
    with pytest.raises(WorkerDiedError):
        next(worker_batches("stream", workers=2, device=CPU))
    assert alive.did[:3] == ["joined", "killed", "joined"]


@pytest.mark.parametrize("kind", [OSError, StillroomError])
def test_a_worker_sends_an_error_of_the_disk_or_of_ours_behind_its_batches(kind):
    problem = kind("x")

    def stream(problem):
        yield "batch"
        raise problem

    assert list(Workers(stream(problem))) == ["batch", WorkerError(problem)]
    with pytest.raises(ZeroDivisionError):
        list(Workers(stream(ZeroDivisionError())))


def test_a_thread_that_is_not_the_main_one_has_no_handlers_to_set():
    found = []

    def read():
        with deaths_unsignalled():
            found.append(signal.getsignal(signal.SIGCHLD))

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGCHLD)]


def test_a_temporary_folder_whose_path_is_too_long_for_sockets_is_one_line(monkeypatch, made):
    """By sockets that are really opened: where one fails, torch would lose the batch and wait for ever."""

    def can_hold_a_socket(folder):
        (folder / SOCKET.split("/")[1]).mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as opened:
            try:
                opened.bind(f"{folder}{SOCKET}")
            except OSError:
                return False
        return True

    start = tempfile.mkdtemp(dir="/tmp")
    found = []
    for length in (74, 75, 76, 77, 120):
        folder = Path(start, "x" * (length - len(start) - 1))
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        works = can_hold_a_socket(folder)
        found.append(works)
        if works:
            check_sockets()
        else:
            with pytest.raises(TemporaryFolderError, match=rf"a path of {length} bytes, .* allow 75; set TMPDIR"):
                next(loader(made_stream(made), workers=1))
    assert found == [True, True, False, False, False]


def test_the_cause_of_a_death_is_named():
    assert ended_badly([Ended(0), Ended(None)]) is None
    assert "(5) was killed by SIGSEGV" in str(ended_badly([Ended(0), Ended(-signal.SIGSEGV)]))
    assert "memory" not in str(ended_badly([Ended(-signal.SIGSEGV)]))
    assert "SIGBUS, most likely because /dev/shm is full" in str(ended_badly([Ended(-signal.SIGBUS)]))
    assert "(5) ended with exit code 3" in str(ended_badly([Ended(3)]))
    assert "exit code -200" in str(ended_badly([Ended(-200)]))


def test_a_death_raises_nothing_in_the_middle_of_a_step():
    def handler(*_):
        raise AssertionError("in the middle of a step")

    before = signal.signal(signal.SIGCHLD, handler)
    try:
        with deaths_unsignalled():
            os.kill(os.getpid(), signal.SIGCHLD)
        assert signal.getsignal(signal.SIGCHLD) is handler
    finally:
        signal.signal(signal.SIGCHLD, before)


def killing(batches, *, every, most):
    """The same batches; one of the workers is killed after each `every`-th, at most so often."""
    for number, batch in enumerate(batches):
        yield batch
        children = multiprocessing.active_children()
        if number % every == every - 1 and children and most:
            os.kill(children[number % len(children)].pid, signal.SIGKILL)
            most -= 1


@pytest.mark.slow
def test_a_worker_that_is_killed_twice_changes_no_loss_of_the_run(tmp_path, made, teacher_folder, monkeypatch, capsys):
    config = config_of(made, teacher_folder, workers=2, steps=30, log_every=1)
    assert (
        loop.distil(
            config_of(made, teacher_folder, workers=0, steps=30, log_every=1), tmp_path / "straight", report=str
        )
        == "done"
    )
    monkeypatch.setattr(loop, "loader", lambda *given, **options: killing(loader(*given, **options), every=7, most=2))
    assert loop.distil(config, tmp_path / "run", report=str) == "done"
    assert_same_run(tmp_path / "run", tmp_path / "straight")
    said = capsys.readouterr().err
    assert said.count("was killed by SIGKILL, most likely because memory ran out: reading goes on") >= 1
    assert "Traceback" not in said
    assert not multiprocessing.active_children()
